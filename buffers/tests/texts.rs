//! What errors and values say of themselves.

mod fake;

use std::io::{self, ErrorKind, Write};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::BufMut;
use fake::{Fake, Waiting};
use ringhold_buffers::{
    ArenaId, CapacityError, IoBuf, Lease, LeaseError, LeaseErrorKind, PAGE, Pool, PoolConfig,
    Registrar, Retiring,
};

fn pool() -> Pool {
    Pool::unregistered(PoolConfig::new().limit(4 * PAGE).arena(4 * PAGE))
}

fn lease(pool: &Pool, bytes: &[u8]) -> Lease {
    let mut lease = pool.try_lease(bytes.len()).expect("there is room");
    lease.put_slice(bytes);
    lease
}

#[track_caller]
fn tells(error: LeaseError, kind: LeaseErrorKind, text: &str, io: ErrorKind) {
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io);
    assert!(error.downcast::<LeaseError>().is_ok());
}

#[test]
fn a_lease_that_is_refused_says_why() {
    let pool = pool();
    let invalid = pool.try_lease(0).expect_err("it is nothing");
    let text = "a lease of 0 bytes was asked for";
    tells(invalid, LeaseErrorKind::Invalid, text, ErrorKind::InvalidInput);
    let large = pool.try_lease(5 * PAGE).expect_err("it is too large");
    let text = "a lease of 20480 bytes was asked for, but this pool can never give more than 16384 \
                bytes at once";
    tells(large, LeaseErrorKind::TooLarge, text, ErrorKind::InvalidInput);
    let all = pool.try_lease(4 * PAGE).expect("it is all there is");
    let full = pool.try_lease(1).expect_err("nothing is left");
    let text = "the pool is full: a lease of 1 bytes was asked for, 16384 of at most 16384 bytes \
                are leased, and 0 requests wait";
    tells(full, LeaseErrorKind::Full, text, ErrorKind::WouldBlock);
    pool.close();
    let closed = pool.try_lease(1).expect_err("it is closed");
    let text = "the pool is closed: a lease of 1 bytes was asked for while its runtime shuts down";
    tells(closed, LeaseErrorKind::Closed, text, ErrorKind::Other);
    drop(all);
}

#[test]
fn memory_that_can_not_be_registered_says_why_and_what_helps() {
    let fake = Fake::new(4 * PAGE);
    let config = PoolConfig::new().limit(4 * PAGE).arena(4 * PAGE);
    let pool = Pool::new(config, fake.clone());
    let told = |errno| {
        fake.fail_with(errno);
        let error = pool.try_lease(1).expect_err("it can't be registered");
        assert_eq!(error.kind(), LeaseErrorKind::NotRegistrable);
        let text = error.to_string();
        assert_eq!(io::Error::from(error).kind(), ErrorKind::Unsupported);
        text
    };
    assert_eq!(
        told(Some(libc::EMFILE)),
        "memory for a lease of 1 bytes could not be registered: Too many open files (os error 24); \
         the pool needs a descriptor: raise RLIMIT_NOFILE (`ulimit -n`) or close files"
    );
    assert_eq!(
        told(Some(libc::EPERM)),
        "memory for a lease of 1 bytes could not be registered: Operation not permitted (os error \
         1); allow io_uring_register in the container's seccomp profile"
    );
    assert_eq!(
        told(Some(libc::EFAULT)),
        "memory for a lease of 1 bytes could not be registered: Bad address (os error 14)"
    );
}

/// A registrar that is no kernel's.
#[derive(Debug)]
struct Dumb;

impl Registrar for Dumb {
    fn register(&self, _: ArenaId, _: NonNull<u8>, _: usize) -> io::Result<()> {
        Err(io::Error::other("dumb"))
    }

    fn retire(&self, retiring: Retiring) {
        drop(retiring);
    }
}

#[test]
fn a_registrar_that_fails_without_a_number_is_told_as_well() {
    let pool = Pool::new(PoolConfig::new().limit(4 * PAGE).arena(4 * PAGE), Arc::new(Dumb));
    let error = pool.try_lease(1).expect_err("it can't be registered");
    assert_eq!(
        error.to_string(),
        "memory for a lease of 1 bytes could not be registered: the registrar failed without an \
         errno"
    );
}

#[test]
fn what_does_not_fit_and_what_is_not_frozen_converts_into_an_error_of_io() {
    let full = CapacityError { asked: 7, spare: 3 };
    let error = io::Error::from(full);
    assert_eq!(error.kind(), ErrorKind::WriteZero);
    assert_eq!(error.to_string(), "7 bytes don't fit into the 3 that the lease has left");

    let config = PoolConfig::new().limit(4 * PAGE).arena(4 * PAGE).frozen_percent(0);
    let pool = Pool::unregistered(config);
    let error = lease(&pool, b"hello").freeze().expect_err("no share may be frozen");
    assert_eq!(format!("{error:?}"), "FreezeError { frozen: 0, limit: 0, .. }");
    let error = io::Error::from(error);
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(
        error.to_string(),
        "5 bytes can't be frozen: 0 of at most 0 bytes are; drop frozen ones, copy the bytes, or \
         raise the frozen share of the pool"
    );
}

/// Everything up to a field that differs from run to run.
fn begin_of(debug: &impl std::fmt::Debug) -> String {
    let text = format!("{debug:?}");
    let end = text.find("address").or_else(|| text.find("occupancy")).unwrap_or(text.len());
    text[..end].to_owned()
}

#[test]
fn leases_their_parts_and_their_pool_tell_what_they_are() {
    let pool = pool();
    assert_eq!(begin_of(&pool), "Pool { registered: false, ");
    let mut held = lease(&pool, b"hello");
    held.flush().expect("there is nothing to be flushed");
    held.as_mut()[0] = b'j';
    assert_eq!(begin_of(&held), "Lease { arena: None, ");
    assert!(format!("{held:?}").ends_with("len: 5, capacity: 5 }"));
    let mut slice = held.slice(1..=3);
    slice[0] = b'E';
    assert_eq!((&slice[..], slice.bytes_init()), (&b"Ell"[..], 3));
    assert_eq!(format!("{slice:?}"), "Slice { begin: 1, end: 4, filled: 3, .. }");
    let frozen = slice.into_inner().freeze().expect("there is room for it");
    assert_eq!(begin_of(&frozen), "Frozen { arena: None, ");
    assert_eq!((&frozen[..], frozen == frozen.clone()), (&b"jEllo"[..], true));
    let bytes: &'static [u8] = b"static";
    assert_eq!((bytes.bytes_init(), bytes.bytes_total()), (6, 6));
    drop(frozen);
    let future = pool.lease(PAGE);
    assert_eq!(format!("{future:?}"), "LeaseFuture { length: 4096, waiting: false, .. }");
}

#[test]
fn who_waits_for_a_pool_that_closes_is_told() {
    let pool = pool();
    let all = pool.try_lease(4 * PAGE).expect("it is all there is");
    let mut waiting = Waiting::new(pool.lease(1)).waits();
    pool.close();
    assert!(waiting.is_woken());
    assert_eq!(waiting.ready().expect_err("it is closed").kind(), LeaseErrorKind::Closed);
    drop(all);
}
