//! Operations whose completions are for more than a waiter: those whose future is gone, and those
//! that complete more than once.

use std::mem;
use std::sync::Arc;
use std::task::Waker;

use crate::collector::Collector;
use crate::driver::slots::{SlotState, polled_after_drop};
use crate::driver::{Driver, Due, Key, Taken, Waiter};
use crate::kernel::Cqe;
use crate::op::Orphan;
use crate::task::ReadyQueue;

/// What the slot of such an operation holds.
pub(super) enum Held {
    /// The future is gone; the resources stay here until the final completion.
    Orphan(Box<dyn Orphan>),
    /// The future waits, and holds the resources; completions before the final one go to the
    /// collector.
    Gathering { last: Waiter, collector: Arc<dyn Collector> },
}

impl Held {
    #[cold]
    pub(super) fn orphan(orphan: Box<dyn Orphan>) -> Box<Held> {
        Box::new(Held::Orphan(orphan))
    }

    #[cold]
    pub(super) fn gathering(last: Waiter, collector: &Arc<dyn Collector>) -> Box<Held> {
        Box::new(Held::Gathering { last, collector: collector.clone() })
    }

    /// What a poll by `waker` finds before the final completion.
    #[cold]
    pub(super) fn take(&self, key: Key, waker: &Waker) -> Taken {
        match self {
            Held::Gathering { last, .. } if last.will_be_woken_by(waker) => Taken::Pending,
            Held::Gathering { .. } => Taken::NewWaiter,
            Held::Orphan(_) => polled_after_drop(key),
        }
    }

    /// Changes who is woken, and gives who was.
    #[cold]
    pub(super) fn set_waiter(&mut self, key: Key, waiter: Waiter) -> Waiter {
        match self {
            Held::Gathering { last, .. } => mem::replace(last, waiter),
            Held::Orphan(_) => polled_after_drop(key),
        }
    }

    /// Who waits. What is gathered is the operation's, too, so nothing of it is dropped here.
    #[cold]
    pub(super) fn into_waiter(self, key: Key) -> Waiter {
        match self {
            Held::Gathering { last, .. } => last,
            Held::Orphan(_) => polled_after_drop(key),
        }
    }

    fn collect(&self, cqe: Cqe) -> Option<Waker> {
        match self {
            Held::Gathering { collector, .. } => collector.collect(cqe),
            Held::Orphan(orphan) => orphan.collect(cqe),
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
        let SlotState::Held(held) = &occupied.slot.state else {
            panic!("operation {key:?} got a completion of many, and is one that has one")
        };
        held.collect(cqe).map(Due::Wake)
    }

    /// The final completion came, and is for more than a waiter.
    #[cold]
    pub(super) fn end_held(&mut self, key: Key, result: i32, ready: &ReadyQueue) -> Option<Due> {
        let occupied = self.slots.get(key);
        let SlotState::Held(held) = mem::replace(&mut occupied.slot.state, SlotState::Done(result))
        else {
            panic!("operation {key:?} completed twice");
        };
        match *held {
            Held::Gathering { last: Waiter::Task(task), .. } => {
                task.wake_here(ready).map(Due::Forget)
            }
            Held::Gathering { last: Waiter::Other(waker), .. } => Some(Due::Wake(waker)),
            Held::Orphan(orphan) => {
                occupied.free();
                self.counts.reclaimed += 1;
                Some(Due::Release((orphan, key.completion(result))))
            }
        }
    }
}
