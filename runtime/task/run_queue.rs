//! The tasks of a shard, or of one of its lanes, that are to be polled, in the order of their
//! turns.
//!
//! Tasks that others have woken come first, as they came. A task that has woken itself, as one that
//! yields does, goes on when the shard has looked at the kernel, its messages and its timers (that
//! is a new round), and after those that are woken by then. So however many tasks compute and
//! yield, what comes from outside waits for one poll of theirs.
//!
//! Nor do tasks that are woken again and again keep those that yielded waiting for ever: when all
//! have been polled that were there before them, it's their turn, in every other round at least
//! until they have had it.

use ringhold_kernel::sync::Cell;

use super::raw::Last;
use super::{ReadyQueue, TaskRef};

#[derive(Default)]
pub(crate) struct RunQueue {
    woken: ReadyQueue,
    /// Those that had yielded before this round. Others follow when these have had their turn.
    yielded: ReadyQueue,
    /// Those that have yielded since.
    yielding: ReadyQueue,
    /// The last of the woken tasks that come before those that yielded, while it is queued.
    before_yielded: Cell<Option<Last>>,
    /// Those that yielded have their turn before others.
    yielded_first: Cell<bool>,
    /// It was their turn, and another task had it.
    is_owed: Cell<bool>,
    /// Some have yielded, in this round or before.
    have_yielded: Cell<bool>,
}

impl RunQueue {
    #[inline]
    pub(crate) fn push(&self, task: TaskRef) {
        self.woken.push(task);
    }

    /// Queues a task that has woken itself.
    #[inline]
    pub(crate) fn push_yielded(&self, task: TaskRef) {
        self.have_yielded.set(true);
        self.yielding.push(task);
    }

    /// Where tasks wait that others have woken.
    #[inline]
    pub(crate) fn woken(&self) -> &ReadyQueue {
        &self.woken
    }

    /// Where tasks wait that have yielded: before this round, and in it.
    #[inline]
    pub(crate) fn yielded(&self) -> [&ReadyQueue; 2] {
        [&self.yielded, &self.yielding]
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.woken.is_empty() && !self.asks_for_a_look()
    }

    /// Whether tasks have yielded, in this round or just before.
    #[inline]
    pub(crate) fn have_yielded(&self) -> bool {
        self.have_yielded.get()
    }

    /// Whether something has a turn in this round.
    #[inline]
    pub(crate) fn has_turn(&self) -> bool {
        !self.woken.is_empty() || !self.yielded.is_empty()
    }

    /// Whether nothing is to be polled before the shard has looked what came.
    #[inline]
    pub(crate) fn asks_for_a_look(&self) -> bool {
        self.have_yielded.get() && (!self.yielding.is_empty() || !self.yielded.is_empty())
    }

    /// The shard has looked what came.
    #[inline]
    pub(crate) fn begin_round(&self) {
        if self.have_yielded.get() {
            self.begin_round_of_yielded();
        }
    }

    fn begin_round_of_yielded(&self) {
        if self.yielded.is_empty() {
            self.have_yielded.set(!self.yielding.is_empty());
            self.yielded.take_all(&self.yielding);
            self.before_yielded.set(self.woken.last());
            self.is_owed.set(false);
        }
        self.yielded_first.set(self.is_owed.get());
    }

    /// Takes the task whose turn it is.
    #[inline]
    pub(crate) fn pop(&self) -> Option<TaskRef> {
        if self.yielded.is_empty() { self.woken.pop() } else { self.pop_of_both() }
    }

    #[inline]
    fn pop_of_both(&self) -> Option<TaskRef> {
        if !self.woken.is_empty()
            && !self.yielded_first.get()
            && let Some(task) = self.woken.pop()
        {
            if self.before_yielded.get() == Some(Last::of(&task)) {
                self.before_yielded.set(None);
                self.yielded_first.set(true);
            }
            self.is_owed.set(self.before_yielded.get().is_none());
            return Some(task);
        }
        self.is_owed.set(false);
        self.yielded.pop()
    }

    /// Drops all that are queued, and what their destructors queue meanwhile.
    pub(crate) fn clear(&self) {
        while let Some(task) = self.take_any() {
            drop(task);
        }
    }

    /// Takes a task, whosever turn it is.
    pub(crate) fn take_any(&self) -> Option<TaskRef> {
        let task = self.woken.pop().or_else(|| self.yielded.pop()).or_else(|| self.yielding.pop());
        self.before_yielded.set(None);
        task
    }

    /// Takes what is queued in `other`, behind what is queued here.
    pub(crate) fn take_all(&self, other: &RunQueue) {
        while let Some(task) = other.woken.pop() {
            self.woken.push(task);
        }
        for yielded in other.yielded() {
            while let Some(task) = yielded.pop() {
                self.yielding.push(task);
            }
        }
        other.before_yielded.set(None);
    }
}
