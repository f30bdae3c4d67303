//! What a shard asks of its kernel: queues of operations and completions, tables, and wake-ups.

#![allow(unsafe_code)] // Declares an unsafe trait; there is no unsafe block in here.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::call::Call;
use crate::sqe::Sqe;

/// The slots of a kernel's table of registered buffers: those of all pools of a runtime.
pub const ARENA_SLOTS: usize = 256;

/// Names an arena: its slot in the kernel's table, and which of all arenas stands there.
///
/// Two arenas of a process never have the same generation, whatever their pools: a table that holds
/// another generation holds other pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ArenaId {
    /// The index in the table of registered buffers, below [`ARENA_SLOTS`].
    pub slot: u16,
    /// Counts the arenas of the process, from 1.
    pub generation: u32,
}

/// One completion: the answer to exactly one [`Sqe`] or [`Call`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Cqe {
    /// What the submission carried, unchanged.
    pub user_data: u64,
    /// The result, or a negated errno.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

impl Cqe {
    /// The result as Rust has it: a count, or the operating system's error.
    pub fn outcome(self) -> io::Result<u32> {
        if self.result < 0 {
            Err(io::Error::from_raw_os_error(-self.result))
        } else {
            Ok(self.result as u32)
        }
    }

    /// Whether the operation goes on, and completes again.
    pub fn has_more(self) -> bool {
        self.flags & CQE_MORE != 0
    }

    /// Whether it only says that the kernel is done with the operation's memory.
    pub fn is_notification(self) -> bool {
        self.flags & CQE_NOTIFICATION != 0
    }

    /// The buffer that the kernel has picked, of those that it was provided with.
    pub fn buffer(self) -> Option<u16> {
        (self.flags & CQE_BUFFER != 0).then_some((self.flags >> 16) as u16)
    }

    /// Whether the socket had more when something was received from it.
    pub fn leaves_something(self) -> bool {
        self.flags & CQE_SOCKET_NONEMPTY != 0
    }

    /// Whether there is more to it than a result.
    #[inline(always)]
    pub fn is_one_of_many(self) -> bool {
        self.flags & (CQE_BUFFER | CQE_MORE | CQE_NOTIFICATION) != 0
    }
}

/// `IORING_CQE_F_BUFFER`: the number of the buffer that was picked is in the upper half of the
/// flags.
pub const CQE_BUFFER: u32 = 1;
/// `IORING_CQE_F_MORE`.
pub const CQE_MORE: u32 = 1 << 1;
/// `IORING_CQE_F_SOCK_NONEMPTY`.
pub const CQE_SOCKET_NONEMPTY: u32 = 1 << 2;
/// `IORING_CQE_F_NOTIF`.
pub const CQE_NOTIFICATION: u32 = 1 << 3;

/// The submission queue has no room until the next [`Kernel::enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// How long an [`Kernel::enter`] may wait for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Hand over what is queued and return at once.
    No,
    /// Wait until something completes, another thread unparks the shard, or the time is over.
    For {
        /// `None` waits as long as it takes.
        timeout: Option<Duration>,
        /// Nothing of the application is in flight, so the wait must not be accounted as waiting
        /// for I/O.
        idle: bool,
    },
}

/// How much fits into a kernel's queues, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Submissions that can be queued between two enters.
    pub submissions: u32,
    /// Operations that may be in the kernel at once without overflowing the completion queue.
    pub operations: u32,
    /// Slots of the table of registered files; 0 where there is none.
    pub files: u32,
}

/// Wakes a shard that waits in [`Kernel::enter`], from any thread.
pub trait Unpark: Send + Sync {
    /// Makes the current wait, or the next one, return. Calls that come before it returns count as
    /// one.
    fn unpark(&self);

    /// Takes what is under `slot` out of the shard's table of registered files, as
    /// [`set_file`](Kernel::set_file) does, from any thread and although the shard is busy. Says
    /// whether it is out.
    fn evict(&self, slot: u32) -> bool {
        let _ = slot;
        false
    }
}

/// One entry of the master table, as a kernel attaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaEntry {
    /// Which slot, and what stands there.
    pub id: ArenaId,
    /// Where the arena begins.
    pub address: usize,
    /// How long it is, in bytes.
    pub length: usize,
}

/// A buffer that the kernel may pick for what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provided {
    /// Its number within its group, which the completion names.
    pub number: u16,
    /// Where it begins.
    pub address: usize,
    /// How long it is, in bytes.
    pub length: u32,
}

/// The master table of registered buffers: one a runtime, never used for I/O.
pub trait Donor: Send + Sync {
    /// Pins an arena under its slot.
    fn register(&self, arena: &ArenaEntry) -> io::Result<()>;
    /// Clears a slot; operations in flight end in the pages that they began with.
    fn clear(&self, slot: u16) -> io::Result<()>;
    /// The ring that holds the table, for [`Kernel::attach_arenas`].
    fn descriptor(&self) -> RawFd;
    /// Whether other rings can clone the table. Where they can't, each registers every arena
    /// itself.
    fn can_be_cloned(&self) -> bool;
    /// Unpins everything at once, so that locked memory is given back now and not when the ring is
    /// reaped.
    fn close(&self);
}

/// Everything a shard asks of its operating system.
///
/// # Safety
///
/// An implementation delivers, for each entry that [`push`](Kernel::push) or [`call`](Kernel::call)
/// took, exactly one final completion with that entry's `user_data`, and touches the memory that
/// the entry points to only between the push and that completion. It may be dropped early only if
/// it leaks what is still in flight.
pub unsafe trait Kernel {
    /// Queues one operation. Nothing happens before the next [`enter`](Kernel::enter).
    ///
    /// # Errors
    ///
    /// [`QueueFull`] leaves the entry with the caller: the kernel knows nothing of it.
    ///
    /// # Safety
    ///
    /// What the entry points to must stay valid, at its address and untouched, until the entry's
    /// final completion was reaped (invariants S1 and S2).
    unsafe fn push(&mut self, sqe: &Sqe) -> Result<(), QueueFull>;

    /// Starts a cold call, which completes like an operation.
    ///
    /// # Safety
    ///
    /// As for [`push`](Kernel::push): the call belongs to the kernel until its completion was
    /// reaped.
    unsafe fn call(&mut self, user_data: u64, call: NonNull<Call>);

    /// Whether an [`enter`](Kernel::enter) that doesn't wait would do anything.
    fn needs_enter(&self) -> bool;

    /// Whether completions have arrived, or would by an [`enter`](Kernel::enter) that doesn't wait.
    /// It is asked between polls, so it makes no system call.
    fn has_arrived(&self) -> bool {
        self.needs_enter()
    }

    /// Hands over what is queued, lets completions arrive, and waits as asked.
    ///
    /// # Errors
    ///
    /// `EINTR`, `EAGAIN` and `EBUSY` lose nothing: whatever the kernel did not take stays queued.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;

    /// Appends the completions that arrived to `batch`, at most as many as it has spare capacity
    /// for.
    fn reap(&mut self, batch: &mut Vec<Cqe>);

    /// How often the completion queue was found overflown.
    fn overflows(&self) -> u64 {
        0
    }

    /// How many of the operations and calls that it took are done beside the ring, and need no
    /// place in the completion queue.
    fn beside(&self) -> usize {
        0
    }

    /// The sizes of the queues.
    fn capacity(&self) -> Capacity;

    /// The time.
    fn now(&self) -> Instant;

    /// What other threads wake this kernel's shard with.
    fn unparker(&self) -> Arc<dyn Unpark>;

    /// Puts a descriptor under a slot of the file table, or clears the slot with `None`.
    fn set_file(&mut self, slot: u32, descriptor: Option<RawFd>) -> io::Result<()>;

    /// Makes this kernel's buffer table equal to the master table, whose entries are `arenas`.
    fn attach_arenas(&mut self, donor: &dyn Donor, arenas: &[ArenaEntry]) -> io::Result<()>;

    /// Clears one slot of this kernel's buffer table.
    fn detach_arena(&mut self, slot: u16) -> io::Result<()>;

    /// Makes a group of provided buffers with room for `entries` of them, a power of two.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where locked memory is short; `Unsupported` where there are no groups.
    fn add_group(&mut self, group: u16, entries: u16) -> io::Result<()> {
        let _ = (group, entries);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether a receive that asks for it may fill several buffers of a group, in the order in
    /// which they were provided, and tell of all of them by one completion.
    fn picks_bundles(&self) -> bool {
        false
    }

    /// Adds a buffer to a group that was made, and is not full.
    ///
    /// # Safety
    ///
    /// The buffer stays valid, at its address and untouched, until a completion has named it, or no
    /// operation that names the group is without its final completion (invariants S1 and S2).
    unsafe fn provide(&mut self, group: u16, buffer: Provided) {
        panic!("group {group} was not made, and was provided with {buffer:?}")
    }

    /// Unmakes a group that no operation names any more.
    fn remove_group(&mut self, group: u16) {
        panic!("group {group} was not made, and is to be removed")
    }

    /// Unregisters buffers and files. Called once, when nothing is in flight any more.
    fn unregister(&mut self);
}

impl fmt::Debug for dyn Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn Donor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Donor").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn Unpark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unpark")
    }
}
