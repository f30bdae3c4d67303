//! `IORING_OP_READ`, and `IORING_OP_READ_FIXED` where the buffer is registered.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};
use ringhold_buffers::IoBufMut;
use ringhold_kernel::ArenaId;

use crate::failed::Failed;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::alignment::{Alignment, check_aligned};

/// Reads at an offset into a buffer, from the buffer's start.
#[derive(Debug)]
pub struct Read<B> {
    /// The file.
    pub file: Fd,
    /// What direct I/O on it asks for.
    pub alignment: Option<Alignment>,
    /// The buffer, filled up to its total length at the most.
    pub buffer: B,
    /// Bytes from the file's start; `u64::MAX` for where the file stands.
    pub offset: u64,
}

// SAFETY: the entry points to the buffer's memory, which `IoBufMut` promises to keep in place while
// the buffer moves (S2), and which nothing touches before `finish` since the buffer is in here
// (S1).
unsafe impl<B: IoBufMut> Operation for Read<B> {
    type Output = Result<(usize, B), Failed<B>>;

    #[inline]
    fn check(&self) -> io::Result<()> {
        check_aligned(
            self.alignment,
            self.buffer.stable_ptr(),
            self.buffer.bytes_total(),
            self.offset,
        )
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
        let length = u32::try_from(self.buffer.bytes_total()).unwrap_or(u32::MAX);
        let address = self.buffer.stable_mut_ptr();
        match self.buffer.arena() {
            Some(arena) => opcode::ReadFixed::new(file, address, length, arena.slot)
                .offset(self.offset)
                .build()
                .into(),
            None => opcode::Read::new(file, address, length).offset(self.offset).build().into(),
        }
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        let Read { mut buffer, .. } = self;
        match outcome {
            Ok(count) => {
                let count = count as usize;
                // SAFETY: the kernel wrote `count` bytes from the buffer's start (S9).
                unsafe { buffer.set_init(count) };
                Ok((count, buffer))
            }
            Err(error) => Err(Failed { error, buffer }),
        }
    }
}
