//! The kernel that is Linux, through io_uring.
//!
//! This package is the only place of Ringhold that talks to the operating system.

#![allow(unsafe_code)] // Rings, tables and system calls.

mod at_once;
mod calls;
mod donor;
mod evict;
mod groups;
mod huge;
mod limits;
#[cfg(test)]
mod models;
mod mounts;
mod occupied;
mod open_files;
mod processes;
mod raised;
mod run_call;
mod run_entry;
mod setup;
mod signals;
mod sockets;
mod wake;
mod workers;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CloneBuffersFlags, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, opcode};
use ringhold_kernel::{
    ARENA_SLOTS, ASYNC, ArenaEntry, AtOnce, Call, CallPointer, Capacity, Cqe, Donor, Kernel,
    KernelConfig, MAY_HANG, OpenFiles, Processes, Provided, QueueFull, SignalEvents, Sockets, Sqe,
    StartError, System, Unpark, Wait,
};

use crate::calls::Answers;
use crate::donor::DonorRing;
use crate::groups::GroupRing;
use crate::occupied::Occupied;
use crate::wake::{WAKE, Waking};

/// The system that is Linux.
#[derive(Debug)]
pub struct Linux;

impl System for Linux {
    fn boot(&self, config: &KernelConfig) -> Result<Box<dyn Kernel>, StartError> {
        Ok(Box::new(Uring::new(config)?))
    }

    fn donor(&self) -> io::Result<Box<dyn Donor>> {
        Ok(Box::new(DonorRing::new()?))
    }

    fn close(&self, descriptor: RawFd) {
        // SAFETY: the caller, the last handle of an `Fd`, owns the descriptor (S1).
        // A file system whose server is gone answers with an error, and has closed it all the same.
        unsafe { libc::close(descriptor) };
    }

    fn close_waits(&self, descriptor: RawFd) -> bool {
        // SAFETY: the caller, the last handle of an `Fd`, owns the descriptor (S10).
        mounts::close_waits(unsafe { BorrowedFd::borrow_raw(descriptor) })
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn locked_memory_limit(&self) -> Option<u64> {
        limits::locked_memory_limit()
    }

    fn pin_this_thread(&self, index: usize) -> io::Result<()> {
        limits::pin_this_thread(index)
    }

    fn open_files_limit(&self) -> u64 {
        limits::open_files_limit()
    }

    fn open_files(&self) -> &dyn OpenFiles {
        self
    }

    fn sockets(&self) -> &dyn Sockets {
        self
    }

    fn at_once(&self) -> &dyn AtOnce {
        self
    }

    fn on_signal(&self, number: i32) -> io::Result<(Box<dyn SignalEvents>, RawFd)> {
        signals::listen(number)
    }

    fn processes(&self) -> io::Result<&dyn Processes> {
        Ok(self)
    }

    fn ring_bytes(&self, config: &KernelConfig) -> u64 {
        setup::ring_bytes(config)
    }

    fn huge_bytes(&self, address: NonNull<u8>, length: usize) -> usize {
        huge::bytes(address, length)
    }

    fn seed(&self) -> u64 {
        // Each state has keys of its own, the first of them from the kernel's generator.
        RandomState::new().hash_one(())
    }
}

/// One shard's ring.
struct Uring {
    ring: IoUring,
    /// The ring's index among the thread's registered rings; the descriptor where that isn't
    /// supported.
    enter_with: setup::EnterWith,
    no_iowait: bool,
    capacity: Capacity,
    wake: Arc<Waking>,
    /// Whether a wake-up would arrive.
    wake_armed: bool,
    overflows: u64,
    answers: Arc<Answers>,
    /// How many of them are to come.
    beside: usize,
    occupied: Occupied,
    files: Table,
    buffers: Table,
    /// Dropped after `ring`, which thereby no longer uses their memory.
    groups: BTreeMap<u16, GroupRing>,
    /// Whether bundles can be relied on, once that was asked.
    bundles: OnceCell<bool>,
}

/// `IORING_OP_PIPE`, which came with 6.16.
const OPCODE_OF_6_16: u8 = 62;

/// What may wait for a peer on a thread of the ring's, if it was sent to one.
const OPENS: [u8; 2] = [opcode::OpenAt::CODE, opcode::OpenAt2::CODE];

/// Whether a table of the ring is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Unregistered,
    Registered,
    /// The kernel refused it once, or has none that is of use; it isn't asked again.
    Refused,
}

impl Uring {
    fn new(config: &KernelConfig) -> Result<Uring, StartError> {
        let ring = setup::ring(config)?;
        setup::limit_workers(&ring, config);
        let wake = Waking::of(ring.as_raw_fd()).map_err(|error| setup::explain(error, config))?;
        Ok(Uring::woken_by(wake, ring, config))
    }

    fn woken_by(wake: Waking, ring: IoUring, config: &KernelConfig) -> Uring {
        // Before 6.13 a file that is taken out of the table stays open until every operation is
        // over that has used the table and was begun before, on whatever file
        // (`io_rsrc_node_ref_zero` goes through the nodes in order): the peer of a closed socket
        // would wait for its end. 6.13 is also when messages came, of which is known here.
        let (file_table, most_files) = match wake {
            Waking::Message { .. } => (Table::Unregistered, config.files),
            Waking::Event(_) => (Table::Refused, 0),
        };
        let wake = Arc::new(wake);
        let parameters = ring.params();
        let files = u64::from(most_files).min(limits::open_files_limit());
        let capacity = Capacity {
            submissions: parameters.sq_entries(),
            // One completion is kept for the wake-up.
            operations: config.completions - 1,
            files: u32::try_from(files).unwrap_or(u32::MAX),
        };
        let no_iowait = parameters.is_feature_no_iowait();
        let enter_with = setup::register_ring(&ring);
        let answers = Arc::new(Answers::new(wake.clone()));
        Uring {
            ring,
            enter_with,
            no_iowait,
            capacity,
            wake,
            wake_armed: false,
            overflows: 0,
            answers,
            beside: 0,
            occupied: Occupied::default(),
            files: file_table,
            buffers: Table::Unregistered,
            groups: BTreeMap::new(),
            bundles: OnceCell::new(),
        }
    }

    /// Sees to it that a wake-up arrives, by a read in flight where it takes one. `false` if the
    /// queue has no room for it, even after it was handed over.
    #[cold]
    fn arm_wake(&mut self) -> io::Result<bool> {
        let Some(read) = self.wake.read() else {
            self.wake_armed = true;
            return Ok(true);
        };
        // SAFETY: the read's target is static (S2), and `self.wake` keeps the event open.
        let push = |ring: &mut IoUring| unsafe { ring.submission().push(&read) }.is_ok();
        self.wake_armed = push(&mut self.ring);
        if !self.wake_armed {
            let to_submit = self.ring.submission().len() as u32;
            self.submit(to_submit)?;
            self.wake_armed = push(&mut self.ring);
        }
        Ok(self.wake_armed)
    }

    /// Hands an operation to a thread where its file system asks a server. Where it doesn't, or
    /// that can't be known, and where it is to wait for a FIFO's other end, it goes to the ring;
    /// what only a ring carries out (with a registered buffer) goes to one of the ring's workers.
    ///
    /// # Safety
    ///
    /// As for [`push`](Kernel::push).
    #[cold]
    unsafe fn push_what_may_wait(&mut self, sqe: &Sqe) -> Result<(), QueueFull> {
        // SAFETY: passed on to the caller (S1, S2).
        if sqe.flags & ASYNC == 0 && unsafe { calls::start_entry(sqe, &self.answers) } {
            self.beside += 1;
            return Ok(());
        }
        let mut tried = *sqe;
        let may_hang = tried.flags & MAY_HANG != 0;
        tried.flags &= !MAY_HANG;
        if may_hang && matches!(sqe.opcode, opcode::ReadFixed::CODE | opcode::WriteFixed::CODE) {
            tried.flags |= ASYNC;
        }
        // SAFETY: passed on to the caller (S1, S2).
        unsafe { self.ring.submission().push(tried.as_entry()) }.map_err(|_| QueueFull)?;
        if tried.flags & ASYNC != 0 && OPENS.contains(&tried.opcode) {
            self.occupied.begin(&self.ring, tried.user_data);
        }
        Ok(())
    }

    #[inline(always)]
    fn submit(&self, to_submit: u32) -> io::Result<()> {
        let flags = EnterFlags::GETEVENTS | self.enter_with.flags();
        self.enter_with.enter(to_submit, 0, flags, None)
    }

    #[inline(never)]
    fn submit_and_wait(
        &self,
        to_submit: u32,
        timeout: Option<Duration>,
        idle: bool,
    ) -> io::Result<()> {
        let mut flags = EnterFlags::GETEVENTS | self.enter_with.flags();
        if idle && self.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let Some(timeout) = timeout else {
            return self.enter_with.enter(to_submit, 1, flags, None);
        };
        let timespec = Timespec::from(timeout.min(Duration::from_secs(1 << 30)));
        let arguments = SubmitArgs::new().timespec(&timespec);
        match self.enter_with.enter(to_submit, 1, flags, Some(&arguments)) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            other => other,
        }
    }
}

// SAFETY: io_uring completes each entry exactly once with its user data (S3) and uses the memory
// that an entry points to between its submission and that completion only; a cold call runs once,
// and is answered after the last access to it.
unsafe impl Kernel for Uring {
    #[inline]
    unsafe fn push(&mut self, sqe: &Sqe) -> Result<(), QueueFull> {
        if sqe.flags & (MAY_HANG | ASYNC) != 0 {
            // SAFETY: passed on to the caller (S1, S2).
            return unsafe { self.push_what_may_wait(sqe) };
        }
        // SAFETY: passed on to the caller (S1, S2).
        unsafe { self.ring.submission().push(sqe.as_entry()) }.map_err(|_| QueueFull)
    }

    unsafe fn call(&mut self, user_data: u64, call: NonNull<Call>) {
        self.beside += 1;
        calls::start(CallPointer(call), user_data, &self.answers);
    }

    fn needs_enter(&self) -> bool {
        // SAFETY: this kernel is the only user of its ring, and `&self` keeps `push` away meanwhile
        // (S8).
        let queue = unsafe { self.ring.submission_shared() };
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow() || self.answers.are_there()
    }

    fn has_arrived(&self) -> bool {
        // SAFETY: as in `needs_enter` (S8).
        let queue = unsafe { self.ring.submission_shared() };
        queue.taskrun() || queue.cq_overflow() || self.answers.are_there()
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        // No wait is without a wake-up.
        if !self.wake_armed && !self.arm_wake()? {
            return Ok(());
        }
        let queue = self.ring.submission();
        let (to_submit, overflown) = (queue.len() as u32, queue.cq_overflow());
        drop(queue);
        // The enter below flushes what the kernel kept aside.
        self.overflows += u64::from(overflown);
        match wait {
            Wait::For { timeout, idle } if self.answers.may_sleep() => {
                let waited = self.submit_and_wait(to_submit, timeout, idle);
                self.answers.woke();
                waited
            }
            _ => self.submit(to_submit),
        }
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn reap(&mut self, batch: &mut Vec<Cqe>) {
        let begin = batch.len();
        let room = batch.spare_capacity_mut();
        let mut came = 0;
        let mut completions = self.ring.completion();
        while came < room.len()
            && let Some(cqe) = completions.next()
        {
            if cqe.user_data() == WAKE {
                self.wake_armed = self.wake.arrived();
                continue;
            }
            room[came].write(Cqe {
                user_data: cqe.user_data(),
                result: cqe.result(),
                flags: cqe.flags(),
            });
            came += 1;
        }
        drop(completions);
        // SAFETY: the loop has written the first `came` places behind the batch's end (S9).
        unsafe { batch.set_len(begin + came) };
        self.occupied.end(&self.ring, &batch[begin..]);
        if self.answers.are_there() {
            self.beside -= self.answers.take(batch);
        }
    }

    fn beside(&self) -> usize {
        self.beside
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    #[inline]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        self.wake.clone()
    }

    fn set_file(&mut self, slot: u32, descriptor: Option<RawFd>) -> io::Result<()> {
        if self.files == Table::Unregistered {
            let registered = self.ring.submitter().register_files_sparse(self.capacity.files);
            self.files = if registered.is_ok() { Table::Registered } else { Table::Refused };
        }
        if self.files == Table::Refused {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        let descriptors = [descriptor.unwrap_or(-1)];
        self.ring.submitter().register_files_update(slot, &descriptors).map(drop)
    }

    fn attach_arenas(&mut self, donor: &dyn Donor, arenas: &[ArenaEntry]) -> io::Result<()> {
        if donor.can_be_cloned() {
            self.ring.submitter().register_buffers_clone_offset(
                donor.descriptor(),
                0,
                0,
                0,
                CloneBuffersFlags::DST_REPLACE,
            )?;
            self.buffers = Table::Registered;
            return Ok(());
        }
        if self.buffers == Table::Unregistered {
            self.ring.submitter().register_buffers_sparse(ARENA_SLOTS as u32)?;
            self.buffers = Table::Registered;
        }
        for arena in arenas {
            donor::update_slot(&self.ring, u32::from(arena.id.slot), arena.address, arena.length)?;
        }
        Ok(())
    }

    fn detach_arena(&mut self, slot: u16) -> io::Result<()> {
        donor::update_slot(&self.ring, u32::from(slot), 0, 0)
    }

    fn add_group(&mut self, group: u16, entries: u16) -> io::Result<()> {
        let made = GroupRing::register(&self.ring, group, entries)?;
        self.groups.insert(group, made);
        Ok(())
    }

    /// The feature is 6.10's, but only since 6.16 are all buffers of a bundle full except the last:
    /// before, a short receive could go on in the next buffer, and a buffer keep the shorter length
    /// that an earlier bundle had for it.
    fn picks_bundles(&self) -> bool {
        let supported = || {
            let mut probe = Probe::new();
            let known = self.ring.submitter().register_probe(&mut probe);
            known.is_ok() && probe.is_supported(OPCODE_OF_6_16)
        };
        self.ring.params().is_feature_recvsend_bundle() && *self.bundles.get_or_init(supported)
    }

    unsafe fn provide(&mut self, group: u16, buffer: Provided) {
        let Some(ring) = self.groups.get_mut(&group) else {
            panic!("group {group} was not made, and was provided with {buffer:?}")
        };
        // SAFETY: passed on to the caller (S1, S2).
        unsafe { ring.add(buffer) };
    }

    fn remove_group(&mut self, group: u16) {
        if let Some(made) = self.groups.remove(&group) {
            made.unregister(&self.ring, group);
        }
    }

    fn unregister(&mut self) {
        for (group, made) in std::mem::take(&mut self.groups) {
            made.unregister(&self.ring, group);
        }
        // What fails here is undone by the ring's end; the explicit calls give locked memory back
        // now.
        if self.buffers == Table::Registered {
            let _ = self.ring.submitter().unregister_buffers();
        }
        if self.files == Table::Registered {
            let _ = self.ring.submitter().unregister_files();
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.wake.end();
        self.enter_with.unregister(self.ring.as_raw_fd());
    }
}
