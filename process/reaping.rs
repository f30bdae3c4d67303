//! What becomes of a child that is not waited for: its status is taken all the same.
//!
//! ```text
//!   Child dropped ──► ended already? ──yes──► reaped at once
//!                         │ no
//!                         ▼
//!                     a task of its own waits for the end ──► reaped
//!                         │ no runtime, or it ends first, or no descriptor
//!                         ▼
//!                     Left: looked at whenever a child is started or dropped
//! ```

use std::future::poll_fn;
use std::mem;
use std::sync::PoisonError;
use std::task::ready;

use ringhold_buffers::sync::{StaticMutex, StaticMutexGuard};
use ringhold_runtime::Handle;

use crate::running::Running;

/// The children that no task waits for.
static LEFT: StaticMutex<Vec<Running>> = StaticMutex::new(Vec::new());

fn left() -> StaticMutexGuard<'static, Vec<Running>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the status of each child that is left and has ended since.
pub(crate) fn sweep() {
    let mut ended = Vec::new();
    let mut left = left();
    for mut child in mem::take(&mut *left) {
        match has_ended(&mut child) {
            true => ended.push(child),
            false => left.push(child),
        }
    }
    drop(left);
    // Their descriptors are closed where nothing is locked.
    drop(ended);
}

/// Whether there is nothing to be taken any more, or ever: a child that another part of the program
/// has reaped is an error.
fn has_ended(child: &mut Running) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

/// A child that a task waits for. Dropped before it has ended, it is left.
struct Awaited(Option<Running>);

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            left().push(child);
        }
    }
}

/// Sees to it that a child's status is taken, now or when it ends.
pub(crate) fn reap(mut child: Running) {
    sweep();
    if has_ended(&mut child) {
        return;
    }
    let mut awaited = Awaited(Some(child));
    let task = poll_fn(move |cx| {
        let child = awaited.0.as_mut().expect("it is there until it has ended");
        if ready!(child.poll_wait(cx)).is_ok() || has_ended(child) {
            awaited.0 = None;
        }
        // One that can't be waited for is left.
        ().into()
    });
    // Without a runtime the task is dropped here, and its child left.
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn(task));
    }
}
