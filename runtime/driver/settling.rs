//! The completions of what was abandoned on one file, before their turn comes.

use ringhold_kernel::{Cqe, Wait};

use crate::driver::slots::{Key, SlotState};
use crate::driver::{Driver, Due, Reclaimed};
use crate::fd::Fd;
use crate::task::ReadyQueue;

/// How many more completions are fetched at once. Those that stay make room for nothing.
const ROOM: usize = 64;

impl Driver {
    /// Hands over what is queued, the cancels among it, and takes out of the completions that have
    /// arrived those of operations that were abandoned on `file`. Says whether it may find more if
    /// it is called again.
    pub(crate) fn settle(
        &mut self,
        file: &Fd,
        ready: &ReadyQueue,
        into: &mut Vec<Reclaimed>,
    ) -> bool {
        if !self.queued && !self.has_waiting() && !self.kernel.has_arrived() {
            return false;
        }
        self.enter(Wait::No);
        loop {
            self.batch.reserve(ROOM);
            if !self.fetch() {
                break;
            }
        }
        let fresh = self.looked_at.max(self.seen);
        self.take_abandoned(file, fresh, ready, into);
        if into.is_empty() {
            self.take_abandoned(file, self.seen, ready, into);
        }
        self.looked_at = self.batch.len();
        self.flush_queues();
        true
    }

    /// Also takes what tells of the driver's own errands, of which nobody else is to hear.
    fn take_abandoned(
        &mut self,
        file: &Fd,
        from: usize,
        ready: &ReadyQueue,
        into: &mut Vec<Reclaimed>,
    ) {
        let mut index = from;
        while let Some(&cqe) = self.batch.get(index) {
            if !self.is_errand(cqe) && !self.is_abandoned_on(cqe, file) {
                index += 1;
                continue;
            }
            self.batch.remove(index);
            if let Some(Due::Release(reclaimed)) = self.complete(cqe, ready) {
                into.push(reclaimed);
            }
        }
    }

    fn is_errand(&mut self, cqe: Cqe) -> bool {
        self.slots.find(Key::from_user_data(cqe.user_data)).is_none()
    }

    fn is_abandoned_on(&mut self, cqe: Cqe, file: &Fd) -> bool {
        let Some(occupied) = self.slots.find(Key::from_user_data(cqe.user_data)) else {
            return false;
        };
        match &occupied.slot.state {
            SlotState::Held(held) => held.is_abandoned_on(file),
            _ => false,
        }
    }
}
