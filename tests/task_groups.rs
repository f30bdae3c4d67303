//! Groups of tasks share a shard by their weights; what a task spawns is of its group; panics,
//! aborts, wake-ups from other threads and the end of a runtime are the same in a group.
//!
//! What is measured is counted in polls, and not by the clock: on a paused clock each poll counts
//! as the 100 ns that a poll is charged at least.

mod common;
mod watched;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringhold_sim::{HostConfig, Simulation};
use runtime::sync::{Notify, mpsc};
use runtime::task::{
    JoinSet, TaskGroup, TaskGroupCounts, on_every_shard, spawn, spawn_balanced, spawn_blocking,
    spawn_local, spawn_on, yield_now,
};
use runtime::{Builder, Handle, time};
use watched::watchdog;

fn group(name: &str, shares: u32) -> TaskGroup {
    TaskGroup::builder(name).shares(shares).build()
}

fn urgent(name: &str, shares: u32) -> TaskGroup {
    TaskGroup::builder(name).shares(shares).latency_goal(Duration::from_millis(1)).build()
}

/// Runs on a shard whose clock stands still.
fn on_paused_shard<F: Future>(future: F) -> F::Output {
    Builder::new_current_thread().start_paused(true).run(future).unwrap()
}

/// Polls that several sides have, up to a number of all together.
struct Race {
    left: Rc<Cell<u64>>,
    sides: Vec<Rc<Cell<u64>>>,
    tasks: JoinSet<()>,
}

impl Race {
    fn of(polls: u64) -> Race {
        Race { left: Rc::new(Cell::new(polls)), sides: Vec::new(), tasks: JoinSet::new() }
    }

    /// Adds a side of some tasks that are always ready, in the group that is current.
    fn side(&mut self, tasks: usize) {
        let side = Rc::new(Cell::new(0));
        for _ in 0..tasks {
            let (left, side) = (self.left.clone(), side.clone());
            self.tasks.spawn_local(async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    side.set(side.get() + 1);
                    yield_now().await;
                }
            });
        }
        self.sides.push(side);
    }

    /// Runs it to its end: how many polls each side had.
    async fn run(self) -> Vec<u64> {
        let Race { sides, tasks, .. } = self;
        tasks.join_all().await;
        sides.iter().map(|side| side.get()).collect()
    }
}

/// Shares are as exact as whole polls and whole nanoseconds are.
#[track_caller]
fn assert_near(polls: &[u64], expected: &[u64], tolerance: u64) {
    let near = |(one, other): (&u64, &u64)| one.abs_diff(*other) <= tolerance;
    assert_eq!(polls.len(), expected.len());
    assert!(polls.iter().zip(expected).all(near), "{polls:?}, and not about {expected:?}");
}

#[test]
fn polls_are_shared_by_the_groups_shares_however_many_tasks_each_has() {
    let polls = on_paused_shard(async {
        let (reads, scrub) = (group("reads", 900), group("scrub", 100));
        let mut race = Race::of(10_000);
        reads.scope(|| race.side(1));
        scrub.scope(|| race.side(7));
        race.run().await
    });
    assert_near(&polls, &[9000, 1000], 10);
}

#[test]
fn tasks_of_no_group_have_a_thousand_shares_together() {
    let polls = on_paused_shard(async {
        let scrub = group("scrub", 250);
        let mut race = Race::of(10_000);
        race.side(3);
        scrub.scope(|| race.side(3));
        race.run().await
    });
    assert_near(&polls, &[8000, 2000], 2);
}

#[test]
fn tasks_within_a_group_take_turns() {
    let polls = on_paused_shard(async {
        let scrub = group("scrub", 10);
        let mut race = Race::of(999);
        scrub.scope(|| (0..3).for_each(|_| race.side(1)));
        race.run().await
    });
    assert_eq!(polls, [333, 333, 333]);
}

#[test]
fn what_counts_is_time_and_not_polls() {
    let (long, short) = on_paused_shard(async {
        let (slow, quick) = (group("slow", 500), group("quick", 500));
        let over = Rc::new(Cell::new(false));
        let (done, polls) = (over.clone(), Rc::new(Cell::new(0_u64)));
        let counted = polls.clone();
        let quick = quick.spawn_local(async move {
            while !done.get() {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        // Each of its polls takes 100 µs: as long as 1000 of the other's.
        let slow = slow.spawn_local(async move {
            for _ in 0..20 {
                time::advance(Duration::from_micros(100)).await;
            }
            over.set(true);
        });
        slow.await.unwrap();
        quick.await.unwrap();
        (20_u64, polls.get())
    });
    let ratio = short / long;
    assert!((900..=1100).contains(&ratio), "{short} polls of 100 ns beside {long} of 100 µs");
}

#[test]
fn a_group_that_was_away_saves_nothing_up() {
    let polls = on_paused_shard(async {
        let (first, second) = (group("first", 500), group("second", 500));
        // Known to the shard from the beginning, and idle while the other runs.
        second.spawn_local(async {}).await.unwrap();
        let mut alone = Race::of(50_000);
        first.scope(|| alone.side(1));
        assert_eq!(alone.run().await, [50_000]);
        let mut race = Race::of(1000);
        first.scope(|| race.side(1));
        second.scope(|| race.side(1));
        race.run().await
    });
    assert_near(&polls, &[500, 500], 2);
}

#[test]
fn a_group_that_sleeps_and_wakes_gets_no_more_than_its_share() {
    let polls = on_paused_shard(async {
        let (steady, wakes) = (group("steady", 500), group("wakes", 500));
        let left = Rc::new(Cell::new(10_000_u64));
        let bell = Rc::new(Notify::new());
        let counts = [Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0_u64))];
        // It has one poll of four that the other has, so it always wakes behind.
        let (own, heard) = (counts[1].clone(), bell.clone());
        let sleeper = wakes.spawn_local(async move {
            loop {
                heard.notified().await;
                own.set(own.get() + 1);
            }
        });
        let (own, rest) = (counts[0].clone(), left.clone());
        let runner = steady.spawn_local(async move {
            while rest.get() > 0 {
                rest.set(rest.get() - 1);
                own.set(own.get() + 1);
                if rest.get().is_multiple_of(4) {
                    bell.notify_one();
                }
                yield_now().await;
            }
        });
        runner.await.unwrap();
        // What it didn't use is not its own: from now on both are ready, and equal.
        let mut race = Race::of(1000);
        steady.scope(|| race.side(1));
        wakes.scope(|| race.side(1));
        let equal = race.run().await;
        sleeper.abort();
        (counts.map(|count| count.get()), equal)
    });
    assert_eq!(polls.0, [10_000, 2500]);
    assert_near(&polls.1, &[500, 500], 2);
}

#[test]
fn shares_can_be_changed_while_tasks_run() {
    let polls = on_paused_shard(async {
        let (reads, compaction) = (group("reads", 900), group("compaction", 100));
        let mut before = Race::of(1000);
        reads.scope(|| before.side(1));
        compaction.scope(|| before.side(1));
        let before = before.run().await;
        compaction.set_shares(900);
        let mut after = Race::of(1000);
        reads.scope(|| after.side(1));
        compaction.scope(|| after.side(1));
        (before, after.run().await)
    });
    assert_near(&polls.0, &[900, 100], 2);
    assert_near(&polls.1, &[500, 500], 10);
}

#[test]
fn a_latency_goal_gives_a_head_start_and_no_more_shares() {
    let polls = on_paused_shard(async {
        let (few, many) = (urgent("few", 100), group("many", 900));
        let mut race = Race::of(20_000);
        few.scope(|| race.side(1));
        many.scope(|| race.side(1));
        race.run().await
    });
    // It may be ahead by (10 ms - 1 ms) * 100 / 1000, which is 9000 polls. Of the other 11,000 it
    // has a tenth.
    assert_near(&polls, &[10_100, 9900], 20);
}

#[test]
fn a_group_that_is_always_ready_does_not_starve_one_without_a_goal_that_wakes_often() {
    let polls = on_paused_shard(async {
        let (burns, wakes) = (urgent("burns", 900), group("wakes", 100));
        let mut alone = Race::of(100_000);
        burns.scope(|| alone.side(1));
        assert_eq!(alone.run().await, [100_000]);
        let bell = Rc::new(Notify::new());
        let heard = bell.clone();
        let waiter = wakes.spawn_local(async move {
            loop {
                heard.notified().await;
            }
        });
        let burner = burns.spawn_local(async move {
            for _ in 0..10_000 {
                bell.notify_one();
                yield_now().await;
            }
        });
        burner.await.unwrap();
        waiter.abort();
        counts()[2].polls
    });
    // One poll of its own for nine of the other's.
    assert_near(&[polls], &[1111], 20);
}

/// The names of the groups of what is spawned by each of the ways there are.
async fn groups_of_children() -> Vec<Option<String>> {
    let name = || TaskGroup::current().map(|group| group.name().to_owned());
    let mut set = JoinSet::new();
    set.spawn(async move { name() });
    let mut names = vec![
        spawn(async move { name() }).await.unwrap(),
        spawn_local(async move { name() }).await.unwrap(),
        spawn_on(0, move || async move { name() }).await.unwrap(),
        spawn_on(1, move || async move { name() }).await.unwrap(),
        spawn_balanced(async move { name() }).await.unwrap(),
        spawn_blocking(move || Handle::current().spawn(async move { name() }))
            .await
            .unwrap()
            .await
            .unwrap(),
        set.join_next().await.unwrap().unwrap(),
    ];
    for task in on_every_shard(move |_| async move { name() }) {
        names.push(task.await.unwrap());
    }
    names
}

#[test]
fn what_a_task_spawns_is_of_its_group_on_every_shard() {
    let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
    let scrub = group("scrub", 50);
    let named = runtime.block_on(async { scrub.spawn(groups_of_children()).await.unwrap() });
    assert_eq!(named, vec![Some("scrub".to_owned()); 9]);
    let unnamed = runtime.block_on(async { spawn(groups_of_children()).await.unwrap() });
    assert_eq!(unnamed, vec![None; 9]);
}

#[test]
fn a_group_is_entered_on_any_thread() {
    let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
    let scrub = group("scrub", 50);
    let _entered = runtime.enter();
    let on_shard = |shard| scrub.spawn_on(shard, || async { TaskGroup::current() });
    let task = scrub.scope(|| runtime.spawn(async { TaskGroup::current() }));
    for task in [on_shard(0), on_shard(1), task] {
        assert_eq!(runtime.block_on(task).unwrap().as_ref(), Some(&scrub));
    }
    assert_eq!(TaskGroup::current(), None);
}

#[test]
fn a_poll_that_panics_in_a_scope_leaves_the_group_as_it_was() {
    on_paused_shard(async {
        let (outer, inner) = (group("outer", 50), group("inner", 50));
        let panics = inner.clone();
        let error = outer
            .spawn_local(async move { panics.scope(|| panic!("within the scope")) })
            .await
            .unwrap_err();
        assert!(error.is_panic());
        assert_eq!(TaskGroup::current(), None);
        let current = outer.spawn_local(async { TaskGroup::current() }).await.unwrap();
        assert_eq!(current, Some(outer));
    });
}

fn counts() -> Vec<TaskGroupCounts> {
    Handle::current().metrics().task_groups(0)
}

#[test]
fn panics_and_aborts_end_tasks_of_a_group_as_any_other() {
    on_paused_shard(async {
        let scrub = group("scrub", 1);
        let panicked = scrub.spawn_local(async { panic!("only here") }).await.unwrap_err();
        assert!(panicked.is_panic());
        let never = scrub.spawn_local(pending::<()>());
        let ready = scrub.spawn_local(async {
            loop {
                yield_now().await;
            }
        });
        yield_now().await;
        assert_eq!(counts()[1].alive, 2);
        never.abort();
        ready.abort();
        assert!(never.await.unwrap_err().is_cancelled());
        assert!(ready.await.unwrap_err().is_cancelled());
        assert_eq!((counts()[1].alive, counts()[1].ready), (0, 0));
    });
}

#[test]
fn the_metrics_tell_of_groups_as_long_as_there_are_any() {
    on_paused_shard(async {
        assert_eq!(counts(), []);
        let scrub = group("scrub", 40);
        let waits = scrub.spawn_local(pending::<()>());
        let reads = group("reads", 400);
        reads.spawn_local(async { time::advance(Duration::from_micros(70)).await }).await.unwrap();
        let [default, of_scrub, of_reads] = &counts()[..] else { panic!("there are three") };
        assert_eq!((default.name.as_str(), default.shares), ("default", 1000));
        assert_eq!((of_scrub.name.as_str(), of_scrub.shares), ("scrub", 40));
        assert_eq!((of_scrub.polls, of_scrub.alive), (1, 1));
        assert_eq!((of_reads.polls, of_reads.busy), (2, Duration::from_micros(70)));
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        drop((scrub, reads));
        // Nothing is ready: before the shard waits, it forgets the groups that are gone.
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(counts(), []);
        let again = group("again", 500);
        again.spawn_local(async {}).await.unwrap();
        assert_eq!(counts()[1].name, "again");
    });
}

#[test]
fn the_end_of_a_runtime_drops_the_tasks_of_groups_wherever_they_wait() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            // What a destructor spawns at the end is cancelled, in a new group as well.
            let _cancelled = group("last words", 1).spawn(async {});
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
    let groups = [group("first", 1), group("second", 1000)];
    runtime.block_on(async {
        for number in 0..100 {
            let counted = Counted(dropped.clone());
            let is_ready = number % 3 > 0;
            let _detached = groups[number % 2].spawn_on(number % 4 / 2, move || async move {
                let _counted = counted;
                if !is_ready {
                    pending::<()>().await;
                }
                loop {
                    yield_now().await;
                }
            });
        }
        for shard in 0..2 {
            spawn_on(shard, || async {}).await.unwrap();
        }
    });
    let metrics = runtime.metrics();
    drop(runtime);
    assert_eq!(dropped.load(Ordering::SeqCst), 100);
    assert_eq!(metrics.num_alive_tasks(), 0);
    assert_eq!(metrics.task_groups(0), []);
}

#[test]
fn tasks_of_groups_are_woken_from_other_threads_and_shards() {
    const WAKES: u32 = 1000;
    let _watchdog = watchdog("tasks of groups that wake each other", 60);
    let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
    let _entered = runtime.enter();
    let groups = [group("first", 100), urgent("second", 900)];
    // On each shard a task that is always ready, and one that answers the thread and the other.
    let (to_thread, mut at_thread) = mpsc::channel(1);
    let (mut inputs, mut answers) = (Vec::new(), Vec::new());
    let mut burners = Vec::new();
    for shard in 0..2 {
        let (input, mut received) = mpsc::channel::<u32>(1);
        inputs.push(input);
        let to_thread = to_thread.clone();
        answers.push(groups[shard].spawn_on(shard, move || async move {
            let mut sum = 0_u64;
            while let Some(number) = received.recv().await {
                sum += u64::from(number);
                to_thread.send(number).await.unwrap();
            }
            sum
        }));
        burners.push(groups[1 - shard].spawn_on(shard, || async {
            loop {
                yield_now().await;
            }
        }));
    }
    let sender = thread::spawn(move || {
        for number in 0..WAKES {
            inputs[number as usize % 2].blocking_send(number).unwrap();
            assert_eq!(at_thread.blocking_recv(), Some(number));
        }
    });
    sender.join().unwrap();
    let sums: Vec<u64> = answers.into_iter().map(|it| runtime.block_on(it).unwrap()).collect();
    // The even numbers up to 998, and the odd ones up to 999.
    assert_eq!(sums, [249_500, 250_000]);
    burners.iter().for_each(|burner| burner.abort());
}

/// A race beside a task that sleeps and writes, so that time goes on and completions come.
async fn race_beside_writes(counts: Arc<AtomicUsize>) {
    let (reads, scrub) = (urgent("reads", 900), group("scrub", 100));
    let mut race = Race::of(200_000);
    reads.scope(|| race.side(2));
    scrub.scope(|| race.side(2));
    let writes = reads.spawn_local(async {
        for number in 0..20_u8 {
            time::sleep(Duration::from_micros(10)).await;
            runtime::fs::write("/file", [number]).await.unwrap();
        }
    });
    let polls = race.run().await;
    writes.await.unwrap();
    counts.store(polls[0] as usize, Ordering::SeqCst);
}

#[test]
fn a_simulated_host_shares_by_polls_the_same_way_for_the_same_seed() {
    let run = |seed| {
        let mut simulation = Simulation::new(seed);
        let host = simulation.host(HostConfig::new("store"));
        let counted = Arc::new(AtomicUsize::new(0));
        let counts = counted.clone();
        simulation.start(host, move || race_beside_writes(counts.clone()));
        simulation.run().unwrap();
        (counted.load(Ordering::SeqCst), simulation.trace().hash())
    };
    let (reads, trace) = run(7);
    // The goal is worth (10 ms - 1 ms) * 900 / 1000 of CPU time, of which the shares are the rest.
    assert!((180_000..=188_200).contains(&reads), "{reads} of 200000 polls");
    assert_eq!((reads, trace), run(7));
}

#[test]
#[should_panic(expected = "a group has 1 to 1000 shares, and not 0")]
fn a_group_without_shares_is_refused() {
    let _builder = TaskGroup::builder("none").shares(0);
}

#[test]
#[should_panic(expected = "a group has 1 to 1000 shares, and not 1001")]
fn a_group_with_too_many_shares_is_refused() {
    group("some", 1000).set_shares(1001);
}

#[test]
fn who_is_ready_keeps_its_turn_when_the_last_group_goes() {
    let order = on_paused_shard(async {
        group("gone", 100).spawn_local(async {}).await.unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for number in 0..3 {
            let order = order.clone();
            tasks.spawn_local(async move {
                for _ in 0..20_000 {
                    order.borrow_mut().push(number);
                    yield_now().await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        assert_eq!(counts().len(), 0, "the group is gone");
        order.take()
    });
    let out_of_turn = order.chunks(3).position(|turn| turn != [0, 1, 2]);
    assert_eq!(out_of_turn, None);
}
