//! A time limit for a future.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::context;
use crate::task::budget;
use crate::time::error::Elapsed;
use crate::time::{Instant, Sleep, sleep_until};

/// Waits for `future`, but no longer than `duration`.
///
/// The value is looked at before the clock: a future that is ready is never cut off, even with a
/// `duration` of zero. A `duration` that is out of the clock's range is no limit.
///
/// ```
/// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
/// use ringhold_runtime::time::{Duration, timeout};
///
/// assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7));
/// assert!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_err());
/// # });
/// ```
///
/// # Errors
///
/// [`Elapsed`] if the time is over. The future is dropped with the [`Timeout`], unless it was given
/// as `&mut`.
///
/// # Cancel safety
///
/// That of `future`.
///
/// # Panics
///
/// As [`sleep`](super::sleep), when it has to wait.
pub fn timeout<F>(duration: Duration, future: F) -> Timeout<F::IntoFuture>
where
    F: IntoFuture,
{
    let deadline = Instant::now().checked_add(duration);
    Timeout { value: future.into_future(), limit: deadline.map(sleep_until), yielded: false }
}

/// Waits for `future`, but not beyond `deadline`.
///
/// ```
/// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
/// use ringhold_runtime::time::{Instant, timeout_at};
///
/// let passed = Instant::now();
/// assert_eq!(timeout_at(passed, async { 7 }).await, Ok(7));
/// assert!(timeout_at(passed, std::future::pending::<()>()).await.is_err());
/// # });
/// ```
///
/// # Errors
///
/// As [`timeout`].
///
/// # Cancel safety
///
/// That of `future`.
///
/// # Panics
///
/// As [`timeout`].
pub fn timeout_at<F>(deadline: Instant, future: F) -> Timeout<F::IntoFuture>
where
    F: IntoFuture,
{
    let limit = Some(sleep_until(deadline));
    Timeout { value: future.into_future(), limit, yielded: false }
}

pin_project! {
    /// A future with a time limit: what [`timeout`] and [`timeout_at`] return.
    #[must_use = "a timeout does nothing unless it is awaited"]
    pub struct Timeout<T> {
        #[pin]
        value: T,
        limit: Option<Sleep>,
        // Whether it was late once already and yielded, since the task's budget was used up.
        yielded: bool,
    }
}

impl<T> Timeout<T> {
    /// The future.
    pub fn get_ref(&self) -> &T {
        &self.value
    }

    /// The future.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// The future, without the limit.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: Future> Future for Timeout<T> {
    type Output = Result<T::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let timeout = self.project();
        if let Poll::Ready(value) = timeout.value.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        let Some(limit) = timeout.limit else { return Poll::Pending };
        poll_limit(limit, timeout.yielded, cx).map(Err)
    }
}

/// What doesn't depend on the value's type.
fn poll_limit(limit: &mut Sleep, yielded: &mut bool, cx: &Context<'_>) -> Poll<Elapsed> {
    if limit.poll_deadline(cx).is_pending() {
        return Poll::Pending;
    }
    // A loop whose limits are always over must let the others run. But a value that uses up the
    // budget in each of its polls must not put the limit off for ever, so it yields once.
    let on_shard = context::with_shard(|shard| shard.is_some());
    if on_shard && !*yielded && budget::poll_step(cx).is_pending() {
        *yielded = true;
        return Poll::Pending;
    }
    Poll::Ready(Elapsed::new())
}

impl<T: fmt::Debug> fmt::Debug for Timeout<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("value", &self.value)
            .field("deadline", &self.limit.as_ref().map(Sleep::deadline))
            .finish_non_exhaustive()
    }
}
