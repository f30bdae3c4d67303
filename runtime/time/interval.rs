//! Ticks at a steady pace.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::time::{Instant, Sleep, sleep_until};

/// A tick that is late by no more than this was not missed: the next one keeps to the schedule.
const FORGIVEN: Duration = Duration::from_millis(5);

/// Ticks at once, and then every `period`.
///
/// ```
/// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
/// use ringhold_runtime::time::{Duration, interval};
///
/// let mut interval = interval(Duration::from_millis(2));
/// let first = interval.tick().await;
/// let second = interval.tick().await;
/// assert_eq!(second - first, Duration::from_millis(2));
/// # });
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks at `start`, and then every `period`.
///
/// ```
/// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
/// use ringhold_runtime::time::{Duration, Instant, interval_at};
///
/// let start = Instant::now() + Duration::from_millis(1);
/// let mut interval = interval_at(start, Duration::from_millis(2));
/// assert_eq!(interval.tick().await, start);
/// assert_eq!(interval.tick().await, start + Duration::from_millis(2));
/// # });
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(period > Duration::ZERO, "`period` must be non-zero.");
    Interval { sleep: sleep_until(start), period, missed: MissedTickBehavior::default() }
}

/// What an [`Interval`] does after ticks that were not waited for in time (by more than five
/// milliseconds).
///
/// ```text
/// schedule   |     1     |     2     |     3     |     4     |     5     |
/// the work   | work | work that takes too long     | work | work | ...
/// Burst      |      1    |          2  3     4     |     5     |     6
/// Delay      |      1    |          2           |     3     |     4
/// Skip       |      1    |          2    |     4     |     5     |
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// Ticks at once for each missed one, until it has caught up with the schedule.
    #[default]
    Burst,
    /// Ticks one period after the late tick: the schedule begins anew.
    Delay,
    /// Leaves the missed ticks out: the next one is the schedule's next.
    Skip,
}

impl MissedTickBehavior {
    /// When the tick after the one of `scheduled` is due, which was seen too late, at `now`.
    fn next(self, scheduled: Instant, now: Instant, period: Duration) -> Instant {
        match self {
            MissedTickBehavior::Burst => scheduled.saturating_add(period),
            MissedTickBehavior::Delay => now.saturating_add(period),
            MissedTickBehavior::Skip => {
                let into = (now - scheduled).as_nanos() % period.as_nanos();
                let into = u64::try_from(into).expect("a late tick is not centuries late");
                now.saturating_add(period - Duration::from_nanos(into))
            }
        }
    }
}

/// Ticks at a steady pace: what [`interval`] and [`interval_at`] return.
pub struct Interval {
    /// Ends at the next tick.
    sleep: Sleep,
    period: Duration,
    missed: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick, and returns when it was due.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped wait leaves the tick for the next one.
    ///
    /// # Panics
    ///
    /// As [`sleep`](super::sleep).
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// As [`tick`](Interval::tick), by polls. The waker of the last poll is the one that is woken.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        if std::pin::Pin::new(&mut self.sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        let (scheduled, now) = (self.sleep.deadline(), Instant::now());
        let next = if now > scheduled.saturating_add(FORGIVEN) {
            self.missed.next(scheduled, now, self.period)
        } else {
            scheduled.saturating_add(self.period)
        };
        self.sleep.set_deadline(next);
        Poll::Ready(scheduled)
    }

    /// The next tick is one period from now.
    ///
    /// ```
    /// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
    /// use ringhold_runtime::time::{Duration, Instant, interval};
    ///
    /// let mut interval = interval(Duration::from_millis(2));
    /// let now = Instant::now();
    /// interval.reset();
    /// assert!(interval.tick().await >= now + Duration::from_millis(2));
    /// # });
    /// ```
    pub fn reset(&mut self) {
        self.sleep.set_deadline(Instant::now().saturating_add(self.period));
    }

    /// The next tick is now.
    pub fn reset_immediately(&mut self) {
        self.sleep.set_deadline(Instant::now());
    }

    /// The next tick is `after` from now.
    pub fn reset_after(&mut self, after: Duration) {
        self.sleep.set_deadline(Instant::now().saturating_add(after));
    }

    /// The next tick is at `deadline`.
    pub fn reset_at(&mut self, deadline: Instant) {
        self.sleep.set_deadline(deadline);
    }

    /// What it does after missed ticks.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what it does after missed ticks.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// The time from tick to tick.
    pub fn period(&self) -> Duration {
        self.period
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval")
            .field("next", &self.sleep.deadline())
            .field("period", &self.period)
            .field("missed_tick_behavior", &self.missed)
            .finish()
    }
}
