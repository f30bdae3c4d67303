//! How long operations take.

use std::time::Duration;

/// How long a host's operations take, in the simulation's time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The share of operations that are done while they are submitted, as those on cached data are.
    pub(crate) inline: f64,
    /// About what the others take, in nanoseconds; some take many times as long.
    pub(crate) mean_nanos: u64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { inline: 0.3, mean_nanos: 100_000 }
    }
}

impl Latency {
    /// This share of operations, from 0 to 1, is done while they are submitted; the others take
    /// about `mean`, some of them many times as long.
    pub fn new(inline: f64, mean: Duration) -> Latency {
        assert!((0.0..=1.0).contains(&inline), "{inline} is no share");
        let mean_nanos = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX >> 16).max(1);
        Latency { inline, mean_nanos }
    }
}
