//! The part of the seam that is asked of child processes, and of their pipes, without ever waiting.
//!
//! A child is std's, which starts it and takes its status. What may wait goes through the ring.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;

/// What is asked of child processes and their pipes without ever waiting.
pub trait Processes: Send + Sync {
    /// A descriptor that is ready to be read from the end of the child on. The child's status was
    /// not taken yet, so its number is its own.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`; `ESRCH` if there is no such process.
    fn watch(&self, process: u32) -> io::Result<RawFd>;

    /// Says whether reads and writes of a pipe's end wait, for all who have it.
    ///
    /// # Errors
    ///
    /// `EBADF`.
    fn set_waits(&self, pipe: RawFd, waits: bool) -> io::Result<()>;

    /// Takes what has arrived at an end that doesn't wait.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing has; what `read(2)` says.
    fn read_now(&self, pipe: RawFd, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what there is room for to an end that doesn't wait.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room; `EPIPE` if there is no reader; what `writev(2)` says.
    fn write_now(&self, pipe: RawFd, buffers: &[IoSlice<'_>]) -> io::Result<usize>;
}
