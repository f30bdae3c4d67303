//! Descriptors as std has them: the only place where the numbers of open files leave and enter.
#![allow(unsafe_code)] // std makes descriptors from numbers by unsafe functions only.

use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::context;
use crate::fd::Fd;

/// Takes a descriptor over.
///
/// # Panics
///
/// If the runtime is simulated.
#[track_caller]
pub fn adopt(descriptor: OwnedFd) -> Fd {
    let system = context::system();
    assert!(
        system.has_real_descriptors(),
        "a file or socket of std's is real, and this runtime is simulated: it has no way to it"
    );
    Fd::new(descriptor.into_raw_fd(), system)
}

/// The descriptor, for as long as the file is borrowed.
///
/// # Panics
///
/// If the file is simulated.
#[track_caller]
pub fn borrow(file: &Fd) -> BorrowedFd<'_> {
    // SAFETY: the number stays this file's own as long as a counted owner holds it (S10), and one
    // is borrowed.
    unsafe { BorrowedFd::borrow_raw(file.real_descriptor()) }
}

/// Hands a descriptor over, if nothing else holds the file.
///
/// # Errors
///
/// Returns `file` where something else holds it.
///
/// # Panics
///
/// If the file is simulated.
#[track_caller]
pub fn release(file: Fd) -> Result<OwnedFd, Fd> {
    file.real_descriptor();
    file.into_descriptor().map(owned)
}

fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the last counted owner has just given the number away unclosed (S10), so nothing else
    // knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
