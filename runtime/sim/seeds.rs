//! Which seeds a test runs.

use std::env;
use std::num::NonZero;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ringhold_runtime::foreign;

use crate::Failure;

/// The seeds that a test runs: the one of `RINGHOLD_SEED`, if it is set, or else as many as
/// `RINGHOLD_SEEDS` says, or else `count`, from 0 on. `RINGHOLD_SEEDS=2000..3000` says where a part
/// of a long run begins and ends.
///
/// # Panics
///
/// If one of the variables is set and is no number, and no range of numbers.
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
    let text = |name| env::var(name).ok().map(|text| (name, text));
    if let Some((name, text)) = text("RINGHOLD_SEED") {
        let seed = number(name, &text);
        return seed..seed + 1;
    }
    text("RINGHOLD_SEEDS").map_or(0..count, |(name, text)| range(name, &text))
}

fn range(name: &str, text: &str) -> Range<u64> {
    match text.split_once("..") {
        Some((first, end)) => number(name, first)..number(name, end),
        None => 0..number(name, text),
    }
}

fn number(name: &str, text: &str) -> u64 {
    text.parse().unwrap_or_else(|error| panic!("{name} is no number: {text} ({error})"))
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
            let tested = foreign::run(|| test(seed));
            if !matches!(tested, Ok(Ok(()))) {
                next.store(seeds.end, Ordering::Relaxed);
                if tested.is_err() {
                    foreign::report(format_args!("seed {seed} panicked"));
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

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn a_number_is_as_many_seeds_and_a_range_is_a_part_of_them() {
        assert_eq!(range("SEEDS", "300"), 0..300);
        assert_eq!(range("SEEDS", "2000..3000"), 2000..3000);
    }

    #[test]
    #[should_panic(expected = "SEEDS is no number: many")]
    fn what_is_no_number_is_said_with_its_name() {
        range("SEEDS", "many");
    }
}
