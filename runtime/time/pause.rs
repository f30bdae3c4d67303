//! A clock that a test stops, moves, and starts again.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use crate::context;
use crate::time::alarm::Alarm;
use crate::time::clock::Clock;

/// Stops the runtime's clock where it is.
///
/// While it is stopped, [`Instant::now`](super::Instant::now) stands still, and a runtime that has
/// nothing else to do moves the clock to the next timer at once: a test waits for an hour in no
/// time. `#[runtime::test(start_paused = true)]` begins with a stopped clock.
///
/// Operations on files, blocking closures and `block_on` threads that run are something to do: the
/// clock waits for them. A read from an empty pipe is one as well, so a timeout around it doesn't
/// fire while the clock is stopped, unless a test advances it.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use ringhold_runtime::time::{self, Duration, Instant};
///
/// time::pause();
/// let start = Instant::now();
/// time::advance(Duration::from_secs(60)).await;
/// assert_eq!(start.elapsed(), Duration::from_secs(60));
/// time::resume();
/// # });
/// ```
///
/// # Panics
///
/// Where no runtime is entered, if the clock is stopped already, or if the runtime has more than
/// one shard: they would not agree on who has nothing to do.
#[track_caller]
pub fn pause() {
    let handle = context::handle_or_panic();
    assert!(
        handle.shards() == 1,
        "the clock can only be paused (by `time::pause` or `start_paused`) in a runtime of one \
         shard; this one has {}",
        handle.shards()
    );
    assert!(handle.clock().pause(), "the clock is already paused");
}

/// Lets the clock run on from where it stopped.
///
/// # Panics
///
/// Where no runtime is entered, or if the clock is not stopped.
#[track_caller]
pub fn resume() {
    assert!(clock().resume(), "the clock is not paused");
}

/// Moves a stopped clock by `duration`, in one jump.
///
/// Timers that became due have fired when this returns; the tasks that they wake may not have run
/// yet. To see everything happen in its order, [`sleep`](super::sleep) instead.
///
/// Timers count 584 years from the runtime's beginning. For a clock that is moved further all times
/// have come, and every sleep is over.
///
/// # Cancel safety
///
/// Outcome unknown: the clock has moved with the first poll.
///
/// # Panics
///
/// Where no runtime is entered, if the clock is not stopped, or if the sum is out of its range.
pub async fn advance(duration: Duration) {
    let clock = clock();
    assert!(clock.advance(duration), "the clock is not paused; `time::pause` comes first");
    // An alarm for this very moment goes off after all that were due before it.
    let (now, mut alarm) = (clock.now(), Alarm::new());
    poll_fn(|cx| alarm.poll(now, cx)).await;
}

#[track_caller]
fn clock() -> Arc<Clock> {
    context::handle_or_panic().clock().clone()
}
