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

use ringhold_kernel::Wait;

use crate::driver::Driver;
use crate::driver::slots::{Key, Nature};
use crate::driver::submit::push;
use crate::op::Entry;

/// So many operations that were given up are never too many: as many as tasks are polled before the
/// kernel is entered.
const GIVEN_UP: usize = 256;

type Lane = VecDeque<(Key, Entry)>;

/// Operations that have slots, and that the kernel knows nothing of, in the order of their starts.
/// How many operations may be beside the completion queue before they take places in it after all:
/// what is done by threads and hangs there must not keep out what the ring would answer, nor grow
/// for as long as it hangs.
const BESIDE: usize = 4096;

#[derive(Default)]
pub(super) struct Backlog {
    bounded: Lane,
    unbounded: Lane,
    /// How many of them were given up since they came.
    given_up: usize,
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
        let Backlog { bounded, unbounded, .. } = mem::take(self);
        bounded.into_iter().chain(unbounded)
    }
}

impl Driver {
    /// Whether an operation may go to the kernel's queue now, if that is not full.
    #[inline]
    pub(super) fn may_be_pushed(&mut self, nature: Nature) -> bool {
        self.has_place(nature.unbounded) && self.backlog.lane(nature).is_empty()
    }

    /// Whether there is a place for the completion; or, of one that waits for a peer, whether not
    /// too many of its kind are still to end.
    #[inline]
    fn has_place(&self, unbounded: bool) -> bool {
        match unbounded {
            true => !self.is_overdue(),
            false => self.in_kernel - self.unbounded < self.limit || self.has_place_beside(),
        }
    }

    /// Whether there is a place after all, since some of what the kernel has takes none.
    #[cold]
    fn has_place_beside(&self) -> bool {
        self.in_kernel - self.unbounded < self.limit + self.kernel.beside().min(BESIDE)
    }

    /// Whether more operations were given up than there are others, and their cancels have not
    /// ended them yet. As long as that is so nothing else is begun that waits for a peer: else what
    /// the kernel is late with would grow for as long as it is late.
    #[inline]
    fn is_overdue(&self) -> bool {
        self.given_up > GIVEN_UP && self.given_up > self.unbounded - self.given_up
    }

    /// An operation of the backlog was given up: its entry names no slot any more.
    pub(super) fn note_given_up(&mut self) {
        let Backlog { bounded, unbounded, given_up } = &mut self.backlog;
        *given_up += 1;
        if *given_up > GIVEN_UP && *given_up > (bounded.len() + unbounded.len()) / 2 {
            let is_there = |(key, _): &(Key, Entry)| self.slots.has(*key);
            bounded.retain(is_there);
            unbounded.retain(is_there);
            *given_up = 0;
        }
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

    /// Moves what waits for room into the kernel's queue, as far as there is room. Cancels wait for
    /// the enter.
    #[inline]
    pub(super) fn flush_queues(&mut self) {
        if self.backlog.len() > 0 {
            self.flush_lanes();
        }
    }

    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        self.cancels.are_waiting() || self.backlog.len() > 0
    }

    #[cold]
    fn flush_lanes(&mut self) {
        if self.flush_lane(true) {
            self.flush_lane(false);
        }
    }

    /// `false` if the kernel's queue is full.
    fn flush_lane(&mut self, unbounded: bool) -> bool {
        loop {
            let has_place = self.has_place(unbounded);
            let Backlog { bounded, unbounded: others, .. } = &mut self.backlog;
            let lane = if unbounded { others } else { bounded };
            let Some(&(key, mut entry)) = lane.front().filter(|_| has_place) else { return true };
            if let Some(occupied) = self.slots.find(key) {
                if !push(&mut *self.kernel, key, &mut entry) {
                    return false;
                }
                occupied.slot.note_pushed(self.counts.submitted);
                let nature = occupied.slot.nature;
                lane.pop_front();
                self.note_pushed(nature);
            } else {
                lane.pop_front();
                self.backlog.given_up = self.backlog.given_up.saturating_sub(1);
            }
        }
    }

    /// Whether another enter could hand over something that waits.
    pub(super) fn can_hand_over(&self) -> bool {
        let can_go = |lane: &Lane, unbounded| !lane.is_empty() && self.has_place(unbounded);
        self.cancels.are_waiting()
            || can_go(&self.backlog.unbounded, true)
            || can_go(&self.backlog.bounded, false)
    }

    /// Enters with what there is room for of all that waits. `false` if the kernel didn't take it.
    #[cold]
    pub(super) fn enter_with_all(&mut self, wait: Wait) -> bool {
        if self.cancels.are_waiting() && !self.send_cancels() {
            return false;
        }
        self.flush_queues();
        let is_more = self.can_hand_over();
        let is_taken = self.enter_once(if is_more { Wait::No } else { wait });
        if is_more {
            self.queued = true;
            self.lag.ask_for_lap();
        }
        is_taken
    }
}
