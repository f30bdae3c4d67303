//! Which seeds a test runs.

use std::env;
use std::num::NonZero;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::Failure;

/// The seeds that a test runs: the one of `RINGHOLD_SEED`, if it is set, or else as many as
/// `RINGHOLD_SEEDS` says, or else `count`, from 0 on.
///
/// # Panics
///
/// If one of the variables is set and is no number.
///
/// ```
/// let mut runs = 0;
/// for seed in ringhold_sim::seeds(3) {
///     assert!(seed < 3 || std::env::var_os("RINGHOLD_SEED").is_some());
///     runs += 1;
/// }
/// assert!(runs > 0);
/// ```
pub fn seeds(count: u64) -> Range<u64> {
    let number = |name| {
        env::var(name).ok().map(|text| match text.parse::<u64>() {
            Ok(number) => number,
            Err(error) => panic!("{name} is no number: {text} ({error})"),
        })
    };
    match number("RINGHOLD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RINGHOLD_SEEDS").unwrap_or(count),
    }
}

/// Runs `test` for each of the seeds, on all cores, each seed's simulation on one thread.
///
/// # Panics
///
/// With the first failure, or the first panic of `test`; the others' seeds are left.
///
/// ```
/// use ringhold_sim::{HostConfig, Simulation, for_each_seed, seeds};
///
/// for_each_seed(seeds(10), |seed| {
///     let mut simulation = Simulation::new(seed);
///     let host = simulation.host(HostConfig::new("store"));
///     simulation.start(host, || async { assert_eq!(6 * 7, 42) });
///     simulation.run()
/// });
/// ```
#[track_caller]
pub fn for_each_seed(seeds: Range<u64>, test: impl Fn(u64) -> Result<(), Failure> + Sync) {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(Ok(()));
            }
            let tested = catch_unwind(AssertUnwindSafe(|| test(seed)));
            if !matches!(tested, Ok(Ok(()))) {
                next.store(seeds.end, Ordering::Relaxed);
                if tested.is_err() {
                    eprintln!("seed {seed} panicked");
                }
                return tested;
            }
        }
    };
    // The threads bear the test's name, which failures show.
    let name = thread::current().name().unwrap_or("main").to_owned();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let start = |_| thread::Builder::new().name(name.clone()).spawn_scoped(scope, work);
        let started: Vec<_> = (0..cores).map(start).collect();
        for thread in started {
            let ended = thread.expect("a thread can be started").join();
            match ended.and_then(|tested| tested) {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => panic!("{failure}"),
                Err(payload) => resume_unwind(payload),
            }
        }
    });
}
