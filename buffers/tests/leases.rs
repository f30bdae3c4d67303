//! What one can do with a lease, a frozen lease and a slice; unsafe where a test does what the
//! kernel does.
#![allow(unsafe_code)]

mod fake;

use std::io::Write;
use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};
use fake::{Fake, Waiting};
use ringhold_buffers::{
    CapacityError, FixedBuf, FixedBufMut, Frozen, IoBuf, IoBufMut, Lease, PAGE, Pool, PoolConfig,
    Slice,
};

fn pool() -> Pool {
    Pool::unregistered(PoolConfig::new().limit(64 * PAGE).arena(64 * PAGE))
}

/// Does what a read of `bytes` does.
fn read_into(buffer: &mut impl IoBufMut, bytes: &[u8]) {
    assert!(bytes.len() <= buffer.bytes_total());
    // SAFETY: the buffer has room for the bytes, by the assertion, and they are written before it
    // is told (S9).
    unsafe {
        buffer.stable_mut_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        buffer.set_init(bytes.len());
    }
}

#[test]
fn leases_and_frozen_ones_are_send_and_sync_and_fixed() {
    fn shared<T: Send + Sync>() {}
    fn fixed<T: FixedBuf>() {}
    fn fixed_mut<T: FixedBufMut>() {}
    shared::<Lease>();
    shared::<Frozen>();
    shared::<Pool>();
    shared::<Slice<Lease>>();
    fn send_unpin<T: Send + Unpin>() {}
    send_unpin::<ringhold_buffers::LeaseFuture>();
    fixed::<Frozen>();
    fixed::<Slice<Frozen>>();
    fixed_mut::<Lease>();
    fixed_mut::<Slice<Lease>>();
    fixed_mut::<Slice<Slice<Lease>>>();
}

#[test]
fn a_lease_is_like_a_vector_of_fixed_capacity() {
    let mut lease = pool().try_lease(10).unwrap();
    assert_eq!((lease.len(), lease.capacity(), lease.is_empty()), (0, 10, true));
    assert_eq!(lease.as_ptr() as usize % PAGE, 0);
    lease.extend_from_slice(b"abcdef");
    lease.truncate(8);
    assert_eq!(&lease[..], b"abcdef");
    lease.truncate(3);
    lease.resize(5, b'-');
    lease[0] = b'A';
    assert_eq!(&lease[..], b"Abc--");
    lease.resize(1, 0);
    assert_eq!(lease.try_extend(&[0; 10]), Err(CapacityError { asked: 10, spare: 9 }));
    assert_eq!(&lease[..], b"A");
    assert_eq!(lease.spare_capacity_mut().len(), 9);
    lease.clear();
    assert!(lease.is_empty());
}

#[test]
fn a_lease_is_a_buf_mut_and_a_writer() {
    let mut lease = pool().try_lease(8).unwrap();
    lease.put_u16(0x4142);
    lease.put_slice(b"cd");
    assert_eq!(lease.remaining_mut(), 4);
    assert_eq!(lease.write(b"efghij").unwrap(), 4);
    assert_eq!(lease.write(b"x").unwrap(), 0);
    assert_eq!(&lease[..], b"ABcdefgh");
}

#[test]
#[should_panic(expected = "9 bytes don't fit into the 8 that the lease has left")]
fn extending_beyond_the_capacity_panics() {
    pool().try_lease(8).unwrap().extend_from_slice(&[0; 9]);
}

#[test]
fn a_split_at_a_page_gives_two_leases_that_go_back_apart() {
    let pool = pool();
    let mut back = pool.try_lease(3 * PAGE).unwrap();
    let front = back.split_to(PAGE);
    assert_eq!((front.capacity(), back.capacity()), (PAGE, 2 * PAGE));
    assert_eq!(back.as_ptr() as usize - front.as_ptr() as usize, PAGE);
    drop(front);
    assert_eq!(pool.occupancy().leased, 2 * PAGE);
    drop(back);
    assert_eq!(pool.occupancy().leased, 0);
}

#[test]
fn a_split_within_a_page_goes_back_with_the_last_part() {
    let pool = pool();
    let mut rest = pool.try_lease(2 * PAGE).unwrap();
    rest.resize(2 * PAGE, 7);
    let first = rest.split_to(100);
    let second = rest.split_to(PAGE);
    let nothing = rest.split_to(0);
    assert_eq!((first.len(), second.len(), nothing.len(), rest.len()), (100, PAGE, 0, 3996));
    drop((first, rest, nothing));
    assert_eq!(pool.occupancy().leased, 2 * PAGE);
    assert!(second.iter().all(|&byte| byte == 7));
    drop(second);
    assert_eq!(pool.occupancy().leased, 0);
}

#[test]
fn frozen_bytes_are_shared_and_become_bytes_without_a_copy() {
    let pool = pool();
    let mut lease = pool.try_lease(PAGE).unwrap();
    lease.extend_from_slice(b"hello world");
    let address = lease.as_ptr();
    let frozen = lease.freeze().unwrap();
    let world = frozen.clone().slice(6..=10);
    assert_eq!((&frozen[..], &world[..]), (&b"hello world"[..], &b"world"[..]));
    let bytes = Bytes::from(frozen);
    assert_eq!(bytes.as_ptr(), address);
    let part = Bytes::slice(&bytes, 6..);
    drop((bytes, world));
    assert_eq!((&part[..], pool.occupancy().leased), (&b"world"[..], PAGE));
    drop(part);
    let occupancy = pool.occupancy();
    assert_eq!((occupancy.leased, occupancy.frozen), (0, 0));
}

#[test]
fn freezing_gives_back_the_pages_behind_the_filled_bytes() {
    let pool = pool();
    let mut lease = pool.try_lease(8 * PAGE).unwrap();
    lease.resize(PAGE + 1, 1);
    let frozen = lease.freeze().unwrap();
    let occupancy = pool.occupancy();
    assert_eq!((occupancy.leased, occupancy.frozen), (2 * PAGE, 2 * PAGE));
    drop(frozen);
    let empty = pool.try_lease(PAGE).unwrap().freeze().unwrap();
    // An empty one keeps a page, which pins its arena.
    assert_eq!((empty.len(), pool.occupancy().leased), (0, PAGE));
}

#[test]
fn beyond_the_frozen_share_the_lease_is_handed_back() {
    let config = PoolConfig::new().limit(8 * PAGE).arena(8 * PAGE).frozen_percent(25);
    let pool = Pool::unregistered(config);
    let full = || {
        let mut lease = pool.try_lease(PAGE).unwrap();
        lease.resize(PAGE, 3);
        lease
    };
    let frozen = [full().freeze().unwrap(), full().freeze().unwrap()];
    let error = full().freeze().unwrap_err();
    assert_eq!(
        error.to_string(),
        "4096 bytes can't be frozen: 8192 of at most 8192 bytes are; drop frozen ones, copy the \
         bytes, or raise the frozen share of the pool"
    );
    let lease = error.into_lease();
    assert_eq!((lease.len(), lease.capacity()), (PAGE, PAGE));
    drop(frozen);
    assert_eq!(pool.occupancy().frozen, 0);
    lease.freeze().unwrap();
    let _kept = [full().freeze().unwrap(), full().freeze().unwrap()];
    let error = std::io::Error::from(full().freeze().unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
}

#[test]
fn parts_of_one_lease_count_as_frozen_once() {
    let pool = pool();
    let mut rest = pool.try_lease(PAGE).unwrap();
    rest.resize(PAGE, 9);
    let first = rest.split_to(10).freeze().unwrap();
    let second = rest.split_to(10).freeze().unwrap();
    assert_eq!(pool.occupancy().frozen, PAGE);
    drop(first);
    assert_eq!(pool.occupancy().frozen, PAGE);
    drop(second);
    assert_eq!((pool.occupancy().frozen, pool.occupancy().leased), (0, PAGE));
}

#[test]
fn reading_into_a_lease_sets_exactly_what_was_read() {
    let mut lease = pool().try_lease(10).unwrap();
    lease.extend_from_slice(b"0123456789");
    read_into(&mut lease, b"abc");
    assert_eq!(&lease[..], b"abc");
}

#[test]
fn reading_into_a_vector_never_shrinks_it() {
    let mut vector = Vec::with_capacity(8);
    vector.extend_from_slice(b"0123");
    read_into(&mut vector, b"ab");
    assert_eq!(vector, b"ab23");
    read_into(&mut vector, b"abcdef");
    assert_eq!(vector, b"abcdef");
    let mut bytes = BytesMut::with_capacity(8);
    assert_eq!((bytes.bytes_init(), bytes.bytes_total()), (0, 8));
    read_into(&mut bytes, b"abcdef");
    assert_eq!((bytes.bytes_init(), bytes.bytes_total()), (6, 8));
    assert_eq!(&bytes[..], b"abcdef");
    let mut boxed: Box<[u8]> = Box::from(*b"0123");
    read_into(&mut boxed, b"ab");
    assert_eq!(&boxed[..], b"ab23");
}

#[test]
fn reading_into_a_slice_leaves_what_is_outside_of_it() {
    let mut lease = pool().try_lease(10).unwrap();
    lease.extend_from_slice(b"0123456789");
    let mut slice = lease.slice(2..6);
    read_into(&mut slice, b"ab");
    assert_eq!(&slice[..], b"ab45");
    assert_eq!(&slice.into_inner()[..], b"01ab456789");
}

#[test]
fn a_slice_may_begin_behind_an_index() {
    let behind = (Bound::Excluded(2), Bound::Included(4));
    let slice = Vec::from(*b"0123456789").slice(behind);
    assert_eq!((slice.begin(), slice.end(), &slice[..]), (3, 5, &b"34"[..]));
}

#[test]
fn reading_into_the_end_of_a_lease_sets_where_it_ends() {
    let mut lease = pool().try_lease(10).unwrap();
    lease.extend_from_slice(b"01234567");
    let mut slice = lease.slice(4..);
    assert_eq!((slice.bytes_init(), slice.bytes_total()), (4, 6));
    read_into(&mut slice, b"ab");
    assert_eq!(&slice[..], b"ab");
    read_into(&mut slice, b"abcdef");
    assert_eq!(&slice.into_inner()[..], b"0123abcdef");
}

#[test]
fn a_gap_before_what_was_read_is_zeroed() {
    let mut lease = pool().try_lease(10).unwrap();
    lease.resize(10, b'x');
    lease.truncate(2);
    let mut slice = lease.slice(5..8).slice(1..);
    read_into(&mut slice, b"");
    assert_eq!(slice.get_ref().get_ref().len(), 2);
    read_into(&mut slice, b"ab");
    assert_eq!(&slice.into_inner().into_inner()[..], b"xx\0\0\0\0ab");
}

#[test]
fn a_slice_of_what_can_only_be_written_has_its_initialised_part() {
    let slice = "hello".slice(1..3);
    assert_eq!(&slice[..], b"el");
    assert_eq!(&Bytes::from_static(b"hello").slice(3..)[..], b"lo");
    let mut vector = Vec::with_capacity(64);
    vector.extend_from_slice(b"abc");
    let slice = IoBuf::slice(vector, 2..64);
    assert_eq!((&slice[..], slice.bytes_total(), slice.end()), (&b"c"[..], 62, 64));
    assert!(slice.slice(10..20).is_empty());
}

#[test]
#[should_panic(expected = "slice ends at 11, beyond the 10 bytes of the buffer")]
fn a_slice_beyond_the_capacity_panics() {
    pool().try_lease(10).unwrap().slice(..11);
}

#[test]
#[should_panic(expected = "slice begins at 5 but ends at 4")]
#[allow(clippy::reversed_empty_ranges)]
fn a_slice_that_ends_before_it_begins_panics() {
    pool().try_lease(10).unwrap().slice(5..4);
}

#[test]
fn a_lease_pins_its_arena() {
    let fake = Fake::new(usize::MAX);
    let pool = Pool::new(PoolConfig::new().keep(0), fake.clone());
    let frozen = pool.try_lease(PAGE).unwrap().slice(..).into_inner();
    for _ in 0..4 {
        assert!(!pool.sweep());
    }
    assert!(fake.reaches(&frozen, PAGE));
}

#[test]
fn a_write_after_the_return_is_found_at_the_next_lease() {
    if !cfg!(debug_assertions) {
        println!("SKIP: only debug builds have the canary");
        return;
    }
    let pool = Pool::unregistered(PoolConfig::new().limit(2 * PAGE).arena(2 * PAGE));
    let mut lease = pool.try_lease(2 * PAGE).unwrap();
    lease.resize(2 * PAGE, 1);
    let place = lease[PAGE + 17..].as_mut_ptr();
    drop(lease);
    drop(pool.try_lease(2 * PAGE).unwrap());
    // SAFETY: the pool keeps the page mapped (S4), and no lease is out that could see the write
    // (S5).
    unsafe {
        place.write(1);
    }
    drop(pool.try_lease(PAGE).unwrap());
    let panic = std::panic::catch_unwind(|| pool.try_lease(2 * PAGE)).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    let word = place as usize - 1;
    assert_eq!(
        message,
        &format!(
            "memory at {word:#x} was written while nobody leased it: found 0xa5a5a5a5a5a501a5"
        )
    );
    // The pages came back all the same.
    assert_eq!(pool.occupancy().leased, 0);
    let mut waiting = Waiting::new(pool.lease(2 * PAGE));
    assert!(waiting.poll().is_ready());
}
