//! Operations whose completions are for more than a waiter: those whose future is gone, and those
//! that complete more than once.

use std::mem;
use std::sync::Arc;
use std::task::Waker;

use ringhold_kernel::Cqe;

use crate::collector::Collector;
use crate::driver::slots::{SlotState, polled_after_drop};
use crate::driver::{Driver, Due, Key, Taken, Waiter};
use crate::fd::Fd;
use crate::op::Custody;
use crate::task::ReadyQueue;

/// What the slot of such an operation holds.
pub(super) enum Held {
    /// The future is gone; the resources stay here until the final completion.
    Orphan(Custody),
    /// The future waits, and holds the resources; completions before the final one go to the
    /// collector.
    Gathering(Gathering),
}

/// Who waits for an operation that completes more than once.
pub(super) struct Gathering {
    collector: Arc<dyn Collector>,
    /// Who polled last. A task of the shard stays here when it is woken, so that it is recognised
    /// when it polls again; any other waker is given away.
    waiter: Option<Waiter>,
    /// It waits still: it was not woken since it polled.
    waits: bool,
}

impl Held {
    #[cold]
    pub(super) fn orphan(orphan: Custody) -> Box<Held> {
        Box::new(Held::Orphan(orphan))
    }

    #[cold]
    pub(super) fn gathering(waiter: Waiter, collector: &Arc<dyn Collector>) -> Box<Held> {
        let collector = collector.clone();
        Box::new(Held::Gathering(Gathering { collector, waiter: Some(waiter), waits: true }))
    }

    pub(super) fn is_orphan(&self) -> bool {
        matches!(self, Held::Orphan(_))
    }

    /// Whether it is an operation on `file` whose future is gone.
    pub(super) fn is_abandoned_on(&self, file: &Fd) -> bool {
        match self {
            Held::Orphan(orphan) => orphan.is_on(file),
            Held::Gathering(_) => false,
        }
    }

    fn gathered(&mut self, key: Key) -> &mut Gathering {
        match self {
            Held::Gathering(gathering) => gathering,
            Held::Orphan(_) => polled_after_drop(key),
        }
    }

    /// What a poll by `waker` finds before the final completion.
    pub(super) fn take(&mut self, key: Key, waker: &Waker) -> Taken {
        let gathering = self.gathered(key);
        match &gathering.waiter {
            Some(waiter) if waiter.will_be_woken_by(waker) => {
                gathering.waits = true;
                Taken::Pending
            }
            _ => Taken::NewWaiter,
        }
    }

    /// Changes who is woken, and gives who was.
    #[cold]
    pub(super) fn set_waiter(&mut self, key: Key, waiter: Waiter) -> Option<Waiter> {
        let gathering = self.gathered(key);
        gathering.waits = true;
        gathering.waiter.replace(waiter)
    }

    /// Who waits. What is gathered is the operation's, too, so nothing of it is dropped here.
    #[cold]
    pub(super) fn into_waiter(self, key: Key) -> Option<Waiter> {
        match self {
            Held::Gathering(gathering) => gathering.waiter,
            Held::Orphan(_) => polled_after_drop(key),
        }
    }
}

impl Gathering {
    /// Takes in a completion that others follow, and wakes who waits for it.
    fn collect(&mut self, cqe: Cqe, ready: &ReadyQueue) -> Option<Due> {
        if !self.collector.collect(cqe) || !mem::take(&mut self.waits) {
            return None;
        }
        match self.waiter.take() {
            Some(Waiter::Task(task)) => {
                let woken = task.clone().wake_here(ready);
                self.waiter = Some(Waiter::Task(task));
                woken.map(Due::Forget)
            }
            Some(Waiter::Other(waker)) => Some(Due::Wake(waker)),
            None => None,
        }
    }
}

impl Driver {
    /// Whether completions of the operation may be collected before its final one.
    pub(crate) fn collects(&mut self, key: Key) -> bool {
        matches!(self.slots.get(key).slot.state, SlotState::Held(_))
    }

    /// A completion that is not the last one, or says more than a result.
    pub(super) fn complete_one_of_many(&mut self, cqe: Cqe, ready: &ReadyQueue) -> Option<Due> {
        let key = Key::from_user_data(cqe.user_data);
        let Some(occupied) = self.slots.find(key) else {
            self.counts.strays += 1;
            return None;
        };
        let SlotState::Held(held) = &mut occupied.slot.state else {
            panic!("operation {key:?} got a completion of many, and is one that has one")
        };
        match &mut **held {
            Held::Gathering(gathering) if cqe.has_more() => gathering.collect(cqe, ready),
            Held::Gathering(gathering) => {
                gathering.collector.collect(cqe);
                None
            }
            Held::Orphan(orphan) => {
                orphan.collect(cqe);
                None
            }
        }
    }

    /// The final completion came, and is for more than a waiter.
    #[cold]
    pub(super) fn end_held(&mut self, key: Key, result: i32, ready: &ReadyQueue) -> Option<Due> {
        let occupied = self.slots.get(key);
        self.given_up -= usize::from(occupied.slot.is_given_up());
        let SlotState::Held(held) = mem::replace(&mut occupied.slot.state, SlotState::Done(result))
        else {
            panic!("operation {key:?} completed twice");
        };
        match *held {
            Held::Gathering(Gathering { waiter: Some(Waiter::Task(task)), .. }) => {
                task.wake_here(ready).map(Due::Forget)
            }
            Held::Gathering(Gathering { waiter: Some(Waiter::Other(waker)), .. }) => {
                Some(Due::Wake(waker))
            }
            Held::Gathering(Gathering { waiter: None, .. }) => None,
            Held::Orphan(orphan) => {
                occupied.free();
                self.counts.reclaimed += 1;
                Some(Due::Release((orphan, key.completion(result))))
            }
        }
    }
}
