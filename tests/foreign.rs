//! Foreign code may panic anywhere, and every resource is where it must be before it runs: nothing
//! that the kernel may use is freed early, nobody else's wake-up is lost, and the process goes on.

#![allow(clippy::async_yields_async)] // Operations are carried to other threads here.

mod bombs;
mod common;
mod watched;

use std::future::Future;
use std::io::{ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bombs::{Fuses, Grump, Trap, quiet, well};
use common::proc::becomes;
use runtime::fs::File;
use runtime::net::UnixStream;
use runtime::{Builder, Runtime, task};
use watched::{
    Cancels, Counted, Flag, Pipe, Watch, pipe, poll_once, turn_until, watchdog, watched,
};

const LIMIT: Duration = Duration::from_secs(10);

/// Where an operation is started and polled with a waker that panics, and where it is dropped.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// All on one shard.
    Home,
    /// All by a thread that is no shard.
    Off,
    /// Started on a shard; polled and dropped by a thread that is none.
    Followed,
    /// Started and polled on a shard, dropped by a thread that is none.
    Carried,
}

const WAYS: [Way; 4] = [Way::Home, Way::Off, Way::Followed, Way::Carried];

/// Polls it with the waker, which has no other copy then.
fn poll_with<F: Future + Unpin>(operation: &mut F, waker: Waker) {
    assert!(Pin::new(operation).poll(&mut Context::from_waker(&waker)).is_pending());
}

/// Starts the only operation of a runtime, and drops it when the kernel has it.
fn start_and_drop<F>(
    way: Way,
    runtime: &Runtime,
    watch: &Arc<Watch>,
    mut operation: F,
    waker: Waker,
) where
    F: Future + Unpin + Send + 'static,
{
    let watch = watch.clone();
    let in_kernel = move || watch.inside() == 1;
    match way {
        Way::Home => {
            let dropped = runtime.spawn(async move {
                poll_with(&mut operation, waker);
                turn_until(in_kernel).await;
                drop(operation);
            });
            runtime.block_on(dropped).expect("a waker's panic is not who drops its operation's");
        }
        Way::Off => {
            poll_with(&mut operation, waker);
            becomes("in the kernel", 1, LIMIT, || usize::from(in_kernel()));
            drop(operation);
        }
        Way::Followed => {
            let started = runtime.spawn(async move {
                assert!(poll_once(&mut operation).is_pending());
                turn_until(in_kernel).await;
                operation
            });
            let mut operation = runtime.block_on(started).unwrap();
            poll_with(&mut operation, waker);
            // Its shard has heard of it.
            runtime.block_on(well());
            drop(operation);
        }
        Way::Carried => {
            let started = runtime.spawn(async move {
                poll_with(&mut operation, waker);
                turn_until(in_kernel).await;
                operation
            });
            drop(runtime.block_on(started).unwrap());
        }
    }
}

#[test]
fn a_waker_that_panics_when_dropped_frees_nothing_that_the_kernel_writes_to() {
    let _watchdog = watchdog("wakers that panic when they are dropped", 60);
    quiet();
    for way in WAYS {
        let watch = Watch::new();
        let runtime = watched(&watch, (256, 512)).build().unwrap();
        let _entered = runtime.enter();
        let (alive, pipe) = (Arc::new(AtomicUsize::new(0)), pipe());
        let Pipe { reader, writer: _writer, mut meddler } = pipe;
        let (grump, waker) = Grump::new(Fuses { drop: true, ..Fuses::default() });
        // What the kernel has can't be called back, so that what is freed too early shows.
        watch.set_cancels(Cancels::Refuse);
        let read = reader.read_at(Counted::new(4000, 0, &alive), 0);
        start_and_drop(way, &runtime, &watch, read, waker);
        runtime.block_on(well());
        assert!(grump.is_gone(), "{way:?}: the waker");
        assert_eq!((alive.load(SeqCst), watch.inside()), (1, 1), "{way:?}: the buffer");
        // Memory that would lie where the buffer was.
        let victims = vec![vec![0x55; 4000]; 8];
        meddler.write_all(&[0xAA; 4000]).unwrap();
        becomes("in the kernel", 0, LIMIT, || watch.inside());
        becomes("buffers", 0, LIMIT, || alive.load(SeqCst));
        assert!(victims.iter().flatten().all(|&byte| byte == 0x55), "{way:?}: written elsewhere");
        runtime.block_on(well());
    }
}

/// A waker whose drop drops an operation: it must not find the driver borrowed, or the operation's
/// buffer would go by the unwinding.
#[test]
fn a_refused_operation_drops_its_waker_when_the_driver_is_free() {
    let _watchdog = watchdog("refused operations", 60);
    quiet();
    let elsewhere = Builder::new_current_thread().pool_limit(4096).build().unwrap();
    let lease = elsewhere.handle().pool().try_lease(4096).unwrap();
    let (watch, alive) = (Watch::new(), Arc::new(AtomicUsize::new(0)));
    let run = watched(&watch, (256, 512)).run(async {
        let Pipe { reader, writer: _writer, mut meddler } = pipe();
        let mut read = reader.read_at(Counted::new(8, 0, &alive), 0);
        assert!(poll_once(&mut read).is_pending());
        turn_until(|| watch.inside() == 1).await;
        watch.set_cancels(Cancels::Refuse);
        let (grump, waker) = Grump::new(Fuses::default());
        grump.when_dropped(move || drop(read));
        // Its arena is another runtime's, so it is refused at its first poll.
        let file = File::open("/dev/zero").await.unwrap();
        let mut refused = file.read_fixed(lease, 0);
        let Poll::Ready(Err(failed)) =
            Pin::new(&mut refused).poll(&mut Context::from_waker(&waker))
        else {
            panic!("a foreign lease was taken");
        };
        assert_eq!(failed.error.kind(), ErrorKind::InvalidInput);
        assert_eq!((alive.load(SeqCst), watch.inside()), (1, 1));
        meddler.write_all(b"12345678").unwrap();
        turn_until(|| alive.load(SeqCst) == 0).await;
    });
    run.unwrap();
    watch.balance();
}

/// Polls until that panics.
async fn poll_until_it_panics<F: Future + Unpin>(future: &mut F) {
    loop {
        let polled = catch_unwind(AssertUnwindSafe(|| poll_once(future).is_ready()));
        match polled {
            Ok(is_ready) => assert!(!is_ready, "it has not panicked"),
            Err(_) => return,
        }
        task::yield_now().await;
    }
}

#[test]
fn a_buffer_that_panics_when_it_is_filled_holds_up_no_other_reader() {
    let _watchdog = watchdog("buffers that panic", 60);
    quiet();
    let run = Builder::new_current_thread().run(async {
        let (near, far) = UnixStream::pair().unwrap();
        let mut bad = Box::pin(near.read_owned(Trap::new(8)));
        assert!(poll_once(&mut bad).is_pending());
        assert_eq!(far.try_write(b"lost").unwrap(), 4);
        poll_until_it_panics(&mut bad).await;
        assert_eq!(far.try_write(b"found").unwrap(), 5);
        let (count, bytes) = near.read_owned(vec![0; 8]).await.unwrap();
        assert_eq!(&bytes[..count], b"found");
    });
    run.unwrap();
}

#[test]
fn a_buffer_that_panics_over_kept_bytes_leaves_them_to_the_next() {
    let _watchdog = watchdog("kept bytes", 60);
    quiet();
    let watch = Watch::new();
    let run = watched(&watch, (256, 512)).run(async {
        let (near, far) = UnixStream::pair().unwrap();
        watch.set_cancels(Cancels::Refuse);
        let mut dropped = Box::pin(near.read_owned(vec![0; 8]));
        assert!(poll_once(&mut dropped).is_pending());
        turn_until(|| watch.inside() == 1).await;
        drop(dropped);
        assert_eq!(far.try_write(b"abcdef").unwrap(), 6);
        turn_until(|| watch.inside() == 0).await;
        poll_until_it_panics(&mut Box::pin(near.read_owned(Trap::new(4)))).await;
        for expected in [b"abcd".as_slice(), b"ef"] {
            let (count, bytes) = near.read_owned(vec![0; 4]).await.unwrap();
            assert_eq!(&bytes[..count], expected);
        }
    });
    run.unwrap();
}

/// A buffer that panics while its operation is begun was never the kernel's, and one that panics
/// when it is filled is no longer: wherever that is.
#[test]
fn a_buffer_that_panics_ends_nothing_but_its_own_read() {
    let _watchdog = watchdog("buffers that panic", 60);
    quiet();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(runtime.spawn(reads_into_traps())).unwrap();
    runtime.block_on(reads_into_traps());
    runtime.block_on(well());
}

async fn reads_into_traps() {
    let Pipe { reader, writer: _writer, mut meddler } = pipe();
    let mut unbegun = reader.read_at(Trap::unpointable(8), 0);
    poll_until_it_panics(&mut unbegun).await;
    // It may be polled again, and dropped.
    poll_until_it_panics(&mut unbegun).await;
    drop(unbegun);
    let mut filled = reader.read_at(Trap::new(8), 0);
    assert!(poll_once(&mut filled).is_pending());
    meddler.write_all(b"12345678").unwrap();
    poll_until_it_panics(&mut filled).await;
    drop(filled);
    // Dropped before its completion.
    let mut orphan = reader.read_at(Trap::new(8), 0);
    assert!(poll_once(&mut orphan).is_pending());
    meddler.write_all(b"12345678").unwrap();
    drop(orphan);
    well().await;
    meddler.write_all(b"x").unwrap();
    let (count, _) = reader.read_at(vec![0; 64], 0).await.unwrap();
    assert!(count == 1 || count == 9, "the cancel came first, or the bytes: {count}");
}

/// Whoever waits for a socket is still woken after another has polled it by a waker whose clone
/// panics.
#[test]
fn a_waker_whose_clone_panics_takes_no_readers_place() {
    let _watchdog = watchdog("clones that panic", 60);
    quiet();
    let run = Builder::new_current_thread().run(async {
        let (near, far) = UnixStream::pair().unwrap();
        let flag = Arc::<Flag>::default();
        let waker = Waker::from(flag.clone());
        assert!(near.poll_read_ready(&mut Context::from_waker(&waker)).is_pending());
        well().await;
        let (_grump, bad) = Grump::new(Fuses { clone: true, ..Fuses::default() });
        let polled = catch_unwind(AssertUnwindSafe(|| {
            near.poll_read_ready(&mut Context::from_waker(&bad)).is_pending()
        }));
        std::mem::forget(polled.expect_err("the panic is the poll's"));
        assert_eq!(far.try_write(b"x").unwrap(), 1);
        turn_until(|| flag.is_set()).await;
    });
    run.unwrap();
}
