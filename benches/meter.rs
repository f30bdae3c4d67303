//! What a child measures: wall and CPU time of the measured part and, if asked, each operation's
//! latency.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One contender's result of one round: the line of JSON that a child prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub ops: u64,
    pub wall_ns: u64,
    /// Of the whole process, user and kernel, worker threads included.
    pub cpu_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Latency>,
}

impl Sample {
    pub fn ops_per_s(&self) -> f64 {
        self.ops as f64 * 1e9 / self.wall_ns as f64
    }

    pub fn cpu_ns_per_op(&self) -> f64 {
        self.cpu_ns as f64 / self.ops as f64
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
}

/// The running clocks of a measured part.
#[derive(Debug)]
pub struct Meter {
    wall: Instant,
    cpu: Duration,
}

impl Meter {
    pub fn start() -> Self {
        Self { wall: Instant::now(), cpu: process_cpu_time() }
    }

    pub fn stop(self, ops: u64, latencies: Option<&Histogram>) -> Sample {
        let cpu = process_cpu_time() - self.cpu;
        let wall = self.wall.elapsed();
        Sample {
            ops,
            wall_ns: (wall.as_nanos() as u64).max(1),
            cpu_ns: cpu.as_nanos() as u64,
            latency_ns: latencies.map(|latencies| Latency {
                p50: latencies.percentile(50),
                p99: latencies.percentile(99),
            }),
        }
    }
}

/// The CPU time of another process so far, all its threads together.
pub fn cpu_time_of(process: u32) -> io::Result<Duration> {
    let path = format!("/proc/{process}/task");
    let mut nanos = 0;
    for thread in fs::read_dir(&path)? {
        // Nanoseconds on the CPU are the first of its numbers.
        let numbers = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = numbers.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        nanos += first.ok_or_else(|| io::Error::other(format!("{path}: {numbers:?}")))?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn process_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

const BUCKETS_A_DOUBLING: u64 = 64;

/// Counts of latencies, 64 buckets to a doubling: percentiles within 1.6 %.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
}

impl Histogram {
    pub fn new() -> Self {
        Self { buckets: (0..64 * BUCKETS_A_DOUBLING).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Only one thread records, so a load and a store do; atomics merely let tasks share it that
    /// must be `Send`.
    #[inline]
    pub fn record(&self, latency: Duration) {
        let bucket = &self.buckets[bucket_of(latency.as_nanos() as u64)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The lower bound, in nanoseconds, of the bucket below which `percent` of the latencies lie.
    pub fn percentile(&self, percent: u64) -> u64 {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let total: u64 = counts.clone().sum();
        let mut below = 0;
        for (bucket, count) in counts.enumerate() {
            below += count;
            if below * 100 >= total * percent {
                return lower_bound_of(bucket);
            }
        }
        0
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < BUCKETS_A_DOUBLING {
        return ns as usize;
    }
    let doubling = u64::from(ns.ilog2() - BUCKETS_A_DOUBLING.ilog2());
    ((doubling + 1) * BUCKETS_A_DOUBLING + ((ns >> doubling) - BUCKETS_A_DOUBLING)) as usize
}

fn lower_bound_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < BUCKETS_A_DOUBLING {
        return bucket;
    }
    let doubling = bucket / BUCKETS_A_DOUBLING - 1;
    (BUCKETS_A_DOUBLING + bucket % BUCKETS_A_DOUBLING) << doubling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_found_again_within_a_sixty_fourth() {
        for (ns, lower) in [(0, 0), (63, 63), (64, 64), (127, 127), (129, 128), (1_001, 1_000)] {
            assert_eq!(lower_bound_of(bucket_of(ns)), lower, "{ns} ns");
        }
    }

    #[test]
    fn the_median_is_below_the_slow_tail() {
        let histogram = Histogram::new();
        for _ in 0..97 {
            histogram.record(Duration::from_nanos(512));
        }
        for _ in 0..3 {
            histogram.record(Duration::from_nanos(8192));
        }
        assert_eq!((histogram.percentile(50), histogram.percentile(99)), (512, 8192));
    }

    #[test]
    fn a_sample_is_rates_and_costs() {
        let sample = Sample { ops: 1_000, wall_ns: 500_000, cpu_ns: 400_000, latency_ns: None };
        assert_eq!(sample.ops_per_s(), 2_000_000.0);
        assert_eq!(sample.cpu_ns_per_op(), 400.0);
    }
}
