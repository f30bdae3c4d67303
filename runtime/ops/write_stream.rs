//! `IORING_OP_WRITE_FIXED` to a stream, without its signal.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};
use ringhold_buffers::IoBuf;
use ringhold_kernel::ArenaId;

use crate::failed::Failed;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::fixed::check_filled;

/// `RWF_NOSIGNAL`, which libc doesn't name.
const RWF_NOSIGNAL: i32 = 0x100;

/// Writes a registered buffer's initialised bytes to a stream, and raises no `SIGPIPE`.
///
/// Linux knows how since 6.18. Before, it refuses with `EOPNOTSUPP`, and has written nothing.
#[derive(Debug)]
pub struct WriteStream<B> {
    /// The stream.
    pub file: Fd,
    /// The buffer.
    pub buffer: B,
}

// SAFETY: the entry points to the buffer's memory, which `IoBuf` promises to keep in place while
// the buffer moves (S2), and which nothing changes before `finish` since the buffer is in here
// (S1).
unsafe impl<B: IoBuf> Operation for WriteStream<B> {
    type Output = Result<(usize, B), Failed<B>>;

    const UNBOUNDED: bool = true;

    #[inline]
    fn check(&self) -> io::Result<()> {
        check_filled(self.buffer.bytes_init())
    }

    #[inline]
    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    #[inline]
    fn arena(&self) -> Option<ArenaId> {
        self.buffer.arena()
    }

    #[inline]
    fn entry(&mut self) -> Entry {
        let file = types::Fd(self.file.descriptor());
        let length = u32::try_from(self.buffer.bytes_init()).unwrap_or(u32::MAX);
        let slot = self.buffer.arena().map_or(0, |arena| arena.slot);
        opcode::WriteFixed::new(file, self.buffer.stable_ptr(), length, slot)
            .rw_flags(RWF_NOSIGNAL)
            .build()
            .into()
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        match outcome {
            Ok(count) => Ok((count as usize, self.buffer)),
            Err(error) => Err(Failed { error, buffer: self.buffer }),
        }
    }
}
