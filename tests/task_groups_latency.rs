//! A task of a group with a small latency goal is polled before the next poll of a group with a
//! larger one, whatever wakes it.

mod common;
mod watched;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use runtime::sync::Notify;
use runtime::task::{TaskGroup, yield_now};
use runtime::{Builder, time};
use watched::{Pipe, pipe, watchdog};

/// How often each cause is tried.
const TIMES: usize = 40;

fn reads() -> TaskGroup {
    TaskGroup::builder("reads").shares(900).latency_goal(Duration::from_millis(1)).build()
}

/// Who was polled, in order.
type Log = Rc<RefCell<Vec<&'static str>>>;

/// Runs a task of a latency group that waits again and again, beside two pairs of tasks of another
/// group that wake each other for ever, and a fifth task that causes, in every fourth of its polls,
/// what the first waits for. `cause` says whether it did. Returns who was polled next each time
/// that it did.
fn polled_after<W, C>(group: &TaskGroup, mut wait: impl FnMut() -> W + 'static, mut cause: C) -> Log
where
    W: Future<Output = ()>,
    C: FnMut() -> bool + 'static,
{
    let _watchdog = watchdog("a latency group beside another", 60);
    let log = Log::default();
    let run = async {
        let scrub = TaskGroup::builder("scrub").shares(100).build();
        let noted = log.clone();
        let waits = group.spawn_local(async move {
            loop {
                wait().await;
                noted.borrow_mut().push("reads");
            }
        });
        let burner = |noted: Log, own: Rc<Notify>, others: Rc<Notify>| async move {
            loop {
                own.notified().await;
                noted.borrow_mut().push("scrub");
                others.notify_one();
            }
        };
        let pair = || {
            let (one, two) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
            one.notify_one();
            [(one.clone(), two.clone()), (two, one)]
        };
        let burners: Vec<_> = [pair(), pair()]
            .into_iter()
            .flatten()
            .map(|(own, others)| scrub.spawn_local(burner(log.clone(), own, others)))
            .collect();
        let noted = log.clone();
        let causes = scrub.spawn_local(async move {
            let mut caused = 0;
            while caused < TIMES {
                for _ in 0..3 {
                    yield_now().await;
                }
                if cause() {
                    caused += 1;
                    noted.borrow_mut().push("cause");
                }
                yield_now().await;
            }
        });
        causes.await.unwrap();
        burners.iter().chain([&waits]).for_each(|task| task.abort());
    };
    Builder::new_current_thread().run(run).unwrap();
    let log = log.borrow();
    let after = log.windows(2).filter(|two| two[0] == "cause").map(|two| two[1]).collect();
    Rc::new(RefCell::new(after))
}

fn bell() -> (Arc<Notify>, impl FnMut() -> std::pin::Pin<Box<dyn Future<Output = ()>>> + 'static) {
    let bell = Arc::new(Notify::new());
    let heard = bell.clone();
    let wait = move || -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
        let heard = heard.clone();
        Box::pin(async move { heard.notified().await })
    };
    (bell, wait)
}

#[test]
fn one_that_another_task_wakes_is_polled_next() {
    let (bell, wait) = bell();
    let cause = move || {
        bell.notify_one();
        true
    };
    assert_eq!(*polled_after(&reads(), wait, cause).borrow(), ["reads"; TIMES]);
}

#[test]
fn one_whose_read_completes_is_polled_next() {
    let Pipe { reader, mut meddler, .. } = pipe();
    let reader = Rc::new(reader);
    let wait = move || {
        let reader = reader.clone();
        async move { assert_eq!(reader.read_at(vec![0; 1], 0).await.unwrap().0, 1) }
    };
    let cause = move || {
        meddler.write_all(b"!").unwrap();
        true
    };
    assert_eq!(*polled_after(&reads(), wait, cause).borrow(), ["reads"; TIMES]);
}

#[test]
fn one_that_another_thread_wakes_is_polled_next() {
    let (bell, wait) = bell();
    let cause = move || {
        let bell = bell.clone();
        thread::spawn(move || bell.notify_one()).join().unwrap();
        true
    };
    assert_eq!(*polled_after(&reads(), wait, cause).borrow(), ["reads"; TIMES]);
}

#[test]
fn one_whose_timer_is_due_is_polled_next() {
    let deadline = Rc::new(Cell::new(Instant::now()));
    let due = deadline.clone();
    let wait = move || {
        deadline.set(Instant::now() + Duration::from_millis(5));
        time::sleep_until(deadline.get().into())
    };
    // Its poll lasts beyond the deadline. If that was over before, the timer may have been looked
    // at, and nothing was caused.
    let cause = move || {
        let was_early = Instant::now() < due.get();
        while Instant::now() <= due.get() {
            thread::yield_now();
        }
        was_early
    };
    assert_eq!(*polled_after(&reads(), wait, cause).borrow(), ["reads"; TIMES]);
}

#[test]
fn without_a_goal_it_waits_for_the_round_to_end() {
    let reads = TaskGroup::builder("reads").shares(900).build();
    let Pipe { reader, mut meddler, .. } = pipe();
    let reader = Rc::new(reader);
    let wait = move || {
        let reader = reader.clone();
        async move { assert_eq!(reader.read_at(vec![0; 1], 0).await.unwrap().0, 1) }
    };
    let cause = move || {
        meddler.write_all(b"!").unwrap();
        true
    };
    let polled = polled_after(&reads, wait, cause);
    let next = polled.borrow().iter().filter(|who| **who == "reads").count();
    assert!(next < TIMES / 2, "{next} of {TIMES}, so the tests with a goal show nothing");
}
