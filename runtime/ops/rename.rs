//! `IORING_OP_RENAMEAT`: gives a file another name.
#![allow(unsafe_code)]

use std::io;

use io_uring::opcode;

use crate::op::{Entry, Operation};
use crate::ops::place::Place;

/// Renames a file, over one that has the new name.
#[derive(Debug)]
pub struct Rename {
    /// The name it has.
    pub from: Place,
    /// The name it gets.
    pub to: Place,
}

// SAFETY: the entry points to both paths, on the heap (S2) and not touched before `finish` (S1).
unsafe impl Operation for Rename {
    type Output = io::Result<()>;

    fn entry(&mut self) -> Entry {
        let (from, to) = (&self.from, &self.to);
        Entry::may_hang(
            opcode::RenameAt::new(from.begin(), from.pointer(), to.begin(), to.pointer()).build(),
        )
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
