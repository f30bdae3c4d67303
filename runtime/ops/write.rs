//! `IORING_OP_WRITE`, and `IORING_OP_WRITE_FIXED` where the buffer is registered.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};
use ringhold_buffers::IoBuf;
use ringhold_kernel::ArenaId;

use crate::failed::Failed;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::alignment::{Alignment, check_aligned, explain_append};
use crate::ops::fixed::check_filled;

/// Writes a buffer's initialised bytes at an offset.
///
/// With `CANCELLABLE = false` it runs to its end although its future was dropped: for bytes that
/// the caller was told are written.
#[derive(Debug)]
pub struct Write<B, const CANCELLABLE: bool = true> {
    /// The file.
    pub file: Fd,
    /// What direct I/O on it asks for.
    pub alignment: Option<Alignment>,
    /// Whether it goes to the file's end, whatever the offset says.
    pub appends: bool,
    /// The buffer.
    pub buffer: B,
    /// Bytes from the file's start; `u64::MAX` for where the file stands.
    pub offset: u64,
}

// SAFETY: the entry points to the buffer's memory, which `IoBuf` promises to keep in place while
// the buffer moves (S2), and which nothing changes before `finish` since the buffer is in here
// (S1).
unsafe impl<B: IoBuf, const CANCELLABLE: bool> Operation for Write<B, CANCELLABLE> {
    type Output = Result<(usize, B), Failed<B>>;

    const CANCELLABLE: bool = CANCELLABLE;

    #[inline]
    fn check(&self) -> io::Result<()> {
        if self.buffer.arena().is_some() {
            check_filled(self.buffer.bytes_init())?;
        }
        let length = self.buffer.bytes_init();
        let offset = if self.appends { 0 } else { self.offset };
        check_aligned(self.alignment, self.buffer.stable_ptr(), length, offset)
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
        let address = self.buffer.stable_ptr();
        match self.buffer.arena() {
            Some(arena) => opcode::WriteFixed::new(file, address, length, arena.slot)
                .offset(self.offset)
                .build()
                .into(),
            None => opcode::Write::new(file, address, length).offset(self.offset).build().into(),
        }
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        match outcome {
            Ok(count) => Ok((count as usize, self.buffer)),
            Err(error) => {
                let error = explain_append(&self.file, self.alignment, self.appends, error);
                Err(Failed { error, buffer: self.buffer })
            }
        }
    }
}
