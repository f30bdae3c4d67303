//! `IORING_OP_FALLOCATE`: sets space aside, or gives it back.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};

use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// Changes which bytes of a file have space on the device.
#[derive(Debug)]
pub struct Allocate {
    /// The file.
    pub file: Fd,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
    /// `FALLOC_FL_*`.
    pub mode: i32,
}

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for Allocate {
    type Output = io::Result<()>;

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn entry(&mut self) -> Entry {
        opcode::Fallocate::new(types::Fd(self.file.descriptor()), self.length)
            .offset(self.offset)
            .mode(self.mode)
            .build()
            .into()
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
