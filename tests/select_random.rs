//! `select!`: the branch that is polled first is drawn from the shard's generator, which begins
//! with what its system says.

mod common;
mod watched;

use std::cell::RefCell;
use std::future::{poll_fn, ready};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use common::{Altered, AlteredSystem};
use ringhold_runtime::{Builder, System};
use ringhold_sim::{HostConfig, Simulation, seeds};
use runtime::task::{spawn, spawn_on, yield_now};
use watched::Random;

/// Linux, but for its seeds, which count up from a given one.
struct Seeded {
    linux: Arc<dyn System>,
    next: AtomicU64,
}

impl Altered for Seeded {
    fn linux(&self) -> &Arc<dyn System> {
        &self.linux
    }

    fn seed(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }
}

fn seeded(shards: usize, seed: u64) -> Builder {
    let mut builder = Builder::new_multi_thread();
    let linux = Builder::default_system();
    builder
        .shards(shards)
        .system(Arc::new(AlteredSystem(Seeded { linux, next: AtomicU64::new(seed) })));
    builder
}

async fn below_ten() -> u32 {
    runtime::select! {
        n = ready(0) => n,
        n = ready(1) => n,
        n = ready(2) => n,
        n = ready(3) => n,
        n = ready(4) => n,
        n = ready(5) => n,
        n = ready(6) => n,
        n = ready(7) => n,
        n = ready(8) => n,
        n = ready(9) => n,
    }
}

async fn numbers(count: usize) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        numbers.push(below_ten().await);
    }
    numbers
}

/// What a root future on the first shard draws, together with a task beside it.
fn drawn_on_a_shard(seed: u64) -> (Vec<u32>, Vec<u32>) {
    let run = async {
        let beside = runtime::task::spawn_local(async {
            yield_now().await;
            numbers(300).await
        });
        (numbers(300).await, beside.await.unwrap())
    };
    seeded(1, seed).run(run).unwrap()
}

#[test]
fn the_same_seed_draws_the_same_branches() {
    let seed = Random::from_environment().below(usize::MAX) as u64;
    let drawn = drawn_on_a_shard(seed);
    assert_eq!(drawn_on_a_shard(seed), drawn, "seed {seed}");
    assert_ne!(drawn_on_a_shard(seed.wrapping_add(1)), drawn, "seed {seed}");
    assert_ne!(drawn.0, drawn.1, "both draw from the one generator of their shard");
}

/// What tasks of two simulated shards draw, one after the other.
fn drawn_in_a_simulation(seed: u64) -> Vec<Vec<u32>> {
    let drawn = Rc::new(RefCell::new(Vec::new()));
    let mut simulation = Simulation::new(seed);
    let host = simulation.host(HostConfig::new("host").shards(2));
    let log = drawn.clone();
    simulation.start(host, move || {
        let log = log.clone();
        async move {
            for shard in [0, 1, 1, 0] {
                let numbers = spawn_on(shard, || numbers(50)).await?;
                log.borrow_mut().push(numbers);
            }
            io::Result::Ok(())
        }
    });
    simulation.run().unwrap();
    drawn.take()
}

#[test]
fn a_simulated_shard_draws_what_the_seed_of_the_simulation_says() {
    for seed in seeds(20) {
        let drawn = drawn_in_a_simulation(seed);
        assert_eq!(drawn_in_a_simulation(seed), drawn, "seed {seed}");
        assert_ne!(drawn_in_a_simulation(seed + 1000), drawn, "seed {seed}");
        assert_ne!(drawn[0], drawn[1], "seed {seed}: each shard has a generator of its own");
    }
}

#[test]
fn each_shard_has_a_generator_of_its_own() {
    let draw = || {
        let runtime = seeded(2, 40).build().unwrap();
        runtime.block_on(async move {
            let first = spawn_on(0, || numbers(50)).await.unwrap();
            let second = spawn_on(1, || numbers(50)).await.unwrap();
            (first, second)
        })
    };
    let (first, second) = draw();
    assert_ne!(first, second);
    assert_eq!(draw(), (first, second));
}

#[test]
fn a_thread_that_is_no_shard_draws_from_its_runtimes_seed() {
    let draw = |seed| {
        let runtime = seeded(1, seed).build().unwrap();
        // On this thread, which is no shard; and on another one after it.
        let first = runtime.block_on(numbers(50));
        let handle = runtime.handle().clone();
        let second = std::thread::spawn(move || handle.block_on(numbers(50))).join().unwrap();
        (first, second)
    };
    let drawn = draw(7);
    assert_eq!(draw(7), drawn);
    assert_ne!(draw(8), drawn);
    assert_ne!(drawn.0, drawn.1);
}

#[test]
fn without_a_runtime_branches_are_drawn_all_the_same() {
    let drawn = futures::executor::block_on(numbers(1000));
    for number in 0..10 {
        assert!(drawn.contains(&number), "{number} was never drawn");
    }
}

#[test]
fn linux_gives_each_shard_another_seed() {
    let linux = Builder::default_system();
    let mut seeds: Vec<u64> = (0..64).map(|_| linux.seed()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 64);
}

#[test]
fn ready_branches_are_taken_equally_often() {
    let seed = Random::from_environment().below(usize::MAX) as u64;
    let drawn = seeded(1, seed).run(numbers(10_000)).unwrap();
    for number in 0..10 {
        let count = drawn.iter().filter(|&&drawn| drawn == number).count();
        // Expected are 1000, and the deviation is 30: this is further out than six of those.
        assert!((800..=1200).contains(&count), "{number}: {count} times, seed {seed}");
    }
    let repeated = drawn.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!((800..=1200).contains(&repeated), "{repeated} times twice in a row, seed {seed}");
}

#[test]
fn three_branches_are_taken_equally_often() {
    let seed = Random::from_environment().below(usize::MAX) as u64;
    let counts = seeded(1, seed).run(async {
        let mut counts = [0u32; 3];
        for _ in 0..10_000 {
            runtime::select! {
                () = ready(()) => counts[0] += 1,
                () = ready(()) => counts[1] += 1,
                () = ready(()) => counts[2] += 1,
            }
        }
        counts
    });
    for count in counts.unwrap() {
        // Expected are 3333, and the deviation is 47.
        assert!((3000..=3666).contains(&count), "{count} times, seed {seed}");
    }
}

#[test]
fn one_branch_and_biased_ones_draw_nothing() {
    let drawn = seeded(1, 5).run(numbers(20)).unwrap();
    let drawn_beside = seeded(1, 5).run(async {
        let mut drawn = Vec::new();
        for _ in 0..20 {
            runtime::select! { () = ready(()) => {} }
            runtime::select! { biased; () = ready(()) => {} () = ready(()) => {} }
            runtime::select! { else => {} }
            drawn.push(below_ten().await);
        }
        drawn
    });
    assert_eq!(drawn_beside.unwrap(), drawn);
}

#[test]
fn each_poll_draws_again() {
    let polled = RefCell::new(Vec::new());
    // Both are polled each time, until the last one is ready.
    let note = |number: u32| {
        let polled = &polled;
        poll_fn(move |cx| {
            polled.borrow_mut().push(number);
            cx.waker().wake_by_ref();
            if polled.borrow().len() == 400 { Poll::Ready(()) } else { Poll::Pending }
        })
    };
    let run = async {
        runtime::select! {
            () = note(0) => {}
            () = note(1) => {}
        }
    };
    seeded(1, 9).run(run).unwrap();
    let firsts: Vec<u32> = polled.take().into_iter().step_by(2).collect();
    assert_eq!(firsts.len(), 200);
    let zeros = firsts.iter().filter(|&&first| first == 0).count();
    assert!((50..=150).contains(&zeros), "{zeros} of 200 polls began with the first branch");
}

#[runtime::test]
async fn no_branch_starves_behind_one_that_is_always_ready() {
    let (sender, mut receiver) = runtime::sync::mpsc::unbounded_channel();
    let busy = spawn(async move {
        let mut rounds = 0u32;
        loop {
            rounds += 1;
            runtime::select! {
                () = ready(()) => {}
                stop = receiver.recv() => return (rounds, stop),
            }
            assert!(rounds < 100_000, "the other branch was never heard");
        }
    });
    yield_now().await;
    sender.send("stop").unwrap();
    let (rounds, stop) = busy.await.unwrap();
    assert_eq!(stop, Some("stop"));
    assert!(rounds > 1);
}
