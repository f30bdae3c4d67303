//! `IORING_OP_UNLINKAT`: takes a name away.
#![allow(unsafe_code)]

use std::io;

use io_uring::opcode;

use crate::op::{Entry, Operation};
use crate::ops::place::Place;

/// Removes a file's name, or an empty directory.
#[derive(Debug)]
pub struct Unlink {
    /// The name.
    pub place: Place,
    /// Whether it is a directory's.
    pub directory: bool,
}

// SAFETY: the entry points to the path, on the heap (S2) and not touched before `finish` (S1).
unsafe impl Operation for Unlink {
    type Output = io::Result<()>;

    fn entry(&mut self) -> Entry {
        let flags = if self.directory { libc::AT_REMOVEDIR } else { 0 };
        Entry::may_hang(
            opcode::UnlinkAt::new(self.place.begin(), self.place.pointer()).flags(flags).build(),
        )
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
