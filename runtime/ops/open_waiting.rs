//! An open that waits for a peer: of a FIFO whose other end isn't open.
#![allow(unsafe_code)]

use std::io;

use ringhold_kernel::ASYNC;

use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// An [`Open`](crate::ops::Open) or an [`OpenBeneath`](crate::ops::OpenBeneath) that waits as
/// `open(2)` does.
///
/// The ring tries an open as if it must not wait, and takes what that answers: for a FIFO, an
/// error, or an end without another. On a thread of the kernel's it waits, and a cancel finds it
/// there.
#[derive(Debug)]
pub struct OpenWaiting<T>(pub T);

// SAFETY: every method is that of the operation inside, which keeps the contract (S1, S2); the
// entry only says where it is carried out.
unsafe impl<T: Operation<Output = io::Result<Fd>>> Operation for OpenWaiting<T> {
    type Output = T::Output;

    const UNBOUNDED: bool = true;

    fn entry(&mut self) -> Entry {
        match self.0.entry() {
            Entry::Sqe(mut sqe) => {
                sqe.flags |= ASYNC;
                Entry::Sqe(sqe)
            }
            call => call,
        }
    }

    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        self.0.finish(outcome)
    }
}
