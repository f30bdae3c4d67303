//! Operations whose output goes to a keeper if it is not fetched.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::Arc;

use ringhold_kernel::ArenaId;

use crate::collector::Collector;
use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// Where the output of a dropped operation goes. If the operation never ran, the keeper is only
/// dropped.
pub trait Keeper<O>: Send + 'static {
    /// Takes what was not fetched.
    fn keep(self, output: O);
}

/// An operation on a socket, of which nothing may be lost although its future is dropped.
#[derive(Debug)]
pub struct Kept<T, K> {
    /// The operation.
    pub operation: T,
    /// Who gets what is not fetched.
    pub keeper: K,
}

// SAFETY: every method is that of the operation inside, which keeps the contract (S1, S2).
unsafe impl<T: Operation, K: Keeper<T::Output>> Operation for Kept<T, K> {
    type Output = Fetched<T::Output, K>;

    const CANCELLABLE: bool = T::CANCELLABLE;
    // A file's opcode waits for a peer, too, where the file is a socket.
    const UNBOUNDED: bool = true;
    const FIXED_ONLY: bool = T::FIXED_ONLY;

    #[inline]
    fn check(&self) -> io::Result<()> {
        self.operation.check()
    }

    #[inline]
    fn file(&self) -> Option<&Fd> {
        self.operation.file()
    }

    #[inline]
    fn arena(&self) -> Option<ArenaId> {
        self.operation.arena()
    }

    #[inline]
    fn collector(&self) -> Option<&Arc<dyn Collector>> {
        self.operation.collector()
    }

    #[inline]
    fn entry(&mut self) -> Entry {
        self.operation.entry()
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        Fetched(Some((self.operation.finish(outcome), self.keeper)))
    }
}

/// What the operation gave; its keeper gets it if it is dropped.
pub struct Fetched<O, K: Keeper<O>>(Option<(O, K)>);

impl<O, K: Keeper<O>> Fetched<O, K> {
    /// Takes it from the keeper.
    pub fn take(mut self) -> (O, K) {
        self.0.take().expect("it is taken or dropped, and only once")
    }
}

impl<O, K: Keeper<O>> fmt::Debug for Fetched<O, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").finish_non_exhaustive()
    }
}

impl<O, K: Keeper<O>> Drop for Fetched<O, K> {
    fn drop(&mut self) {
        if let Some((output, keeper)) = self.0.take() {
            keeper.keep(output);
        }
    }
}
