//! The names of files: giving them, taking them away, following them.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use ringhold_runtime::ops::{Link, Rename, Symlink, Unlink};
use ringhold_runtime::{Call, ColdCall, Op};

use crate::path::{to_c_string, to_place};

/// Renames what is at `from` to `to`, in one step; a file that has it is replaced.
///
/// The new name is durable when the directory was synced: open it and call
/// [`sync_all`](crate::File::sync_all).
///
/// # Errors
///
/// `NotFound`; `CrossesDevices` for another file system; `DirectoryNotEmpty`, `IsADirectory`,
/// `NotADirectory` where the two don't match; `PermissionDenied`.
///
/// # Cancel safety
///
/// Outcome unknown: dropped, it may take effect or not.
///
/// # Kernel
///
/// `IORING_OP_RENAMEAT`, since 5.11.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// ringhold_fs::write(directory.join("manifest.new"), "2").await?;
/// ringhold_fs::rename(directory.join("manifest.new"), directory.join("manifest")).await?;
/// assert_eq!(ringhold_fs::read(directory.join("manifest")).await?, b"2");
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (to_place(from.as_ref())?, to_place(to.as_ref())?);
    Op::new(Rename { from, to }).await
}

/// Takes a file's name away; the file goes when it has no other and nobody has it open.
///
/// # Errors
///
/// `NotFound`; `IsADirectory` for a directory; `PermissionDenied`.
///
/// # Cancel safety
///
/// Outcome unknown: dropped, it may take effect or not.
///
/// # Kernel
///
/// `IORING_OP_UNLINKAT`, since 5.11.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("file");
/// ringhold_fs::write(&path, "").await?;
/// ringhold_fs::remove_file(&path).await?;
/// let error = ringhold_fs::remove_file(&path).await.unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let place = to_place(path.as_ref())?;
    Op::new(Unlink { place, directory: false }).await
}

/// Removes an empty directory.
///
/// # Errors
///
/// `NotFound`; `DirectoryNotEmpty`; `NotADirectory`; `PermissionDenied`.
///
/// # Cancel safety
///
/// Outcome unknown: dropped, it may take effect or not.
///
/// # Kernel
///
/// `IORING_OP_UNLINKAT` with `AT_REMOVEDIR`, since 5.11.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// ringhold_fs::create_dir(directory.path().join("empty")).await?;
/// ringhold_fs::remove_dir(directory.path().join("empty")).await?;
/// assert!(!ringhold_fs::try_exists(directory.path().join("empty")).await?);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let place = to_place(path.as_ref())?;
    Op::new(Unlink { place, directory: true }).await
}

/// Makes `link` one more name of the file at `original`. A symbolic link gets one itself.
///
/// # Errors
///
/// `NotFound`; `AlreadyExists`; `CrossesDevices`; `EPERM` for a directory.
///
/// # Cancel safety
///
/// Outcome unknown: dropped, it may take effect or not.
///
/// # Kernel
///
/// `IORING_OP_LINKAT`, since 5.15.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// ringhold_fs::write(directory.join("one"), "").await?;
/// ringhold_fs::hard_link(directory.join("one"), directory.join("two")).await?;
/// assert_eq!(ringhold_fs::statx(directory.join("two"), true).await?.nlink(), 2);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (to_place(original.as_ref())?, to_place(link.as_ref())?);
    Op::new(Link { from, to }).await
}

/// Makes a symbolic link at `link` that says `original`.
///
/// # Errors
///
/// `AlreadyExists`; `NotFound` for the directory of `link`; `PermissionDenied`.
///
/// # Cancel safety
///
/// Outcome unknown: dropped, it may take effect or not.
///
/// # Kernel
///
/// `IORING_OP_SYMLINKAT`, since 5.15.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let link = directory.path().join("current");
/// ringhold_fs::symlink("epoch-7", &link).await?;
/// assert_eq!(ringhold_fs::read_link(&link).await?.to_str(), Some("epoch-7"));
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let (target, link) = (to_c_string(original.as_ref())?, to_place(link.as_ref())?);
    Op::new(Symlink { target, link }).await
}

/// What the symbolic link at `path` says.
///
/// # Errors
///
/// `InvalidInput` for what isn't a link; `NotFound`.
///
/// # Cancel safety
///
/// Safe: it changes nothing.
///
/// # Kernel
///
/// A cold call: `readlink`.
pub async fn read_link(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = to_c_string(path.as_ref())?;
    match Op::new(ColdCall::new(Call::ReadLink { path, target: Vec::new() })).await? {
        (_, Call::ReadLink { target, .. }) => Ok(OsString::from_vec(target).into()),
        (_, call) => unreachable!("a question for a link was answered by {call:?}"),
    }
}

/// The absolute path of what is at `path`, without links.
///
/// # Errors
///
/// `NotFound`; `NotADirectory`; `FilesystemLoop`.
///
/// # Cancel safety
///
/// Safe: it changes nothing.
///
/// # Kernel
///
/// A cold call: `realpath`.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// assert_eq!(ringhold_fs::canonicalize("/proc/../.").await?.to_str(), Some("/"));
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = to_c_string(path.as_ref())?;
    match Op::new(ColdCall::new(Call::Canonicalize { path, resolved: Vec::new() })).await? {
        (_, Call::Canonicalize { resolved, .. }) => Ok(OsString::from_vec(resolved).into()),
        (_, call) => unreachable!("a question for a path was answered by {call:?}"),
    }
}
