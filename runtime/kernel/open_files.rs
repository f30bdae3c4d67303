//! The part of the seam that is asked of open files, without ever waiting for a device or a server.

use std::io;
use std::os::fd::RawFd;

/// What an open file is, for all who have it.
///
/// Of the file, what is known without asking a server.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// `O_*`, as far as they hold for what is open.
    pub flags: i32,
    /// The file's kind (`S_IFMT`), and its permission bits.
    pub mode: u32,
    /// The file's length, in bytes.
    pub length: u64,
    /// What direct I/O asks of a buffer's address, in bytes; 0 where the file system doesn't say.
    pub memory_alignment: u32,
    /// What direct I/O asks of an offset and of a length.
    pub offset_alignment: u32,
}

/// What is asked of open files without ever waiting for a device.
pub trait OpenFiles: Send + Sync {
    /// What the open file is.
    ///
    /// # Errors
    ///
    /// `EBADF`.
    fn describe(&self, file: RawFd) -> io::Result<Description>;

    /// `lseek(2)` with `SEEK_SET` or `SEEK_CUR`: moves the position of the open file, which all who
    /// have it share, and says where it then stands.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what lies before the start or beyond what the file system can have; `ESPIPE`
    /// for what has no position.
    fn seek(&self, file: RawFd, offset: i64, whence: i32) -> io::Result<u64>;
}
