//! Waiting until a point in time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::context;
use crate::task::budget;
use crate::time::Instant;
use crate::time::alarm::Alarm;
use crate::time::clock;

/// Waits for `duration`; one that is out of the clock's range is about 30 years.
///
/// ```
/// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
/// use ringhold_runtime::time::{Duration, Instant, sleep};
///
/// let start = Instant::now();
/// sleep(Duration::from_millis(2)).await;
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// # });
/// ```
///
/// # Cancel safety
///
/// Safe: dropping it loses nothing but the time that has passed; to keep that, keep the [`Sleep`]
/// and await it by `&mut`.
///
/// # Panics
///
/// When it is awaited where no runtime is entered, or off any shard after its runtime's end.
///
/// # Kernel
///
/// No operation of its own: the shard's wait for completions ends at the earliest deadline.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now().saturating_add(duration))
}

/// Waits until `deadline`; one that has passed is ready at once.
///
/// ```
/// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
/// use ringhold_runtime::time::{Duration, Instant, sleep_until};
///
/// let deadline = Instant::now() + Duration::from_millis(2);
/// sleep_until(deadline).await;
/// assert!(Instant::now() >= deadline);
/// # });
/// ```
///
/// # Cancel safety
///
/// Safe, as [`sleep`].
///
/// # Panics
///
/// As [`sleep`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, alarm: Alarm::new() }
}

/// Waits until its deadline: what [`sleep`] and [`sleep_until`] return.
///
/// It may be polled anywhere, also on one shard after another, and dropped anywhere. Its timer is
/// on the shard that polled it last.
///
/// ```
/// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
/// use ringhold_runtime::time::{Duration, Instant, sleep};
/// use std::pin::pin;
///
/// let mut idle = pin!(sleep(Duration::from_secs(3600)));
/// assert!(!idle.is_elapsed());
/// // Something happened, so the idle time begins anew.
/// let deadline = Instant::now() + Duration::from_millis(1);
/// idle.as_mut().reset(deadline);
/// assert_eq!(idle.deadline(), deadline);
/// idle.as_mut().await;
/// assert!(idle.is_elapsed());
/// # });
/// ```
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    deadline: Instant,
    alarm: Alarm,
}

impl Sleep {
    /// When it will be ready.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the deadline has passed.
    pub fn is_elapsed(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Sets another deadline, also after it was ready.
    ///
    /// A task that polled it and waits is woken at the new deadline, without another poll. After it
    /// was ready, or where it was never polled, the next poll sets it.
    pub fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.get_mut().set_deadline(deadline);
    }

    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        if deadline != self.deadline {
            self.alarm.reset(deadline.into_std());
            self.deadline = deadline;
        }
    }

    /// As `poll`, without taking a step of the task's budget.
    pub(super) fn poll_deadline(&mut self, cx: &Context<'_>) -> Poll<()> {
        // The clock alone decides, so that no wake-up from elsewhere makes it early.
        if self.is_elapsed() {
            self.alarm.clear();
            return Poll::Ready(());
        }
        // It has gone off, and a clock that was moved back says otherwise: it is set again. At the
        // end of time there is nothing to wait for.
        while self.alarm.poll(self.deadline.into_std(), cx).is_ready() {
            if clock::is_at_its_end() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_deadline(cx).is_pending() {
            return Poll::Pending;
        }
        // A loop whose timers are always due must let the others run. Off any shard there are none.
        match context::with_shard(|shard| shard.is_some()) {
            true => budget::poll_step(cx),
            false => Poll::Ready(()),
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
