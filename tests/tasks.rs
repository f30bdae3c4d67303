//! Tasks: where they run, how they are joined, detached and aborted, and when they and their
//! results are dropped.

mod common;
mod dice;
mod watched;

use std::cell::Cell;
use std::collections::HashSet;
use std::future::{Future, pending, poll_fn, ready};
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::{count, proc};
use dice::Dice;
use ringhold_buffers::sync::Queue;
use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::sync::{mpsc, oneshot};
use runtime::task::{JoinHandle, yield_now};
use runtime::{Builder, Handle, Runtime, task, time};
use watched::{turn_until, watchdog};

const SOON: Duration = Duration::from_secs(10);

fn shards(shards: usize) -> Runtime {
    Builder::new_multi_thread().shards(shards).build().unwrap()
}

/// Counts itself while it exists.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A future that notes when it is dropped, slowly enough that who doesn't wait for it is seen.
struct SlowDrop(Arc<AtomicBool>);

impl Drop for SlowDrop {
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(5));
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A task that waits for good, and whether its future was dropped.
fn waiting(runtime: &Handle, shard: usize) -> (JoinHandle<()>, Arc<AtomicBool>) {
    let dropped = Arc::new(AtomicBool::new(false));
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let slow = SlowDrop(dropped.clone());
    let joined = runtime.spawn_on(shard, move || async move {
        let _slow = slow;
        sender.send(()).unwrap();
        pending::<()>().await;
    });
    receiver.blocking_recv().unwrap();
    (joined, dropped)
}

/// What comes out of a queue until nobody else has it. ThreadSanitizer sees into this one, and not
/// into std's channels.
fn received<T>(mut queue: Arc<Queue<T>>) -> impl Iterator<Item = T> {
    iter::from_fn(move || {
        loop {
            let over = Arc::get_mut(&mut queue).is_some();
            match queue.pop() {
                Some(item) => return Some(item),
                None if over => return None,
                None => thread::yield_now(),
            }
        }
    })
}

#[test]
fn a_task_whose_handle_is_dropped_goes_on() {
    let _watchdog = watchdog("detached tasks", 60);
    let runtime = shards(2);
    let numbers = Arc::new(Queue::new());
    for number in 0..100 {
        let sender = numbers.clone();
        drop(runtime.spawn(async move {
            time::sleep(Duration::from_millis(1)).await;
            Op::new(Nop).await.unwrap();
            sender.push(number);
        }));
    }
    let mut done: Vec<i32> = received(numbers).collect();
    done.sort_unstable();
    assert_eq!(done, (0..100).collect::<Vec<_>>());
}

#[test]
fn the_result_that_nobody_wants_is_dropped_with_the_task() {
    let _watchdog = watchdog("results that nobody wants", 60);
    let runtime = shards(2);
    let alive = Arc::new(AtomicUsize::new(0));
    for round in 0..200 {
        let counted = Counted::new(&alive);
        let joined = runtime.spawn(async move {
            yield_now().await;
            counted
        });
        if round % 2 == 0 {
            // The handle goes when the result is there.
            proc::becomes("finished", 1, SOON, || usize::from(joined.is_finished()));
        }
        drop(joined);
    }
    proc::becomes("results", 0, SOON, || alive.load(Ordering::SeqCst));
}

#[test]
fn an_aborted_task_is_cancelled_only_after_its_future_was_dropped() {
    let _watchdog = watchdog("aborted tasks", 60);
    let runtime = shards(2);
    for how in 0..4 {
        for shard in [0, 1] {
            let (joined, dropped) = waiting(runtime.handle(), shard);
            let abort = joined.abort_handle();
            assert_eq!(abort.id(), joined.id());
            match how {
                // From here, which is no shard, from its own shard, from the other, from another
                // runtime.
                0 => abort.abort(),
                1 | 2 => {
                    let on = runtime.handle().spawn_on((shard + how) % 2, move || {
                        abort.abort();
                        ready(())
                    });
                    runtime.block_on(on).unwrap();
                }
                _ => shards(1)
                    .block_on(async { task::spawn(async move { abort.abort() }).await })
                    .unwrap(),
            }
            let error = runtime.block_on(joined).unwrap_err();
            assert!(dropped.load(Ordering::SeqCst), "cancelled before it was dropped");
            assert!(error.is_cancelled() && !error.is_panic());
            assert!(error.to_string().ends_with("was cancelled"), "{error}");
            assert!(error.try_into_panic().is_err());
        }
    }
}

#[test]
fn is_finished_says_so_only_after_an_aborted_future_was_dropped() {
    let _watchdog = watchdog("finishing of aborted tasks", 60);
    let runtime = shards(1);
    for _ in 0..20 {
        let (joined, dropped) = waiting(runtime.handle(), 0);
        assert!(!joined.is_finished());
        joined.abort();
        joined.abort();
        while !joined.is_finished() {
            thread::yield_now();
        }
        assert!(dropped.load(Ordering::SeqCst));
    }
}

#[test]
fn aborting_a_task_that_is_done_changes_nothing() {
    let _watchdog = watchdog("aborting late", 60);
    let runtime = shards(1);
    let joined = runtime.spawn(async { 5 });
    proc::becomes("finished", 1, SOON, || usize::from(joined.is_finished()));
    joined.abort();
    let abort = joined.abort_handle();
    abort.abort();
    assert_eq!(runtime.block_on(joined).unwrap(), 5);
    assert!(abort.is_finished());
    abort.abort();
}

#[test]
fn a_task_that_is_aborted_while_it_runs_ends_at_its_next_wait() {
    let _watchdog = watchdog("aborting a running task", 60);
    let runtime = shards(2);
    for itself in [true, false] {
        let (sender, receiver) = oneshot::channel::<task::AbortHandle>();
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        let joined = runtime.handle().spawn_on(0, move || async move {
            let abort = receiver.await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            if itself {
                abort.abort();
            } else {
                // From another thread, while this one is in the middle of its poll.
                thread::spawn(move || abort.abort()).join().unwrap();
            }
            counted.fetch_add(1, Ordering::SeqCst);
            pending::<()>().await;
        });
        sender.send(joined.abort_handle()).unwrap();
        assert!(runtime.block_on(joined).unwrap_err().is_cancelled());
        assert_eq!(polls.load(Ordering::SeqCst), 2);
    }
    // One that doesn't wait any more is done, and not cancelled.
    let (sender, receiver) = oneshot::channel::<task::AbortHandle>();
    let joined = runtime.spawn(async move {
        receiver.await.unwrap().abort();
        9
    });
    sender.send(joined.abort_handle()).unwrap();
    assert_eq!(runtime.block_on(joined).unwrap(), 9);
}

#[test]
fn a_task_that_is_aborted_before_its_first_poll_never_runs() {
    let run = Builder::new_current_thread().run(async {
        let alive = Arc::new(AtomicUsize::new(0));
        let counted = Counted::new(&alive);
        let joined = task::spawn(async move {
            let _counted = counted;
            panic!("it ran");
        });
        joined.abort();
        assert_eq!(alive.load(Ordering::SeqCst), 1, "it is dropped on a turn of its shard");
        assert!(joined.await.unwrap_err().is_cancelled());
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
    run.unwrap();
}

#[test]
fn tasks_that_end_while_they_are_woken_joined_and_aborted_are_freed_once() {
    let tasks = count("RINGHOLD_TASKS", 4000);
    let _watchdog = watchdog("tasks that race", 60 + u64::from(tasks) / 1000);
    let mut dice = Dice::from_environment();
    let runtime = shards(2);
    let alive = Arc::new(AtomicUsize::new(0));
    let sender = Arc::new(Queue::<(Waker, task::AbortHandle)>::new());
    let receiver = sender.clone();
    let meddling = thread::spawn({
        let mut dice = dice.split();
        move || {
            for (waker, abort) in received(receiver) {
                dice.dawdle();
                match dice.below(4) {
                    0 => abort.abort(),
                    1 => waker.wake_by_ref(),
                    2 => [waker.clone(), waker].into_iter().for_each(Waker::wake),
                    _ => drop(waker),
                }
            }
        }
    });
    let mut joins = Vec::new();
    for number in 0..tasks {
        let (future, output) = (Counted::new(&alive), Counted::new(&alive));
        let sender = sender.clone();
        let polls = 1 + dice.below(4);
        let (hand, handed) = oneshot::channel::<task::AbortHandle>();
        let mut dawdle = dice.split();
        let joined = runtime.handle().spawn_on(number as usize % 2, move || async move {
            let _future = future;
            let abort = handed.await.unwrap();
            for _ in 0..polls {
                let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
                sender.push((waker, abort.clone()));
                dawdle.dawdle();
                yield_now().await;
            }
            output
        });
        hand.send(joined.abort_handle()).ok();
        match dice.below(3) {
            0 => drop(joined),
            _ => joins.push(joined),
        }
        if joins.len() == 64 {
            for joined in joins.drain(..) {
                match runtime.block_on(joined) {
                    Ok(output) => drop(output),
                    Err(error) => assert!(error.is_cancelled()),
                }
            }
        }
    }
    drop((sender, joins));
    meddling.join().unwrap();
    proc::becomes("futures and results", 0, SOON, || alive.load(Ordering::SeqCst));
    proc::becomes("tasks", 0, SOON, || runtime.metrics().num_alive_tasks());
}

#[test]
fn a_join_handle_wakes_whoever_polled_it_last() {
    let _watchdog = watchdog("join handles that are passed on", 60);
    let run = Builder::new_current_thread().run(async {
        let (sender, receiver) = oneshot::channel::<()>();
        let mut joined = task::spawn(async { receiver.await.unwrap() });
        let first = Arc::new(watched::Flag::default());
        let second = Arc::new(watched::Flag::default());
        for flag in [&first, &second, &first, &second] {
            assert!(watched::poll_flagged(&mut joined, flag).is_pending());
        }
        sender.send(()).unwrap();
        turn_until(|| second.is_set()).await;
        assert!(!first.is_set());
        joined.await.unwrap();
    });
    run.unwrap();
}

#[test]
fn spawn_on_makes_its_future_on_that_shard_where_it_stays() {
    let _watchdog = watchdog("spawn_on", 60);
    let runtime = shards(3);
    let mut threads = HashSet::new();
    for shard in 0..3 {
        for _ in 0..10 {
            let joined = runtime.handle().spawn_on(shard, move || {
                let made = thread::current().id();
                let local = Rc::new(Cell::new(0));
                async move {
                    for _ in 0..10 {
                        yield_now().await;
                        time::sleep(Duration::from_micros(50)).await;
                        let inner = local.clone();
                        task::spawn_local(async move { inner.set(inner.get() + 1) }).await.unwrap();
                        let there = task::spawn(async { thread::current().id() });
                        assert_eq!(there.await.unwrap(), made);
                        assert_eq!(thread::current().id(), made);
                    }
                    (shard, local.get(), made)
                }
            });
            let (number, count, made) = runtime.block_on(joined).unwrap();
            assert_eq!((number, count), (shard, 10));
            threads.insert((shard, made));
        }
    }
    assert_eq!(threads.len(), 3, "each shard has one thread, and no other shard's: {threads:?}");
    let panicked = catch_unwind(AssertUnwindSafe(|| runtime.handle().spawn_on(3, || ready(()))));
    let message = *panicked.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(message, "there is no shard 3: the runtime has 3");
}

#[test]
fn spawns_from_foreign_threads_go_to_all_shards() {
    let runtime = shards(3);
    let homes: HashSet<_> = (0..30)
        .map(|_| runtime.block_on(runtime.spawn(async { thread::current().id() })).unwrap())
        .collect();
    assert_eq!(homes.len(), 3);
    let _entered = runtime.enter();
    let joined = task::spawn(async { thread::current().id() });
    assert!(homes.contains(&runtime.block_on(joined).unwrap()));
}

#[test]
fn a_task_that_yields_lets_every_other_run_once() {
    let run = Builder::new_current_thread().run(async {
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..3)
            .map(|number| {
                let order = order.clone();
                task::spawn_local(async move {
                    for _ in 0..3 {
                        order.borrow_mut().push(number);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    });
    run.unwrap();
}

#[test]
fn ids_tell_tasks_apart_and_are_known_inside() {
    let runtime = shards(2);
    assert_eq!(task::try_id(), None);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            runtime.spawn(async {
                let id = task::id();
                yield_now().await;
                assert_eq!(task::try_id(), Some(id));
                id
            })
        })
        .collect();
    let mut known = HashSet::new();
    for task in tasks {
        let id = task.id();
        assert_eq!(runtime.block_on(task).unwrap(), id);
        assert!(known.insert(id) && known.contains(&id));
    }
    let panicked = catch_unwind(task::id).unwrap_err();
    let message = *panicked.downcast::<String>().unwrap();
    assert_eq!(message, "this is not called from within a task");
}

#[test]
fn a_handle_that_is_polled_after_it_was_ready_panics() {
    let runtime = shards(1);
    let mut joined = runtime.spawn(async { 5 });
    assert_eq!(runtime.block_on(&mut joined).unwrap(), 5);
    let again = catch_unwind(AssertUnwindSafe(|| {
        let _ = pin!(&mut joined).poll(&mut Context::from_waker(Waker::noop()));
    }));
    let message = *again.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(message, "a join handle was polled after it was ready");
}
