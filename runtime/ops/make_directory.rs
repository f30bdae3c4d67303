//! `IORING_OP_MKDIRAT`: makes a directory.
#![allow(unsafe_code)]

use std::io;

use io_uring::opcode;

use crate::op::{Entry, Operation};
use crate::ops::place::Place;

/// Makes an empty directory.
#[derive(Debug)]
pub struct MakeDirectory {
    /// Its name.
    pub place: Place,
    /// Its permission bits, before the process's mask.
    pub mode: u32,
}

// SAFETY: the entry points to the path, on the heap (S2) and not touched before `finish` (S1).
unsafe impl Operation for MakeDirectory {
    type Output = io::Result<()>;

    fn entry(&mut self) -> Entry {
        Entry::may_hang(
            opcode::MkDirAt::new(self.place.begin(), self.place.pointer()).mode(self.mode).build(),
        )
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
