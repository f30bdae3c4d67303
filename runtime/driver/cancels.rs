//! Cancels, which are sent until the kernel has found what they are for.
//!
//! A cancel that finds nothing (`ENOENT`), or something that it can't stop (`EALREADY`), may have
//! looked at a moment between two places where the operation waits. On Linux 6.1 a read of a pipe
//! goes round as task work, where no cancel sees it, before it waits where one does. So as long as
//! its operation is there, such a cancel is sent again, after a pause that the ring itself measures
//! and that doubles each time: most are soon ended by their device.

use std::collections::VecDeque;
use std::mem;

use io_uring::{opcode, types};

use crate::driver::Driver;
use crate::driver::slots::Key;
use crate::driver::submit::push_with;
use crate::kernel::Cqe;
use crate::sqe::Sqe;

/// The completion of a pause carries this. It is no key, and no cancel of one.
const PAUSE: u64 = u64::MAX;

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

/// What the driver has to ask of the kernel for itself.
#[derive(Clone, Copy)]
enum Errand {
    Cancel(Key),
    /// To be told when the pause is over.
    Pause,
}

#[derive(Default)]
pub(super) struct Cancels {
    /// They go before all operations: what they end makes room.
    errands: VecDeque<Errand>,
    /// Have ended nothing, and are sent again when the pause is over.
    in_vain: Vec<Key>,
    /// A pause was asked for, and is not over.
    is_pausing: bool,
    /// The kernel measures one.
    is_measured: bool,
    /// How many have passed since the last one after which there was nothing to send again.
    pauses: usize,
}

impl Cancels {
    pub(super) fn add(&mut self, key: Key) {
        self.errands.push_back(Errand::Cancel(key));
    }

    /// How many errands wait for room in the kernel's queue.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.errands.len()
    }

    /// How many entries the kernel has that are neither operations nor their cancels. The ring may
    /// go while it has them: they name no memory but what is never freed.
    #[inline]
    pub(super) fn measured(&self) -> usize {
        usize::from(self.is_measured)
    }

    fn put_off(&mut self, key: Key) {
        self.in_vain.push(key);
        if !mem::replace(&mut self.is_pausing, true) {
            self.errands.push_back(Errand::Pause);
        }
    }

    /// The pause is over. Cancels of what has ended meanwhile are skipped when their turn comes.
    fn resume(&mut self) {
        (self.is_pausing, self.is_measured) = (false, false);
        self.errands.extend(self.in_vain.drain(..).map(Errand::Cancel));
    }
}

impl Driver {
    /// Sends what there is room for. `false` if the kernel's queue is full.
    pub(super) fn flush_cancels(&mut self) -> bool {
        while let Some(errand) = self.cancels.errands.front().copied() {
            match errand {
                Errand::Cancel(key) if self.slots.is_running(key) => {
                    let cancel = opcode::AsyncCancel::new(key.user_data()).build();
                    if !push_with(&mut *self.kernel, key.cancel_data(), &mut Sqe::from(cancel)) {
                        return false;
                    }
                    // Counted as in the kernel, but not against the limit.
                    self.note_errand();
                }
                Errand::Cancel(_) => {}
                Errand::Pause if self.is_pause_needed() => {
                    let length = &PAUSES[self.cancels.pauses.min(PAUSES.len() - 1)];
                    let pause = opcode::Timeout::new(length).build();
                    if !push_with(&mut *self.kernel, PAUSE, &mut Sqe::from(pause)) {
                        return false;
                    }
                    self.cancels.is_measured = true;
                    self.cancels.pauses += 1;
                    self.note_errand();
                }
                Errand::Pause => {
                    self.cancels.resume();
                    self.cancels.pauses = 0;
                }
            }
            self.cancels.errands.pop_front();
        }
        true
    }

    fn note_errand(&mut self) {
        self.queued = true;
        self.in_kernel += 1;
    }

    fn is_pause_needed(&mut self) -> bool {
        self.cancels.in_vain.retain(|key| self.slots.is_running(*key));
        !self.cancels.in_vain.is_empty()
    }

    /// A completion that is no operation's: a cancel's, the end of a pause, or a stray.
    #[cold]
    pub(super) fn complete_errand(&mut self, cqe: Cqe) {
        if cqe.user_data == PAUSE {
            self.cancels.resume();
        } else if let Some(key) = Key::from_cancel_data(cqe.user_data) {
            let in_vain = [-libc::ENOENT, -libc::EALREADY].contains(&cqe.result);
            if in_vain && self.slots.is_running(key) {
                self.cancels.put_off(key);
            }
        } else {
            self.counts.strays += 1;
        }
    }
}
