//! What files are and who may use them, in std's types.

use std::ffi::CString;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ringhold_runtime::{Call, ColdCall, Fd, Op, ask_at_once};

use crate::path::to_c_string;
use crate::stat::statx;

/// Where a path begins: in the working directory, unless it is absolute.
const HERE: i32 = libc::AT_FDCWD;

/// Asks what is at `path`; links are followed.
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
/// a cold call elsewhere.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// let metadata: std::fs::Metadata = ringhold_fs::metadata("/").await?;
/// assert!(metadata.is_dir());
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    ask(path.as_ref(), true).await
}

/// Asks what is at `path`; of a link at its end, what the link is.
///
/// # Errors
///
/// As for [`metadata`].
///
/// # Cancel safety
///
/// Safe: it changes nothing.
///
/// # Kernel
///
/// As for [`metadata`].
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// assert!(ringhold_fs::symlink_metadata("/proc/self").await?.is_symlink());
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    ask(path.as_ref(), false).await
}

async fn ask(path: &Path, follow: bool) -> io::Result<Metadata> {
    let path = to_c_string(path)?;
    if let Some(answer) = ask_at_once(|files| files.metadata(HERE, &path, follow)).await {
        return answer;
    }
    answer(ColdCall::new(Call::Metadata { path, follow, metadata: None })).await
}

pub(crate) async fn metadata_of(file: &Fd) -> io::Result<Metadata> {
    if let Some(answer) = ask_at_once(|files| files.metadata_of(file.descriptor())).await {
        return answer;
    }
    answer(ColdCall::on(file, |file| Call::MetadataOf { file, metadata: None })).await
}

/// What an entry of an open directory is, whatever became of the directory's path.
pub(crate) async fn metadata_within(directory: &Fd, name: CString) -> io::Result<Metadata> {
    let begin = directory.descriptor();
    if let Some(answer) = ask_at_once(|files| files.metadata(begin, &name, false)).await {
        return answer;
    }
    let call = |directory| Call::MetadataWithin { directory, name, metadata: None };
    answer(ColdCall::on(directory, call)).await
}

async fn answer(call: ColdCall) -> io::Result<Metadata> {
    match Op::new(call).await? {
        (_, Call::Metadata { metadata: Some(metadata), .. })
        | (_, Call::MetadataOf { metadata: Some(metadata), .. })
        | (_, Call::MetadataWithin { metadata: Some(metadata), .. }) => Ok(*metadata),
        (_, call) => unreachable!("a question for metadata was answered by {call:?}"),
    }
}

/// Whether there is something at `path`; links are followed.
///
/// # Errors
///
/// Where that can't be known, such as `PermissionDenied`.
///
/// # Cancel safety
///
/// Safe: it changes nothing.
///
/// # Kernel
///
/// As for [`statx`].
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// assert!(ringhold_fs::try_exists("/").await?);
/// assert!(!ringhold_fs::try_exists("/no such file").await?);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn try_exists(path: impl AsRef<Path>) -> io::Result<bool> {
    match statx(path.as_ref(), true).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sets the permission bits of what is at `path`; links are followed.
///
/// # Errors
///
/// `NotFound`, and `PermissionDenied` (`EPERM`) for a file of another owner.
///
/// # Cancel safety
///
/// Outcome unknown: dropped, it may take effect or not.
///
/// # Kernel
///
/// A cold call: `chmod`.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use std::os::unix::fs::PermissionsExt;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("file");
/// ringhold_fs::write(&path, "secret").await?;
/// ringhold_fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).await?;
/// assert_eq!(ringhold_fs::metadata(&path).await?.permissions().mode() & 0o777, 0o600);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    let path = to_c_string(path.as_ref())?;
    let call = Call::SetMode { path, mode: permissions.mode() };
    Op::new(ColdCall::new(call)).await.map(drop)
}
