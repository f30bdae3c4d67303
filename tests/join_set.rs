//! Sets of tasks: each result once, in the order of their ends, and no task outlives its set unless
//! it is let go.

mod common;
mod watched;

use std::collections::HashSet;
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use runtime::sync::oneshot;
use runtime::task::{JoinSet, yield_now};
use runtime::time::sleep;
use runtime::{Builder, Runtime};
use tokio_test::{assert_pending, assert_ready, task};
use watched::watchdog;

/// Counts its drops.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn one_shard() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn two_shards() -> Runtime {
    Builder::new_multi_thread().shards(2).build().unwrap()
}

#[runtime::test]
async fn results_come_in_the_order_in_which_the_tasks_end() {
    let _watchdog = watchdog("results come in the order in which the tasks end", 60);
    let mut set = JoinSet::new();
    let senders: Vec<_> = (0..5)
        .map(|number| {
            let (sender, receiver) = oneshot::channel::<()>();
            set.spawn(async move {
                receiver.await.unwrap();
                number
            });
            sender
        })
        .collect();
    let mut senders: Vec<_> = senders.into_iter().map(Some).collect();
    for number in [3, 0, 4, 1, 2] {
        assert!(set.try_join_next().is_none());
        senders[number].take().unwrap().send(()).unwrap();
        assert_eq!(set.join_next().await.unwrap().unwrap(), number);
    }
    assert!(set.is_empty());
    assert!(set.join_next().await.is_none());
    assert!(set.try_join_next().is_none());
}

#[runtime::test]
async fn a_set_counts_the_tasks_whose_results_nobody_took() {
    let _watchdog = watchdog("a set counts the tasks whose results nobody took", 60);
    let mut set = JoinSet::new();
    assert!(set.is_empty());
    set.spawn(async { 1 });
    set.spawn_local(async { *Rc::new(2) });
    set.spawn_blocking(|| 3);
    assert_eq!(set.len(), 3);
    assert_eq!(format!("{set:?}"), "JoinSet { len: 3 }");
    let mut sum = 0;
    while let Some(result) = set.join_next().await {
        sum += result.unwrap();
    }
    assert_eq!((sum, set.len()), (6, 0));
}

#[runtime::test]
async fn results_bear_the_ids_of_their_tasks() {
    let _watchdog = watchdog("results bear the ids of their tasks", 60);
    let mut set = JoinSet::new();
    let fine = set.spawn(async { 5 }).id();
    assert_eq!(set.join_next_with_id().await.unwrap().unwrap(), (fine, 5));
    let aborted = set.spawn(pending());
    aborted.abort();
    let error = set.join_next_with_id().await.unwrap().unwrap_err();
    assert_eq!((error.id(), error.is_cancelled()), (aborted.id(), true));
    let later = set.spawn(async { 6 }).id();
    assert!(set.try_join_next_with_id().is_none());
    yield_now().await;
    assert_eq!(set.try_join_next_with_id().unwrap().unwrap(), (later, 6));
}

#[runtime::test]
async fn a_waiting_set_is_woken_by_an_end_and_by_nothing_else() {
    let _watchdog = watchdog("a waiting set is woken by an end and by nothing else", 60);
    let mut set = JoinSet::new();
    let (sender, receiver) = oneshot::channel();
    set.spawn(async move { receiver.await.unwrap() });
    set.spawn(pending());
    yield_now().await;
    let mut joining = task::spawn(set.join_next());
    assert_pending!(joining.poll());
    yield_now().await;
    assert!(!joining.is_woken());
    sender.send(9).unwrap();
    yield_now().await;
    assert!(joining.is_woken());
    assert_eq!(assert_ready!(joining.poll()).unwrap().unwrap(), 9);
}

#[runtime::test]
async fn a_dropped_wait_takes_no_result() {
    let _watchdog = watchdog("a dropped wait takes no result", 60);
    let mut set = JoinSet::new();
    let (sender, receiver) = oneshot::channel();
    set.spawn(async move { receiver.await.unwrap() });
    for _ in 0..3 {
        assert_pending!(task::spawn(set.join_next()).poll());
    }
    sender.send(4).unwrap();
    yield_now().await;
    runtime::select! {
        biased;
        () = async {} => {}
        _ = set.join_next() => panic!("the first branch is always ready"),
    }
    assert_eq!(set.join_next().await.unwrap().unwrap(), 4);
}

#[runtime::test]
async fn a_panic_stays_in_its_task_and_is_its_result() {
    let _watchdog = watchdog("a panic stays in its task and is its result", 60);
    let mut set = JoinSet::new();
    set.spawn(async { panic!("as planned") });
    let error = set.join_next().await.unwrap().unwrap_err();
    assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"as planned"));
    set.spawn(async {});
    set.join_next().await.unwrap().unwrap();
}

#[test]
fn dropping_a_set_aborts_its_tasks() {
    let _watchdog = watchdog("dropping a set aborts its tasks", 60);
    let dropped = Arc::new(AtomicUsize::new(0));
    let runtime = one_shard();
    runtime.block_on(async {
        let mut set = JoinSet::new();
        for _ in 0..10 {
            let guard = Guard(dropped.clone());
            set.spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            });
        }
        drop(set);
        let start = std::time::Instant::now();
        while dropped.load(Ordering::SeqCst) < 10 {
            assert!(start.elapsed() < Duration::from_secs(20), "the tasks were not aborted");
            sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(dropped.load(Ordering::SeqCst), 10);
}

#[runtime::test]
async fn a_shutdown_waits_until_all_futures_are_dropped() {
    let _watchdog = watchdog("a shutdown waits until all futures are dropped", 60);
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut set = JoinSet::new();
    for number in 0..10 {
        let guard = Guard(dropped.clone());
        set.spawn(async move {
            let _guard = guard;
            if number % 2 == 0 {
                pending::<()>().await;
            }
        });
    }
    set.shutdown().await;
    assert_eq!((set.len(), dropped.load(Ordering::SeqCst)), (0, 10));
}

#[runtime::test]
async fn aborted_tasks_stay_in_the_set_as_cancelled() {
    let _watchdog = watchdog("aborted tasks stay in the set as cancelled", 60);
    let mut set = JoinSet::<()>::new();
    for _ in 0..3 {
        set.spawn(pending());
    }
    set.abort_all();
    assert_eq!(set.len(), 3);
    for _ in 0..3 {
        assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
    }
    assert!(set.join_next().await.is_none());
}

#[runtime::test]
async fn detached_tasks_go_on() {
    let _watchdog = watchdog("detached tasks go on", 60);
    let mut set = JoinSet::new();
    let mut receivers = Vec::new();
    for number in 0..3 {
        let (sender, receiver) = oneshot::channel();
        set.spawn(async move {
            yield_now().await;
            sender.send(number).unwrap();
        });
        receivers.push(receiver);
    }
    set.detach_all();
    assert!(set.is_empty() && set.join_next().await.is_none());
    // A new task gets the place of an old one, whose end must not be taken for its own.
    let (sender, receiver) = oneshot::channel();
    set.spawn(async move { receiver.await.unwrap() });
    for (number, receiver) in receivers.into_iter().enumerate() {
        assert_eq!(receiver.await.unwrap(), number);
    }
    yield_now().await;
    assert!(set.try_join_next().is_none());
    sender.send(()).unwrap();
    set.join_next().await.unwrap().unwrap();
}

#[runtime::test]
async fn join_all_gives_all_outputs() {
    let _watchdog = watchdog("join all gives all outputs", 60);
    let set: JoinSet<usize> = (0..100).map(|number| async move { number }).collect();
    let mut outputs = set.join_all().await;
    outputs.sort();
    assert_eq!(outputs, (0..100).collect::<Vec<_>>());
    assert_eq!(JoinSet::<()>::default().join_all().await, []);
}

#[runtime::test]
#[should_panic(expected = "as planned")]
async fn join_all_goes_on_with_a_task_s_panic() {
    let _watchdog = watchdog("join all goes on with a task s panic", 60);
    let mut set = JoinSet::<()>::new();
    set.spawn(pending());
    set.spawn(async { panic!("as planned") });
    set.join_all().await;
}

#[runtime::test]
#[should_panic(expected = "was cancelled")]
async fn join_all_panics_if_a_task_was_aborted() {
    let _watchdog = watchdog("join all panics if a task was aborted", 60);
    let mut set = JoinSet::<()>::new();
    set.spawn(pending()).abort();
    set.join_all().await;
}

#[test]
fn a_set_is_filled_and_joined_from_outside_of_the_runtime() {
    let _watchdog = watchdog("a set is filled and joined from outside of the runtime", 60);
    let runtime = two_shards();
    let mut set = JoinSet::new();
    for number in 0..100 {
        set.spawn_on(async move { number }, runtime.handle());
        set.spawn_blocking_on(move || number + 100, runtime.handle());
    }
    let numbers: HashSet<i32> = futures::executor::block_on(set.join_all()).into_iter().collect();
    assert_eq!(numbers, (0..200).collect());
}

#[test]
fn no_end_is_lost_while_two_shards_end_tasks() {
    let _watchdog = watchdog("no end is lost while two shards end tasks", 60);
    let runtime = two_shards();
    let mut set = JoinSet::new();
    let mut joined = 0;
    runtime.block_on(async {
        for round in 0..200 {
            for number in 0..100 {
                set.spawn_on(
                    async move {
                        if (number + round) % 3 == 0 {
                            yield_now().await;
                        }
                    },
                    runtime.handle(),
                );
            }
            // Some are left over, and their places stay taken while others are used again.
            while set.len() > round % 7 {
                set.join_next().await.unwrap().unwrap();
                joined += 1;
            }
        }
        while let Some(result) = set.join_next().await {
            result.unwrap();
            joined += 1;
        }
    });
    assert_eq!(joined, 20_000);
}

#[test]
fn a_set_hears_of_the_runtime_s_end() {
    let _watchdog = watchdog("a set hears of the runtime s end", 60);
    let runtime = two_shards();
    let mut set = JoinSet::<()>::new();
    for _ in 0..10 {
        set.spawn_on(pending(), runtime.handle());
    }
    drop(runtime);
    let mut joining = pin!(set.join_next());
    let error = match futures::executor::block_on(async { futures::poll!(&mut joining) }) {
        Poll::Ready(result) => result.unwrap().unwrap_err(),
        Poll::Pending => panic!("the tasks were dropped with the runtime"),
    };
    assert!(error.is_cancelled());
}
