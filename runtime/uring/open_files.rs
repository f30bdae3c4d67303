//! Linux's open files, as far as they answer at once.

#![allow(unsafe_code)] // System calls.

use std::io;
use std::mem;
use std::os::fd::RawFd;

use ringhold_kernel::{Description, OpenFiles};

use crate::Linux;

/// What is asked for, of which a file system answers what it knows.
const ASKED: u32 = libc::STATX_TYPE | libc::STATX_SIZE | libc::STATX_DIOALIGN;

impl OpenFiles for Linux {
    fn describe(&self, file: RawFd) -> io::Result<Description> {
        // SAFETY: it points to nothing, so S1 asks nothing.
        let flags = unsafe { libc::fcntl(file, libc::F_GETFL) };
        if flags < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `statx` is integers only, for which zero is a value (S9).
        let mut stat = unsafe { mem::zeroed::<libc::statx>() };
        // What a server would have to be asked for may be as old as it is.
        let how = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
        // SAFETY: it reads an empty path and writes an answer, for which there is room, during the
        // call (S1).
        let result = unsafe { libc::statx(file, c"".as_ptr(), how, ASKED, &raw mut stat) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let says = stat.stx_mask & libc::STATX_DIOALIGN != 0;
        Ok(Description {
            flags,
            mode: u32::from(stat.stx_mode),
            length: stat.stx_size,
            memory_alignment: if says { stat.stx_dio_mem_align } else { 0 },
            offset_alignment: if says { stat.stx_dio_offset_align } else { 0 },
        })
    }

    fn seek(&self, file: RawFd, offset: i64, whence: i32) -> io::Result<u64> {
        // SAFETY: it points to nothing, so S1 asks nothing.
        let position = unsafe { libc::lseek64(file, offset, whence) };
        u64::try_from(position).map_err(|_| io::Error::last_os_error())
    }
}
