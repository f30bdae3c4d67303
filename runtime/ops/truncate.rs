//! `IORING_OP_FTRUNCATE` (6.9): sets a file's length.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};

use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// Cuts a file off, or extends it by a hole.
#[derive(Debug)]
pub struct Truncate {
    /// The file.
    pub file: Fd,
    /// The new length in bytes.
    pub length: u64,
}

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for Truncate {
    type Output = io::Result<()>;

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn entry(&mut self) -> Entry {
        opcode::Ftruncate::new(types::Fd(self.file.descriptor()), self.length).build().into()
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
