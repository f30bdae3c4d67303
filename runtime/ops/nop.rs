//! `IORING_OP_NOP`: nothing, by way of the kernel.
#![allow(unsafe_code)]

use std::io;

use io_uring::opcode;

use crate::op::{Entry, Operation};

/// Goes to the kernel and comes back.
#[derive(Debug)]
pub struct Nop;

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for Nop {
    type Output = io::Result<()>;

    fn entry(&mut self) -> Entry {
        opcode::Nop::new().build().into()
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
