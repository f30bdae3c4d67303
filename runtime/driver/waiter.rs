//! Who waits for an operation.

use std::task::Waker;

use ringhold_buffers::foreign::ForeignWaker;

use crate::registry::ShardId;
use crate::task::TaskRef;

/// Who is to be woken when an operation completes.
///
/// Most operations are awaited by a task of their own shard. Waking such a one is putting it into
/// the ready queue, which runs no foreign code and so can be done while the driver is borrowed.
pub(crate) enum Waiter {
    Task(TaskRef),
    Other(ForeignWaker),
}

impl Waiter {
    /// Who waits by `waker` on the shard `home`. Cloning a waker may run foreign code.
    #[inline]
    pub(crate) fn of(waker: &Waker, home: ShardId) -> Waiter {
        match TaskRef::of_waker(waker, home) {
            Some(task) => Waiter::Task(task),
            None => Waiter::Other(ForeignWaker::of(waker)),
        }
    }

    /// Whether `waker` would wake the same.
    pub(super) fn will_be_woken_by(&self, waker: &Waker) -> bool {
        match self {
            Waiter::Task(task) => task.is_woken_by(waker),
            Waiter::Other(known) => known.will_wake(waker),
        }
    }
}
