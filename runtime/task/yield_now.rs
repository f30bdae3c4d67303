//! Giving the other tasks of a shard their turn.

use std::future::poll_fn;
use std::task::Poll;

/// Lets the shard's other ready tasks run, and what came from outside arrive, before this one goes
/// on: timers that are due, completions, messages of other threads, and the tasks that they wake. A
/// task that computes for a millisecond and yields makes a timer late by that millisecond.
/// With [groups of tasks](super::TaskGroup) those run whose turn it is, by their groups' shares.
///
/// # Cancel safety
///
/// Safe: it holds nothing.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
