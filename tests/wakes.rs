//! No wake-up is lost: on a shard, between shards, from foreign threads, from blocking closures,
//! and into a shard that sleeps.
//!
//! `RINGHOLD_WAKES` sets how many wake-ups cross in each of the long tests. In those every single
//! one is needed: one that is lost stops the test, and the watchdog tells. `RINGHOLD_BESIDE` sets
//! how many reads go through beside what is always ready.

mod common;
mod dice;
mod watched;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::count;
use dice::Dice;
use ringhold_buffers::sync::{Condvar, Mutex};
use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::fs::File;
use runtime::sync::mpsc as channel;
use runtime::{Builder, Handle, Runtime, task, time};
use watched::{Pipe, pipe, poll_once, watchdog};

const RINGS: [(u32, u32); 2] = [(256, 512), (2, 4)];

fn two_shards(rings: (u32, u32)) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.shards(2).ring_entries(rings.0, rings.1).build().unwrap()
}

/// Ends the process when nothing happens for ten seconds.
struct Progress {
    steps: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Progress {
    fn watch(what: &'static str) -> Progress {
        let progress = Progress { steps: Arc::default(), over: Arc::default() };
        let (steps, over) = (progress.steps.clone(), progress.over.clone());
        thread::spawn(move || {
            let mut seen = (0, Instant::now());
            while !over.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(100));
                let now = steps.load(Ordering::SeqCst);
                if now != seen.0 {
                    seen = (now, Instant::now());
                }
                if seen.1.elapsed() > Duration::from_secs(10) {
                    eprintln!("{what}: a wake-up was lost after {now} steps");
                    std::process::abort();
                }
            }
        });
        progress
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// A number that goes back and forth between two sides. Each waits until it is its turn, by waker
/// or by condition.
#[derive(Default)]
struct Baton {
    state: Mutex<BatonState>,
    passed: Condvar,
}

#[derive(Default)]
struct BatonState {
    number: u64,
    waiting: Option<Waker>,
}

impl Baton {
    /// Waits until the number is odd or even, as `side` is, and passes it on.
    async fn take_turn(&self, side: u64) {
        poll_fn(|cx| {
            let mut state = self.state.lock().unwrap();
            if state.number % 2 == side {
                return Poll::Ready(());
            }
            state.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn wait_turn(&self, side: u64) {
        let mut state = self.state.lock().unwrap();
        while state.number % 2 != side {
            state = self.passed.wait(state).unwrap();
        }
    }

    fn pass(&self) {
        let waiting = {
            let mut state = self.state.lock().unwrap();
            state.number += 1;
            state.waiting.take()
        };
        self.passed.notify_one();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

/// One side of a baton, as a task.
fn play(
    baton: &Arc<Baton>,
    side: u64,
    turns: u64,
    mut dice: Dice,
    steps: &Arc<AtomicU64>,
) -> impl Future<Output = ()> + Send + use<> {
    let (baton, steps) = (baton.clone(), steps.clone());
    async move {
        for _ in 0..turns {
            baton.take_turn(side).await;
            dice.dawdle();
            baton.pass();
            steps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One side of a baton, as a thread.
fn play_blocking(baton: &Baton, side: u64, turns: u64, mut dice: Dice, steps: &AtomicU64) {
    for _ in 0..turns {
        baton.wait_turn(side);
        dice.dawdle();
        baton.pass();
        steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many batons go back and forth at once: one, so that both sides sleep all the time, and
/// several, so that they don't.
const BATONS: [u64; 2] = [1, 8];

/// Wakes in each of the eight ways that a test is run in: two sizes of queues, two numbers of
/// batons, twice.
fn turns_each(batons: u64) -> u64 {
    (u64::from(count("RINGHOLD_WAKES", 24_000)) / (RINGS.len() * BATONS.len()) as u64 / batons / 2)
        .max(1)
}

#[test]
fn tasks_of_one_shard_and_of_two_wake_each_other() {
    let progress = Progress::watch("tasks that wake each other");
    let mut dice = Dice::from_environment();
    for rings in RINGS {
        let runtime = two_shards(rings);
        for batons in BATONS {
            for homes in [[0, 0], [0, 1]] {
                let mut sides = Vec::new();
                for _ in 0..batons {
                    let baton = Arc::new(Baton::default());
                    for side in [0, 1] {
                        let turns = turns_each(batons) / 2;
                        let player = play(&baton, side, turns, dice.split(), &progress.steps);
                        let home = homes[side as usize];
                        sides.push(runtime.handle().spawn_on(home, || player));
                    }
                }
                sides.into_iter().for_each(|side| runtime.block_on(side).unwrap());
            }
        }
    }
}

#[test]
fn foreign_threads_wake_tasks() {
    let progress = Progress::watch("foreign threads that wake tasks");
    let mut dice = Dice::from_environment();
    for rings in RINGS {
        let runtime = two_shards(rings);
        for batons in BATONS {
            let mut sides = Vec::new();
            let mut threads = Vec::new();
            for number in 0..batons {
                let baton = Arc::new(Baton::default());
                let turns = turns_each(batons);
                let player = play(&baton, 1, turns, dice.split(), &progress.steps);
                sides.push(runtime.handle().spawn_on(number as usize % 2, || player));
                let (dice, steps) = (dice.split(), progress.steps.clone());
                threads.push(thread::spawn(move || play_blocking(&baton, 0, turns, dice, &steps)));
            }
            sides.into_iter().for_each(|side| runtime.block_on(side).unwrap());
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }
}

#[test]
fn blocking_closures_and_block_on_threads_wake_tasks_and_are_woken() {
    let progress = Progress::watch("closures that wake tasks");
    let mut dice = Dice::from_environment();
    for rings in RINGS {
        let runtime = two_shards(rings);
        for batons in BATONS {
            let mut sides = Vec::new();
            for number in 0..batons {
                let baton = Arc::new(Baton::default());
                let turns = turns_each(batons);
                let player = play(&baton, 1, turns, dice.split(), &progress.steps);
                sides.push(runtime.spawn(player));
                let (dice, steps) = (dice.split(), progress.steps.clone());
                sides.push(runtime.spawn_blocking(move || match number % 2 {
                    0 => play_blocking(&baton, 0, turns, dice, &steps),
                    _ => Handle::current().block_on(play(&baton, 0, turns, dice, &steps)),
                }));
            }
            sides.into_iter().for_each(|side| runtime.block_on(side).unwrap());
        }
    }
}

#[test]
fn each_closure_s_end_wakes_who_awaits_it() {
    let closures = count("RINGHOLD_WAKES", 24_000) / 24;
    let progress = Progress::watch("closures that end");
    let mut dice = Dice::from_environment();
    let runtime = two_shards((256, 512));
    let mut awaiting = Vec::new();
    for shard in [0, 1] {
        let (mut dice, steps) = (dice.split(), progress.steps.clone());
        awaiting.push(runtime.handle().spawn_on(shard, move || async move {
            for number in 0..closures {
                let mut inner = dice.split();
                let closure = task::spawn_blocking(move || {
                    inner.dawdle();
                    number
                });
                dice.dawdle();
                assert_eq!(closure.await.unwrap(), number);
                steps.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    awaiting.into_iter().for_each(|side| runtime.block_on(side).unwrap());
}

/// What a shard waits for beside the wake-up, when it sleeps.
#[derive(Clone, Copy, Debug)]
enum Asleep {
    Idle,
    /// A timer an hour away.
    Timer,
    /// As many reads of empty pipes as the kernel takes, and more.
    Reads,
}

/// The state letter of a thread of this process, as the kernel has it.
fn state_of(thread: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
}

fn this_thread() -> i32 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn a_foreign_thread_wakes_a_shard_that_sleeps_in_the_kernel() {
    let rounds = count("RINGHOLD_SLEEPS", 40);
    let _watchdog = watchdog("waking a shard that sleeps", 60 + u64::from(rounds) / 10);
    for rings in RINGS {
        for asleep in [Asleep::Idle, Asleep::Timer, Asleep::Reads] {
            let mut builder = Builder::new_multi_thread();
            builder.shards(1).ring_entries(rings.0, rings.1);
            let runtime = builder.build().unwrap();
            let beside = runtime.spawn(async move {
                let pipe: Option<Pipe> = match asleep {
                    Asleep::Idle => None,
                    Asleep::Timer => {
                        drop(task::spawn(time::sleep(Duration::from_secs(3600))));
                        None
                    }
                    Asleep::Reads => Some(pipe()),
                };
                let read = |pipe: &Pipe| pipe.reader.read_at(vec![0; 8], 0);
                let mut reads: Vec<_> =
                    pipe.iter().flat_map(|pipe| (0..8).map(move |_| read(pipe))).collect();
                assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
                (this_thread(), pipe, reads)
            });
            let (shard, pipe, reads) = runtime.block_on(beside).unwrap();
            for _ in 0..rounds {
                let (sender, receiver) = futures::channel::oneshot::channel::<Instant>();
                let woken = runtime.spawn(async move { receiver.await.unwrap().elapsed() });
                while state_of(shard) != 'S' {
                    thread::yield_now();
                }
                sender.send(Instant::now()).unwrap();
                let late = runtime.block_on(woken).unwrap();
                assert!(late < Duration::from_secs(2), "{rings:?} {asleep:?}: {late:?}");
            }
            drop((pipe, reads));
        }
    }
}

/// The work whose pace tells whether a shard's I/O and timers get their turn: reads, and as many
/// sleeps.
async fn reads_and_sleeps(path: std::path::PathBuf) {
    let file = File::open(path).await.unwrap();
    for _ in 0..count("RINGHOLD_BESIDE", 100) {
        let (count, _) = file.read_at(vec![0; 4096], 0).await.unwrap();
        assert_eq!(count, 4096);
        Op::new(Nop).await.unwrap();
        time::sleep(Duration::from_micros(100)).await;
    }
}

/// Runs `busy` until reads, timers and messages from outside have gone through beside it.
fn beside_io<F, M>(what: &'static str, busy: M)
where
    M: Fn(Arc<AtomicBool>) -> F + Send + Copy + 'static,
    F: Future<Output = ()> + 'static,
{
    let _watchdog = watchdog(what, 120);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [7; 4096]).unwrap();
    for rings in RINGS {
        let mut builder = Builder::new_multi_thread();
        builder.shards(1).ring_entries(rings.0, rings.1);
        let runtime = builder.build().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let its = over.clone();
        let busy = runtime.handle().spawn_on(0, move || busy(its));
        runtime.block_on(runtime.spawn(reads_and_sleeps(path.clone()))).unwrap();
        assert!(!busy.is_finished());
        over.store(true, Ordering::SeqCst);
        runtime.block_on(busy).unwrap();
    }
}

#[test]
fn a_pair_over_a_channel_that_is_always_ready_doesn_t_starve_io_and_timers() {
    beside_io("a pair over a channel", |over| async move {
        let (there, mut at_there) = channel::channel::<u64>(1);
        let (back, mut at_back) = channel::channel::<u64>(1);
        let echo = task::spawn(async move {
            while let Some(number) = at_there.recv().await {
                back.send(number).await.unwrap();
            }
        });
        let mut number = 0;
        while !over.load(Ordering::Relaxed) {
            there.send(number).await.unwrap();
            assert_eq!(at_back.recv().await, Some(number));
            number += 1;
        }
        drop(there);
        echo.await.unwrap();
    });
}

#[test]
fn a_task_whose_channel_is_always_full_lets_the_others_run_by_its_budget() {
    beside_io("a channel that is always full", |over| async move {
        let (sender, mut receiver) = channel::unbounded_channel();
        sender.send(0).unwrap();
        while !over.load(Ordering::Relaxed) {
            let number: u64 = receiver.recv().await.unwrap();
            sender.send(number + 1).unwrap();
            task::consume_budget().await;
        }
    });
}

#[test]
fn leases_that_are_always_there_don_t_starve_io_and_timers() {
    beside_io("a task that leases and drops", |over| async move {
        while !over.load(Ordering::Relaxed) {
            drop(runtime::buffers::lease(4096).await.unwrap());
        }
    });
}

#[test]
fn tasks_that_always_yield_don_t_starve_io_and_timers() {
    beside_io("tasks that yield", |over| async move {
        let mut yielding = Vec::new();
        for _ in 0..1000 {
            let over = over.clone();
            yielding.push(task::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    task::yield_now().await;
                }
            }));
        }
        for task in yielding {
            task.await.unwrap();
        }
    });
}

#[test]
fn timers_that_are_always_due_don_t_starve_io() {
    beside_io("timers that are due", |over| async move {
        while !over.load(Ordering::Relaxed) {
            time::sleep(Duration::ZERO).await;
        }
    });
}

#[test]
fn a_thread_that_wakes_all_the_time_doesn_t_starve_io_and_timers() {
    beside_io("a flood of wakes", |over| {
        let flooding = Arc::new(AtomicBool::new(false));
        poll_fn(move |cx| {
            if !flooding.swap(true, Ordering::SeqCst) {
                let (waker, over) = (cx.waker().clone(), over.clone());
                thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        waker.wake_by_ref();
                    }
                    waker.wake();
                });
            }
            if over.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        })
    });
}

#[test]
fn a_thread_that_spawns_all_the_time_doesn_t_starve_io_and_timers() {
    beside_io("a flood of tasks", |over| async move {
        let (handle, its) = (Handle::current(), over.clone());
        let flooding = thread::spawn(move || {
            while !its.load(Ordering::Relaxed) {
                if handle.metrics().num_alive_tasks() < 10_000 {
                    drop(handle.spawn(async {}));
                }
            }
        });
        while !over.load(Ordering::Relaxed) {
            task::yield_now().await;
        }
        flooding.join().unwrap();
    });
}
