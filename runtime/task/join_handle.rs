//! The handles of a spawned task.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::task::{Id, JoinError, TaskRef};

/// Waits for a task's result. Dropping it detaches the task, which goes on.
///
/// # Cancel safety
///
/// Safe: a dropped wait takes nothing, and `&mut handle` can be awaited again.
pub struct JoinHandle<T> {
    task: TaskRef,
    // The output is dropped where the handle is, so a handle moves between threads only if the
    // output may. Waiting for it and aborting it from a shared reference gives nobody the output,
    // so any handle is `Sync` if it is `Send`.
    _output: PhantomData<SendOnly<T>>,
}

/// `Send` if `T` is, and then `Sync` as well.
struct SendOnly<T>(PhantomData<std::sync::Mutex<T>>);

impl<T> JoinHandle<T> {
    pub(crate) fn new(task: TaskRef) -> JoinHandle<T> {
        JoinHandle { task, _output: PhantomData }
    }

    /// Asks for the task's future to be dropped, on the task's own shard at its next turn.
    ///
    /// The handle then gives a [`JoinError`] that [`is_cancelled`](JoinError::is_cancelled), not
    /// before the future was dropped, unless the task was done before.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// A handle that aborts the task and doesn't wait for it.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle { task: self.task.clone() }
    }

    /// Whether the task is done, cancelled or panicked.
    pub fn is_finished(&self) -> bool {
        self.task.is_complete()
    }

    /// The task's id.
    pub fn id(&self) -> Id {
        self.task.id()
    }
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.task.poll_join(cx)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        self.task.detach();
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).finish()
    }
}

/// Aborts a task; it neither waits for it nor keeps its result.
#[derive(Clone)]
pub struct AbortHandle {
    task: TaskRef,
}

impl AbortHandle {
    /// As [`JoinHandle::abort`].
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether the task is done, cancelled or panicked.
    pub fn is_finished(&self) -> bool {
        self.task.is_complete()
    }

    /// The task's id.
    pub fn id(&self) -> Id {
        self.task.id()
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle").field("id", &self.id()).finish()
    }
}
