//! A task whose channel, lock or stream of tokio's is always ready doesn't keep its shard.
//!
//! Each of these tasks loops without an await of ours, and ends only when what goes on beside it
//! says so: a shard that it keeps is found by the watchdog. Code that starves nobody sees nothing
//! of all this.

mod common;
mod watched;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::count;
use futures::FutureExt;
use runtime::fs::File;
use runtime::io::AsyncWriteExt;
use runtime::sync::{Mutex, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use runtime::{Builder, Handle, task, time};
use watched::watchdog;

/// Says when the busy task may end, and how often it went round.
#[derive(Clone, Default)]
struct Over {
    flag: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
}

impl Over {
    fn is_over(&self) -> bool {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.flag.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

type Busy = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A way to be always ready.
type Way = fn(Over) -> Busy;

async fn always_a_message(over: Over) {
    let (sender, mut receiver) = mpsc::channel(1);
    while !over.is_over() {
        sender.try_send(7).unwrap();
        assert_eq!(receiver.recv().await, Some(7));
    }
}

async fn always_room(over: Over) {
    let (sender, mut receiver) = mpsc::channel(4);
    while !over.is_over() {
        sender.send(7).await.unwrap();
        assert_eq!(receiver.try_recv(), Ok(7));
    }
}

async fn always_an_unbounded_message(over: Over) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    while !over.is_over() {
        sender.send(7).unwrap();
        assert_eq!(receiver.recv().await, Some(7));
    }
}

async fn always_an_answer(over: Over) {
    while !over.is_over() {
        let (sender, receiver) = oneshot::channel();
        sender.send(7).unwrap();
        assert_eq!(receiver.await, Ok(7));
    }
}

async fn always_news(over: Over) {
    let (sender, mut receiver) = broadcast::channel(4);
    while !over.is_over() {
        sender.send(7).unwrap();
        assert_eq!(receiver.recv().await, Ok(7));
    }
}

async fn always_changed(over: Over) {
    let (sender, mut receiver) = watch::channel(0);
    while !over.is_over() {
        sender.send_modify(|number| *number += 1);
        receiver.changed().await.unwrap();
    }
}

async fn always_a_permit(over: Over) {
    let permits = Semaphore::new(1);
    while !over.is_over() {
        drop(permits.acquire().await.unwrap());
    }
}

async fn always_unlocked(over: Over) {
    let (number, other) = (Mutex::new(0), RwLock::new(0));
    while !over.is_over() {
        *number.lock().await += 1;
        *other.write().await += 1;
        drop(other.read().await);
    }
}

async fn always_bytes(over: Over) {
    let mut stream = runtime::io::sink();
    while !over.is_over() {
        stream.write_all(&[7]).await.unwrap();
    }
}

/// Both of its branches are ready, and it takes one.
async fn always_selected(over: Over) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let permits = Semaphore::new(1);
    while !over.is_over() {
        sender.send(7).unwrap();
        runtime::select! {
            number = receiver.recv() => assert_eq!(number, Some(7)),
            permit = permits.acquire() => drop(permit.unwrap()),
        }
    }
}

/// Each way to be always ready, by name.
fn ways() -> Vec<(&'static str, Way)> {
    vec![
        ("a message", |over| Box::pin(always_a_message(over))),
        ("room", |over| Box::pin(always_room(over))),
        ("an unbounded message", |over| Box::pin(always_an_unbounded_message(over))),
        ("an answer", |over| Box::pin(always_an_answer(over))),
        ("news", |over| Box::pin(always_news(over))),
        ("a change", |over| Box::pin(always_changed(over))),
        ("a permit", |over| Box::pin(always_a_permit(over))),
        ("a lock", |over| Box::pin(always_unlocked(over))),
        ("bytes", |over| Box::pin(always_bytes(over))),
        ("a branch", |over| Box::pin(always_selected(over))),
    ]
}

fn a_file(directory: &Path) -> PathBuf {
    let path = directory.join("file");
    std::fs::write(&path, [7; 4096]).unwrap();
    path
}

/// What has to go on beside a busy task: reads, timers and another task. It ends the busy task.
async fn goes_on(path: PathBuf, over: Over) {
    let file = File::open(path).await.unwrap();
    for _ in 0..10 {
        let (count, bytes) = file.read_at(vec![0; 4096], 0).await.unwrap();
        assert_eq!((count, bytes[0]), (4096, 7));
        time::sleep(Duration::from_micros(100)).await;
        task::spawn_local(async {}).await.unwrap();
    }
    over.set();
}

/// Runs a busy task and what goes on beside it as tasks of shard `shard` of `shards`.
fn beside(shards: usize, shard: usize, busy: Way) {
    let directory = tempfile::tempdir().unwrap();
    let path = a_file(directory.path());
    let runtime = Builder::new_multi_thread().shards(shards).build().unwrap();
    let over = Over::default();
    let its = over.clone();
    let busy = runtime.handle().spawn_on(shard, move || busy(its));
    let beside = runtime.handle().spawn_on(shard, move || goes_on(path, over));
    runtime.block_on(async {
        beside.await.unwrap();
        busy.await.unwrap();
    });
}

#[test]
fn no_channel_lock_or_stream_that_is_always_ready_keeps_its_shard() {
    for (what, busy) in ways() {
        println!("always {what}");
        let _watchdog = watchdog(what, 20);
        beside(1, 0, busy);
    }
}

#[test]
fn on_another_shard_neither() {
    let _watchdog = watchdog("shard 1 of two", 20);
    beside(2, 1, |over| Box::pin(always_a_message(over)));
}

#[test]
fn several_of_them_on_one_shard_neither() {
    let _watchdog = watchdog("ten busy tasks", 20);
    beside(1, 0, |over| {
        Box::pin(async move {
            let all: Vec<_> =
                ways().into_iter().map(|(_, busy)| task::spawn(busy(over.clone()))).collect();
            for one in all {
                one.await.unwrap();
            }
        })
    });
}

#[test]
fn a_root_future_that_is_always_ready_doesn_t_keep_its_shard() {
    for (what, busy) in ways() {
        println!("always {what}");
        let _watchdog = watchdog(what, 20);
        let directory = tempfile::tempdir().unwrap();
        let path = a_file(directory.path());
        let over = Over::default();
        Builder::new_current_thread()
            .run(async {
                let beside = task::spawn(goes_on(path, over.clone()));
                busy(over).await;
                beside.await.unwrap();
            })
            .unwrap();
    }
}

#[runtime::test(shards = 1)]
async fn a_test_s_own_loop_doesn_t_keep_its_shard() {
    let _watchdog = watchdog("the loop of a test", 20);
    let directory = tempfile::tempdir().unwrap();
    let over = Over::default();
    let beside = task::spawn(goes_on(a_file(directory.path()), over.clone()));
    always_a_message(over).await;
    beside.await.unwrap();
}

#[test]
fn a_message_from_another_thread_reaches_a_shard_that_is_busy() {
    let _watchdog = watchdog("a message from another thread", 20);
    let runtime = Builder::new_multi_thread().shards(1).build().unwrap();
    let over = Over::default();
    let busy = runtime.spawn(always_a_message(over.clone()));
    while over.rounds.load(Ordering::Relaxed) < 10_000 {
        thread::yield_now();
    }
    let handle = runtime.handle().clone();
    thread::spawn(move || handle.block_on(runtime_answers(&handle))).join().unwrap();
    over.set();
    runtime.block_on(busy).unwrap();
}

async fn runtime_answers(handle: &Handle) {
    assert_eq!(handle.spawn(async { 7 }).await.unwrap(), 7);
}

/// A waker that is not a task's own: it counts, and hands the wake-up on.
struct Foreign {
    task: Waker,
    wakes: AtomicU64,
}

impl Wake for Foreign {
    fn wake(self: Arc<Foreign>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

#[test]
fn a_future_under_a_foreign_waker_is_woken_through_it() {
    let _watchdog = watchdog("a foreign waker", 20);
    beside(1, 0, |over| {
        Box::pin(async move {
            let mut busy = Box::pin(always_a_message(over));
            let mut polls = 0u64;
            let mut all: Vec<Arc<Foreign>> = Vec::new();
            poll_fn(|cx| {
                polls += 1;
                let task = cx.waker().clone();
                let foreign = Arc::new(Foreign { task, wakes: AtomicU64::new(0) });
                all.push(foreign.clone());
                busy.as_mut().poll(&mut Context::from_waker(&Waker::from(foreign)))
            })
            .await;
            let wakes: u64 = all.iter().map(|one| one.wakes.load(Ordering::Relaxed)).sum();
            assert!(polls > 1, "{polls}");
            assert_eq!(wakes, polls - 1);
        })
    });
}

#[test]
fn a_million_messages_arrive_in_their_order() {
    let messages = u64::from(count("RINGHOLD_MESSAGES", 1_000_000));
    let _watchdog = watchdog("a million messages", 120);
    for shards in [1, 2] {
        let runtime = Builder::new_multi_thread().shards(shards).build().unwrap();
        let (sender, mut receiver) = mpsc::channel(1000);
        let sending = runtime.handle().spawn_on(0, move || async move {
            for number in 0..messages {
                sender.send(number).await.unwrap();
            }
        });
        let receiving = runtime.handle().spawn_on(shards - 1, move || async move {
            for number in 0..messages {
                assert_eq!(receiver.recv().await, Some(number));
            }
            assert_eq!(receiver.recv().await, None);
        });
        runtime.block_on(async {
            sending.await.unwrap();
            receiving.await.unwrap();
        });
    }
}

/// Counts the polls of what it holds.
async fn polls_of<F: Future>(future: F) -> u32 {
    let mut future = Box::pin(future);
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx).map(|_| ())
    })
    .await;
    polls
}

async fn take(messages: u32) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    for number in 0..messages {
        sender.send(number).unwrap();
    }
    for number in 0..messages {
        assert_eq!(receiver.recv().await, Some(number));
    }
}

#[test]
fn a_task_that_drains_a_channel_returns_now_and_then() {
    let _watchdog = watchdog("draining a channel", 20);
    let drain = |builder: &mut Builder| {
        builder
            .run(async {
                assert_eq!(polls_of(take(100)).await, 1, "the root's first poll");
                let polls = task::spawn(polls_of(take(10_000))).await.unwrap();
                assert!((78..=81).contains(&polls), "{polls} polls of up to 128 messages");
                // A budget that is used up costs one more poll, whoever is polled then.
                let many: Vec<_> = (0..100).map(|_| task::spawn(polls_of(take(100)))).collect();
                let mut polls = 0;
                for one in many {
                    polls += one.await.unwrap();
                }
                assert!((100..=100 + 81).contains(&polls), "{polls} polls of one hundred tasks");
            })
            .unwrap();
    };
    drain(&mut Builder::new_current_thread());
    drain(Builder::new_multi_thread().shards(2));
}

#[test]
fn each_poll_may_take_at_least_one_step() {
    async fn polls_once() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for _ in 0..1000 {
            sender.send(7).unwrap();
            assert_eq!(receiver.recv().now_or_never(), Some(Some(7)));
            task::yield_now().await;
        }
    }
    Builder::new_current_thread()
        .run(async {
            let many: Vec<_> = (0..20).map(|_| task::spawn(polls_once())).collect();
            polls_once().await;
            for one in many {
                one.await.unwrap();
            }
        })
        .unwrap();
}

/// After a runtime has run on a thread, and where one blocks on purpose, nobody refills a budget;
/// so there must be none.
#[test]
fn what_blocks_a_thread_meets_no_budget() {
    let _watchdog = watchdog("code that blocks", 20);
    Builder::new_current_thread()
        .run(async {
            take(1000).await;
            task::block_in_place(|| futures::executor::block_on(take(10_000)));
            let other = Builder::new_multi_thread().shards(1).build().unwrap();
            task::block_in_place(|| other.block_on(take(10_000)));
            task::block_in_place(|| Builder::new_current_thread().run(take(10_000)).unwrap());
            task::spawn_blocking(|| futures::executor::block_on(take(10_000))).await.unwrap();
            assert!(polls_of(take(10_000)).await > 70, "the budget is back");
            task::block_in_place(|| drop(other));
        })
        .unwrap();
    futures::executor::block_on(take(10_000));
    let panicked = std::panic::catch_unwind(|| {
        Builder::new_current_thread().run(async { panic!("expected") })
    });
    assert!(panicked.is_err());
    futures::executor::block_on(take(10_000));
}

/// Code of tokio's that needs tokio's runtime finds none, and its `LocalSet` works on our shards.
async fn looks_for_tokio() {
    assert!(tokio::runtime::Handle::try_current().is_err());
    assert!(std::panic::catch_unwind(|| tokio::spawn(async {})).is_err());
    assert!(std::panic::catch_unwind(|| tokio::task::spawn_local(async {})).is_err());
    let set = tokio::task::LocalSet::new();
    let done = set.run_until(async {
        let busy = tokio::task::spawn_local(take(10_000));
        take(10_000).await;
        busy.await.unwrap();
        7
    });
    assert_eq!(done.await, 7);
    assert!(std::panic::catch_unwind(|| tokio::task::spawn_local(async {})).is_err());
}

#[test]
fn tokios_own_executors_see_nothing_of_it() {
    let _watchdog = watchdog("tokio's own", 20);
    Builder::new_current_thread().run(looks_for_tokio()).unwrap();
    let runtime = Builder::new_multi_thread().shards(1).build().unwrap();
    runtime.block_on(runtime.handle().spawn_on(0, looks_for_tokio)).unwrap();
    // And a runtime of ours in one of theirs.
    let set = tokio::task::LocalSet::new();
    let outer = set.run_until(async {
        let inner = tokio::task::spawn_local(async {
            Builder::new_current_thread().run(take(10_000)).unwrap();
            tokio::task::spawn_local(async { 7 }).await.unwrap()
        });
        inner.await.unwrap()
    });
    assert_eq!(futures::executor::block_on(outer), 7);
}

#[test]
fn a_runtime_runs_while_its_thread_ends() {
    struct Last(std::sync::mpsc::Sender<u32>);
    impl Drop for Last {
        fn drop(&mut self) {
            let polls = Builder::new_current_thread().run(polls_of(take(1000))).unwrap();
            self.0.send(polls).unwrap();
        }
    }
    thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });
    let _watchdog = watchdog("the end of a thread", 20);
    // What a thread used last is destroyed first: tokio's thread-local is there yet, or no more.
    for (tokio_first, expected) in [(true, 8), (false, 1)] {
        let (sender, receiver) = std::sync::mpsc::channel();
        let ends = thread::spawn(move || {
            let set = || LAST.set(Some(Last(sender)));
            if tokio_first {
                futures::executor::block_on(take(1));
                set();
            } else {
                set();
                futures::executor::block_on(take(1));
            }
        });
        ends.join().unwrap();
        assert_eq!(receiver.recv(), Ok(expected), "{tokio_first}");
    }
}
