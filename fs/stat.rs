//! What a file is, as `statx` says it.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ringhold_runtime::ops::{Alignment, Place, Statx};
use ringhold_runtime::{Fd, Op, ask_at_once};

use crate::path::to_c_string;

/// What a direct file asks for where its file system doesn't say: a page, which every block device
/// takes.
const UNKNOWN_ALIGNMENT_BYTES: u32 = 4096;

/// The least that is asked of direct I/O, in bytes. Some file systems name less than a sector for
/// the memory, and kernels differ in whether they mean it.
const LEAST_ALIGNMENT_BYTES: u32 = 512;

/// What a file is: the answer of [`statx`], or of [`File::statx`](crate::File::statx).
///
/// It tells more than std's `Metadata`, which [`metadata`](crate::metadata) returns.
#[derive(Clone, Copy)]
pub struct Stat(libc::statx);

impl Stat {
    pub(crate) fn new(answer: libc::statx) -> Stat {
        Stat(answer)
    }

    /// The length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "std's `Metadata` has no `is_empty` either")]
    pub fn len(&self) -> u64 {
        self.0.stx_size
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.is_kind(libc::S_IFREG)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.is_kind(libc::S_IFDIR)
    }

    /// Whether it is a symbolic link. Only [`statx`] with `follow = false` ever says so.
    pub fn is_symlink(&self) -> bool {
        self.is_kind(libc::S_IFLNK)
    }

    fn is_kind(&self, kind: u32) -> bool {
        self.mode() & libc::S_IFMT == kind
    }

    /// The kind (`S_IFMT`) and the permission bits.
    pub fn mode(&self) -> u32 {
        u32::from(self.0.stx_mode)
    }

    /// The owner.
    pub fn uid(&self) -> u32 {
        self.0.stx_uid
    }

    /// The owner's group.
    pub fn gid(&self) -> u32 {
        self.0.stx_gid
    }

    /// The inode's number.
    pub fn ino(&self) -> u64 {
        self.0.stx_ino
    }

    /// The number of the device that it lies on.
    pub fn dev(&self) -> u64 {
        libc::makedev(self.0.stx_dev_major, self.0.stx_dev_minor)
    }

    /// The number of the device that it is.
    pub fn rdev(&self) -> u64 {
        libc::makedev(self.0.stx_rdev_major, self.0.stx_rdev_minor)
    }

    /// How many names it has.
    pub fn nlink(&self) -> u64 {
        u64::from(self.0.stx_nlink)
    }

    /// The size of a transfer that the file system likes, in bytes.
    pub fn blksize(&self) -> u64 {
        u64::from(self.0.stx_blksize)
    }

    /// The space it takes, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.0.stx_blocks
    }

    /// When its bytes changed last.
    pub fn modified(&self) -> SystemTime {
        to_time(&self.0.stx_mtime)
    }

    /// When it was read last, as far as the mount option keeps that.
    pub fn accessed(&self) -> SystemTime {
        to_time(&self.0.stx_atime)
    }

    /// When its inode changed last.
    pub fn changed(&self) -> SystemTime {
        to_time(&self.0.stx_ctime)
    }

    /// When it was made, where the file system keeps that.
    pub fn created(&self) -> Option<SystemTime> {
        (self.0.stx_mask & libc::STATX_BTIME != 0).then(|| to_time(&self.0.stx_btime))
    }

    /// What direct I/O on it must be aligned to. Where the file system doesn't say, 4096 bytes for
    /// everything.
    pub fn direct_alignment(&self) -> Alignment {
        let said = self.0.stx_mask & libc::STATX_DIOALIGN != 0;
        match said {
            true => alignment_of(self.0.stx_dio_mem_align, self.0.stx_dio_offset_align),
            false => alignment_of(0, 0),
        }
    }
}

/// What direct I/O asks for, where 0 is not to say.
pub(crate) fn alignment_of(memory: u32, offset: u32) -> Alignment {
    let or_page = |bytes: u32| match bytes {
        0 => UNKNOWN_ALIGNMENT_BYTES,
        bytes => bytes.max(LEAST_ALIGNMENT_BYTES),
    };
    Alignment { memory: or_page(memory), offset: or_page(offset) }
}

impl fmt::Debug for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stat")
            .field("mode", &format_args!("{:#o}", self.mode()))
            .field("len", &self.len())
            .field("dev", &self.dev())
            .field("ino", &self.ino())
            .field("modified", &self.modified())
            .finish_non_exhaustive()
    }
}

fn to_time(stamp: &libc::statx_timestamp) -> SystemTime {
    let nanoseconds = Duration::from_nanos(u64::from(stamp.tv_nsec));
    let seconds = Duration::from_secs(stamp.tv_sec.unsigned_abs());
    if stamp.tv_sec < 0 {
        SystemTime::UNIX_EPOCH - seconds + nanoseconds
    } else {
        SystemTime::UNIX_EPOCH + seconds + nanoseconds
    }
}

/// Asks what is at `path`. With `follow`, a link at its end is followed.
///
/// # Errors
///
/// `NotFound` where there is nothing, `PermissionDenied` where a directory of the path can't be
/// searched.
///
/// # Cancel safety
///
/// Safe: it changes nothing.
///
/// # Kernel
///
/// `statx` at once of what stands in memory, where the file system answers from there (since 6.12);
/// `IORING_OP_STATX`, since 5.6, elsewhere. The alignment of direct I/O since 6.1.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// let directory = ringhold_fs::statx("/", true).await?;
/// assert!(directory.is_dir() && directory.nlink() > 0);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn statx(path: impl AsRef<Path>, follow: bool) -> io::Result<Stat> {
    let path = to_c_string(path.as_ref())?;
    if let Some(answer) = ask_at_once(|files| files.statx(&path, follow)).await {
        return answer.map(Stat::new);
    }
    Op::new(Statx::path(Place::new(path), follow)).await.map(Stat::new)
}

/// Asks what an open file is.
pub(crate) async fn statx_of(file: &Fd) -> io::Result<Stat> {
    if let Some(answer) = ask_at_once(|files| files.statx_of(file.descriptor())).await {
        return answer.map(Stat::new);
    }
    Op::new(Statx::file(file)).await.map(Stat::new)
}
