//! Reading directories.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{FileType, Metadata};
use std::future::poll_fn;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::vec;

use ringhold_buffers::sync::OnceLock;
use ringhold_runtime::ops::{Open, Place};
use ringhold_runtime::{Call, ColdCall, DirectoryEntry, Fd, Op};

use crate::metadata::metadata_within;
use crate::path::to_c_string;

/// Opens a directory to read what is in it.
///
/// # Errors
///
/// `NotFound`; `NotADirectory`; `PermissionDenied`; `EMFILE` where the process has no descriptor
/// left.
///
/// # Cancel safety
///
/// Safe: nothing stays open.
///
/// # Kernel
///
/// A cold call, which also brings the first entries.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// ringhold_fs::write(path.join("one"), "").await?;
/// ringhold_fs::create_dir(path.join("two")).await?;
/// let mut entries = ringhold_fs::read_dir(path).await?;
/// let mut directories = Vec::new();
/// while let Some(entry) = entries.next_entry().await? {
///     if entry.file_type().await?.is_dir() {
///         directories.push(entry.file_name());
///     }
/// }
/// assert_eq!(directories, ["two"]);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref();
    let opening = Call::OpenDirectory {
        path: to_c_string(path)?,
        system: ringhold_runtime::system(),
        directory: None,
        entries: Vec::new(),
        ended: false,
    };
    match Op::new(ColdCall::new(opening)).await? {
        (_, Call::OpenDirectory { directory: Some(directory), entries, ended, .. }) => {
            Ok(ReadDir {
                directory: directory.into(),
                path: path.into(),
                batch: entries.into_iter(),
                call: None,
                ended,
            })
        }
        (_, call) => unreachable!("the opening of a directory was answered by {call:?}"),
    }
}

/// Opens a directory for its entries, with `O_*` flags besides.
pub(crate) async fn open_directory(place: Place, flags: i32) -> io::Result<Fd> {
    Op::new(Open::new(place, libc::O_RDONLY | libc::O_DIRECTORY | flags, 0)).await
}

fn next_batch(directory: &Fd) -> Op<ColdCall> {
    Op::new(ColdCall::on(directory, |directory| Call::ReadDirectory {
        directory,
        entries: Vec::new(),
        ended: false,
    }))
}

fn entries_of(call: Call) -> (Vec<DirectoryEntry>, bool) {
    match call {
        Call::ReadDirectory { entries, ended, .. } => (entries, ended),
        call => unreachable!("a question for entries was answered by {call:?}"),
    }
}

/// Some of the entries that a directory has left; none at its end.
pub(crate) async fn read_batch(directory: &Fd) -> io::Result<Vec<DirectoryEntry>> {
    next_batch(directory).await.map(|(_, call)| entries_of(call).0)
}

/// What is in a directory, in the order that its file system likes, without `.` and `..`.
pub struct ReadDir {
    directory: Fd,
    path: Arc<Path>,
    batch: vec::IntoIter<DirectoryEntry>,
    call: Option<Op<ColdCall>>,
    ended: bool,
}

impl ReadDir {
    /// The next entry; `None` at the end, also of a directory that was removed meanwhile.
    ///
    /// # Errors
    ///
    /// `EIO` of a file system that can't read the directory; that is then its end.
    ///
    /// # Cancel safety
    ///
    /// Safe: no entry is lost.
    ///
    /// # Kernel
    ///
    /// A cold call for each batch of 512 entries and more: `getdents64`.
    pub async fn next_entry(&mut self) -> io::Result<Option<DirEntry>> {
        poll_fn(|cx| self.poll_next_entry(cx)).await
    }

    /// As [`next_entry`](ReadDir::next_entry), by polling.
    ///
    /// # Errors
    ///
    /// As for [`next_entry`](ReadDir::next_entry).
    pub fn poll_next_entry(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<DirEntry>>> {
        loop {
            if let Some(entry) = self.batch.next() {
                let (directory, path) = (self.directory.clone(), self.path.clone());
                return Poll::Ready(Ok(Some(DirEntry { directory, path, entry })));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let call = self.call.get_or_insert_with(|| next_batch(&self.directory));
            let outcome = ready!(Pin::new(call).poll(cx));
            self.call = None;
            let batch = outcome.map(|(_, call)| entries_of(call));
            self.ended = batch.as_ref().map_or(true, |(_, ended)| *ended);
            self.batch = batch?.0.into_iter();
        }
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadDir").field(&self.path).finish()
    }
}

/// One entry of a directory. It keeps the directory open.
pub struct DirEntry {
    directory: Fd,
    /// That the directory was opened by.
    path: Arc<Path>,
    entry: DirectoryEntry,
}

impl DirEntry {
    /// The path that the directory was opened by, and the name. Where the directory was renamed
    /// since, the path leads elsewhere or nowhere.
    pub fn path(&self) -> PathBuf {
        self.path.join(self.name())
    }

    /// The name alone.
    pub fn file_name(&self) -> OsString {
        self.name().to_owned()
    }

    fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.entry.name.as_bytes())
    }

    /// The inode's number.
    pub fn ino(&self) -> u64 {
        self.entry.inode
    }

    /// What the entry is; a link is not followed. The open directory is asked and not its path, so
    /// a directory that was renamed since, or has another one in its place, makes no difference.
    ///
    /// # Errors
    ///
    /// `NotFound` where the directory has no entry of that name any more.
    ///
    /// # Cancel safety
    ///
    /// Safe: it changes nothing.
    ///
    /// # Kernel
    ///
    /// A cold call: `openat` with `O_PATH`, and `fstat`.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// ringhold_fs::create_dir(directory.join("queue")).await?;
    /// ringhold_fs::write(directory.join("queue/job"), "three").await?;
    /// let mut entries = ringhold_fs::read_dir(directory.join("queue")).await?;
    /// let job = entries.next_entry().await?.expect("there is a job");
    /// ringhold_fs::rename(directory.join("queue"), directory.join("old")).await?;
    /// assert_eq!(job.metadata().await?.len(), 5);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn metadata(&self) -> io::Result<Metadata> {
        metadata_within(&self.directory, self.entry.name.clone()).await
    }

    /// Of what type the entry is; a link is not followed. Where the directory says, and it mostly
    /// does, nothing is asked.
    ///
    /// # Errors
    ///
    /// As for [`metadata`](DirEntry::metadata), where the directory didn't say.
    ///
    /// # Cancel safety
    ///
    /// Safe: it changes nothing.
    ///
    /// # Kernel
    ///
    /// None, or a cold call as for [`metadata`](DirEntry::metadata).
    pub async fn file_type(&self) -> io::Result<FileType> {
        let kind = usize::from(self.entry.kind);
        if let Some(known) = TYPES.get(kind).and_then(OnceLock::get) {
            return Ok(*known);
        }
        let found = self.metadata().await?.file_type();
        // The entry may be another one by now.
        if kind != usize::from(libc::DT_UNKNOWN) && is_of_kind(found, self.entry.kind) {
            let _ = TYPES[kind].set(found);
        }
        Ok(found)
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry").field(&self.path()).finish()
    }
}

/// std's types by `DT_*`. std alone can make one, so that of the first entry of each kind serves
/// for the others.
static TYPES: [OnceLock<FileType>; 16] = [const { OnceLock::new() }; 16];

fn is_of_kind(found: FileType, kind: u8) -> bool {
    match kind {
        libc::DT_REG => found.is_file(),
        libc::DT_DIR => found.is_dir(),
        libc::DT_LNK => found.is_symlink(),
        libc::DT_FIFO => found.is_fifo(),
        libc::DT_SOCK => found.is_socket(),
        libc::DT_CHR => found.is_char_device(),
        libc::DT_BLK => found.is_block_device(),
        _ => false,
    }
}
