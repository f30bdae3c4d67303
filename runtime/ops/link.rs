//! `IORING_OP_LINKAT`: gives a file one more name.
#![allow(unsafe_code)]

use std::io;

use io_uring::opcode;

use crate::op::{Entry, Operation};
use crate::ops::place::Place;

/// Makes one more name for a file. A link is not followed: it gets one more name itself.
#[derive(Debug)]
pub struct Link {
    /// A name it has.
    pub from: Place,
    /// The name it gets as well.
    pub to: Place,
}

// SAFETY: the entry points to both paths, on the heap (S2) and not touched before `finish` (S1).
unsafe impl Operation for Link {
    type Output = io::Result<()>;

    fn entry(&mut self) -> Entry {
        let (from, to) = (&self.from, &self.to);
        Entry::may_hang(
            opcode::LinkAt::new(from.begin(), from.pointer(), to.begin(), to.pointer()).build(),
        )
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
