//! The open file: how it is made, given away, and asked about.

use std::fmt;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use ringhold_runtime::ops::{Advise, Alignment, Sync, Truncate};
use ringhold_runtime::{Call, ColdCall, Fd, Op};
use tokio::sync::Mutex;

use crate::advice::Advice;
use crate::allocation::{self, Allocation};
use crate::cursor::{Cursor, Kind};
use crate::metadata::metadata_of;
use crate::open_options::OpenOptions;
use crate::standing::Standing;
use crate::stat::{Stat, statx_of};

/// An open file.
///
/// There are two ways to use it. The methods that take an offset (`read_at`, `write_fixed`, …) take
/// buffers in and give them back; any number of them may be in flight on one file. And there is
/// tokio's way: `AsyncRead`, `AsyncWrite` and `AsyncSeek` over a cursor and through a buffer of the
/// file's own. A write that was buffered there is waited for by [`sync_all`](File::sync_all),
/// [`sync_data`](File::sync_data), [`set_len`](File::set_len), [`close`](File::close) and `flush`,
/// which report its error, but not by the methods that take an offset.
///
/// An open file has one position, whoever has it: its copies, std, a child as its output, another
/// process. As long as a file that was opened by its path can't be anybody else's, its position is
/// kept here, and every read and write is one operation of the ring. From
/// [`try_clone`](File::try_clone) or a look at the descriptor on, and for a file that comes from
/// elsewhere, it is the kernel's, and reads and writes through the cursor are `read(2)` and
/// `write(2)` on a thread that may wait, which take longer. The methods that take an offset have
/// nothing to do with the position. A file opened for appending writes at its end.
///
/// Dropped, it is closed when the drop returns, on any thread, if nothing is in flight on it: its
/// locks are free, what was written can be run, and its file system can be unmounted. With
/// something in flight it is closed when that is over: what was dropped before it was ready is
/// cancelled where that can be, and a buffered write runs to its end, and its error is lost.
/// [`close`](File::close) says how closing went. The close of a file of a network file system, or
/// of one in user space, may wait for a server: a shard leaves that to another thread, and the file
/// is closed a moment later.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_fs::File;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("greeting");
/// let file = File::create_new(&path).await?;
/// let (written, _) = file.write_at(Vec::from("hello world"), 0).await?;
/// assert_eq!(written, 11);
/// let (read, buffer) = file.read_at(vec![0; 5], 6).await?;
/// assert_eq!((read, &buffer[..]), (5, &b"world"[..]));
/// file.close().await?;
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub struct File {
    pub(crate) target: Target,
    pub(crate) standing: Arc<Standing>,
    pub(crate) cursor: Mutex<Cursor>,
}

/// What an operation on a file needs of it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) descriptor: Fd,
    pub(crate) alignment: Option<Alignment>,
    /// Whether its writes go to its end, whatever their offsets say.
    pub(crate) appends: bool,
}

/// The kernel has no opcode for `ftruncate` (before 6.9), so that nobody needs to ask it twice.
static IS_TRUNCATE_MISSING: AtomicBool = AtomicBool::new(false);

impl File {
    /// A file that was just opened by its path, and is nobody else's.
    pub(crate) fn own(target: Target) -> File {
        let standing = Arc::new(Standing::own());
        let cursor = Cursor::new(Kind::Own, standing.clone());
        File { target, standing, cursor: Mutex::new(cursor) }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// As for [`OpenOptions::open`].
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing stays open.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_OPENAT`, since 5.6.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let error = ringhold_fs::File::open(&path).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file for writing; makes it where there is none, and cuts it to no length where there
    /// is one.
    ///
    /// # Errors
    ///
    /// As for [`OpenOptions::open`].
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: the file may have been made or cut off. Nothing stays open.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_OPENAT`, since 5.6.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// ringhold_fs::write(&path, "old").await?;
    /// ringhold_fs::File::create(&path).await?;
    /// assert_eq!(ringhold_fs::read(&path).await?, b"");
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path).await
    }

    /// Makes a file, for reading and writing.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` where there is one, and as for [`OpenOptions::open`].
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: the file may have been made. Nothing stays open.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_OPENAT`, since 5.6.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// ringhold_fs::File::create_new(&path).await?;
    /// let error = ringhold_fs::File::create_new(&path).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).await
    }

    /// Other ways to open a file: [`OpenOptions::new`].
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Waits for buffered writes, closes the file, and says how that went.
    ///
    /// Where another operation on the file is still in flight, the file closes when that ends, and
    /// this reports only what became of the buffered writes.
    ///
    /// # Errors
    ///
    /// Of a buffered write whose error no call has returned yet, or of the close: `EIO`, `ENOSPC`,
    /// `EDQUOT` on file systems that write late. The file is closed all the same.
    ///
    /// # Cancel safety
    ///
    /// Safe: the file is closed all the same. What became of it is lost.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_CLOSE`, since 5.6.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let file = ringhold_fs::File::create_new(&path).await?;
    /// file.write_all_at("hello", 0).await?;
    /// file.close().await?;
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn close(mut self) -> io::Result<()> {
        let cursor = self.cursor.get_mut();
        let flushed = cursor.flush(&self.target).await;
        cursor.settle(&self.target).await;
        cursor.give_back();
        let closed = match self.target.descriptor.into_close() {
            Ok(closing) => closing.await,
            Err(_) => Ok(()),
        };
        flushed.and(closed)
    }

    /// Waits until everything that was written, and the file's metadata, is on the device.
    ///
    /// # Errors
    ///
    /// Of a buffered write whose error no call has returned yet, and of the device: `EIO`,
    /// `ENOSPC`, `EDQUOT`. After an error what was written since the last success may be lost,
    /// whatever a second call says.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: dropped, it is as if it had not been called.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_FSYNC`, since 5.1.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let file = ringhold_fs::File::create_new(&path).await?;
    /// file.write_all_at("hello", 0).await?;
    /// file.sync_all().await?;
    /// // The name is durable when the directory is.
    /// ringhold_fs::File::open(directory.path()).await?.sync_all().await?;
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(false).await
    }

    /// As [`sync_all`](File::sync_all), without the metadata that reading the bytes back doesn't
    /// need.
    ///
    /// # Errors
    ///
    /// As for [`sync_all`](File::sync_all).
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: dropped, it is as if it had not been called.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_FSYNC` with `IORING_FSYNC_DATASYNC`, since 5.1.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(true).await
    }

    async fn sync(&self, data_only: bool) -> io::Result<()> {
        self.cursor.lock().await.flush(&self.target).await?;
        Op::new(Sync { file: self.target.descriptor.clone(), data_only }).await
    }

    /// Cuts the file off at `length` bytes, or extends it by a hole that reads as zero. The cursor
    /// stays where it is.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a file that isn't open for writing and a length beyond `i64::MAX`;
    /// `EFBIG`, `EPERM`. And of a buffered write whose error no call has returned yet.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: dropped, it may take effect or not.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_FTRUNCATE`, since 6.9; a cold call before.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("file");
    /// let file = ringhold_fs::File::create_new(&path).await?;
    /// file.set_len(5).await?;
    /// assert_eq!(ringhold_fs::read(&path).await?, [0; 5]);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn set_len(&self, length: u64) -> io::Result<()> {
        let mut cursor = self.cursor.lock().await;
        cursor.flush(&self.target).await?;
        cursor.give_back();
        let file = &self.target.descriptor;
        if !IS_TRUNCATE_MISSING.load(Ordering::Relaxed) {
            match Op::new(Truncate { file: file.clone(), length }).await {
                // A kernel without the opcode says the same as one that dislikes the arguments.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                outcome => return outcome,
            }
        }
        Op::new(ColdCall::on(file, |file| Call::Truncate { file, length })).await?;
        IS_TRUNCATE_MISSING.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Sets space aside for a range of bytes, or gives it back: see [`Allocation`]. A long range is
    /// done by pieces, so that a write to the file and the end of the runtime wait for one of them
    /// at most. A call that fails may have taken effect in part.
    ///
    /// # Errors
    ///
    /// `ENOSPC`; `EOPNOTSUPP` where the file system can't; `InvalidInput` for an empty range;
    /// `EBADF` for a file that isn't open for writing.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: dropped, it may take effect, in part, or not.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_FALLOCATE`, since 5.6, for each 128 MiB; for more than a tebibyte it is one.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use ringhold_fs::{Allocation, File};
    /// # let directory = tempfile::tempdir()?;
    /// let file = File::create_new(directory.path().join("segment")).await?;
    /// file.allocate(0, 1 << 16, Allocation::Extend).await?;
    /// assert_eq!(file.statx().await?.len(), 1 << 16);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn allocate(&self, offset: u64, length: u64, how: Allocation) -> io::Result<()> {
        allocation::allocate(&self.target.descriptor, offset, length, how).await
    }

    /// Tells the page cache how a range of bytes will be used: see [`Advice`]. A length of 0 means
    /// all up to the file's end.
    ///
    /// # Errors
    ///
    /// `ESPIPE` for a pipe; `EINVAL` where the file system takes no such advice.
    ///
    /// # Cancel safety
    ///
    /// Safe: advice changes no byte.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_FADVISE`, since 5.6.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use ringhold_fs::{Advice, File};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("segment");
    /// ringhold_fs::write(&path, "scanned once").await?;
    /// let file = File::open(&path).await?;
    /// file.advise(0, 0, Advice::Sequential).await?;
    /// let (count, _) = file.read_at(Vec::with_capacity(64), 0).await?;
    /// assert_eq!(count, 12);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn advise(&self, offset: u64, length: u32, advice: Advice) -> io::Result<()> {
        let file = self.target.descriptor.clone();
        Op::new(Advise { file, offset, length, advice: advice.code() }).await
    }

    /// What the file is, once buffered writes have ended.
    ///
    /// # Errors
    ///
    /// `EIO` of a file system that can't read its inode.
    ///
    /// # Cancel safety
    ///
    /// Safe: it changes nothing.
    ///
    /// # Kernel
    ///
    /// A cold call, since std alone can make its `Metadata`; [`statx`](File::statx) asks on the
    /// ring.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        self.cursor.lock().await.settle(&self.target).await;
        metadata_of(&self.target.descriptor).await
    }

    /// What the file is, once buffered writes have ended.
    ///
    /// # Errors
    ///
    /// As for [`metadata`](File::metadata).
    ///
    /// # Cancel safety
    ///
    /// Safe: it changes nothing.
    ///
    /// # Kernel
    ///
    /// `statx` at once where the file system answers from memory; `IORING_OP_STATX`, since 5.6,
    /// elsewhere.
    pub async fn statx(&self) -> io::Result<Stat> {
        self.cursor.lock().await.settle(&self.target).await;
        statx_of(&self.target.descriptor).await
    }

    /// Sets the permission bits.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` (`EPERM`) for a file of another owner.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: dropped, it may take effect or not.
    ///
    /// # Kernel
    ///
    /// A cold call: `fchmod`.
    pub async fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        let mode = permissions.mode();
        let call = ColdCall::on(&self.target.descriptor, |file| Call::SetModeOf { file, mode });
        Op::new(call).await.map(drop)
    }

    /// Sets when the file was changed last, once buffered writes have ended.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` (`EPERM`) for a file of another owner.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: dropped, it may take effect or not.
    ///
    /// # Kernel
    ///
    /// A cold call: `futimens`.
    pub async fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.cursor.lock().await.settle(&self.target).await;
        let modified = Some(time);
        let file = &self.target.descriptor;
        let call = ColdCall::on(file, |file| Call::SetTimesOf { file, accessed: None, modified });
        Op::new(call).await.map(drop)
    }

    /// Whether it was opened for direct I/O, here or where it comes from.
    pub fn is_direct(&self) -> bool {
        self.target.alignment.is_some()
    }

    /// What buffers, offsets and lengths must be aligned to, in bytes; `None` for a file that is
    /// not direct.
    pub fn alignment(&self) -> Option<Alignment> {
        self.target.alignment
    }

    /// The most that one read or write through the cursor moves, in bytes: 2 MiB where nothing else
    /// was set.
    pub fn max_buf_size(&self) -> usize {
        match self.cursor.try_lock() {
            Ok(cursor) => cursor.limit(),
            Err(_) => crate::cursor::MOST_BYTES,
        }
    }

    /// Sets the most that one read or write through the cursor moves, in bytes.
    ///
    /// # Panics
    ///
    /// For 0.
    #[track_caller]
    pub fn set_max_buf_size(&mut self, max_buf_size: usize) {
        assert!(max_buf_size > 0, "a read or write through the cursor moves at least a byte");
        self.cursor.get_mut().set_limit(max_buf_size);
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("descriptor", &self.target.descriptor.descriptor())
            .field("alignment", &self.target.alignment)
            .finish_non_exhaustive()
    }
}
