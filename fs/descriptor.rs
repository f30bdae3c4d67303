//! Descriptors as std has them: the only place where the numbers of open files leave and enter.
#![allow(unsafe_code)] // std makes descriptors from numbers by unsafe functions only.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use ringhold_runtime::{Call, ColdCall, Fd, Op};

/// Takes a descriptor over.
#[track_caller]
pub(crate) fn adopt(descriptor: OwnedFd) -> Fd {
    let system = ringhold_runtime::system();
    assert!(
        system.has_real_descriptors(),
        "a file of std's is real, and this runtime is simulated: it has no way to that file"
    );
    Fd::new(descriptor.into_raw_fd(), system)
}

/// The descriptor, for as long as the file is borrowed.
#[track_caller]
pub(crate) fn borrow(file: &Fd) -> BorrowedFd<'_> {
    // SAFETY: the number stays this file's own as long as a counted owner holds it (S10), and one
    // is borrowed.
    unsafe { BorrowedFd::borrow_raw(file.real_descriptor()) }
}

/// Gives a descriptor away, if nothing else holds the file.
#[track_caller]
pub(crate) fn release(file: Fd) -> Result<OwnedFd, Fd> {
    file.real_descriptor();
    file.into_descriptor().map(owned)
}

fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the last counted owner has just given the number away unclosed (S10), so nothing else
    // knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Another descriptor of the same open file.
pub(crate) async fn duplicate(file: &Fd) -> io::Result<Fd> {
    let system = ringhold_runtime::system();
    let call = ColdCall::on(file, |file| Call::Duplicate { file, system, copy: None });
    match Op::new(call).await? {
        (_, Call::Duplicate { copy: Some(copy), .. }) => Ok(copy),
        (_, call) => unreachable!("a duplicate was answered by {call:?}"),
    }
}
