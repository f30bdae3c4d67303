//! A shard's driver: the kernel, the slots of what is in flight, and the counts of both.
//!
//! The driver never runs foreign code. Tasks of the shard it queues itself; other wakers, and
//! orphaned resources, that are due come out of [`Driver::next_due`] one by one, and are woken and
//! dropped by the shard after its borrow of the driver ended.

mod backlog;
mod cancels;
mod counts;
mod due;
mod groups;
mod held;
mod lag;
mod request;
mod settling;
mod slots;
mod submit;
mod waiter;

use std::io;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use ringhold_buffers::foreign;

use crate::arenas::{ArenaTable, Arenas};
use crate::files::FileTable;
use crate::op::{Custody, Entry};
use crate::registry::Remote;
use crate::task::ReadyQueue;
use backlog::Backlog;
use cancels::Cancels;
use groups::GroupNumbers;
use held::Held;
use lag::Lag;
use ringhold_kernel::{ArenaId, Cqe, Kernel, Wait};
use slots::{Cancel, SlotState, Slots, polled_after_drop};
use submit::push;

pub use counts::DriverCounts;
pub(crate) use due::{Due, Reclaimed};
pub(crate) use request::{Request, Taken, shut_down};
pub(crate) use slots::{Key, Nature};
pub(crate) use waiter::Waiter;

pub(crate) struct Driver {
    kernel: Box<dyn Kernel>,
    slots: Slots,
    backlog: Backlog,
    cancels: Cancels,
    /// Operations and cancels that the kernel has.
    in_kernel: usize,
    /// Those of them that may wait for something other than a device.
    unbounded: usize,
    /// Those of these that were given up, and whose cancel has not ended them yet.
    given_up: usize,
    /// How many of the others there may be.
    limit: usize,
    /// Something is in the kernel's queue that no enter has handed over yet.
    queued: bool,
    open: bool,
    /// The shard ends: nothing is started any more but what lets go of something, a close.
    refusing: bool,
    files: FileTable,
    arenas: ArenaTable,
    groups: GroupNumbers,
    /// Completions that were taken from the kernel, and how many of them have been looked at.
    batch: Vec<Cqe>,
    seen: usize,
    /// How many of them a settled file has left for the turn.
    looked_at: usize,
    lag: Lag,
    counts: DriverCounts,
}

impl Driver {
    pub(crate) fn new(kernel: Box<dyn Kernel>, arenas: ArenaTable, remote: Arc<Remote>) -> Driver {
        let capacity = kernel.capacity();
        Driver {
            slots: Slots::new(),
            backlog: Backlog::default(),
            cancels: Cancels::default(),
            in_kernel: 0,
            unbounded: 0,
            given_up: 0,
            limit: capacity.operations as usize,
            queued: false,
            open: true,
            refusing: false,
            files: FileTable::new(capacity.files, remote),
            arenas,
            groups: GroupNumbers::default(),
            batch: Vec::with_capacity(256),
            seen: 0,
            looked_at: 0,
            lag: Lag::default(),
            counts: DriverCounts::default(),
            kernel,
        }
    }

    /// Whether new operations are taken. After the drain they no longer are.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether an operation would be started that doesn't let go of something.
    pub(crate) fn takes_operations(&self) -> bool {
        self.open && !self.refusing
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
        DriverCounts { overflows: self.kernel.overflows(), ..self.counts }
    }

    /// Operations that the kernel has or that wait for room.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_kernel - self.cancels.measured() + self.backlog.len()
    }

    /// As [`Driver::in_flight`], without cancels.
    pub(crate) fn operations(&self) -> usize {
        (self.counts.submitted - self.counts.completed) as usize + self.backlog.len()
    }

    /// Operations that a device will complete by itself, and cancels.
    pub(crate) fn in_flight_bounded(&self) -> usize {
        self.in_kernel - self.cancels.measured() - self.unbounded + self.backlog.bounded_len()
    }

    /// Starts an operation that was [prepared](Driver::prepare): its slot waits for `waiter`, its
    /// entry is in the kernel's queue or waits for room.
    #[inline(always)]
    pub(crate) fn start(&mut self, entry: &mut Entry, request: Request<'_>, waiter: Waiter) -> Key {
        let state = match request.collector {
            None => SlotState::Waiting(waiter),
            Some(collector) => SlotState::Held(Held::gathering(waiter, collector)),
        };
        self.admit(entry, request.nature, state)
    }

    /// Starts an operation without a waiter. It names no arena and no registered file.
    pub(crate) fn start_orphan(&mut self, mut entry: Entry, orphan: Custody, cancellable: bool) {
        let nature = Nature { unbounded: false, cancellable };
        self.admit(&mut entry, nature, SlotState::Held(Held::orphan(orphan)));
    }

    /// Puts the shard's registered file in the entry's place, and sees that the arena is attached.
    ///
    /// An error means that nothing may be started. Who waits is not handed over before that is
    /// known: to drop it here would run foreign code under the driver's borrow.
    #[inline(always)]
    pub(crate) fn prepare(&mut self, entry: &mut Entry, request: Request<'_>) -> io::Result<()> {
        if self.refusing {
            return Err(shut_down());
        }
        if let Some(arena) = request.arena
            && !self.arenas.has(arena)
        {
            self.attach_arena(arena, entry, request.fixed_only)?;
        }
        if let (Some(file), Entry::Sqe(sqe)) = (request.file, entry) {
            self.files.place(file, sqe, &mut *self.kernel);
        }
        Ok(())
    }

    #[cold]
    fn attach_arena(
        &mut self,
        arena: ArenaId,
        entry: &mut Entry,
        fixed_only: bool,
    ) -> io::Result<()> {
        match (self.arenas.attach(arena, &mut *self.kernel), entry) {
            (Ok(()), _) => Ok(()),
            (Err(_), Entry::Sqe(sqe)) if !fixed_only => {
                sqe.make_plain();
                Ok(())
            }
            (Err(error), _) => Err(error),
        }
    }

    #[inline(always)]
    fn admit(&mut self, entry: &mut Entry, nature: Nature, state: SlotState) -> Key {
        let may_be_pushed = self.may_be_pushed(nature);
        let vacant = self.slots.vacant();
        let key = vacant.key();
        let slot = vacant.fill(nature, state);
        if may_be_pushed && push(&mut *self.kernel, key, entry) {
            slot.note_pushed(self.counts.submitted);
            self.note_pushed(nature);
        } else {
            self.delay(key, nature, entry);
        }
        key
    }

    #[inline]
    fn note_pushed(&mut self, nature: Nature) {
        self.queued = true;
        self.in_kernel += 1;
        self.unbounded += usize::from(nature.unbounded);
        self.counts.submitted += 1;
    }

    /// Takes the completion, and frees the slot, if it is there.
    #[inline(always)]
    pub(crate) fn take(&mut self, key: Key, waker: &Waker) -> Taken {
        let occupied = self.slots.get(key);
        if let SlotState::Done(result) = occupied.slot.state {
            // A result needs no drop; to forget it spares looking for something that does.
            mem::forget(occupied.free());
            return Taken::Done(key.completion(result));
        }
        match &mut occupied.slot.state {
            SlotState::Waiting(known) if known.will_be_woken_by(waker) => Taken::Pending,
            SlotState::Waiting(_) => Taken::NewWaiter,
            SlotState::Held(held) => held.take(key, waker),
            _ => polled_after_drop(key),
        }
    }

    /// As [`Driver::take`], for a caller that may come after another has taken it.
    pub(crate) fn try_take(&mut self, key: Key, waker: &Waker) -> Option<Taken> {
        self.slots.find(key).is_some().then(|| self.take(key, waker))
    }

    /// Changes who is woken, or, if the completion is there already, gives the new waiter back as
    /// if it had been replaced.
    pub(crate) fn set_waiter(&mut self, key: Key, waiter: Waiter) -> Option<Waiter> {
        match &mut self.slots.get(key).slot.state {
            SlotState::Waiting(known) => Some(mem::replace(known, waiter)),
            SlotState::Held(held) => held.set_waiter(key, waiter),
            SlotState::Done(_) => Some(waiter),
            SlotState::Vacant { .. } => polled_after_drop(key),
        }
    }

    /// The future is gone. What comes back is due now and was never, or is no longer, the kernel's.
    pub(crate) fn abandon(
        &mut self,
        key: Key,
        orphan: Custody,
        cancellable: bool,
    ) -> (Option<Reclaimed>, Option<Waiter>) {
        let occupied = self.slots.get(key);
        if let SlotState::Done(result) = occupied.slot.state {
            occupied.free();
            return (Some((orphan, key.completion(result))), None);
        }
        if !occupied.slot.pushed && cancellable {
            // Its backlog entry now names no slot, and is skipped. The kernel never saw it.
            let state = occupied.free();
            self.note_given_up();
            let cqe = key.completion(-libc::ECANCELED);
            return (Some((orphan, cqe)), state.into_waiter(key));
        }
        let orphaned = SlotState::Held(Held::orphan(orphan));
        let state = mem::replace(&mut occupied.slot.state, orphaned);
        if cancellable {
            self.cancel(key);
            let slot = self.slots.get(key).slot;
            self.given_up += usize::from(slot.is_given_up());
        }
        (None, state.into_waiter(key))
    }

    /// Whether something was queued since the last enter, or has completed and wasn't looked at.
    /// What waits for room doesn't count: while there is none, only a completion can bring it on.
    #[inline]
    pub(crate) fn has_queued(&self) -> bool {
        self.queued || !self.batch.is_empty()
    }

    /// Enters the kernel, and hands over what is queued and what there is room for of all that
    /// waits. With something left that another enter could hand over, or completions that wait to
    /// be looked at, it doesn't wait.
    #[inline]
    pub(crate) fn enter(&mut self, wait: Wait) {
        let wait = if self.batch.is_empty() { wait } else { Wait::No };
        self.lag = Lag::default();
        if self.has_waiting() {
            self.enter_with_all(wait);
        } else {
            self.enter_once(wait);
        }
    }

    /// Says whether the kernel took what is queued.
    #[inline]
    fn enter_once(&mut self, wait: Wait) -> bool {
        self.queued = false;
        self.counts.enters += 1;
        match self.kernel.enter(wait) {
            Ok(()) => true,
            Err(error) => {
                self.note_not_entered(&error);
                false
            }
        }
    }

    #[cold]
    fn note_not_entered(&mut self, error: &io::Error) {
        self.queued = true;
        match error.raw_os_error() {
            // A signal: the turn goes round again and decides anew how long to wait.
            Some(libc::EINTR) => {}
            // The kernel is out of memory for requests, or wants its completions taken first. What
            // it did not take stays queued, and is handed over again after the reap that follows.
            Some(libc::EAGAIN | libc::EBUSY) => std::thread::yield_now(),
            _ => panic!("io_uring_enter failed, and completions may be lost: {error}"),
        }
    }

    /// Takes the completions that arrived, and says whether there may be more: than there was room
    /// for, or than the kernel let arrive by one enter.
    #[inline]
    pub(crate) fn fetch(&mut self) -> bool {
        self.kernel.reap(&mut self.batch);
        let is_full = self.batch.len() >= self.batch.capacity();
        is_full || (self.lag.may_be(self.batch.len()) && self.catch_up())
    }

    /// Looks at the completions that were fetched, and queues the tasks that wait for them, up to
    /// the first that leaves something to be done; `None` when all were looked at.
    #[inline(always)]
    pub(crate) fn next_due(&mut self, ready: &ReadyQueue) -> Option<Due> {
        let mut seen = self.seen;
        while let Some(&cqe) = self.batch.get(seen) {
            seen += 1;
            let due = self.complete(cqe, ready);
            if due.is_some() {
                self.seen = seen;
                return due;
            }
        }
        self.batch.clear();
        (self.seen, self.looked_at) = (0, 0);
        // What completed has made room.
        self.flush_queues();
        None
    }

    #[inline(always)]
    fn complete(&mut self, cqe: Cqe, ready: &ReadyQueue) -> Option<Due> {
        if cqe.is_one_of_many() {
            let due = self.complete_one_of_many(cqe, ready);
            if cqe.has_more() {
                return due;
            }
            assert!(due.is_none(), "a last completion was collected as if others followed");
        }
        self.in_kernel -= 1;
        let key = Key::from_user_data(cqe.user_data);
        let Some(occupied) = self.slots.find(key) else {
            self.complete_errand(cqe);
            return None;
        };
        self.counts.completed += 1;
        self.unbounded -= usize::from(occupied.slot.nature.unbounded);
        match occupied.slot.state.finish(key, cqe.result) {
            Some(Waiter::Task(task)) => task.wake_here(ready).map(Due::Forget),
            Some(Waiter::Other(waker)) => Some(Due::Wake(waker)),
            None => self.end_held(key, cqe.result, ready),
        }
    }

    /// Asks the kernel to cancel everything that can be. Operations that wait for room end without
    /// having been started, but for those that must run to their end: a close that never ran would
    /// leave its descriptor open. What that leaves to be done comes out of [`Driver::next_due`].
    pub(crate) fn cancel_all(&mut self) {
        // What started after this would not be cancelled, and could hold the drain up for ever.
        self.refusing = true;
        for (key, entry) in self.backlog.take() {
            let Some(occupied) = self.slots.find(key) else { continue };
            let nature = occupied.slot.nature;
            if nature.cancellable {
                // As if the kernel had had it, and had answered.
                occupied.slot.cancel = Cancel::Sent;
                occupied.slot.note_pushed(self.counts.submitted);
                self.note_pushed(nature);
                self.batch.push(key.completion(-libc::ECANCELED));
            } else {
                self.put_off(key, nature, entry);
            }
        }
        self.cancel_slots();
    }

    /// What has completed and was not taken, for futures that outlive the shard.
    pub(crate) fn leftovers(&mut self) -> Vec<(Key, Cqe)> {
        let done = self.slots.iter().filter_map(|(key, slot)| match slot.state {
            SlotState::Done(result) => Some((key, key.completion(result))),
            _ => None,
        });
        done.collect()
    }

    /// The shard's file table no longer holds this file.
    pub(crate) fn detach_file(&mut self, descriptor: i32, serial: u64) {
        self.files.detach(descriptor, serial, &mut *self.kernel);
    }

    /// Whether its shard is one of those that use this pool.
    pub(crate) fn belongs_to(&self, arenas: &Arenas) -> bool {
        self.arenas.is_of(arenas)
    }

    /// Has an arena attached before anything uses it.
    pub(crate) fn attach_new_arena(&mut self, arena: ArenaId) -> io::Result<()> {
        self.arenas.attach(arena, &mut *self.kernel)
    }

    /// The shard's buffer table no longer holds this arena.
    pub(crate) fn detach_arena(&mut self, arena: ArenaId) -> io::Result<()> {
        self.arenas.detach(arena, &mut *self.kernel)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A driver is dropped when it is drained, and leaked when it can't be. Anything else would
        // free what the kernel may still write to, so it ends the process (law 7 of the design: see
        // docs/ARCHITECTURE.md).
        if self.in_flight() > 0 {
            let in_flight = self.in_flight();
            foreign::report(format_args!(
                "a driver was dropped with {in_flight} operations in flight"
            ));
            std::process::abort();
        }
    }
}
