//! The waker of a task, and how a woken task gets into its shard's ready queue.

#![allow(unsafe_code)] // A waker is a counted pointer to its task.

use std::mem::{ManuallyDrop, forget};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::context;
use crate::inbox::Message;
use crate::registry::ShardId;
use crate::task::ReadyQueue;
use crate::task::raw::{COMPLETE, Header, SCHEDULED, TaskRef};

/// Puts a task with SCHEDULED set where its shard will find it.
#[inline]
pub(super) fn schedule(task: TaskRef) {
    context::with_shard(|shard| match shard {
        Some(shard) if shard.id() == task.header().remote.id() => {
            // Who wakes itself lets the others go first.
            if task.is_running() { shard.push_yielded(task) } else { shard.push_ready(task) }
        }
        _ => send_home(task),
    });
}

/// As [`schedule`], for a task that was aborted. Many may be at once, and none is in a hurry: like
/// those that yield they let others go first.
pub(super) fn schedule_aborted(task: TaskRef) {
    context::with_shard(|shard| match shard {
        Some(shard) if shard.id() == task.header().remote.id() => shard.push_yielded(task),
        _ => send_home(task),
    });
}

#[cold]
fn send_home(task: TaskRef) {
    let remote = task.header().remote.clone();
    remote.send(Message::Wake(task));
}

pub(super) static WAKER: RawWakerVTable =
    RawWakerVTable::new(clone_waker, wake_by_value, wake_by_reference, drop_waker);

/// The task of a waker's data, which the waker counts.
fn task_of(data: *const ()) -> ManuallyDrop<TaskRef> {
    // SAFETY: the data of a waker with this table is a counted pointer to its task (S10), and never
    // null.
    let header = unsafe { NonNull::new_unchecked(data.cast_mut().cast::<Header>()) };
    ManuallyDrop::new(TaskRef { header })
}

impl TaskRef {
    /// The task that `waker` wakes, if it is one and `home` is its shard.
    #[inline]
    pub(crate) fn of_waker(waker: &Waker, home: ShardId) -> Option<TaskRef> {
        if !ptr::eq(waker.vtable(), &WAKER) {
            return None;
        }
        // The waker has a count of its own, so the task is there (S10).
        let task = task_of(waker.data());
        (task.header().remote.id() == home).then(|| TaskRef::clone(&task))
    }

    /// Whether this is the task that `waker` wakes.
    pub(crate) fn is_woken_by(&self, waker: &Waker) -> bool {
        ptr::eq(waker.vtable(), &WAKER) && ptr::eq(waker.data(), self.header.as_ptr().cast())
    }

    /// Wakes the task on its home shard, whose queue is `ready`. A task that is queued already
    /// gives the reference back, since dropping it may free the task, which runs foreign code.
    #[inline]
    pub(crate) fn wake_here(self, ready: &ReadyQueue) -> Option<TaskRef> {
        // A complete task is queued as well, and dropped when its turn comes: to look at one bit
        // only takes one instruction.
        let before = self.header().state.fetch_or(SCHEDULED, Ordering::AcqRel);
        if before & SCHEDULED != 0 {
            return Some(self);
        }
        ready.push(self);
        None
    }
}

unsafe fn clone_waker(data: *const ()) -> RawWaker {
    forget(TaskRef::clone(&task_of(data)));
    RawWaker::new(data, &WAKER)
}

unsafe fn wake_by_value(data: *const ()) {
    let task = ManuallyDrop::into_inner(task_of(data));
    let before = task.header().state.fetch_or(SCHEDULED, Ordering::AcqRel);
    if before & (SCHEDULED | COMPLETE) == 0 {
        schedule(task);
    }
}

unsafe fn wake_by_reference(data: *const ()) {
    let task = task_of(data);
    let before = task.header().state.fetch_or(SCHEDULED, Ordering::AcqRel);
    if before & (SCHEDULED | COMPLETE) == 0 {
        schedule(TaskRef::clone(&task));
    }
}

unsafe fn drop_waker(data: *const ()) {
    drop(ManuallyDrop::into_inner(task_of(data)));
}
