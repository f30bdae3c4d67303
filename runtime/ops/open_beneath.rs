//! `IORING_OP_OPENAT2`: opens a file by a path that can't leave a directory.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use io_uring::{opcode, types};
use ringhold_kernel::System;

use crate::context;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::place::Place;

/// Opens a file below its place's directory. A dropped open that succeeds all the same closes what
/// it opened.
#[derive(Debug)]
pub struct OpenBeneath {
    place: Place,
    /// On the heap, where it stays as the operation moves.
    how: Box<types::OpenHow>,
    /// As for [`Open`](crate::ops::Open).
    system: Option<Arc<dyn System>>,
}

impl OpenBeneath {
    /// Opens `place`, whose path is relative and never leads out of its directory, with `O_*`
    /// `flags`, to which `O_CLOEXEC` is added, and with the permission bits `mode` if that creates
    /// it.
    pub fn new(place: Place, flags: i32, mode: u32) -> OpenBeneath {
        // Unlike `openat`, `openat2` refuses permission bits where nothing is created.
        // O_TMPFILE is O_DIRECTORY and a bit of its own.
        let is_unnamed = flags & libc::O_TMPFILE == libc::O_TMPFILE;
        let creates = flags & libc::O_CREAT != 0 || is_unnamed;
        let how = types::OpenHow::new()
            .flags((flags | libc::O_CLOEXEC) as u64)
            .mode(if creates { u64::from(mode) } else { 0 })
            .resolve(libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS);
        OpenBeneath { place, how: Box::new(how), system: None }
    }
}

// SAFETY: the entry points to the path and to `how`, which are on the heap (S2) and are not touched
// before `finish` (S1).
unsafe impl Operation for OpenBeneath {
    type Output = io::Result<Fd>;

    fn entry(&mut self) -> Entry {
        self.system = Some(context::system());
        Entry::may_hang(
            opcode::OpenAt2::new(self.place.begin(), self.place.pointer(), &raw const *self.how)
                .build(),
        )
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<Fd> {
        let descriptor = outcome?;
        let system = self.system.expect("an open that brought a descriptor was started");
        Ok(Fd::new(descriptor as RawFd, system))
    }
}
