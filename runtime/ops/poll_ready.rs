//! `IORING_OP_POLL_ADD`: waits until a descriptor is ready for something.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};

use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// Waits until one of the events is there, once. It takes nothing from the descriptor, so a dropped
/// one has lost nothing.
#[derive(Debug)]
pub struct PollReady {
    /// The socket.
    pub file: Fd,
    /// `POLL*`. `POLLERR` and `POLLHUP` are always waited for as well.
    pub events: u32,
}

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for PollReady {
    /// The events that are there.
    type Output = io::Result<u32>;

    const UNBOUNDED: bool = true;

    #[inline]
    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    #[inline]
    fn entry(&mut self) -> Entry {
        opcode::PollAdd::new(types::Fd(self.file.descriptor()), self.events).build().into()
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> io::Result<u32> {
        outcome
    }
}
