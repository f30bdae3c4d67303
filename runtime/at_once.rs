//! The part of the seam that is asked of files without ever waiting.
//!
//! Most of what a service asks about files stands in memory, and the kernel's answer takes less
//! time than the way to a thread that may wait for it. So it is asked here first, in the midst of a
//! poll; `None` says that the answer may have to be waited for, and the question then goes as an
//! operation.

use std::ffi::CStr;
use std::fs::Metadata;
use std::future::poll_fn;
use std::io;
use std::os::fd::RawFd;

use crate::context;
use crate::fd::Fd;
use crate::task::budget;

/// What one step of a task's budget moves, in bytes.
const BYTES_A_STEP: usize = 64 * 1024;

/// What answers for files at once, or not at all.
///
/// Nothing here waits: not for a device, not for a server, not for a lock that is held by who waits
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
    /// `statx(2)` of all that [`Statx`](crate::ops::Statx) asks for. With `follow`, a link at the
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
    /// Whether what is done with an open file may have to wait for somebody who never answers, so
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

/// Asks at once, as a step of the running task's budget. `None` where that isn't answered, and off
/// the shards of a runtime, and on a shard that takes no operations any more.
///
/// # Cancel safety
///
/// Safe: a drop before the answer asks nothing, and the answer comes within one poll.
pub async fn ask_at_once<T>(ask: impl FnOnce(&dyn AtOnce) -> Option<T>) -> Option<T> {
    poll_fn(|cx| budget::poll_step(cx)).await;
    let takes = context::with_shard(|shard| {
        shard.is_some_and(|shard| shard.driver().borrow().takes_operations())
    });
    if takes { ask(context::system().at_once()) } else { None }
}

/// As [`ask_at_once`], for a whole file, which takes steps by its length.
///
/// # Cancel safety
///
/// Safe: a drop before the answer asks nothing, and the answer comes within one poll.
pub async fn read_file_at_once(path: &CStr, most: usize) -> Option<io::Result<Vec<u8>>> {
    let read = ask_at_once(|at_once| at_once.read_file(path, most)).await?;
    budget::charge(read.as_ref().map_or(0, |bytes| (bytes.len() / BYTES_A_STEP) as u32));
    Some(read)
}

/// As [`ask_at_once`], for a read, which takes steps by its length.
///
/// # Cancel safety
///
/// Safe: a drop before the answer asks nothing, and the answer comes within one poll.
pub async fn read_at_once(
    file: &Fd,
    into: &mut Vec<u8>,
    most: usize,
    offset: u64,
) -> Option<usize> {
    let file = file.descriptor();
    let count = ask_at_once(|at_once| at_once.read(file, into, most, offset)).await?;
    budget::charge((count / BYTES_A_STEP) as u32);
    Some(count)
}
