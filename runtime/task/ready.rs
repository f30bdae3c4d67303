//! A shard's ready queue: a list through the tasks themselves, so that queueing one allocates
//! nothing and can't fail.
//!
//! Tasks come in on a stack and go out from another one, and when that is empty the first is turned
//! over: first come, first served, without a pointer to the end. A task is queued at most once,
//! since `SCHEDULED` says that it is.

use std::cell::Cell;
use std::{iter, mem};

use crate::task::TaskRef;

#[derive(Default)]
pub(crate) struct ReadyQueue {
    /// The task that came last, before it the one that came last but one, and so on.
    latest: Cell<Option<TaskRef>>,
    /// The task that is next, behind it the one after that, and so on; all came before those in
    /// `latest`.
    oldest: Cell<Option<TaskRef>>,
}

impl ReadyQueue {
    #[inline]
    pub(crate) fn push(&self, task: TaskRef) {
        task.link(self.latest.take());
        fill(&self.latest, Some(task));
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<TaskRef> {
        let task = match self.oldest.take() {
            Some(task) => task,
            None => self.turn_over()?,
        };
        fill(&self.oldest, task.unlink());
        Some(task)
    }

    /// Empties `latest`, and gives the first of those that were in it with the others behind it.
    fn turn_over(&self) -> Option<TaskRef> {
        let mut turned = None;
        let mut latest = self.latest.take();
        while let Some(task) = latest {
            latest = task.unlink();
            task.link(turned);
            turned = Some(task);
        }
        turned
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let (latest, oldest) = (self.latest.take(), self.oldest.take());
        let empty = latest.is_none() && oldest.is_none();
        fill(&self.latest, latest);
        fill(&self.oldest, oldest);
        empty
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
