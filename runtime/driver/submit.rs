//! The two calls into the kernel that lend it memory.
#![allow(unsafe_code)]

use ringhold_kernel::{Kernel, Sqe};

use crate::driver::Key;
use crate::op::Entry;

/// Hands an entry over; `false` leaves it with the caller.
#[inline]
pub(super) fn push(kernel: &mut dyn Kernel, key: Key, entry: &mut Entry) -> bool {
    match entry {
        Entry::Sqe(sqe) => push_with(kernel, key.user_data(), sqe),
        Entry::Call(call) => {
            // SAFETY: the call belongs to an `Operation`, whose contract keeps it in place
            // (S2); the slot for `key` keeps the operation, or its future does, until the
            // completion was reaped (S1).
            unsafe { kernel.call(key.user_data(), call.0) };
            true
        }
    }
}

#[inline]
pub(super) fn push_with(kernel: &mut dyn Kernel, user_data: u64, sqe: &mut Sqe) -> bool {
    sqe.user_data = user_data;
    // SAFETY: what the entry points to belongs to an `Operation`, which keeps its address (S2)
    // and is held by its future or by its slot until the final completion was reaped (S1, S3);
    // a cancel points to nothing, and a pause to a static, which is never written or freed.
    unsafe { kernel.push(sqe) }.is_ok()
}
