//! Linux's processes and pipes, as far as they answer at once.

#![allow(unsafe_code)] // Borrowing pipes by their numbers.

use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::processes::Processes;
use crate::uring::Linux;
use crate::uring::sockets::MOST_PARTS;

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
        Ok(rustix::io::writev(borrow(pipe), &buffers[..buffers.len().min(MOST_PARTS)])?)
    }
}
