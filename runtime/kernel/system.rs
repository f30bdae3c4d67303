//! Where kernels come from, and what is asked of a machine besides.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use crate::at_once::{AtOnce, NothingAtOnce};
use crate::kernel::{Donor, Kernel};
use crate::open_files::OpenFiles;
use crate::processes::Processes;
use crate::signals::SignalEvents;
use crate::sockets::Sockets;
use crate::start_error::StartError;
use crate::threads;

/// How a kernel is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// Entries of the submission queue; a power of two.
    pub submissions: u32,
    /// Entries of the completion queue; a power of two, at least twice the submissions.
    pub completions: u32,
    /// Slots of the table of registered files.
    pub files: u32,
    /// Whether the completion queue may be made larger than that where memory isn't short. No more
    /// operations go to the kernel by it.
    pub roomy: bool,
    /// How many threads of the ring's own may do what takes a device's time.
    pub bounded_workers: u32,
    /// How many may do what takes as long as a peer likes.
    pub unbounded_workers: u32,
}

impl Default for KernelConfig {
    fn default() -> KernelConfig {
        KernelConfig {
            submissions: 256,
            completions: 512,
            files: 4096,
            roomy: true,
            bounded_workers: 64,
            unbounded_workers: 256,
        }
    }
}

impl KernelConfig {
    /// That of a ring which is never used for I/O.
    pub fn smallest(&self) -> KernelConfig {
        KernelConfig { submissions: 1, completions: 2, ..*self }
    }
}

/// Where kernels come from: Linux, or a simulated machine.
pub trait System: Send + Sync + 'static {
    /// Makes a kernel for the calling thread, the only one that may use it.
    fn boot(&self, config: &KernelConfig) -> Result<Box<dyn Kernel>, StartError>;
    /// Makes the master table of a runtime's pool.
    fn donor(&self) -> io::Result<Box<dyn Donor>>;
    /// Closes a descriptor.
    fn close(&self, descriptor: RawFd);
    /// Whether [`close`](System::close) may wait for a server that may never answer: the server of
    /// a network file system, or of one in user space.
    fn close_waits(&self, descriptor: RawFd) -> bool {
        let _ = descriptor;
        false
    }
    /// The time, for threads that are no shard.
    fn now(&self) -> Instant;
    /// What this process's user may lock, in bytes; `None` without a limit.
    fn locked_memory_limit(&self) -> Option<u64>;
    /// About what this process's user is charged for a ring, in bytes, where rings are charged.
    fn ring_bytes(&self, config: &KernelConfig) -> u64 {
        let _ = config;
        0
    }
    /// How many bytes of a mapped range are in huge pages; 0 where that can't be known, or must not
    /// differ from run to run.
    fn huge_bytes(&self, address: NonNull<u8>, length: usize) -> usize {
        let _ = (address, length);
        0
    }
    /// What a generator of random numbers begins with: asked once for each shard, in their order,
    /// and then for the generator of the runtime's other threads. A simulation gives the same
    /// answers for the same run.
    fn seed(&self) -> u64;
    /// Runs `work`, which may block, beside the shards: on a thread of its own, unless the system
    /// is simulated.
    ///
    /// # Errors
    ///
    /// Where the process may have no more threads.
    fn start_thread(
        &self,
        name: String,
        stack_bytes: Option<usize>,
        work: Box<dyn FnOnce() + Send>,
    ) -> io::Result<()> {
        threads::start(name, stack_bytes, work).map(drop)
    }
    /// Pins the calling thread to one of the cores that it may run on, counted round.
    ///
    /// # Errors
    ///
    /// What the system says. One whose threads have no cores of their own does nothing.
    fn pin_this_thread(&self, index: usize) -> io::Result<()> {
        let _ = index;
        Ok(())
    }
    /// How many descriptors the process may have.
    fn open_files_limit(&self) -> u64;
    /// What answers for its open files at once.
    fn open_files(&self) -> &dyn OpenFiles;
    /// What answers for its sockets at once.
    fn sockets(&self) -> &dyn Sockets;
    /// What answers for its files at once, as far as that goes.
    fn at_once(&self) -> &dyn AtOnce {
        &NothingAtOnce
    }
    /// Listens for a signal, which is one that may be caught. Returns the listener, and a
    /// descriptor that is ready to be read when the signal has come: the caller closes it, after
    /// the listener was dropped.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number that is no signal, `EMFILE`, `ENFILE`.
    fn on_signal(&self, number: i32) -> io::Result<(Box<dyn SignalEvents>, RawFd)>;
    /// What answers for its child processes at once.
    ///
    /// # Errors
    ///
    /// `Unsupported` where there can be none.
    fn processes(&self) -> io::Result<&dyn Processes>;
    /// Whether its descriptors are the process's own, so that other code can use them, and it
    /// theirs.
    fn has_real_descriptors(&self) -> bool {
        true
    }
    /// Whether a thread may wait for what a shard does. Where all the shards turn on one thread, it
    /// would wait for itself.
    fn may_block(&self) -> bool {
        true
    }
}

impl fmt::Debug for dyn System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("System")
    }
}

/// A descriptor that a kernel has made and that nothing has taken over yet. Its system closes it
/// when it is dropped.
pub struct NewDescriptor {
    number: RawFd,
    system: Arc<dyn System>,
}

impl NewDescriptor {
    /// One that `system` has made, and that nothing else closes.
    pub fn new(number: RawFd, system: Arc<dyn System>) -> NewDescriptor {
        NewDescriptor { number, system }
    }

    /// The number and who made it, for whoever closes it from now on.
    pub fn into_parts(mut self) -> (RawFd, Arc<dyn System>) {
        (std::mem::replace(&mut self.number, -1), self.system.clone())
    }
}

impl Drop for NewDescriptor {
    fn drop(&mut self) {
        if self.number >= 0 {
            self.system.close(self.number);
        }
    }
}

impl fmt::Debug for NewDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NewDescriptor").field(&self.number).finish()
    }
}

/// An open file that stays open, under its number, for as long as this is counted.
pub trait HeldFile: Send + Sync + fmt::Debug {
    /// The number.
    fn descriptor(&self) -> RawFd;
    /// Who made it.
    fn system(&self) -> &dyn System;
}
