//! What Linux answers about files without waiting.
//!
//! Only about file systems that are known to answer from memory: to all others even `fstat` may be
//! a question to a server that is gone.

#![allow(unsafe_code)] // System calls without a wrapper.

use std::ffi::CStr;
use std::fs::{File, Metadata};
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use ringhold_kernel::{AtOnce, STATX_EVERYTHING};
use rustix::fs::OFlags;

use crate::Linux;
use crate::mounts::{Manner, manner_of_file, name_in_memory, open_in_memory};

/// With other flags an open does more, or may wait.
const OPENED_AT_ONCE: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_CLOEXEC
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME;

impl AtOnce for Linux {
    fn open(&self, path: &CStr, flags: i32) -> Option<io::Result<RawFd>> {
        if flags & !OPENED_AT_ONCE != 0 {
            return None;
        }
        let kinds = [libc::S_IFREG, libc::S_IFDIR];
        let file = match open_local(path, flags, |stat| kinds.contains(&kind_of(stat)))? {
            Ok(file) => file,
            Err(error) => return Some(Err(error)),
        };
        let kept = OFlags::from_bits_retain(flags as u32);
        rustix::fs::fcntl_setfl(&file, kept).ok()?;
        Some(Ok(file.into_raw_fd()))
    }

    fn read_file(&self, path: &CStr, most: usize) -> Option<io::Result<Vec<u8>>> {
        let mut length = 0;
        let fits = |stat: &libc::statx| {
            length = usize::try_from(stat.stx_size).unwrap_or(usize::MAX);
            length <= most && kind_of(stat) == libc::S_IFREG
        };
        let file = match open_local(path, libc::O_RDONLY, fits)? {
            Ok(file) => file,
            Err(error) => return Some(Err(error)),
        };
        let mut bytes = Vec::new();
        // One byte more, so that the read that finds the end needs no more room.
        bytes.try_reserve_exact(length + 1).ok()?;
        while bytes.len() <= length {
            let offset = bytes.len() as u64;
            if self.read(file.as_raw_fd(), &mut bytes, most, offset)? == 0 {
                return Some(Ok(bytes));
            }
        }
        None
    }

    fn metadata(
        &self,
        directory: RawFd,
        path: &CStr,
        follow: bool,
    ) -> Option<io::Result<Metadata>> {
        Some(local_name(directory, path, follow)?.and_then(|name| File::from(name).metadata()))
    }

    fn metadata_of(&self, file: RawFd) -> Option<io::Result<Metadata>> {
        let file = local_file(file)?;
        // SAFETY: the caller holds the file open (S10), and this value is never dropped.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(file.as_raw_fd()) });
        Some(file.metadata())
    }

    fn statx(&self, path: &CStr, follow: bool) -> Option<io::Result<libc::statx>> {
        Some(
            local_name(libc::AT_FDCWD, path, follow)?
                .and_then(|name| statx_of(name.as_fd(), STATX_EVERYTHING)),
        )
    }

    fn statx_of(&self, file: RawFd) -> Option<io::Result<libc::statx>> {
        Some(statx_of(local_file(file)?, STATX_EVERYTHING))
    }

    fn read(&self, file: RawFd, into: &mut Vec<u8>, most: usize, offset: u64) -> Option<usize> {
        let offset = i64::try_from(offset).ok()?;
        let room = into.spare_capacity_mut();
        let length = room.len().min(most);
        let part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: length };
        // SAFETY: the kernel writes to the vector's room, which is borrowed, during the call (S1).
        // A file system that knows no such read refuses it.
        let count = unsafe { libc::preadv2(file, &raw const part, 1, offset, libc::RWF_NOWAIT) };
        // What is wrong besides is for the operation to say.
        let count = usize::try_from(count).ok()?;
        // SAFETY: the kernel wrote `count` bytes behind the vector's (S9).
        unsafe { into.set_len(into.len() + count) };
        Some(count)
    }

    fn writes_whole(&self) -> bool {
        true
    }

    fn may_hang(&self, file: RawFd) -> bool {
        // What has no position is no file of a file system's, and is waited for by polls.
        manner_of_file(file) == Manner::Remote && rustix::fs::tell(borrow(&file)).is_ok()
    }
}

fn borrow(file: &RawFd) -> BorrowedFd<'_> {
    // SAFETY: the caller holds the file open for the time of its question (S10).
    unsafe { BorrowedFd::borrow_raw(*file) }
}

/// Opens a name that lies on a file system which answers at once.
fn local_name(directory: RawFd, path: &CStr, follow: bool) -> Option<io::Result<OwnedFd>> {
    let name = match name_in_memory(directory, path, follow)? {
        Ok(name) => name,
        Err(error) => return Some(Err(error)),
    };
    (manner_of_file(name.as_raw_fd()) == Manner::Local).then_some(Ok(name))
}

/// Opens a file that lies on a file system which answers at once, if that what it is `suits`: to
/// open what is no file may wait, and do something to it.
fn open_local(
    path: &CStr,
    flags: i32,
    suits: impl FnOnce(&libc::statx) -> bool,
) -> Option<io::Result<OwnedFd>> {
    let name = match local_name(libc::AT_FDCWD, path, flags & libc::O_NOFOLLOW == 0)? {
        Ok(name) => name,
        Err(error) => return Some(Err(error)),
    };
    let stat = statx_of(name.as_fd(), libc::STATX_TYPE | libc::STATX_SIZE).ok()?;
    if !suits(&stat) {
        return None;
    }
    // Without O_NONBLOCK it would wait for a lease of another process.
    let flags = flags | libc::O_NONBLOCK | libc::O_NOCTTY;
    open_in_memory(libc::AT_FDCWD, path, flags)
}

fn kind_of(stat: &libc::statx) -> u32 {
    u32::from(stat.stx_mode) & libc::S_IFMT
}

/// The open file, if it lies on a file system that answers at once.
fn local_file(file: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: the caller holds the file open for the time of its question (S10), and no callee
    // keeps it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(file) };
    (manner_of_file(file) == Manner::Local).then_some(borrowed)
}

fn statx_of(file: BorrowedFd<'_>, mask: u32) -> io::Result<libc::statx> {
    // SAFETY: `statx` is integers only, for which zero is a value (S9).
    let mut answer = unsafe { mem::zeroed::<libc::statx>() };
    let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
    // SAFETY: the answer is borrowed during the call (S1).
    let result = unsafe { libc::statx(file.as_raw_fd(), path, flags, mask, &raw mut answer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
