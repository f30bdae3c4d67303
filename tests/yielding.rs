//! Who yields lets timers, completions and messages come first, and polls that follow each other
//! end in time.
//!
//! What is late is told in polls: in how many of the busy tasks began after something had come, and
//! before the one that waited for it ran. So no test knows how fast the machine is.

mod common;
mod watched;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::Write as _;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::count;
use runtime::io::AsyncReadExt;
use runtime::net::UnixStream;
use runtime::sync::Notify;
use runtime::task::{TaskGroup, consume_budget, spawn_local, yield_now};
use runtime::{Builder, time};
use watched::watchdog;

/// What the busy tasks of a test and the one that waits share.
#[derive(Default)]
struct Progress {
    polls: Cell<u32>,
    over: Cell<bool>,
}

impl Progress {
    fn poll(&self) {
        self.polls.set(self.polls.get() + 1);
    }
}

type Pause = Pin<Box<dyn Future<Output = ()>>>;

/// A way to let others go first, once.
type Way = fn() -> Pause;

/// Each way, by name.
const WAYS: [(&str, Way); 5] = [
    ("yield_now", || Box::pin(yield_now())),
    ("a wake-up of its own", || Box::pin(wakes_itself())),
    ("a budget that is used up", || Box::pin(uses_up_its_budget())),
    ("a branch of select!", || Box::pin(selects())),
    ("a notification of its own", || Box::pin(notifies_itself())),
];

async fn wakes_itself() {
    let mut woken = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Goes on until it has been stopped.
async fn uses_up_its_budget() {
    let mut polls = 0;
    let mut using = pin!(async {
        loop {
            consume_budget().await;
        }
    });
    poll_fn(|cx| {
        polls += 1;
        assert!(using.as_mut().poll(cx).is_pending(), "the loop never ends");
        if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn selects() {
    runtime::select! {
        () = std::future::pending() => {}
        () = yield_now() => {}
    }
}

/// One half of it wakes the other.
async fn notifies_itself() {
    let notify = Notify::new();
    runtime::join!(notify.notified(), async { notify.notify_one() });
    yield_now().await;
}

/// Moves the stopped clock by a millisecond, as if the poll had taken that long.
async fn compute_a_millisecond() {
    let mut advance = pin!(time::advance(Duration::from_millis(1)));
    // The clock moves with the first poll.
    let _ = futures::poll!(&mut advance);
}

/// Computes for a millisecond of the stopped clock in each poll.
async fn busy(progress: Rc<Progress>, way: Way) {
    while !progress.over.get() {
        progress.poll();
        compute_a_millisecond().await;
        way().await;
    }
}

/// Sleeps, and returns how many polls began meanwhile.
async fn polls_of_a_sleep(progress: Rc<Progress>, millis: u64) -> u32 {
    let before = progress.polls.get();
    time::sleep(Duration::from_millis(millis)).await;
    let polls = progress.polls.get() - before;
    progress.over.set(true);
    polls
}

fn paused() -> Builder {
    let mut builder = Builder::new_current_thread();
    builder.start_paused(true);
    builder
}

#[test]
fn a_timer_comes_before_the_next_poll_of_a_task_that_yields() {
    for (name, way) in WAYS {
        let _watchdog = watchdog(name, 20);
        let polls = paused().run(async {
            let progress = Rc::new(Progress::default());
            let sleeping = spawn_local(polls_of_a_sleep(progress.clone(), 5));
            spawn_local(busy(progress, way));
            sleeping.await.unwrap()
        });
        assert_eq!(polls.unwrap(), 5, "{name}");
    }
}

#[test]
fn a_timer_comes_before_the_next_poll_of_a_root_future_that_yields() {
    for (name, way) in WAYS {
        let _watchdog = watchdog(name, 20);
        let polls = paused().run(async {
            let progress = Rc::new(Progress::default());
            let sleeping = spawn_local(polls_of_a_sleep(progress.clone(), 5));
            // The task begins.
            spawn_local(async {}).await.unwrap();
            busy(progress, way).await;
            sleeping.await.unwrap()
        });
        assert_eq!(polls.unwrap(), 5, "{name}");
    }
}

#[test]
fn many_tasks_that_yield_cost_a_timer_no_more_than_one() {
    let _watchdog = watchdog("many tasks that yield", 60);
    for tasks in [10, 1000] {
        let polls = paused().run(async move {
            let progress = Rc::new(Progress::default());
            for (_, way) in WAYS.into_iter().cycle().take(tasks) {
                spawn_local(busy(progress.clone(), way));
            }
            // All have begun, and yield.
            spawn_local(async {}).await.unwrap();
            spawn_local(polls_of_a_sleep(progress.clone(), 50)).await.unwrap()
        });
        assert_eq!(polls.unwrap(), 50, "{tasks} tasks");
    }
}

#[test]
fn in_groups_a_timer_comes_before_the_next_poll_of_tasks_that_yield() {
    let _watchdog = watchdog("groups", 60);
    for groups in [1, 3] {
        let polls = paused().run(async move {
            let progress = Rc::new(Progress::default());
            let groups: Vec<_> = (0..groups)
                .map(|group| TaskGroup::builder(format!("group {group}")).build())
                .collect();
            for (group, (_, way)) in groups.iter().cycle().zip(WAYS.into_iter().cycle()).take(30) {
                group.spawn_local(busy(progress.clone(), way));
            }
            spawn_local(async {}).await.unwrap();
            groups[0].spawn_local(polls_of_a_sleep(progress.clone(), 50)).await.unwrap()
        });
        let polls = polls.unwrap();
        // A lane of those that were behind has its turn before that of the sleep.
        assert!((50..50 + groups).contains(&polls), "{groups} groups: {polls} polls");
    }
}

/// Spins for that long.
fn compute(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn a_timer_is_late_by_one_poll_of_those_that_compute_and_yield() {
    let _watchdog = watchdog("sleeps", 120);
    for (micros, tasks) in [(100, 1), (1000, 1), (10_000, 1), (1000, 20)] {
        Builder::new_current_thread()
            .run(async move {
                let due = Rc::new(Cell::new(None::<Instant>));
                let progress = Rc::new(Progress::default());
                for _ in 0..tasks {
                    let (progress, due) = (progress.clone(), due.clone());
                    spawn_local(async move {
                        while !progress.over.get() {
                            if due.get().is_some_and(|due| Instant::now() >= due) {
                                progress.poll();
                            }
                            compute(Duration::from_micros(micros));
                            yield_now().await;
                        }
                    });
                }
                for _ in 0..count("RINGHOLD_SLEEPS", 20) {
                    let time = Duration::from_millis(5);
                    due.set(Some(Instant::now() + time));
                    time::sleep(time).await;
                    due.set(None);
                    // It is this future's turn once more when the task that saw it due has ended
                    // its poll.
                    let late = progress.polls.replace(0);
                    assert!(late <= 2, "{late} polls of {micros} µs, {tasks} tasks");
                }
                progress.over.set(true);
            })
            .unwrap();
    }
}

#[test]
fn what_comes_on_a_socket_waits_for_one_poll_of_those_that_compute_and_yield() {
    let _watchdog = watchdog("sockets", 60);
    for tasks in [1, 20] {
        Builder::new_current_thread()
            .run(async move {
                let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
                near.set_nonblocking(true).unwrap();
                let mut near = UnixStream::from_std(near).unwrap();
                let progress = Rc::new(Progress::default());
                let far = Rc::new(far);
                // Who computes writes now and then, and counts its polls from then on.
                for _ in 0..tasks {
                    let (progress, far) = (progress.clone(), far.clone());
                    spawn_local(async move {
                        let mut rounds = 0_u32;
                        while !progress.over.get() {
                            rounds += 1;
                            if progress.polls.get() > 0 {
                                progress.poll();
                            } else if rounds.is_multiple_of(7) {
                                (&*far).write_all(b"x").unwrap();
                                progress.poll();
                            }
                            compute(Duration::from_micros(100));
                            yield_now().await;
                        }
                    });
                }
                let reading = spawn_local(async move {
                    for _ in 0..count("RINGHOLD_READS", 100) {
                        near.read_exact(&mut [0]).await.unwrap();
                        let polls = progress.polls.replace(0);
                        // One, and those of a millisecond.
                        assert!(polls <= 1 + 10, "{polls} polls, {tasks} tasks");
                    }
                    progress.over.set(true);
                });
                reading.await.unwrap();
            })
            .unwrap();
    }
}

/// Each waits for the other, computes, and wakes it, so that one of them is always ready.
async fn play(progress: Rc<Progress>, mine: Rc<Notify>, other: Rc<Notify>, poll: fn()) {
    while !progress.over.get() {
        mine.notified().await;
        progress.poll();
        poll();
        other.notify_one();
    }
}

fn spawn_pair(progress: &Rc<Progress>, poll: fn()) {
    let (one, other) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
    one.notify_one();
    spawn_local(play(progress.clone(), one.clone(), other.clone(), poll));
    spawn_local(play(progress.clone(), other, one, poll));
}

#[test]
fn tasks_that_wake_each_other_let_timers_come() {
    let _watchdog = watchdog("a pair that computes", 60);
    Builder::new_current_thread()
        .run(async {
            let progress = Rc::new(Progress::default());
            spawn_pair(&progress, || compute(Duration::from_millis(2)));
            for _ in 0..20 {
                let before = progress.polls.get();
                time::sleep(Duration::from_millis(1)).await;
                // One that ran when the time came, those that were ready by then, and as many when
                // the task that sleeps was woken.
                let polls = progress.polls.get() - before;
                assert!(polls <= 4, "{polls} polls");
            }
            progress.over.set(true);
        })
        .unwrap();
}

#[test]
fn tasks_that_wake_each_other_for_ever_let_one_that_yields_go_on() {
    let _watchdog = watchdog("a task that yields beside a pair", 60);
    Builder::new_current_thread()
        .run(async {
            let progress = Rc::new(Progress::default());
            spawn_pair(&progress, || {});
            let counted = progress.clone();
            let yields = 1000;
            let polls = spawn_local(async move {
                let before = counted.polls.get();
                for _ in 0..yields {
                    yield_now().await;
                }
                counted.polls.get() - before
            })
            .await
            .unwrap();
            progress.over.set(true);
            assert!(polls <= yields * 2 * 256, "{polls} polls of the pair");
        })
        .unwrap();
}

/// A task that computes long among many that are always ready has its turn when they had theirs.
#[test]
fn a_task_that_yields_waits_until_all_that_were_ready_have_run() {
    const TASKS: u32 = 10_000;
    let _watchdog = watchdog("a crowd", 60);
    Builder::new_current_thread()
        .run(async {
            let progress = Rc::new(Progress::default());
            for _ in 0..TASKS / 2 {
                spawn_pair(&progress, || {});
            }
            let counted = progress.clone();
            spawn_local(async move {
                yield_now().await;
                for _ in 0..10 {
                    let before = counted.polls.get();
                    yield_now().await;
                    let polls = counted.polls.get() - before;
                    assert!((TASKS / 4..=TASKS + 1024).contains(&polls), "{polls} polls");
                }
            })
            .await
            .unwrap();
            progress.over.set(true);
        })
        .unwrap();
}

/// A crowd of timers and of messages takes turns with what else there is.
#[test]
fn a_hundred_thousand_timers_that_are_due_at_once_take_several_turns() {
    let _watchdog = watchdog("a crowd of timers", 120);
    Builder::new_current_thread()
        .run(async {
            let sleepers = count("RINGHOLD_SLEEPERS", 100_000);
            let fired = Arc::new(AtomicU32::new(0));
            let deadline = time::Instant::now() + Duration::from_millis(500);
            for _ in 0..sleepers {
                let fired = fired.clone();
                spawn_local(async move {
                    time::sleep_until(deadline).await;
                    fired.fetch_add(1, Ordering::Relaxed);
                });
            }
            time::sleep_until(deadline).await;
            let mut most = 0;
            let mut before = fired.load(Ordering::Relaxed);
            while before < sleepers {
                yield_now().await;
                let now = fired.load(Ordering::Relaxed);
                most = most.max(now - before);
                before = now;
            }
            assert!(most <= 1024, "{most} tasks ran between two turns of this one");
        })
        .unwrap();
}
