//! What `select!` expands to: the futures of its branches side by side, and its share of the task's
//! budget.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::task::budget;

pin_project! {
    /// Two futures, or pairs of futures, that are pinned as one value and polled one by one. The
    /// left one is dropped first.
    #[doc(hidden)]
    #[derive(Debug)]
    pub struct Both<L, R> {
        #[pin]
        left: L,
        #[pin]
        right: R,
    }
}

impl<L, R> Both<L, R> {
    #[doc(hidden)]
    #[inline]
    pub fn new(left: L, right: R) -> Both<L, R> {
        Both { left, right }
    }

    /// Each of the two, pinned.
    #[doc(hidden)]
    #[inline]
    pub fn split(self: Pin<&mut Self>) -> (Pin<&mut L>, Pin<&mut R>) {
        let both = self.project();
        (both.left, both.right)
    }
}

/// Polls the branches of a `select!` within the task's budget: not at all where none is left, and
/// at the price of one step where a branch is ready that took none itself, so that a loop over
/// branches that are always ready lets the others run.
#[doc(hidden)]
#[inline]
pub fn poll_select<T>(
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    budget::poll_within(cx, poll)
}
