//! Transfers that are fixed, or fail: where nothing but `IORING_OP_READ_FIXED` or
//! `IORING_OP_WRITE_FIXED` will do.
#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;

use ringhold_buffers::IoBuf;
use ringhold_kernel::ArenaId;

use crate::collector::Collector;
use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// A [`Read`](crate::ops::Read) or a [`Write`](crate::ops::Write) of which the registered form is
/// wanted, and no other.
#[derive(Debug)]
pub struct Fixed<T>(pub T);

// SAFETY: every method is that of the operation inside, which keeps the contract (S1, S2).
unsafe impl<T: Operation> Operation for Fixed<T> {
    type Output = T::Output;

    const CANCELLABLE: bool = T::CANCELLABLE;
    const UNBOUNDED: bool = T::UNBOUNDED;
    const FIXED_ONLY: bool = true;

    #[inline]
    fn check(&self) -> io::Result<()> {
        if self.0.arena().is_none() {
            return Err(unregistered());
        }
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
    fn collector(&self) -> Option<&Arc<dyn Collector>> {
        self.0.collector()
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

#[cold]
fn unregistered() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "this lease comes from a pool that is not registered with the kernel, so there is no \
         fixed I/O on it; take the lease from the runtime's pool, or use read_at and write_at",
    )
}

/// Refuses what a fixed write refuses: a buffer that is not registered, or is empty.
///
/// # Errors
///
/// `InvalidInput`, in words.
pub fn check_registered<B: IoBuf>(buffer: &B) -> io::Result<()> {
    if buffer.arena().is_none() {
        return Err(unregistered());
    }
    check_filled(buffer.bytes_init())
}

/// Refuses to write nothing: a lease that was never filled is a mistake, and `Ok(0)` would hide it.
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
