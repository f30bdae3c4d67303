//! `IORING_OP_SYMLINKAT`: makes a symbolic link.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;

use io_uring::opcode;

use crate::op::{Entry, Operation};
use crate::ops::place::Place;

/// Makes a symbolic link.
#[derive(Debug)]
pub struct Symlink {
    /// What the link says.
    pub target: CString,
    /// The link's own name.
    pub link: Place,
}

// SAFETY: the entry points to both paths, on the heap (S2) and not touched before `finish` (S1).
unsafe impl Operation for Symlink {
    type Output = io::Result<()>;

    fn entry(&mut self) -> Entry {
        Entry::may_hang(
            opcode::SymlinkAt::new(self.link.begin(), self.target.as_ptr(), self.link.pointer())
                .build(),
        )
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
