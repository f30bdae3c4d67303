//! A host's clock, which may run fast or slow, and stand wrong.

use std::time::Duration;

use ringhold_kernel::Wait;

/// The day on which every simulation begins: 2026-01-01, in seconds since the UNIX epoch.
const BEGINNING_SECONDS: u64 = 1_767_225_600;

/// How a host's clock relates to the simulation's time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostClock {
    /// Parts in a million by which it runs faster.
    drift_ppm: i64,
    /// The simulation's time when the drift was last changed, and the host's then.
    since: u64,
    at_since: u64,
    /// How far the time of day, but not the monotonic clock, is ahead.
    day_offset: Duration,
}

impl HostClock {
    /// The host's monotonic time, in nanoseconds.
    pub(crate) fn read(&self, now: u64) -> u64 {
        self.at_since + scale(now - self.since, 1_000_000 + self.drift_ppm, 1_000_000)
    }

    /// From `now` on the clock runs this much faster, or slower if negative, in parts in a million.
    pub(crate) fn drift(&mut self, now: u64, ppm: i64) {
        assert!(ppm.abs() < 1_000_000, "a clock that drifts by {ppm} ppm stands or runs backwards");
        self.at_since = self.read(now);
        self.since = now;
        self.drift_ppm = ppm;
    }

    /// The time of day jumps.
    pub(crate) fn jump(&mut self, by: Duration) {
        self.day_offset += by;
    }

    /// The time of day, since the UNIX epoch.
    pub(crate) fn of_day(&self, now: u64) -> Duration {
        let since = Duration::from_nanos(self.read(now));
        Duration::from_secs(BEGINNING_SECONDS) + since + self.day_offset
    }

    /// What a wait by this clock is in the simulation's time.
    pub(crate) fn stretch(&self, wait: Wait) -> Wait {
        match wait {
            Wait::For { timeout: Some(timeout), idle } if self.drift_ppm != 0 => {
                let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
                // Rounded up, so that the host's timer has come when the wait is over.
                let nanos = scale(nanos, 1_000_000, 1_000_000 + self.drift_ppm).saturating_add(1);
                Wait::For { timeout: Some(Duration::from_nanos(nanos)), idle }
            }
            wait => wait,
        }
    }
}

fn scale(nanos: u64, by: i64, of: i64) -> u64 {
    let scaled = u128::from(nanos) * by.unsigned_abs() as u128 / of.unsigned_abs() as u128;
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_drifts_gains_from_then_on() {
        let mut clock = HostClock::default();
        assert_eq!(clock.read(5_000_000), 5_000_000);
        clock.drift(5_000_000, 1000);
        assert_eq!(clock.read(6_000_000), 6_001_000);
        clock.drift(6_000_000, -1000);
        assert_eq!(clock.read(7_000_000), 7_000_000);
    }

    #[test]
    fn a_wait_by_a_fast_clock_is_over_sooner_and_not_too_soon() {
        let mut clock = HostClock::default();
        clock.drift(0, 100_000);
        let wait = Wait::For { timeout: Some(Duration::from_nanos(1_100)), idle: false };
        let Wait::For { timeout: Some(stretched), .. } = clock.stretch(wait) else {
            panic!("a wait stays a wait")
        };
        assert_eq!(stretched, Duration::from_nanos(1_001));
        assert!(clock.read(1_001) >= 1_100);
    }
}
