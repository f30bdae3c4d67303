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

/// How many levels of a tree are held open above the one that is being emptied. Of those further up
/// every sixteenth stays open, so that a deep tree takes few descriptors.
const HELD_LEVELS: usize = 16;

/// Removes a directory with all that is in it. No link is followed: of a link at the path's end,
/// the link is removed, and what is put in the place of a directory meanwhile leads nowhere else.
///
/// Others may remove from the same tree at the same time: what they removed is removed.
///
/// # Errors
///
/// `NotFound` where there is nothing at first; `NotADirectory`; `PermissionDenied`;
/// `DirectoryNotEmpty` where others make entries meanwhile; `EMFILE`: a tree of *n* levels takes up
/// to 16 + *n* / 16 descriptors. Some of the entries may be gone then.
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
    let mut tree = Tree { place: to_place(path)?, levels: Vec::new() };
    tree.descend(open(tree.place.clone()).await?, tree.place.path.clone());
    while tree.step().await? {}
    Ok(())
}

/// A tree of directories, of which the path's own is level 0 and the last one is being emptied.
/// They are reached by their descriptors and by single names, so nothing that is put in the place
/// of one, a link say, leads anywhere else.
struct Tree {
    place: Place,
    levels: Vec<Level>,
}

struct Level {
    /// `None` for a level that isn't held open.
    directory: Option<Fd>,
    /// In the directory above.
    name: CString,
    entries: vec::IntoIter<DirectoryEntry>,
}

impl Tree {
    /// Removes an entry or goes down into it; at the end of a directory, removes that. Returns
    /// whether anything is left.
    async fn step(&mut self) -> io::Result<bool> {
        let Some(directory) = self.reach_last().await? else {
            return self.ascend().await;
        };
        let last = self.levels.last_mut().expect("the last level was reached");
        if let Some(entry) = last.entries.next() {
            let name = entry.name.clone();
            if let Some(below) = remove_or_open(&directory, entry).await? {
                self.descend(below, name);
            }
            return Ok(true);
        }
        let batch = read_batch(&directory).await?;
        if batch.is_empty() {
            return self.ascend().await;
        }
        last.entries = batch.into_iter();
        Ok(true)
    }

    fn descend(&mut self, directory: Fd, name: CString) {
        let entries = Vec::new().into_iter();
        self.levels.push(Level { directory: Some(directory), name, entries });
        if let Some(above) = self.levels.len().checked_sub(HELD_LEVELS + 1)
            && !above.is_multiple_of(HELD_LEVELS)
        {
            self.levels[above].directory = None;
        }
    }

    /// The last level's directory, opened again by the names that lead to it where it isn't held.
    /// `None` where it was removed or moved away meanwhile: nothing in it is ours to remove.
    async fn reach_last(&mut self) -> io::Result<Option<Fd>> {
        let held = self.levels.iter().rposition(|level| level.directory.is_some());
        let first = held.expect("the first level is held") + 1;
        for index in first..self.levels.len() {
            let above = self.levels[index - 1].directory.as_ref().expect("it was just reached");
            match open(Place::within(above, self.levels[index].name.clone())).await {
                Ok(directory) => self.levels[index].directory = Some(directory),
                Err(error) if is_absence(&error) || is_no_directory(&error) => {
                    // What lies below went with it.
                    self.levels.truncate(index + 1);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.levels.last().and_then(|level| level.directory.clone()))
    }

    /// Leaves the last level and removes it. Returns whether there is another one above.
    async fn ascend(&mut self) -> io::Result<bool> {
        let emptied = self.levels.pop().expect("there is a last level");
        if self.levels.is_empty() {
            return tolerate_absence(unlink(self.place.clone(), true).await).map(|()| false);
        }
        if let Some(above) = self.reach_last().await? {
            let place = Place::within(&above, emptied.name);
            match unlink(place.clone(), true).await {
                // Something else has the name now.
                Err(error) if is_no_directory(&error) => {
                    tolerate_absence(unlink(place, false).await)?;
                }
                outcome => tolerate_absence(outcome)?,
            }
        }
        Ok(true)
    }
}

/// Removes an entry, or returns the directory that it is.
async fn remove_or_open(directory: &Fd, entry: DirectoryEntry) -> io::Result<Option<Fd>> {
    let place = Place::within(directory, entry.name);
    if !matches!(entry.kind, libc::DT_DIR | libc::DT_UNKNOWN) {
        match unlink(place.clone(), false).await {
            // It was a file when it was listed.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
            outcome => return tolerate_absence(outcome).map(|()| None),
        }
    }
    match open(place.clone()).await {
        Ok(below) => Ok(Some(below)),
        // No directory, or a link to one: not to be followed, but to be removed.
        Err(error) if is_no_directory(&error) => {
            tolerate_absence(unlink(place, false).await).map(|()| None)
        }
        Err(error) => tolerate_absence(Err(error)).map(|()| None),
    }
}

async fn open(place: Place) -> io::Result<Fd> {
    open_directory(place, libc::O_NOFOLLOW).await
}

async fn unlink(place: Place, directory: bool) -> io::Result<()> {
    Op::new(Unlink { place, directory }).await
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP))
}

fn is_absence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// What others removed is removed.
fn tolerate_absence(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if is_absence(&error) => Ok(()),
        outcome => outcome,
    }
}
