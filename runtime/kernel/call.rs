//! Cold calls: what a storage service asks of the kernel that io_uring has no opcode for.
//!
//! Each is a typed value that holds what goes in and what comes out. A kernel fills it in and
//! completes it like an operation, so it is awaited, dropped and simulated like one.

#![allow(unsafe_code)] // A call's memory is lent to the kernel by its address.

use std::ffi::CString;
use std::fmt;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::SystemTime;

use crate::system::{HeldFile, NewDescriptor, System};

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

/// What a read brought and nothing took yet.
///
/// A read at an open file's own position moves that for all who have the file. What is left of such
/// a read goes back when this is dropped: the file then stands where the rest begins, unless others
/// have moved it meanwhile. It is part of a [`Call`], so that a dropped one gives
/// everything back.
pub struct Ahead {
    bytes: Vec<u8>,
    taken: usize,
    room: usize,
    /// The file whose position was moved; `None` where it was read at an offset of its own.
    file: Option<Arc<dyn HeldFile>>,
    /// Where the file stood after the read, if nothing else has moved it during that.
    end: Option<u64>,
}

impl Ahead {
    /// What was read at an offset of its own: `bytes`, of which `taken` are not part of it.
    pub fn of_own(bytes: Vec<u8>, taken: usize) -> Ahead {
        Ahead { bytes, taken, room: 0, file: None, end: None }
    }

    /// Room for `room` bytes behind those of `bytes`, to be read where `file` stands.
    pub fn at_position(file: Arc<dyn HeldFile>, mut bytes: Vec<u8>, room: usize) -> Ahead {
        bytes.reserve_exact(room);
        Ahead { taken: bytes.len(), bytes, room, file: Some(file), end: None }
    }

    /// The file whose position the read moves; `None` of bytes that were read elsewhere.
    pub fn file(&self) -> Option<RawFd> {
        self.file.as_ref().map(|file| file.descriptor())
    }

    /// What is left.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Takes some of what is left from its beginning.
    pub fn take(&mut self, count: usize) {
        self.taken += count;
    }

    /// Returns the buffer, and gives nothing back to the file.
    pub fn keep(mut self) -> Vec<u8> {
        self.end = None;
        std::mem::take(&mut self.bytes)
    }

    /// For the kernel that reads: the file, what to read behind, and how much at most.
    ///
    /// # Panics
    ///
    /// If it is of no file's position.
    pub fn to_read(&mut self) -> (RawFd, &mut Vec<u8>, usize) {
        let file = self.file().expect("only what is at a file's position is read by a call");
        (file, &mut self.bytes, self.room)
    }

    /// For the kernel that has read: where the file stands now.
    pub fn set_end(&mut self, end: u64) {
        self.end = Some(end);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let (Some(file), Some(end)) = (self.file.take(), self.end) else { return };
        let left = self.rest().len() as i64;
        if left == 0 {
            return;
        }
        let files = file.system().open_files();
        let now = files.seek(file.descriptor(), 0, libc::SEEK_CUR);
        if now.is_ok_and(|now| now == end) {
            let _ = files.seek(file.descriptor(), -left, libc::SEEK_CUR);
        }
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead")
            .field("left", &self.rest().len())
            .field("room", &self.room)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
