//! The completions of operations that complete more than once.

use std::sync::Arc;

use crate::collector::Collector;
use crate::driver::slots::SlotState;
use crate::driver::{Driver, Due, Key, Waiter};
use crate::kernel::Cqe;
use crate::task::ReadyQueue;

/// Who waits for an operation's last completion, and what takes in those before it.
pub(crate) struct Many {
    pub(super) last: Waiter,
    pub(super) collector: Arc<dyn Collector>,
}

impl Many {
    /// The last completion came.
    #[cold]
    pub(super) fn wake_last(self, ready: &ReadyQueue) -> Option<Due> {
        // The future that waits has the collector, too, so none is dropped here.
        match self.last {
            Waiter::Task(task) => task.wake_here(ready).map(Due::Forget),
            Waiter::Other(waker) => Some(Due::Wake(waker)),
            Waiter::Many(many) => many.wake_last(ready),
        }
    }
}

impl Driver {
    /// A completion that is not the last one, or says more than a result.
    #[cold]
    pub(super) fn complete_one_of_many(&mut self, cqe: Cqe) -> Option<Due> {
        let key = Key::from_user_data(cqe.user_data);
        let Some(occupied) = self.slots.find(key) else {
            self.counts.strays += 1;
            return None;
        };
        let waker = match &occupied.slot.state {
            SlotState::Waiting(Waiter::Many(many)) => many.collector.collect(cqe),
            SlotState::Orphaned(orphan) => orphan.collect(cqe),
            SlotState::Waiting(_) | SlotState::Done(_) | SlotState::Vacant { .. } => {
                panic!("operation {key:?} got a completion of many, and is one that has one")
            }
        };
        waker.map(Due::Wake)
    }
}
