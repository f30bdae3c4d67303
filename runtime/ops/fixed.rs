//! `IORING_OP_READ_FIXED` and `IORING_OP_WRITE_FIXED` where nothing else will do.
#![allow(unsafe_code)]

use std::io;

use ringhold_buffers::{ArenaId, FixedBuf, FixedBufMut};

use crate::failed::Failed;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::read::Read;
use crate::ops::write::Write;

/// A [`Read`] that is fixed, or fails.
#[derive(Debug)]
pub struct ReadFixed<B>(pub Read<B>);

/// A [`Write`] that is fixed, or fails.
#[derive(Debug)]
pub struct WriteFixed<B>(pub Write<B>);

/// Fixed means fixed: nothing here becomes a plain read or write by itself.
fn check_registered(arena: Option<ArenaId>) -> io::Result<()> {
    if arena.is_some() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "this lease comes from a pool that is not registered with the kernel, so there is no \
         fixed I/O on it; take the lease from the runtime's pool, or use read_at and write_at",
    ))
}

/// A write of nothing is a mistake: a fresh lease is empty, and who fills it by `copy_from_slice`
/// finds that out here.
pub(crate) fn check_filled(length: usize) -> io::Result<()> {
    if length > 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the lease is empty: fill it before writing it (a fresh lease has a capacity and no \
         bytes, as a Vec has)",
    ))
}

// SAFETY: what the entry points to is the read's, which keeps it in place and untouched (S1, S2).
unsafe impl<B: FixedBufMut> Operation for ReadFixed<B> {
    type Output = Result<(usize, B), Failed<B>>;

    const FIXED_ONLY: bool = true;

    #[inline]
    fn check(&self) -> io::Result<()> {
        check_registered(self.0.arena())?;
        self.0.check()
    }

    #[inline]
    fn file(&self) -> Option<&Fd> {
        self.0.file()
    }

    #[inline]
    fn arena(&self) -> Option<ArenaId> {
        self.0.arena()
    }

    #[inline]
    fn entry(&mut self) -> Entry {
        self.0.entry()
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        self.0.finish(outcome)
    }
}

// SAFETY: what the entry points to is the write's, which keeps it in place and unchanged (S1, S2).
unsafe impl<B: FixedBuf> Operation for WriteFixed<B> {
    type Output = Result<(usize, B), Failed<B>>;

    const FIXED_ONLY: bool = true;

    #[inline]
    fn check(&self) -> io::Result<()> {
        check_registered(self.0.arena())?;
        self.0.check()
    }

    #[inline]
    fn file(&self) -> Option<&Fd> {
        self.0.file()
    }

    #[inline]
    fn arena(&self) -> Option<ArenaId> {
        self.0.arena()
    }

    #[inline]
    fn entry(&mut self) -> Entry {
        self.0.entry()
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        self.0.finish(outcome)
    }
}
