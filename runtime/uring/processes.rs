//! Linux's processes and pipes, as far as they answer at once.

#![allow(unsafe_code)] // Borrowing pipes by their numbers.

use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use ringhold_kernel::Processes;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Linux;
use crate::sockets::MOST_PARTS;

/// `RWF_NOSIGNAL`, since 6.18: a pipe that has lost its readers is an error and no `SIGPIPE`.
const NO_SIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

/// The kernel has said that it doesn't know how to write without the signal.
static RAISES_SIGNALS: AtomicBool = AtomicBool::new(false);

fn borrow<'a>(pipe: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the caller has a counted owner of the pipe (S10) for as long as the call that it is
    // borrowed for.
    unsafe { BorrowedFd::borrow_raw(pipe) }
}

impl Processes for Linux {
    fn watch(&self, process: u32) -> io::Result<RawFd> {
        let number = i32::try_from(process).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        // It is closed on `exec`, as every one of its kind.
        Ok(pidfd_open(number, PidfdFlags::empty())?.into_raw_fd())
    }

    fn set_waits(&self, pipe: RawFd, waits: bool) -> io::Result<()> {
        let mut flags = fcntl_getfl(borrow(pipe))?;
        flags.set(OFlags::NONBLOCK, !waits);
        Ok(fcntl_setfl(borrow(pipe), flags)?)
    }

    fn read_now(&self, pipe: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(borrow(pipe), buffer)?)
    }

    fn write_now(&self, pipe: RawFd, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let (pipe, buffers) = (borrow(pipe), &buffers[..buffers.len().min(MOST_PARTS)]);
        if !RAISES_SIGNALS.load(Ordering::Relaxed) {
            match rustix::io::pwritev2(pipe, buffers, u64::MAX, NO_SIGNAL) {
                Err(Errno::OPNOTSUPP) => RAISES_SIGNALS.store(true, Ordering::Relaxed),
                outcome => return Ok(outcome?),
            }
        }
        Ok(rustix::io::writev(pipe, buffers)?)
    }
}
