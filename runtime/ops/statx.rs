//! `IORING_OP_STATX`: what a file is.
#![allow(unsafe_code)]

use std::io;
use std::mem;

use io_uring::{opcode, types};
use ringhold_kernel::STATX_EVERYTHING;

use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::place::Place;

/// Asks what a file is, and how direct I/O on it must be aligned.
#[derive(Debug)]
pub struct Statx {
    place: Place,
    flags: i32,
    // One element on the heap: the kernel writes it there while this value moves (S2).
    answer: Vec<libc::statx>,
}

impl Statx {
    /// Asks about a path. With `follow`, a link at its end is followed.
    pub fn path(place: Place, follow: bool) -> Statx {
        let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        Statx::new(place, flags)
    }

    /// Asks about an open file.
    pub fn file(file: &Fd) -> Statx {
        Statx::new(Place::within(file, c"".to_owned()), libc::AT_EMPTY_PATH)
    }

    fn new(place: Place, flags: i32) -> Statx {
        // SAFETY: `statx` is integers only, for which zero is a value (S9).
        let answer = unsafe { mem::zeroed::<libc::statx>() };
        Statx { place, flags, answer: vec![answer] }
    }
}

// SAFETY: the entry points to the path and to the answer, both on the heap (S2) and not touched
// before `finish` (S1).
unsafe impl Operation for Statx {
    type Output = io::Result<libc::statx>;

    fn entry(&mut self) -> Entry {
        let answer = self.answer.as_mut_ptr().cast::<types::statx>();
        Entry::may_hang(
            opcode::Statx::new(self.place.begin(), self.place.pointer(), answer)
                .flags(self.flags)
                .mask(STATX_EVERYTHING)
                .build(),
        )
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<libc::statx> {
        outcome.map(|_| self.answer[0])
    }
}
