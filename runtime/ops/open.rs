//! `IORING_OP_OPENAT`: opens a file by its path.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use io_uring::opcode;
use ringhold_kernel::System;

use crate::context;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::place::Place;

/// Opens a file. A dropped open that succeeds all the same closes what it opened.
#[derive(Debug)]
pub struct Open {
    place: Place,
    flags: i32,
    mode: u32,
    /// Whose descriptor it is going to be; known when the operation starts, since a dropped one may
    /// finish where no runtime is entered.
    system: Option<Arc<dyn System>>,
}

impl Open {
    /// Opens `place` with `O_*` `flags`, to which `O_CLOEXEC` is added, and with the permission
    /// bits `mode` if that creates it.
    pub fn new(place: Place, flags: i32, mode: u32) -> Open {
        Open { place, flags, mode, system: None }
    }
}

// SAFETY: the entry points to the path, which is on the heap (S2) and is not touched before
// `finish` (S1).
unsafe impl Operation for Open {
    type Output = io::Result<Fd>;

    fn entry(&mut self) -> Entry {
        self.system = Some(context::system());
        Entry::may_hang(
            opcode::OpenAt::new(self.place.begin(), self.place.pointer())
                .flags(self.flags | libc::O_CLOEXEC)
                .mode(self.mode)
                .build(),
        )
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<Fd> {
        let descriptor = outcome?;
        let system = self.system.expect("an open that brought a descriptor was started");
        Ok(Fd::new(descriptor as RawFd, system))
    }
}
