//! A point in time, as the runtime's clock has it.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::{Duration, Instant as StdInstant};

use crate::context;

/// Further than any deadline that is waited for, and near enough that no clock overflows.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A point in time that follows the runtime's clock, also where a test has paused it.
///
/// Outside of any runtime it is the system's monotonic time.
///
/// ```
/// use ringhold_runtime::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let later = start + Duration::from_millis(250);
/// assert_eq!(later - start, Duration::from_millis(250));
/// assert_eq!(start.checked_duration_since(later), None);
/// assert_eq!(start.saturating_duration_since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    std: StdInstant,
}

impl Instant {
    /// The present: that of the shard that is running, else that of the entered runtime, else the
    /// system's.
    pub fn now() -> Instant {
        let on_shard = context::with_shard(|shard| shard.map(|shard| shard.now()));
        let std = on_shard
            .or_else(|| context::handle().map(|handle| handle.clock().now()))
            .unwrap_or_else(StdInstant::now);
        Instant { std }
    }

    /// The same point in time.
    pub fn from_std(std: StdInstant) -> Instant {
        Instant { std }
    }

    /// The same point in time.
    pub fn into_std(self) -> StdInstant {
        self.std
    }

    /// So far away that it never comes: where a sum is out of range.
    pub(crate) fn far_future() -> Instant {
        Instant::now() + FAR
    }

    /// As the sum, but far away where that is out of range.
    pub(crate) fn saturating_add(self, duration: Duration) -> Instant {
        self.checked_add(duration).unwrap_or_else(Instant::far_future)
    }

    /// The time from `earlier` to this, or zero if `earlier` is later.
    pub fn duration_since(&self, earlier: Instant) -> Duration {
        self.std.duration_since(earlier.std)
    }

    /// The time from `earlier` to this, or `None` if `earlier` is later.
    pub fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        self.std.checked_duration_since(earlier.std)
    }

    /// The time from `earlier` to this, or zero if `earlier` is later.
    pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        self.std.saturating_duration_since(earlier.std)
    }

    /// The time from this to the present, or zero if this is yet to come.
    pub fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(*self)
    }

    /// This and `duration`, or `None` where that is out of range.
    pub fn checked_add(&self, duration: Duration) -> Option<Instant> {
        self.std.checked_add(duration).map(Instant::from_std)
    }

    /// This without `duration`, or `None` where that is out of range.
    pub fn checked_sub(&self, duration: Duration) -> Option<Instant> {
        self.std.checked_sub(duration).map(Instant::from_std)
    }
}

impl From<StdInstant> for Instant {
    fn from(std: StdInstant) -> Instant {
        Instant { std }
    }
}

impl From<Instant> for StdInstant {
    fn from(instant: Instant) -> StdInstant {
        instant.std
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant { std: self.std + duration }
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        self.std += duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.std.saturating_duration_since(earlier.std)
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        Instant { std: self.std - duration }
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        self.std -= duration;
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
