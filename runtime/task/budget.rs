//! The share of a turn that one poll of a task may use.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};

use ringhold_kernel::sync::thread_local;

use super::coop;
use crate::context;

/// How many ready steps one poll of a task may take before it has to let the others run.
const STEPS: u32 = 128;

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(STEPS) };
}

/// Called by the shard before each poll of a task.
#[inline]
pub(crate) fn refill() {
    LEFT.with(|left| left.set(STEPS));
    coop::refill();
}

/// Takes one step; when none is left the task is woken again and must return. Off any shard steps
/// are free: there is nothing that an always-ready future could starve, and nobody who would refill
/// them.
#[inline]
pub(crate) fn poll_step(cx: &Context<'_>) -> Poll<()> {
    if context::with_shard(|shard| shard.is_none()) {
        return Poll::Ready(());
    }
    LEFT.with(|left| match left.get() {
        0 => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        steps => {
            left.set(steps - 1);
            Poll::Ready(())
        }
    })
}

/// Takes more steps, for something that was ready at once and took long; all that are left, where
/// there are fewer.
pub(crate) fn charge(steps: u32) {
    LEFT.with(|left| left.set(left.get().saturating_sub(steps)));
}

/// Polls something that is made of parts, some of which take steps and some of which don't: not at
/// all when no step is left, and at the price of one if it is ready and its parts took none.
#[inline]
pub(crate) fn poll_within<T>(
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    if context::with_shard(|shard| shard.is_none()) {
        return poll(cx);
    }
    let before = LEFT.with(Cell::get);
    if before == 0 {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    let polled = poll(cx);
    LEFT.with(|left| {
        if polled.is_ready() && left.get() == before {
            left.set(before - 1);
        }
    });
    polled
}

/// Takes one step of the task's budget, and yields when there is none left: for loops that compute
/// long and await nothing else. Sleeps, leases, tokio's channels, its locks and its streams take a
/// step by themselves each time that they are ready at once.
///
/// Calls that don't wait, as `try_read`, `try_write`, `try_recv`, `try_io` and `try_lease`, take
/// none, since they can't yield. A loop over them that a fast peer can keep going, such as one over
/// requests that were sent in advance, awaits this in its body.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_runtime::task::consume_budget;
///
/// let (sender, receiver) = std::sync::mpsc::channel();
/// (0..1000).for_each(|number| sender.send(number).unwrap());
/// let mut sum = 0;
/// while let Ok(number) = receiver.try_recv() {
///     sum += number;
///     consume_budget().await; // Timers and other tasks have their turn.
/// }
/// assert_eq!(sum, 499_500);
/// # })?;
/// # std::io::Result::Ok(())
/// ```
///
/// # Cancel safety
///
/// Safe: it holds nothing.
pub async fn consume_budget() {
    poll_fn(|cx| poll_step(cx)).await;
}
