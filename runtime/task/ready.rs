//! A shard's ready queue: a list through the tasks themselves, so that queueing one allocates
//! nothing and can't fail.
//!
//! First come, first served. A task is queued at most once, since `SCHEDULED` says that it is.

use std::{iter, mem};

use ringhold_kernel::sync::Cell;

use crate::task::TaskRef;
use crate::task::raw::Last;

#[derive(Default)]
pub(crate) struct ReadyQueue {
    /// The task that is next, behind it the one after that, and so on.
    first: Cell<Option<TaskRef>>,
    /// The task that came last; `None` exactly if `first` is.
    last: Cell<Option<Last>>,
}

impl ReadyQueue {
    #[inline]
    pub(crate) fn push(&self, task: TaskRef) {
        match self.last.replace(Some(Last::of(&task))) {
            Some(last) => last.link(task),
            None => fill(&self.first, Some(task)),
        }
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<TaskRef> {
        let task = self.first.take()?;
        let next = task.unlink();
        if next.is_none() {
            self.last.set(None);
        }
        fill(&self.first, next);
        Some(task)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.last.get().is_none()
    }

    /// The task that came last.
    pub(super) fn last(&self) -> Option<Last> {
        self.last.get()
    }

    /// Takes all that are queued in `other`. This queue is empty.
    pub(super) fn take_all(&self, other: &ReadyQueue) {
        debug_assert!(self.is_empty());
        self.last.set(other.last.replace(None));
        fill(&self.first, other.first.take());
    }

    /// Drops all that are queued, and what their destructors queue meanwhile.
    pub(crate) fn clear(&self) {
        iter::from_fn(|| self.pop()).for_each(drop);
    }
}

/// Puts a task into a place that is known to be empty, which spares looking for one to drop there.
#[inline]
pub(super) fn fill(place: &Cell<Option<TaskRef>>, task: Option<TaskRef>) {
    let before = place.replace(task);
    debug_assert!(before.is_none());
    mem::forget(before);
}

impl Drop for ReadyQueue {
    fn drop(&mut self) {
        // One by one: dropping the first alone would drop the others within each other.
        self.clear();
    }
}
