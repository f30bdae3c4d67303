//! The part of the seam that is asked of files without ever waiting.

use std::ffi::CStr;
use std::fs::Metadata;
use std::io;
use std::os::fd::RawFd;

/// Asks `statx(2)` for everything that `struct statx` has room for; a file system fills in what it
/// knows, and says what.
pub const STATX_EVERYTHING: u32 =
    libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_DIOALIGN;

/// What answers for files at once, or not at all.
///
/// Nothing here waits: not for a device, not for a server, not for a lock whose holder waits
/// for one of them. An answer is the one that the operation would have had.
pub trait AtOnce: Send + Sync {
    /// Opens a regular file or a directory that is there. `flags` are `O_*`; `O_CLOEXEC` is added.
    fn open(&self, path: &CStr, flags: i32) -> Option<io::Result<RawFd>> {
        let _ = (path, flags);
        None
    }
    /// Opens, reads and closes a regular file that has at most `most` bytes, all of them in the
    /// page cache.
    fn read_file(&self, path: &CStr, most: usize) -> Option<io::Result<Vec<u8>>> {
        let _ = (path, most);
        None
    }
    /// `stat(2)` as std has it, of a path that begins at `directory` (or `AT_FDCWD`); `lstat(2)`
    /// where links are not followed.
    fn metadata(
        &self,
        directory: RawFd,
        path: &CStr,
        follow: bool,
    ) -> Option<io::Result<Metadata>> {
        let _ = (directory, path, follow);
        None
    }
    /// `fstat(2)` as std has it.
    fn metadata_of(&self, file: RawFd) -> Option<io::Result<Metadata>> {
        let _ = file;
        None
    }
    /// `statx(2)` of all that [`STATX_EVERYTHING`] names. With `follow`, a link at the
    /// path's end is followed.
    fn statx(&self, path: &CStr, follow: bool) -> Option<io::Result<libc::statx>> {
        let _ = (path, follow);
        None
    }
    /// As [`statx`](AtOnce::statx), of an open file.
    fn statx_of(&self, file: RawFd) -> Option<io::Result<libc::statx>> {
        let _ = file;
        None
    }
    /// `pread(2)` of what is in the page cache, which may be less than there is, behind what `into`
    /// has: at most `most` bytes, and no more than it has room for. Returns their count, which is 0
    /// at the file's end.
    fn read(&self, file: RawFd, into: &mut Vec<u8>, most: usize, offset: u64) -> Option<usize> {
        let _ = (file, into, most, offset);
        None
    }
    /// Whether a file is written as a whole by one cold call. A simulation doesn't: each part is an
    /// operation of its own, before and after which the power may fail.
    fn writes_whole(&self) -> bool {
        false
    }
    /// Whether what is done with an open file may have to wait for a server that never answers, so
    /// that it must not be begun where others wait as well.
    fn may_hang(&self, file: RawFd) -> bool {
        let _ = file;
        false
    }
}

/// A system that answers nothing at once: it all goes as operations.
#[derive(Debug)]
pub struct NothingAtOnce;

impl AtOnce for NothingAtOnce {}
