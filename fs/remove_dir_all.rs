//! Removing a directory with all that is in it, and nothing else.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::vec;

use ringhold_runtime::ops::{Place, Unlink};
use ringhold_runtime::{DirectoryEntry, Fd, Op};

use crate::names::remove_file;
use crate::path::to_place;
use crate::read_dir::{open_directory, read_batch};
use crate::stat::statx;

/// A directory that is being emptied. It is reached by its descriptor, so that nobody can put a
/// link in its place and have something else emptied.
struct Level {
    directory: Fd,
    /// In the directory above; the first one's is the path that was asked for.
    name: CString,
    entries: vec::IntoIter<DirectoryEntry>,
}

/// Removes a directory with all that is in it. No link is followed: of a link at the path's end,
/// the link is removed.
///
/// # Errors
///
/// `NotFound`; `NotADirectory`; `PermissionDenied`; `DirectoryNotEmpty` where others make entries
/// meanwhile; `EMFILE`: each level of the tree takes a descriptor. Some of the entries may be gone
/// then.
///
/// # Cancel safety
///
/// Loses progress: dropped, some of the entries may be gone. Beginning again is harmless.
///
/// # Kernel
///
/// `IORING_OP_OPENAT` and `IORING_OP_UNLINKAT`, since 5.11, and a cold call for each directory:
/// `getdents64`.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let tree = directory.path().join("tree");
/// ringhold_fs::create_dir_all(tree.join("a/b")).await?;
/// ringhold_fs::write(tree.join("a/file"), "").await?;
/// ringhold_fs::symlink("/", tree.join("a/root")).await?;
/// ringhold_fs::remove_dir_all(&tree).await?;
/// assert!(!ringhold_fs::try_exists(&tree).await?);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    if statx(path, false).await?.is_symlink() {
        return remove_file(path).await;
    }
    let place = to_place(path)?;
    let mut levels = vec![Level::open(place.clone()).await?];
    while let Some(level) = levels.last_mut() {
        if let Some(entry) = level.entries.next() {
            if let Some(below) = level.remove_or_descend(entry).await? {
                levels.push(below);
            }
            continue;
        }
        let batch = read_batch(&level.directory).await?;
        if !batch.is_empty() {
            level.entries = batch.into_iter();
            continue;
        }
        let emptied = levels.pop().expect("the loop looks at the last level");
        match levels.last() {
            Some(above) => tolerate_absence(above.unlink(emptied.name, true).await)?,
            None => Op::new(Unlink { place: place.clone(), directory: true }).await?,
        }
    }
    Ok(())
}

impl Level {
    async fn open(place: Place) -> io::Result<Level> {
        let name = place.path.clone();
        let directory = open_directory(place, libc::O_NOFOLLOW).await?;
        Ok(Level { directory, name, entries: Vec::new().into_iter() })
    }

    /// Removes an entry, or gives the directory that it is.
    async fn remove_or_descend(&self, entry: DirectoryEntry) -> io::Result<Option<Level>> {
        if matches!(entry.kind, libc::DT_DIR | libc::DT_UNKNOWN) {
            match Level::open(Place::within(&self.directory, entry.name.clone())).await {
                Ok(below) => return Ok(Some(below)),
                // No directory, or a link to one: not to be followed, but to be removed.
                Err(error) if is_no_directory(&error) => {}
                Err(error) => return tolerate_absence(Err(error)).map(|()| None),
            }
        }
        tolerate_absence(self.unlink(entry.name, false).await).map(|()| None)
    }

    async fn unlink(&self, name: CString, directory: bool) -> io::Result<()> {
        Op::new(Unlink { place: Place::within(&self.directory, name), directory }).await
    }
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP))
}

/// What somebody else removed is removed.
fn tolerate_absence(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
