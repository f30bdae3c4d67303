//! `IORING_OP_CLOSE`: gives a descriptor's number back.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use io_uring::{opcode, types};
use ringhold_kernel::System;

use crate::op::{Entry, Operation};

/// Closes a descriptor that nothing else uses any more.
///
/// It owns the descriptor: where no shard can run it, dropping it closes the descriptor through the
/// system.
#[derive(Debug)]
pub struct Close {
    descriptor: Option<RawFd>,
    system: Arc<dyn System>,
}

impl Close {
    /// Takes over `descriptor`, which `system` made.
    pub fn new(descriptor: RawFd, system: Arc<dyn System>) -> Close {
        Close { descriptor: Some(descriptor), system }
    }
}

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for Close {
    type Output = io::Result<()>;

    // A close that is cancelled leaves the number taken for ever.
    const CANCELLABLE: bool = false;

    fn entry(&mut self) -> Entry {
        let descriptor = self.descriptor.expect("a close owns its descriptor until it is finished");
        opcode::Close::new(types::Fd(descriptor)).build().into()
    }

    fn finish(mut self, outcome: io::Result<u32>) -> io::Result<()> {
        // An error of the runtime's own, which has no number, means that the kernel never saw the
        // operation: then the drop closes. After any other answer the number is free, also after an
        // error: that is how `close(2)` is.
        let seen = outcome.as_ref().map_or_else(|error| error.raw_os_error().is_some(), |_| true);
        if seen {
            self.descriptor = None;
        }
        outcome.map(drop)
    }
}

impl Drop for Close {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            self.system.close(descriptor);
        }
    }
}
