//! `IORING_OP_FADVISE`: says how a range of a file will be used.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};

use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// Advises the page cache about a range of bytes.
#[derive(Debug)]
pub struct Advise {
    /// The file.
    pub file: Fd,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; 0 for all up to the file's end.
    pub length: u32,
    /// `POSIX_FADV_*`.
    pub advice: i32,
}

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for Advise {
    type Output = io::Result<()>;

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn entry(&mut self) -> Entry {
        let file = types::Fd(self.file.descriptor());
        opcode::Fadvise::new(file, self.length.into(), self.advice)
            .offset(self.offset)
            .build()
            .into()
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
