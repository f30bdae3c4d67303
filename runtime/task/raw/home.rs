//! What the home shard keeps in a task: where it lists it, which lane it is of, and what stands
//! behind it in a queue.

#![allow(unsafe_code)] // A queue names its last task by a pointer.

use std::ptr::NonNull;

use crate::task::raw::{Header, TaskRef};
use crate::task::ready::fill;

impl TaskRef {
    /// Which lane the task is of. Called on the home shard.
    #[inline]
    pub(crate) fn lane(&self) -> u32 {
        self.header().lane.get()
    }

    /// Says which lane the task is of. Called on the home shard.
    pub(crate) fn set_lane(&self, lane: u32) {
        self.header().lane.set(lane);
    }

    /// Where the home shard lists the task. Called on the home shard.
    pub(crate) fn set_place(&self, place: usize) {
        self.header().place.set(place);
    }

    /// Whether the task is being polled or dropped. Called on the home shard.
    #[inline]
    pub(super) fn is_running(&self) -> bool {
        self.header().running.get()
    }

    /// Takes what stands behind this task off it. Called on the home shard.
    #[inline]
    pub(crate) fn unlink(&self) -> Option<TaskRef> {
        self.header().next.take()
    }
}

/// Names the last task of a ready queue for as long as that holds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last(NonNull<Header>);

impl Last {
    #[inline]
    pub(in crate::task) fn of(task: &TaskRef) -> Last {
        Last(task.header)
    }

    /// Puts `next` behind this task. Called on the home shard.
    #[inline]
    pub(in crate::task) fn link(self, next: TaskRef) {
        // SAFETY: the queue holds a reference to the task that it names as its last, and forgets
        // the name when it gives the reference away (S10).
        fill(unsafe { &self.0.as_ref().next }, Some(next));
    }
}
