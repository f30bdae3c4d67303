//! How a file is opened.

use std::io;
use std::path::Path;

use ringhold_runtime::ops::{Alignment, Place};
use ringhold_runtime::{Fd, ask_at_once};

use crate::fifo::Opening;
use crate::file::{File, Target};
use crate::path::{to_c_string, to_place};
use crate::stat::{Stat, statx_of};

/// How a file is opened: everything that std's `OpenOptions` has, and direct I/O.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_fs::OpenOptions;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("journal");
/// let journal = OpenOptions::new().append(true).create(true).open(&path).await?;
/// journal.write_all_at(Vec::from("one"), 0).await?;
/// journal.write_all_at(Vec::from("two"), 0).await?; // whatever the offset says
/// assert_eq!(ringhold_fs::read(&path).await?, b"onetwo");
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    direct: bool,
    mode: u32,
    custom_flags: i32,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions::new()
    }
}

impl OpenOptions {
    /// Opens nothing yet: at least one of [`read`](Self::read), [`write`](Self::write) and
    /// [`append`](Self::append) must be asked for.
    #[must_use]
    pub fn new() -> OpenOptions {
        OpenOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            direct: false,
            mode: 0o666,
            custom_flags: 0,
        }
    }

    /// For reading.
    pub fn read(&mut self, read: bool) -> &mut OpenOptions {
        self.read = read;
        self
    }

    /// For writing. What the file has is overwritten where it is written to.
    pub fn write(&mut self, write: bool) -> &mut OpenOptions {
        self.write = write;
        self
    }

    /// For writing at the end, wherever that is by then: each write is put there, whatever its
    /// offset says. That of a [`direct`](Self::direct) file has to be the end of a block.
    pub fn append(&mut self, append: bool) -> &mut OpenOptions {
        self.append = append;
        self
    }

    /// Cuts the file to no length. Needs [`write`](Self::write).
    pub fn truncate(&mut self, truncate: bool) -> &mut OpenOptions {
        self.truncate = truncate;
        self
    }

    /// Makes the file where there is none. Needs [`write`](Self::write) or
    /// [`append`](Self::append).
    pub fn create(&mut self, create: bool) -> &mut OpenOptions {
        self.create = create;
        self
    }

    /// Makes the file, and fails where there is one, be it a link that leads nowhere.
    /// [`create`](Self::create) and [`truncate`](Self::truncate) then don't matter.
    pub fn create_new(&mut self, create_new: bool) -> &mut OpenOptions {
        self.create_new = create_new;
        self
    }

    /// Past the page cache (`O_DIRECT`). Buffers, offsets and lengths must be aligned, see
    /// [`File::alignment`]; what isn't is refused with an
    /// [`AlignmentError`](ringhold_runtime::ops::AlignmentError) before the kernel sees it. A lease
    /// of whole blocks is aligned. Through the cursor the buffer is the file's own: it is read from
    /// anywhere, and written in whole blocks.
    pub fn direct(&mut self, direct: bool) -> &mut OpenOptions {
        self.direct = direct;
        self
    }

    /// The permission bits of a file that is made, before the process's mask; `0o666` where nothing
    /// is said.
    pub fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.mode = mode;
        self
    }

    /// More `O_*` flags. The access mode is not taken from here.
    pub fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.custom_flags = flags;
        self
    }

    /// Opens the file. One end of a FIFO waits for the other, unless `O_NONBLOCK` is among the
    /// [`custom_flags`](Self::custom_flags) or it is both ends.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for options that contradict each other, and for [`direct`](Self::direct) on a
    /// file system without direct I/O; `NotFound`, `PermissionDenied`, `AlreadyExists` for
    /// [`create_new`](Self::create_new); `EMFILE` where the process has no descriptor left.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: a file may have been made or cut off. Nothing stays open.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_OPENAT`, since 5.6; for a direct file also `IORING_OP_STATX`. An end of a FIFO
    /// waits on a thread of the ring's, of which there is one more for it.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_path(path.as_ref()).await
    }

    async fn open_path(&self, path: &Path) -> io::Result<File> {
        let (place, flags) = (to_place(path)?, self.flags()?);
        if let Some(opened) = ask_at_once(|files| files.open(&place.path, flags)).await {
            let descriptor = Fd::brought(opened? as u32);
            descriptor.set_answers_at_once();
            let appends = flags & libc::O_APPEND != 0;
            return Ok(File::own(Target { descriptor, alignment: None, appends }));
        }
        self.open_place(place, false).await
    }

    /// Opens the file at `path` below `directory`, which the path can't lead out of: neither by
    /// `..`, nor as an absolute path, nor by a symbolic link on its way or at its end. What is
    /// renamed meanwhile opens no way out either.
    ///
    /// A server of a directory opens what it is asked for by this.
    ///
    /// # Errors
    ///
    /// `CrossesDevices` (`EXDEV`) for a path that leads out; `WouldBlock` (`EAGAIN`) where a rename
    /// at the same time kept the kernel from telling; `Unsupported` (`ENOSYS`) on a simulated host,
    /// and under filters that forbid the call; and as for [`open`](OpenOptions::open).
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: a file may have been made or cut off. Nothing stays open.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_OPENAT2`, since 5.6; for a direct file also `IORING_OP_STATX`.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("root");
    /// # ringhold_fs::create_dir(&path).await?;
    /// # ringhold_fs::write(path.join("file"), "inside").await?;
    /// # ringhold_fs::write(directory.path().join("secret"), "outside").await?;
    /// use ringhold_fs::{File, OpenOptions};
    ///
    /// let root = File::open(&path).await?;
    /// let mut options = OpenOptions::new();
    /// let file = options.read(true).open_beneath(&root, "file").await?;
    /// assert_eq!(file.statx().await?.len(), 6);
    /// let error = options.open_beneath(&root, "../secret").await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::CrossesDevices);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn open_beneath(&self, directory: &File, path: impl AsRef<Path>) -> io::Result<File> {
        let place = Place::within(&directory.target.descriptor, to_c_string(path.as_ref())?);
        self.open_place(place, true).await
    }

    async fn open_place(&self, place: Place, beneath: bool) -> io::Result<File> {
        let flags = self.flags()?;
        let direct = flags & libc::O_DIRECT != 0;
        let opened = Opening { place, flags, mode: self.mode, beneath }.open().await;
        let descriptor = opened.map_err(|error| explain(error, direct))?;
        descriptor.learn_whether_it_may_hang();
        let alignment = match direct {
            true => alignment_of(&statx_of(&descriptor).await?),
            false => None,
        };
        let appends = flags & libc::O_APPEND != 0;
        Ok(File::own(Target { descriptor, alignment, appends }))
    }

    /// The flags of `open(2)`, by the rules of std.
    fn flags(&self) -> io::Result<i32> {
        let access = match (self.read, self.write, self.append) {
            (true, false, false) => libc::O_RDONLY,
            (false, true, false) => libc::O_WRONLY,
            (true, true, false) => libc::O_RDWR,
            (false, _, true) => libc::O_WRONLY | libc::O_APPEND,
            (true, _, true) => libc::O_RDWR | libc::O_APPEND,
            (false, false, false) => {
                return Err(contradiction("a file is opened for reading, writing or appending"));
            }
        };
        if !self.write && !self.append && (self.truncate || self.create || self.create_new) {
            return Err(contradiction(
                "a file is made or cut off only when it is opened for writing or appending",
            ));
        }
        if self.append && self.truncate && !self.create_new {
            return Err(contradiction("a file is either cut off or appended to"));
        }
        let creation = match (self.create, self.truncate, self.create_new) {
            (_, _, true) => libc::O_CREAT | libc::O_EXCL,
            (create, truncate, false) => {
                (if create { libc::O_CREAT } else { 0 })
                    | (if truncate { libc::O_TRUNC } else { 0 })
            }
        };
        let direct = if self.direct { libc::O_DIRECT } else { 0 };
        Ok(access | creation | direct | (self.custom_flags & !libc::O_ACCMODE))
    }
}

/// `O_DIRECT` of a pipe is another matter.
fn alignment_of(stat: &Stat) -> Option<Alignment> {
    let has_blocks = matches!(stat.mode() & libc::S_IFMT, libc::S_IFREG | libc::S_IFBLK);
    has_blocks.then(|| stat.direct_alignment())
}

fn contradiction(rule: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, rule)
}

/// `EINVAL` of an open with `O_DIRECT` is the file system's way to say that it has none.
fn explain(error: io::Error, direct: bool) -> io::Error {
    if direct && error.raw_os_error() == Some(libc::EINVAL) {
        return io::Error::new(
            io::ErrorKind::InvalidInput,
            "this file system has no direct I/O (EINVAL for O_DIRECT): open the file without it",
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ_WRITE_APPEND: [[bool; 3]; 8] = [
        [false, false, false],
        [true, false, false],
        [false, true, false],
        [true, true, false],
        [false, false, true],
        [true, false, true],
        [false, true, true],
        [true, true, true],
    ];

    #[test]
    fn std_takes_and_refuses_the_same_combinations() {
        let directory = tempfile::tempdir().unwrap();
        for [read, write, append] in READ_WRITE_APPEND {
            for bits in 0..8_u32 {
                let [truncate, create, create_new] = [1, 2, 4].map(|bit| bits & bit != 0);
                let path = directory.path().join(format!("{read}{write}{append}{bits}"));
                if !create && !create_new {
                    std::fs::write(&path, "").unwrap();
                }
                let mut theirs = std::fs::OpenOptions::new();
                theirs.read(read).write(write).append(append);
                theirs.truncate(truncate).create(create).create_new(create_new);
                let mut ours = OpenOptions::new();
                ours.read(read).write(write).append(append);
                ours.truncate(truncate).create(create).create_new(create_new);
                let theirs = theirs.open(&path).map(drop).map_err(|error| error.kind());
                let ours = ours.flags().map(drop).map_err(|error| error.kind());
                assert_eq!(ours, theirs, "{read} {write} {append} {bits:#b}");
            }
        }
    }

    #[test]
    fn the_access_mode_of_custom_flags_is_left_out() {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_RDWR | libc::O_NOFOLLOW);
        assert_eq!(options.flags().unwrap(), libc::O_NOFOLLOW);
    }
}
