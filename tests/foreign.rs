//! Foreign code may panic anywhere, and every resource is where it must be before it runs: nothing
//! that the kernel may use is freed early, nobody else's wake-up is lost, and the process goes on.

#![allow(clippy::async_yields_async)] // Operations are carried to other threads here.

mod bombs;
mod common;
mod watched;

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::Duration;

use bombs::{Fuses, Grump, quiet, well};
use common::proc::becomes;
use runtime::Runtime;
use watched::{Cancels, Counted, Pipe, Watch, pipe, poll_once, turn_until, watchdog, watched};

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
