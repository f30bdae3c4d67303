//! Cancels: how many at once, in which order, and until when.
//!
//! The kernel looks for what is to be cancelled in a few lists, from the newest operation on, so
//! that of many the oldest is the dearest: cancelling 100,000 polls takes 0.05 s from the newest
//! on and 40 s from the oldest on. Those that come together go newest first, and a batch of them
//! follows the other only as long as that takes little time: what the shard has to do besides comes
//! in between, and so does a deadline
//! (docs/decisions/0031-cancels-go-newest-first-and-a-few-at-a-time.md).
//!
//! A cancel that finds nothing (`ENOENT`), or something that it can't stop (`EALREADY`), may have
//! looked at a moment between two places where the operation waits. On Linux 6.1 a read of a pipe
//! goes round as task work, where no cancel sees it, before it waits where one does. So as long as
//! its operation is there, such a cancel is sent again, after a pause that the ring itself measures
//! and that doubles each time: most are soon ended by their device.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use io_uring::{opcode, types};
use ringhold_kernel::{Cqe, Sqe, Wait};

use crate::driver::Driver;
use crate::driver::slots::{Cancel, Key, SlotState};
use crate::driver::submit::push_with;

/// The completion of a pause carries this. It is no key, and no cancel of one.
const PAUSE: u64 = u64::MAX;

/// So many cancels between two enters are sent without a look at how long they take.
const UNMEASURED: u32 = 8;

/// The sizes of a batch, whose time is measured. Each turn begins with the first: how long the one
/// before has taken says nothing of those that come now.
const LEAST: u32 = 1;
pub(super) const FIRST: u32 = 8;
const MOST: u32 = 1024;

/// What a batch may take, and less than which lets the next one be larger.
const LONG: Duration = Duration::from_micros(400);
const SHORT: Duration = Duration::from_micros(100);

/// So many batches take from those that wait before those come that were added meanwhile, so that
/// an old one comes to its turn however many newer ones there are.
const BATCHES_A_GENERATION: u32 = 64;

const fn milliseconds(count: u32) -> types::Timespec {
    types::Timespec::new().nsec(count * 1_000_000)
}

/// How long the pauses are, one after another.
static PAUSES: [types::Timespec; 7] = [
    milliseconds(1),
    milliseconds(2),
    milliseconds(4),
    milliseconds(8),
    milliseconds(16),
    milliseconds(32),
    milliseconds(64),
];

/// By when their operations were pushed.
type ByAge = BTreeSet<(u64, Key)>;

#[derive(Default)]
pub(super) struct Cancels {
    /// They go before all operations: what they end makes room.
    waiting: ByAge,
    /// Those that wait until `waiting` is empty, once it has served long enough.
    later: ByAge,
    /// How many batches were taken from `waiting` since it was empty.
    batches: u32,
    /// Have ended nothing, and are sent again when the pause is over.
    in_vain: Vec<Key>,
    /// A pause is to be asked for.
    wants_pause: bool,
    /// A pause was asked for, and is not over.
    is_pausing: bool,
    /// The kernel measures one.
    is_measured: bool,
    /// How many have passed since the last one after which there was nothing to send again.
    pauses: usize,
}

impl Cancels {
    /// Whether something is to be sent.
    #[inline]
    pub(super) fn are_waiting(&self) -> bool {
        self.wants_pause || !self.waiting.is_empty()
    }

    /// How many entries the kernel has that are neither operations nor their cancels. The ring may
    /// go while it has them: they name no memory but what is never freed.
    #[inline]
    pub(super) fn measured(&self) -> usize {
        usize::from(self.is_measured)
    }

    fn wait(&mut self, pushed: u64, key: Key) {
        let has_served = self.batches >= BATCHES_A_GENERATION && !self.waiting.is_empty();
        let ages = if has_served { &mut self.later } else { &mut self.waiting };
        ages.insert((pushed, key));
    }

    /// The one that goes next: the newest.
    fn pop(&mut self) -> Option<Key> {
        let newest = self.waiting.pop_last();
        if self.waiting.is_empty() {
            self.waiting = mem::take(&mut self.later);
            self.batches = 0;
        }
        newest.map(|(_, key)| key)
    }

    fn put_off(&mut self, key: Key) {
        self.in_vain.push(key);
        if !mem::replace(&mut self.is_pausing, true) {
            self.wants_pause = true;
        }
    }
}

/// How large the batch after this one may be, so that it takes neither long nor much less than it
/// may.
fn fitting(batch: u32, was_full: bool, took: Duration) -> u32 {
    if took > LONG {
        (batch / 2).max(LEAST)
    } else if was_full && took < SHORT {
        (batch * 4).min(MOST)
    } else {
        batch
    }
}

impl Driver {
    /// Has an operation that the kernel has cancelled, now or when its turn comes.
    pub(super) fn cancel(&mut self, key: Key) {
        let slot = self.slots.get(key).slot;
        if slot.cancel != Cancel::No {
            return;
        }
        slot.cancel = Cancel::Sent;
        let pushed = slot.pushed_at(self.counts.submitted);
        let at_once = self.lag.cancels < UNMEASURED && !self.cancels.are_waiting();
        if at_once && self.push_cancel(key) {
            self.lag.cancels += 1;
        } else {
            self.cancels.wait(pushed, key);
            self.queued = true;
        }
    }

    /// As [`Driver::cancel`], for all that can be cancelled and have not been.
    pub(super) fn cancel_slots(&mut self) {
        let submitted = self.counts.submitted;
        let running = self.slots.iter_mut().filter(|(_, slot)| {
            slot.nature.cancellable
                && slot.cancel == Cancel::No
                && !matches!(slot.state, SlotState::Done(_))
        });
        let mut ages: ByAge = running
            .map(|(key, slot)| {
                slot.cancel = Cancel::Sent;
                (slot.pushed_at(submitted), key)
            })
            .collect();
        self.cancels.waiting.append(&mut ages);
        self.queued |= self.cancels.are_waiting();
    }

    /// `false` if the kernel's queue is full.
    fn push_cancel(&mut self, key: Key) -> bool {
        let cancel = opcode::AsyncCancel::new(key.user_data()).build();
        let pushed = push_with(&mut *self.kernel, key.cancel_data(), &mut Sqe::from(cancel));
        if pushed {
            // Counted as in the kernel, but not against the limit.
            self.note_errand();
        }
        pushed
    }

    fn note_errand(&mut self) {
        self.queued = true;
        self.in_kernel += 1;
    }

    /// Sends a batch of what waits. `false` if the kernel took nothing just now.
    #[cold]
    pub(super) fn send_cancels(&mut self) -> bool {
        // What is measured are the cancels alone.
        if self.kernel.needs_enter() && !self.enter_once(Wait::No) {
            return false;
        }
        self.push_pause();
        let begun = self.kernel.now();
        let mut room = self.lag.batch;
        self.cancels.batches += 1;
        while room > 0
            && let Some(key) = self.cancels.pop()
        {
            if !self.slots.is_running(key) {
                continue;
            }
            if !self.push_cancel(key) {
                let pushed = self.slots.get(key).slot.pushed_at(self.counts.submitted);
                self.cancels.waiting.insert((pushed, key));
                break;
            }
            room -= 1;
        }
        let is_taken = self.enter_once(Wait::No);
        let took = self.kernel.now().saturating_duration_since(begun);
        self.lag.batch = fitting(self.lag.batch, room == 0, took);
        self.lag.note_spent(took);
        is_taken
    }

    /// Asks to be told when it is time to send again what was in vain, if anything is.
    fn push_pause(&mut self) {
        if !self.cancels.wants_pause {
            return;
        }
        self.cancels.in_vain.retain(|key| self.slots.is_running(*key));
        if self.cancels.in_vain.is_empty() {
            (self.cancels.wants_pause, self.cancels.is_pausing) = (false, false);
            self.cancels.pauses = 0;
            return;
        }
        let length = &PAUSES[self.cancels.pauses.min(PAUSES.len() - 1)];
        let pause = opcode::Timeout::new(length).build();
        if push_with(&mut *self.kernel, PAUSE, &mut Sqe::from(pause)) {
            (self.cancels.wants_pause, self.cancels.is_measured) = (false, true);
            self.cancels.pauses += 1;
            self.note_errand();
        }
    }

    /// The pause is over. Cancels of what has ended meanwhile are skipped when their turn comes.
    fn resume(&mut self) {
        (self.cancels.is_pausing, self.cancels.is_measured) = (false, false);
        for key in mem::take(&mut self.cancels.in_vain) {
            if let Some(occupied) = self.slots.find(key) {
                self.cancels.wait(occupied.slot.pushed_at(self.counts.submitted), key);
                self.queued = true;
            }
        }
    }

    /// A completion that is no operation's: a cancel's, the end of a pause, or a stray.
    #[cold]
    pub(super) fn complete_errand(&mut self, cqe: Cqe) {
        if cqe.user_data == PAUSE {
            self.resume();
        } else if let Some(key) = Key::from_cancel_data(cqe.user_data) {
            let in_vain = [-libc::ENOENT, -libc::EALREADY].contains(&cqe.result);
            if in_vain && self.slots.is_running(key) {
                let slot = self.slots.get(key).slot;
                self.given_up -= usize::from(slot.is_given_up());
                slot.cancel = Cancel::InVain;
                self.cancels.put_off(key);
                self.queued |= self.cancels.are_waiting();
            }
        } else {
            self.counts.strays += 1;
        }
    }
}
