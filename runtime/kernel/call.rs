//! Cold calls: what a storage service asks of the kernel that io_uring has no opcode for.
//!
//! Each is a typed value that holds what goes in and what comes out. A kernel fills it in and
//! completes it like an operation, so it is awaited, dropped and simulated like one.

#![allow(unsafe_code)] // A call's memory is lent to the kernel by its address.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::SystemTime;

use crate::ahead::Ahead;
use crate::descriptors::{HeldFile, NewDescriptor};
use crate::system::System;

/// One entry of a directory, as `getdents64` reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name, without the directory.
    pub name: CString,
    /// The inode's number.
    pub inode: u64,
    /// `DT_*`; `DT_UNKNOWN` (0) where the file system doesn't say.
    pub kind: u8,
}

/// A system call without an opcode: its arguments, and room for its answer.
#[derive(Debug)]
pub enum Call {
    /// `readlink(2)`.
    ReadLink {
        /// The link.
        path: CString,
        /// Where it points.
        target: Vec<u8>,
    },
    /// `realpath(3)`: the absolute path without links.
    Canonicalize {
        /// The path to resolve.
        path: CString,
        /// What it resolves to.
        resolved: Vec<u8>,
    },
    /// Opens a directory, and then as `ReadDirectory`.
    OpenDirectory {
        /// The directory.
        path: CString,
        /// Whose descriptor it is going to be.
        system: Arc<dyn System>,
        /// The open directory. It is in here and not in the result, so that a dropped call closes
        /// it.
        directory: Option<NewDescriptor>,
        /// The first batch.
        entries: Vec<DirectoryEntry>,
        /// Whether there are no more.
        ended: bool,
    },
    /// `getdents64(2)`, as often as it takes for a batch or for the end: the next of a directory's
    /// entries. A directory that was removed has none.
    ReadDirectory {
        /// The open directory.
        directory: RawFd,
        /// The batch.
        entries: Vec<DirectoryEntry>,
        /// Whether there are no more.
        ended: bool,
    },
    /// Makes `bytes` the whole of a file: opens it, which makes it or cuts it off, writes, closes.
    WriteWhole {
        /// The file.
        path: CString,
        /// What it is going to have.
        bytes: Vec<u8>,
    },
    /// `chmod(2)`, which follows links.
    SetMode {
        /// The file.
        path: CString,
        /// The permission bits.
        mode: u32,
    },
    /// `fchmod(2)`.
    SetModeOf {
        /// The open file.
        file: RawFd,
        /// The permission bits.
        mode: u32,
    },
    /// `fcntl(F_DUPFD_CLOEXEC)`.
    Duplicate {
        /// The open file.
        file: RawFd,
        /// Whose descriptor the copy is going to be.
        system: Arc<dyn System>,
        /// The copy. It is in here and not in the result, so that a dropped call closes it.
        copy: Option<NewDescriptor>,
    },
    /// `ftruncate(2)`, for kernels before 6.9.
    Truncate {
        /// The open file.
        file: RawFd,
        /// The new length in bytes.
        length: u64,
    },
    /// `lseek(2)`; the completion's result is 0 and the position is in `position`.
    Seek {
        /// The open file.
        file: RawFd,
        /// The offset in bytes, negative for backwards.
        offset: i64,
        /// `SEEK_*`.
        whence: i32,
        /// Where the file stands afterwards.
        position: u64,
    },
    /// `stat(2)` as std has it, whose type nobody else can make; `lstat(2)` where links are not
    /// followed.
    Metadata {
        /// The file.
        path: CString,
        /// Whether a link at the path's end is followed.
        follow: bool,
        /// The answer.
        metadata: Option<Box<std::fs::Metadata>>,
    },
    /// `fstat(2)` as std has it.
    MetadataOf {
        /// The open file.
        file: RawFd,
        /// The answer.
        metadata: Option<Box<std::fs::Metadata>>,
    },
    /// What an entry of an open directory is, as std has it; a link is not followed.
    MetadataWithin {
        /// The open directory.
        directory: RawFd,
        /// The entry's name.
        name: CString,
        /// The answer.
        metadata: Option<Box<std::fs::Metadata>>,
    },
    /// One `read(2)`: at the position of an open file, which moves for all who have it. The
    /// completion's result is the bytes read.
    ReadHere {
        /// What was read, which a dropped call gives back.
        ahead: Ahead,
    },
    /// One `write(2)`: at the position of an open file, which moves for all who have it. The
    /// completion's result is the bytes written.
    WriteHere {
        /// The file. It is held here, since a dropped call runs on.
        file: Arc<dyn HeldFile>,
        /// What is written begins in here, and is all from there on.
        bytes: Vec<u8>,
        /// Where.
        begin: usize,
    },
    /// One `copy_file_range(2)`; the completion's result is the bytes copied, 0 at the source's
    /// end.
    CopyRange {
        /// The file to read. It is held here, since a dropped call runs on.
        source: Arc<dyn HeldFile>,
        /// The file to write.
        target: Arc<dyn HeldFile>,
        /// Where in both, in bytes.
        offset: u64,
        /// How much at the most, in bytes.
        length: u32,
    },
    /// `futimens(2)`; `None` leaves a time as it is.
    SetTimesOf {
        /// The open file.
        file: RawFd,
        /// The time of the last access.
        accessed: Option<SystemTime>,
        /// The time of the last change.
        modified: Option<SystemTime>,
    },
}

/// Where a [`Call`] lives while the kernel has it. Only the kernel follows it.
#[derive(Clone, Copy, Debug)]
pub struct CallPointer(pub NonNull<Call>);

// SAFETY: it is an address until a kernel follows it, which `Kernel::call` allows under S1 and S2
// only; `Call` is `Send`.
unsafe impl Send for CallPointer {}
