//! `IORING_OP_CLOSE`: gives a descriptor's number back.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use io_uring::{opcode, types};

use crate::op::{Entry, Operation};

/// Closes a descriptor that nothing else uses any more.
#[derive(Debug)]
pub struct Close {
    /// The descriptor.
    pub descriptor: RawFd,
}

// SAFETY: the entry points to nothing.
unsafe impl Operation for Close {
    type Output = io::Result<()>;

    // A close that is cancelled leaves the number taken for ever.
    const CANCELLABLE: bool = false;

    fn entry(&mut self) -> Entry {
        opcode::Close::new(types::Fd(self.descriptor)).build().into()
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
