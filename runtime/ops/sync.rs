//! `IORING_OP_FSYNC`: makes what was written last.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};

use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// Waits until the file's bytes, and its metadata unless that is not asked for, are on the device.
#[derive(Debug)]
pub struct Sync {
    /// The file.
    pub file: Fd,
    /// Leaves out metadata that reading the bytes doesn't need (`fdatasync`).
    pub data_only: bool,
}

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for Sync {
    type Output = io::Result<()>;

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn entry(&mut self) -> Entry {
        let flags = match self.data_only {
            true => types::FsyncFlags::DATASYNC,
            false => types::FsyncFlags::empty(),
        };
        opcode::Fsync::new(types::Fd(self.file.descriptor())).flags(flags).build().into()
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
