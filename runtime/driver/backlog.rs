//! What waits for room: in the submission queue, or for its completion as well.
//!
//! The completion queue is kept a place for every operation that a device will complete by itself;
//! such ones wait until there is one, and it is never long. An operation that waits for a peer
//! would keep its place for as long as that likes to be silent, and all of them together would
//! leave none to those that could go on. So they have none: they only wait for a free entry to be
//! submitted by. If more of them complete at once than the queue takes, the kernel keeps the rest
//! and hands it over later.

use std::collections::VecDeque;
use std::mem;

use crate::driver::Driver;
use crate::driver::slots::{Key, Nature};
use crate::driver::submit::push;
use crate::kernel::Wait;
use crate::op::Entry;

type Lane = VecDeque<(Key, Entry)>;

/// Operations that have slots, and that the kernel knows nothing of, in the order of their starts.
#[derive(Default)]
pub(super) struct Backlog {
    bounded: Lane,
    unbounded: Lane,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.bounded.len() + self.unbounded.len()
    }

    pub(super) fn bounded_len(&self) -> usize {
        self.bounded.len()
    }

    #[inline]
    fn lane(&mut self, nature: Nature) -> &mut Lane {
        if nature.unbounded { &mut self.unbounded } else { &mut self.bounded }
    }

    /// Takes them all out.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Key, Entry)> + use<> {
        let Backlog { bounded, unbounded } = mem::take(self);
        bounded.into_iter().chain(unbounded)
    }
}

impl Driver {
    /// Whether an operation may go to the kernel's queue now, if that is not full.
    #[inline]
    pub(super) fn may_be_pushed(&mut self, nature: Nature) -> bool {
        self.has_place(nature.unbounded) && self.backlog.lane(nature).is_empty()
    }

    /// Whether there is a place for the completion.
    #[inline]
    fn has_place(&self, unbounded: bool) -> bool {
        unbounded || self.in_kernel - self.unbounded < self.limit
    }

    /// There is no room: the operation waits in the backlog.
    #[cold]
    pub(super) fn delay(&mut self, key: Key, nature: Nature, entry: &Entry) {
        self.counts.delayed += 1;
        self.put_off(key, nature, *entry);
    }

    pub(super) fn put_off(&mut self, key: Key, nature: Nature, entry: Entry) {
        self.backlog.lane(nature).push_back((key, entry));
    }

    /// Moves what waits for room into the kernel's queue, as far as there is room.
    #[inline]
    pub(super) fn flush_queues(&mut self) {
        if self.has_waiting() {
            self.flush_waiting();
        }
    }

    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        self.cancels.len() + self.backlog.len() > 0
    }

    #[cold]
    fn flush_waiting(&mut self) {
        if !self.flush_cancels() {
            return;
        }
        if self.flush_lane(true) {
            self.flush_lane(false);
        }
    }

    /// `false` if the kernel's queue is full.
    fn flush_lane(&mut self, unbounded: bool) -> bool {
        loop {
            let has_place = self.has_place(unbounded);
            let Backlog { bounded, unbounded: others } = &mut self.backlog;
            let lane = if unbounded { others } else { bounded };
            let Some(&(key, mut entry)) = lane.front().filter(|_| has_place) else { return true };
            if let Some(occupied) = self.slots.find(key) {
                if !push(&mut *self.kernel, key, &mut entry) {
                    return false;
                }
                occupied.slot.pushed = true;
                let nature = occupied.slot.nature;
                lane.pop_front();
                self.note_pushed(nature);
            } else {
                lane.pop_front();
            }
        }
    }

    /// Hands over as long as what waits finds the queue full. `false` if the kernel didn't take it
    /// all.
    #[cold]
    pub(super) fn enter_for_room(&mut self) -> bool {
        loop {
            self.flush_waiting();
            let full = self.cancels.len() > 0
                || !self.backlog.unbounded.is_empty()
                || (!self.backlog.bounded.is_empty() && self.has_place(false));
            if !full {
                return true;
            }
            if !self.enter_once(Wait::No) {
                return false;
            }
        }
    }
}
