//! Cold calls on their way.

#![allow(unsafe_code)] // A call's memory is lent to the kernel by its address.

use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;

use ringhold_kernel::{Call, CallPointer};

use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// A call on its way: an [`Operation`] whose answer is the filled-in [`Call`] and the call's
/// result.
#[derive(Debug)]
pub struct ColdCall {
    // A raw pointer and not a `Box`: the kernel writes through it while the operation may move
    // (S2), and a `Box` would claim to be the only way to that memory.
    call: NonNull<Call>,
    file: Option<Fd>,
}

// SAFETY: the pointer is the only one to memory that this value owns, but for the kernel's share
// (S1), and `Call` is `Send`.
unsafe impl Send for ColdCall {}

impl ColdCall {
    /// A call that needs nothing kept open.
    pub fn new(call: Call) -> ColdCall {
        ColdCall { call: NonNull::from(Box::leak(Box::new(call))), file: None }
    }

    /// A call on `file`, which stays open until the call is done.
    pub fn on(file: &Fd, call: impl FnOnce(RawFd) -> Call) -> ColdCall {
        let mut cold = ColdCall::new(call(file.descriptor()));
        cold.file = Some(file.clone());
        cold
    }
}

// SAFETY: the call lives on the heap at an address that outlasts any move of this value (S2), and
// is freed only by this value's drop, which the driver runs after the final completion (S1).
unsafe impl Operation for ColdCall {
    type Output = io::Result<(u32, Call)>;

    // A system call on another thread can't be taken back; the result of a dropped one is released
    // when it is there.
    const CANCELLABLE: bool = false;

    fn entry(&mut self) -> Entry {
        Entry::Call(CallPointer(self.call))
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<(u32, Call)> {
        let cold = std::mem::ManuallyDrop::new(self);
        // SAFETY: the pointer came from `Box::leak` in `new`, the kernel's share ended with the
        // completion (S1), and the `ManuallyDrop` keeps the value's own drop from freeing it a
        // second time.
        let call = unsafe { Box::from_raw(cold.call.as_ptr()) };
        // SAFETY: as above (S1): the field is read once and the value is never dropped.
        drop(unsafe { std::ptr::read(&cold.file) });
        outcome.map(|result| (result, *call))
    }
}

impl Drop for ColdCall {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::leak`; this value was never started, or its final
        // completion was seen (S1), so nothing else reaches the memory.
        drop(unsafe { Box::from_raw(self.call.as_ptr()) });
    }
}
