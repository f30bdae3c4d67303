//! A runtime ends while other threads still use it, and other ways to wait for oneself.

mod common;
mod held;
mod watched;

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use runtime::buffers::{Pool, PoolConfig};
use runtime::{Builder, Handle, Runtime, task};
use watched::{pipe, watchdog};

fn one_shard() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.shards(1).drain_deadline(Duration::from_secs(20)).build().unwrap()
}

/// Keeps the end of its shard from going on until an operation was sent there.
struct Gate {
    reached: mpsc::Sender<()>,
    sent: mpsc::Receiver<()>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.reached.send(()).unwrap();
        self.sent.recv().unwrap();
    }
}

/// A runtime whose only shard stops in the destructor of a task. What is returned tells of that,
/// and lets it go on.
fn gated() -> (Runtime, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let runtime = one_shard();
    let (reached, is_reached) = mpsc::channel();
    let (sent, is_sent) = mpsc::channel();
    let gate = Gate { reached, sent: is_sent };
    let (started, is_started) = mpsc::channel();
    runtime.spawn(async move {
        let _gate = gate;
        started.send(()).unwrap();
        pending::<()>().await;
    });
    is_started.recv().unwrap();
    (runtime, is_reached, sent)
}

/// Reads from an empty pipe, and says when the read was polled for the first time.
async fn read_nothing(sent: mpsc::Sender<()>) -> std::io::Result<usize> {
    let pipe = pipe();
    let mut read = pin!(pipe.reader.read_at(vec![0; 8], 0));
    let mut sent = Some(sent);
    let outcome = poll_fn(|cx| {
        let polled = read.as_mut().poll(cx);
        if let Some(sent) = sent.take() {
            sent.send(()).unwrap();
        }
        polled
    });
    Ok(outcome.await?.0)
}

#[test]
fn an_operation_that_comes_while_its_shard_ends_is_refused() {
    let _watchdog = watchdog("an operation that comes late", 60);
    let (runtime, reached, sent) = gated();
    let handle = runtime.handle().clone();
    let late = thread::spawn(move || {
        reached.recv().unwrap();
        handle.block_on(read_nothing(sent))
    });
    let begun = Instant::now();
    drop(runtime);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let error = late.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("the runtime has shut down"), "{error}");
}

#[test]
fn a_runtime_ends_though_a_blocking_closure_begins_to_wait_for_its_io() {
    let _watchdog = watchdog("a closure that waits for its runtime", 60);
    let (runtime, reached, sent) = gated();
    let (begun, has_begun) = mpsc::channel();
    let closure = runtime.spawn_blocking(move || {
        begun.send(()).unwrap();
        reached.recv().unwrap();
        Handle::current().block_on(read_nothing(sent))
    });
    has_begun.recv().unwrap();
    drop(runtime);
    let error = futures::executor::block_on(closure).unwrap().unwrap_err();
    assert!(error.to_string().contains("the runtime has shut down"), "{error}");
}

#[test]
fn blocking_in_place_on_one_s_own_runtime_panics_and_does_not_hang() {
    let _watchdog = watchdog("a shard that waits for itself", 60);
    let blocks = || task::block_in_place(|| Handle::current().block_on(task::yield_now()));
    let runtime = one_shard();
    let error = runtime.block_on(runtime.spawn(async move { blocks() })).unwrap_err();
    let said = error.into_panic().downcast::<&str>().unwrap();
    assert!(said.contains("a shard can't block on a future"), "{said}");
    // Another runtime's shards are not this one's.
    let other = one_shard();
    let blocks = move || task::block_in_place(|| other.block_on(async { 7 }));
    assert_eq!(runtime.block_on(runtime.spawn(async move { blocks() })).unwrap(), 7);
}

#[test]
fn a_runtime_may_be_dropped_in_place_on_its_own_shard() {
    let _watchdog = watchdog("a runtime that is dropped in place", 60);
    let runtime = one_shard();
    let (dropped, is_dropped) = mpsc::channel();
    runtime.handle().clone().spawn(async move {
        task::block_in_place(|| drop(runtime));
        dropped.send(()).unwrap();
    });
    is_dropped.recv().unwrap();
}

#[test]
fn endless_deadlines_are_long_ones() {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.shards(1).drain_deadline(Duration::MAX).build().unwrap();
    assert_eq!(runtime.block_on(async { 3 }), 3);
    drop(runtime);
    assert_eq!(builder.run(async { 4 }).unwrap(), 4);
    one_shard().shutdown_timeout(Duration::MAX);
}

#[test]
fn a_hook_that_panics_costs_no_closure_and_no_shard() {
    let _watchdog = watchdog("a hook that panics", 60);
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.shards(1).on_thread_start(|| panic!("in a hook")).build().unwrap();
    assert_eq!(runtime.block_on(runtime.spawn_blocking(|| 5)).unwrap(), 5);
    assert_eq!(runtime.block_on(runtime.spawn(async { 6 })).unwrap(), 6);
}

struct Bad;

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        panic!("in a waker");
    }
}

struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_waker_that_panics_costs_nobody_else_the_lease_that_was_granted() {
    let pool = Pool::unregistered(PoolConfig::new().limit(8192).arena(8192));
    let held = pool.try_lease(8192).unwrap();
    let (mut first, mut second) = (pool.lease(4096), pool.lease(4096));
    let counts = Arc::new(Counts(AtomicUsize::new(0)));
    let (bad, good) = (Waker::from(Arc::new(Bad)), Waker::from(counts.clone()));
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&bad)).is_pending());
    assert!(Pin::new(&mut second).poll(&mut Context::from_waker(&good)).is_pending());
    drop(held);
    assert_eq!(counts.0.load(Ordering::SeqCst), 1);
    let granted = Pin::new(&mut second).poll(&mut Context::from_waker(&good));
    assert!(matches!(granted, Poll::Ready(Ok(lease)) if lease.capacity() == 4096));
}
