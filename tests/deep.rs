//! Chains of tasks of any length, and large futures: neither overflows a stack.

mod common;
mod watched;

use std::future::{Future, pending};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use runtime::sync::oneshot;
use runtime::task::{JoinHandle, JoinSet, TaskGroup, yield_now};
use runtime::{Builder, Runtime, task};
use watched::watchdog;

const LINKS: usize = 100_000;
const LARGE_BYTES: usize = 640 * 1024;

fn shards(shards: usize) -> Runtime {
    Builder::new_multi_thread().shards(shards).build().unwrap()
}

/// Waits for `next`, and counts the tasks from here on.
async fn link(next: JoinHandle<usize>) -> usize {
    next.await.map_or(0, |count| count + 1)
}

/// Tasks of which each waits for the one before it, all of them waiting; the first waits for
/// `first`.
async fn chain(first: impl Future<Output = usize> + 'static) -> JoinHandle<usize> {
    let mut last = task::spawn_local(first);
    for _ in 1..LINKS {
        task::consume_budget().await;
        last = task::spawn_local(link(last));
    }
    yield_now().await;
    yield_now().await;
    last
}

#[test]
fn a_chain_of_tasks_that_wait_for_each_other_completes() {
    let _watchdog = watchdog("a deep chain", 60);
    let count = task_on(|| async {
        let (sender, receiver) = oneshot::channel();
        let last = chain(async { receiver.await.unwrap() }).await;
        sender.send(1).unwrap();
        last.await.unwrap()
    });
    assert_eq!(count, LINKS);
}

#[test]
fn a_chain_of_tasks_that_wait_for_each_other_is_aborted_from_its_end() {
    let _watchdog = watchdog("a deep chain", 60);
    let cancelled = task_on(|| async {
        let last = chain(pending()).await;
        last.abort();
        last.await.unwrap_err().is_cancelled()
    });
    assert!(cancelled);
}

#[test]
fn a_chain_of_tasks_that_wait_for_each_other_ends_with_its_runtime() {
    let _watchdog = watchdog("a deep chain", 60);
    task_on(|| async { drop(chain(pending()).await) });
}

/// An output that holds the handle of a task with such an output.
struct Held {
    count: Arc<AtomicUsize>,
    _next: Option<JoinHandle<Held>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_chain_of_outputs_that_hold_handles_is_dropped_within_the_drop_of_the_first() {
    let _watchdog = watchdog("a deep chain", 60);
    let (before, after) = task_on(|| async {
        let count = Arc::new(AtomicUsize::new(0));
        let mut last = None;
        for _ in 0..LINKS {
            let held = Held { count: count.clone(), _next: last.take() };
            last = Some(task::spawn_local(async move { held }));
            task::consume_budget().await;
        }
        while !last.as_ref().is_some_and(JoinHandle::is_finished) {
            yield_now().await;
        }
        let before = count.load(Ordering::SeqCst);
        drop(last);
        (before, count.load(Ordering::SeqCst))
    });
    assert_eq!((before, after), (0, LINKS));
}

/// Runs on a shard with a thread of its own, and ends the runtime.
fn task_on<M, F>(make: M) -> F::Output
where
    M: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let runtime = shards(1);
    let handle = runtime.handle().spawn_on(0, make);
    runtime.block_on(handle).unwrap()
}

/// A future that is as large as `LARGE_BYTES`.
async fn large(seed: u8) -> usize {
    let mut bytes = [seed; LARGE_BYTES];
    yield_now().await;
    black_box(&mut bytes)[7] = 1;
    bytes.iter().filter(|&&byte| byte == seed).count()
}

#[test]
fn a_future_of_640_kib_is_spawned_in_every_way() {
    let _watchdog = watchdog("a deep chain", 60);
    let runtime = shards(2);
    assert_eq!(runtime.block_on(runtime.spawn(large(3))).unwrap(), LARGE_BYTES - 1);
    let counts = runtime.block_on(runtime.spawn(async {
        let mut set = JoinSet::new();
        set.spawn(large(3));
        set.spawn_local(large(4));
        let group = TaskGroup::builder("large").build();
        vec![
            task::spawn(large(5)).await.unwrap(),
            task::spawn_local(large(6)).await.unwrap(),
            task::spawn_on(1, || large(7)).await.unwrap(),
            task::spawn_balanced(large(8)).await.unwrap(),
            group.spawn(large(9)).await.unwrap(),
            set.join_next().await.unwrap().unwrap(),
            set.join_next().await.unwrap().unwrap(),
        ]
    }));
    assert_eq!(counts.unwrap(), [LARGE_BYTES - 1; 7]);
}

#[test]
fn a_future_of_640_kib_is_blocked_on() {
    let _watchdog = watchdog("a deep chain", 60);
    let runtime = shards(1);
    assert_eq!(runtime.block_on(large(3)), LARGE_BYTES - 1);
    assert_eq!(runtime.handle().block_on(large(3)), LARGE_BYTES - 1);
    let run = Builder::new_current_thread().run(large(3)).unwrap();
    assert_eq!(run, LARGE_BYTES - 1);
}
