//! Operations of the ring, carried out by system calls on a thread that may block.

#![allow(unsafe_code)] // It follows the addresses of entries.

use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;

use io_uring::opcode;
use ringhold_kernel::Sqe;

/// What an entry is about.
pub(super) enum Subject<'a> {
    File(RawFd),
    /// A path, and the directory that it begins at.
    Path(RawFd, &'a CStr),
}

/// What an entry is about; `None` for an opcode that only a ring carries out.
///
/// # Safety
///
/// What the entry points to is the kernel's (S1, S2), and stays that as long as the subject is
/// looked at.
pub(super) unsafe fn subject(sqe: &Sqe) -> Option<Subject<'_>> {
    // SAFETY: as the caller promises (S1, S2): a path ends with a zero byte.
    let path = |address: u64| unsafe { CStr::from_ptr(address as *const libc::c_char) };
    Some(match sqe.opcode {
        opcode::OpenAt::CODE
        | opcode::OpenAt2::CODE
        | opcode::Statx::CODE
        | opcode::RenameAt::CODE
        | opcode::UnlinkAt::CODE
        | opcode::MkDirAt::CODE
        | opcode::LinkAt::CODE => Subject::Path(sqe.fd, path(sqe.address)),
        opcode::SymlinkAt::CODE => Subject::Path(sqe.fd, path(sqe.offset)),
        opcode::Read::CODE
        | opcode::Readv::CODE
        | opcode::Write::CODE
        | opcode::Writev::CODE
        | opcode::Fsync::CODE
        | opcode::Fallocate::CODE
        | opcode::Ftruncate::CODE
        | opcode::Fadvise::CODE => Subject::File(sqe.fd),
        _ => return None,
    })
}

/// Does what the entry says. Returns the result, or a negated errno.
///
/// # Safety
///
/// What the entry points to is the kernel's (S1, S2) until this returns, and its opcode is one that
/// has a [`subject`].
pub(super) unsafe fn run(sqe: &Sqe) -> i32 {
    loop {
        // SAFETY: passed on to the caller (S1, S2).
        let result = unsafe { attempt(sqe) };
        if result >= 0 {
            return i32::try_from(result).unwrap_or(i32::MAX);
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            error => return -error.unwrap_or(libc::EIO),
        }
    }
}

/// # Safety
///
/// As for [`run`].
unsafe fn attempt(sqe: &Sqe) -> i64 {
    let Sqe { fd, address, offset, length, operation_flags, .. } = *sqe;
    let flags = operation_flags as i32;
    let path = address as *const libc::c_char;
    let second = offset as *const libc::c_char;
    // SAFETY: the caller promises that what the entry points to is ours for the time of the call
    // (S1) and in place (S2); the fields are read as the opcode lays them out.
    unsafe {
        i64::from(match sqe.opcode {
            opcode::OpenAt::CODE => libc::openat(fd, path, flags, length),
            opcode::OpenAt2::CODE => {
                return libc::syscall(libc::SYS_openat2, fd, path, offset, u64::from(length));
            }
            opcode::Statx::CODE => libc::statx(fd, path, flags, length, offset as *mut _),
            opcode::RenameAt::CODE => {
                libc::renameat2(fd, path, length as i32, second, operation_flags)
            }
            opcode::UnlinkAt::CODE => libc::unlinkat(fd, path, flags),
            opcode::MkDirAt::CODE => libc::mkdirat(fd, path, length),
            opcode::LinkAt::CODE => libc::linkat(fd, path, length as i32, second, flags),
            opcode::SymlinkAt::CODE => libc::symlinkat(path, fd, second),
            opcode::Fsync::CODE if operation_flags & DATASYNC != 0 => libc::fdatasync(fd),
            opcode::Fsync::CODE => libc::fsync(fd),
            opcode::Fallocate::CODE => {
                libc::fallocate(fd, length as i32, offset as i64, address as i64)
            }
            opcode::Ftruncate::CODE => libc::ftruncate(fd, offset as i64),
            opcode::Fadvise::CODE => {
                // It answers by its result alone.
                let length = if address == 0 { i64::from(length) } else { address as i64 };
                let error = libc::posix_fadvise(fd, offset as i64, length, flags);
                *libc::__errno_location() = error;
                if error == 0 { 0 } else { -1 }
            }
            _ => return transfer(sqe) as i64,
        })
    }
}

/// `IORING_FSYNC_DATASYNC`.
const DATASYNC: u32 = 1;

/// Reads or writes. The highest offset means where the file stands, to these calls as well.
///
/// # Safety
///
/// As for [`run`].
unsafe fn transfer(sqe: &Sqe) -> isize {
    let one =
        libc::iovec { iov_base: sqe.address as *mut libc::c_void, iov_len: sqe.length as usize };
    let (parts, count) = match sqe.opcode {
        opcode::Read::CODE | opcode::Write::CODE => (&raw const one, 1),
        _ => (sqe.address as *const libc::iovec, sqe.length as i32),
    };
    let (offset, flags) = (sqe.offset as i64, sqe.operation_flags as i32);
    // SAFETY: as the caller promises (S1, S2).
    unsafe {
        match sqe.opcode {
            opcode::Read::CODE | opcode::Readv::CODE => {
                libc::preadv2(sqe.fd, parts, count, offset, flags)
            }
            opcode::Write::CODE | opcode::Writev::CODE => {
                libc::pwritev2(sqe.fd, parts, count, offset, flags)
            }
            other => panic!("opcode {other} is no transfer"),
        }
    }
}
