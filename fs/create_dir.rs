//! Making directories.

use std::io;
use std::path::Path;

use ringhold_runtime::Op;
use ringhold_runtime::ops::MakeDirectory;

use crate::path::to_place;
use crate::stat::statx;

/// How a directory is made.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("a/b");
/// ringhold_fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).await?;
/// assert_eq!(ringhold_fs::statx(&path, true).await?.mode() & 0o777, 0o700);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct DirBuilder {
    recursive: bool,
    mode: u32,
}

impl Default for DirBuilder {
    fn default() -> DirBuilder {
        DirBuilder::new()
    }
}

impl DirBuilder {
    /// Makes one directory, with the permission bits `0o777` before the process's mask.
    #[must_use]
    pub fn new() -> DirBuilder {
        DirBuilder { recursive: false, mode: 0o777 }
    }

    /// Makes what is missing of the path before as well, and takes a directory that is there
    /// already.
    pub fn recursive(&mut self, recursive: bool) -> &mut DirBuilder {
        self.recursive = recursive;
        self
    }

    /// The permission bits, before the process's mask.
    pub fn mode(&mut self, mode: u32) -> &mut DirBuilder {
        self.mode = mode;
        self
    }

    /// Makes the directory.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, unless it is [`recursive`](DirBuilder::recursive) and there is a directory;
    /// `NotFound`, unless it is recursive; `NotADirectory`; `PermissionDenied`.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: dropped, some, all or none may have been made.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_MKDIRAT`, since 5.15.
    pub async fn create(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        if self.recursive { self.create_all(path).await } else { self.create_one(path).await }
    }

    async fn create_one(&self, path: &Path) -> io::Result<()> {
        let place = to_place(path)?;
        Op::new(MakeDirectory { place, mode: self.mode }).await
    }

    /// Goes up until a directory can be made, and down again.
    async fn create_all(&self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for ancestor in path.ancestors() {
            // The beginning of a relative path is there.
            if ancestor.as_os_str().is_empty() {
                break;
            }
            match self.create_or_find(ancestor).await {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(ancestor),
                Err(error) => return Err(error),
            }
        }
        while let Some(next) = missing.pop() {
            self.create_or_find(next).await?;
        }
        Ok(())
    }

    /// Somebody else may make the same directory at the same time: that is just as well.
    async fn create_or_find(&self, path: &Path) -> io::Result<()> {
        match self.create_one(path).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(error) => match statx(path, true).await {
                Ok(found) if found.is_dir() => Ok(()),
                _ => Err(error),
            },
        }
    }
}

/// Makes a directory.
///
/// # Errors
///
/// `AlreadyExists`; `NotFound` for the directory above; `PermissionDenied`.
///
/// # Cancel safety
///
/// Outcome unknown: dropped, it may take effect or not.
///
/// # Kernel
///
/// `IORING_OP_MKDIRAT`, since 5.15.
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    DirBuilder::new().create(path).await
}

/// Makes a directory and what is missing of the path before. One that is there already is as good.
///
/// # Errors
///
/// `NotADirectory` or `AlreadyExists` where something else is in the way; `PermissionDenied`.
///
/// # Cancel safety
///
/// Outcome unknown: dropped, some, all or none may have been made.
///
/// # Kernel
///
/// `IORING_OP_MKDIRAT`, since 5.15.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("a/b/c");
/// ringhold_fs::create_dir_all(&path).await?;
/// ringhold_fs::create_dir_all(&path).await?;
/// assert!(ringhold_fs::try_exists(&path).await?);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path).await
}
