//! A shard's driver: the kernel, the slots of what is in flight, and the counts of both.
//!
//! The driver never runs foreign code. Wakers and orphaned resources that are due come out of
//! [`Driver::reap`] in a [`Harvest`], and are woken and dropped by the shard after its borrow of
//! the driver ended.

mod slot;
mod submit;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::Waker;

use ringhold_buffers::ArenaId;
use slab::Slab;

use crate::arenas::ArenaTable;
use crate::files::FileTable;
use crate::kernel::{Cqe, Kernel, Wait};
use crate::op::{Entry, Orphan};
use crate::registry::Remote;
use crate::sqe::Sqe;
use slot::{CANCEL, Slot, SlotState, waker_of};
use submit::{push, push_with};

pub(crate) use slot::{Key, Request, Taken};

/// An operation whose future is gone, and its final completion.
pub(crate) type Due = (Box<dyn Orphan>, Cqe);

/// What became due in a reap: to be woken and dropped when the driver is no longer borrowed.
#[derive(Default)]
pub(crate) struct Harvest {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) orphans: Vec<Due>,
}

/// Counts since the shard started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounts {
    /// Operations that the kernel was given.
    pub submitted: u64,
    /// Operations whose final completion came.
    pub completed: u64,
    /// Completions that arrived for operations whose future was gone.
    pub reclaimed: u64,
    /// Times the kernel was entered.
    pub enters: u64,
    /// Operations that had to wait for room.
    pub delayed: u64,
    /// Completions that named no operation. Anything but 0 is a bug.
    pub strays: u64,
}

pub(crate) struct Driver {
    kernel: Box<dyn Kernel>,
    slots: Slab<Slot>,
    generation: u32,
    /// Operations that found no room; they have slots, and the kernel knows nothing of them.
    backlog: VecDeque<(Key, Entry)>,
    /// Cancels that found no room. They go first: what they end makes room.
    cancels: VecDeque<Key>,
    in_kernel: usize,
    limit: usize,
    unbounded: usize,
    /// Something is in the kernel's queue that no enter has handed over yet.
    queued: bool,
    open: bool,
    files: FileTable,
    arenas: ArenaTable,
    batch: Vec<Cqe>,
    counts: DriverCounts,
}

impl Driver {
    pub(crate) fn new(kernel: Box<dyn Kernel>, arenas: ArenaTable, remote: Arc<Remote>) -> Driver {
        let capacity = kernel.capacity();
        Driver {
            slots: Slab::with_capacity(64),
            generation: 0,
            backlog: VecDeque::new(),
            cancels: VecDeque::new(),
            in_kernel: 0,
            limit: capacity.operations as usize,
            unbounded: 0,
            queued: false,
            open: true,
            files: FileTable::new(capacity.files, remote),
            arenas,
            batch: Vec::with_capacity(256),
            counts: DriverCounts::default(),
            kernel,
        }
    }

    /// Whether new operations are taken. After the drain they no longer are.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn close(&mut self) {
        self.open = false;
    }

    pub(crate) fn kernel(&self) -> &dyn Kernel {
        &*self.kernel
    }

    pub(crate) fn kernel_mut(&mut self) -> &mut dyn Kernel {
        &mut *self.kernel
    }

    pub(crate) fn counts(&self) -> DriverCounts {
        self.counts
    }

    /// Operations that the kernel has or that wait for room.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_kernel + self.backlog.len()
    }

    /// Operations that a device will complete by itself.
    pub(crate) fn in_flight_bounded(&self) -> usize {
        self.in_flight() - self.unbounded.min(self.in_flight())
    }

    /// Starts an operation: its slot waits with `waker`, its entry is in the kernel's queue or
    /// waits for room.
    ///
    /// An error means that nothing was started.
    #[inline]
    pub(crate) fn start(&mut self, request: &mut Request<'_>, waker: Waker) -> io::Result<Key> {
        self.prepare(request)?;
        let Request { entry, unbounded, cancellable, .. } = request;
        Ok(self.admit(entry, *unbounded, *cancellable, SlotState::Waiting(waker)))
    }

    /// Starts an operation that nobody waits for. It names no arena and no registered file.
    pub(crate) fn start_orphan(
        &mut self,
        mut entry: Entry,
        orphan: Box<dyn Orphan>,
        cancellable: bool,
    ) {
        self.admit(&mut entry, false, cancellable, SlotState::Orphaned(orphan));
    }

    /// Puts the shard's registered file in the entry's place, and sees that the arena is attached.
    #[inline]
    fn prepare(&mut self, request: &mut Request<'_>) -> io::Result<()> {
        if !self.open {
            return Err(shut_down());
        }
        if let Some(arena) = request.arena
            && !self.arenas.has(arena)
            && let Err(error) = self.arenas.attach(arena, &mut *self.kernel)
        {
            match &mut request.entry {
                Entry::Sqe(sqe) if !request.fixed_only => sqe.make_plain(),
                _ => return Err(error),
            }
        }
        if let (Some(file), Entry::Sqe(sqe)) = (request.file, &mut request.entry) {
            self.files.place(file, sqe, &mut *self.kernel);
        }
        Ok(())
    }

    #[inline]
    fn admit(
        &mut self,
        entry: &mut Entry,
        unbounded: bool,
        cancellable: bool,
        state: SlotState,
    ) -> Key {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let vacant = self.slots.vacant_entry();
        let index =
            u32::try_from(vacant.key()).expect("more than four billion operations in flight");
        // The topmost indices are kept for user data of our own, such as CANCEL.
        assert!(index < u32::MAX - 16, "too many operations in flight");
        let key = Key { index, generation };
        let pushed = self.backlog.is_empty()
            && self.in_kernel < self.limit
            && push(&mut *self.kernel, key, entry);
        vacant.insert(Slot { generation, pushed, unbounded, cancellable, state });
        self.unbounded += usize::from(unbounded);
        if pushed {
            self.queued = true;
            self.in_kernel += 1;
            self.counts.submitted += 1;
        } else {
            self.counts.delayed += 1;
            self.backlog.push_back((key, *entry));
        }
        key
    }

    fn slot(&mut self, key: Key) -> &mut Slot {
        match self.slots.get_mut(key.index as usize) {
            Some(slot) if slot.generation == key.generation => slot,
            _ => panic!("no operation {key:?} is in flight on this shard"),
        }
    }

    /// Takes the completion, and frees the slot, if it is there.
    #[inline]
    pub(crate) fn take(&mut self, key: Key, waker: &Waker) -> Taken {
        match &self.slot(key).state {
            SlotState::Done(cqe) => {
                let cqe = *cqe;
                self.slots.remove(key.index as usize);
                Taken::Done(cqe)
            }
            SlotState::Waiting(known) if known.will_wake(waker) => Taken::Pending,
            SlotState::Waiting(_) => Taken::NewWaker,
            SlotState::Orphaned(_) => panic!("operation {key:?} was polled after it was dropped"),
        }
    }

    /// As [`Driver::take`], for who may come after somebody else has taken it.
    pub(crate) fn try_take(&mut self, key: Key, waker: &Waker) -> Option<Taken> {
        self.contains(key).then(|| self.take(key, waker))
    }

    /// Changes who is woken, or, if the completion is there already, gives the new waker back as if
    /// it had been replaced.
    pub(crate) fn set_waker(&mut self, key: Key, waker: Waker) -> Waker {
        match &mut self.slot(key).state {
            SlotState::Waiting(known) => std::mem::replace(known, waker),
            SlotState::Done(_) => waker,
            SlotState::Orphaned(_) => panic!("operation {key:?} was polled after it was dropped"),
        }
    }

    /// The future is gone. What comes back is due now and was never, or is no longer, the kernel's.
    pub(crate) fn abandon(
        &mut self,
        key: Key,
        orphan: Box<dyn Orphan>,
        cancellable: bool,
    ) -> (Option<Due>, Option<Waker>) {
        let slot = self.slot(key);
        if let SlotState::Done(cqe) = &slot.state {
            let cqe = *cqe;
            self.slots.remove(key.index as usize);
            return (Some((orphan, cqe)), None);
        }
        if !slot.pushed && cancellable {
            // Its backlog entry now names no slot, and is skipped. The kernel never saw it.
            let slot = self.slots.remove(key.index as usize);
            self.unbounded -= usize::from(slot.unbounded);
            let cqe = Cqe { user_data: key.user_data(), result: -libc::ECANCELED, flags: 0 };
            return (Some((orphan, cqe)), waker_of(slot.state));
        }
        let state = std::mem::replace(&mut slot.state, SlotState::Orphaned(orphan));
        if cancellable {
            self.cancels.push_back(key);
            self.flush_queues();
        }
        (None, waker_of(state))
    }

    /// Moves what waits for room into the kernel's queue, as far as there is room.
    #[inline]
    fn flush_queues(&mut self) {
        if !self.cancels.is_empty() || !self.backlog.is_empty() {
            self.flush_waiting();
        }
    }

    #[cold]
    fn flush_waiting(&mut self) {
        while let Some(&target) = self.cancels.front() {
            if !self.contains(target) {
                self.cancels.pop_front();
                continue;
            }
            let cancel = io_uring::opcode::AsyncCancel::new(target.user_data()).build();
            if !push_with(&mut *self.kernel, CANCEL, &mut Sqe::from(cancel)) {
                return;
            }
            // Cancels count as in the kernel but not against the limit: what they end makes room.
            self.queued = true;
            self.in_kernel += 1;
            self.cancels.pop_front();
        }
        while self.in_kernel < self.limit
            && let Some((key, entry)) = self.backlog.front()
        {
            let (key, mut entry) = (*key, *entry);
            if self.contains(key) {
                if !push(&mut *self.kernel, key, &mut entry) {
                    return;
                }
                self.slot(key).pushed = true;
                self.queued = true;
                self.in_kernel += 1;
                self.counts.submitted += 1;
            }
            self.backlog.pop_front();
        }
    }

    fn contains(&self, key: Key) -> bool {
        self.slots.get(key.index as usize).is_some_and(|slot| slot.generation == key.generation)
    }

    /// Whether something was queued since the last enter.
    #[inline]
    pub(crate) fn has_queued(&self) -> bool {
        self.queued || !self.cancels.is_empty() || !self.backlog.is_empty()
    }

    /// Whether an enter that doesn't wait would do anything.
    #[inline]
    pub(crate) fn needs_enter(&self) -> bool {
        self.has_queued() || self.kernel.needs_enter()
    }

    /// Enters the kernel once, or as often as it takes to hand over all that there is room for.
    ///
    /// With completions already there, or operations that still wait for the queue, it doesn't
    /// wait.
    pub(crate) fn enter(&mut self, wait: Wait) {
        loop {
            self.flush_queues();
            self.queued = false;
            let full = !self.cancels.is_empty()
                || (!self.backlog.is_empty() && self.in_kernel < self.limit);
            let wait = if full { Wait::No } else { wait };
            self.counts.enters += 1;
            match self.kernel.enter(wait) {
                Ok(()) if full => continue,
                Ok(()) => return,
                // A signal: the turn goes round again and decides anew how long to wait.
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {
                    self.queued = true;
                    return;
                }
                // The kernel is out of memory for requests, or wants its completions taken first.
                // What it did not take stays queued, and is handed over again after the reap that
                // follows.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                    self.queued = true;
                    std::thread::yield_now();
                    return;
                }
                Err(error) => panic!("io_uring_enter failed, and completions may be lost: {error}"),
            }
        }
    }

    /// Takes the completions that arrived. What is due goes into `harvest`.
    pub(crate) fn reap(&mut self, harvest: &mut Harvest) {
        loop {
            self.kernel.reap(&mut self.batch);
            let full = self.batch.len() == self.batch.capacity();
            for index in 0..self.batch.len() {
                self.complete(self.batch[index], harvest);
            }
            self.batch.clear();
            if !full {
                break;
            }
        }
        self.flush_queues();
    }

    #[inline]
    fn complete(&mut self, cqe: Cqe, harvest: &mut Harvest) {
        self.in_kernel -= 1;
        if cqe.user_data == CANCEL {
            return;
        }
        let key = Key::from_user_data(cqe.user_data);
        let Some(slot) = self.slots.get_mut(key.index as usize) else {
            self.counts.strays += 1;
            return;
        };
        if slot.generation != key.generation {
            self.counts.strays += 1;
            return;
        }
        self.counts.completed += 1;
        self.unbounded -= usize::from(slot.unbounded);
        match std::mem::replace(&mut slot.state, SlotState::Done(cqe)) {
            SlotState::Waiting(waker) => harvest.wakers.push(waker),
            SlotState::Orphaned(orphan) => {
                self.counts.reclaimed += 1;
                self.slots.remove(key.index as usize);
                harvest.orphans.push((orphan, cqe));
            }
            SlotState::Done(_) => panic!("operation {key:?} completed twice"),
        }
    }

    /// Asks the kernel to cancel everything that can be. Operations that wait for room end without
    /// having been started, but for those that must run to their end: a close that never ran would
    /// leave its descriptor open.
    pub(crate) fn cancel_all(&mut self, harvest: &mut Harvest) {
        for (key, entry) in std::mem::take(&mut self.backlog) {
            if self.contains(key) && !self.slot(key).cancellable {
                self.backlog.push_back((key, entry));
            } else if self.contains(key) {
                self.in_kernel += 1;
                let result = -libc::ECANCELED;
                self.complete(Cqe { user_data: key.user_data(), result, flags: 0 }, harvest);
            }
        }
        let pushed: Vec<Key> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.cancellable && !matches!(slot.state, SlotState::Done(_)))
            .map(|(index, slot)| Key { index: index as u32, generation: slot.generation })
            .collect();
        self.cancels.extend(pushed);
    }

    /// What has completed and was not taken, for futures that outlive the shard.
    pub(crate) fn leftovers(&mut self) -> Vec<(Key, Cqe)> {
        let done = self.slots.iter().filter_map(|(index, slot)| match slot.state {
            SlotState::Done(cqe) => {
                Some((Key { index: index as u32, generation: slot.generation }, cqe))
            }
            _ => None,
        });
        done.collect()
    }

    /// The shard's file table no longer holds this file.
    pub(crate) fn detach_file(&mut self, descriptor: i32, serial: u64) {
        self.files.detach(descriptor, serial, &mut *self.kernel);
    }

    /// The shard's buffer table no longer holds this arena.
    pub(crate) fn detach_arena(&mut self, arena: ArenaId) {
        self.arenas.detach(arena, &mut *self.kernel);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A driver is dropped when it is drained, and leaked when it can't be. Anything else would
        // free what the kernel may still write to, so it ends the process (law 7 of the design: see
        // docs/ARCHITECTURE.md).
        if self.in_flight() > 0 {
            eprintln!(
                "ringhold: a driver was dropped with {} operations in flight",
                self.in_flight()
            );
            std::process::abort();
        }
    }
}

pub(crate) fn shut_down() -> io::Error {
    io::Error::other("the runtime has shut down, and its shards take no operations")
}
