//! Whole files at once.

use std::io;
use std::path::Path;

use ringhold_buffers::IoBuf;
use ringhold_runtime::{Call, ColdCall, Op, ask_at_once, read_at_once, read_file_at_once};

use crate::file::{File, Target};
use crate::open_options::OpenOptions;
use crate::path::to_c_string;
use crate::positional::write_all;
use crate::stat::Stat;

/// What is read before a file's length is asked for, in bytes: most files are smaller, and asking
/// costs more than reading.
const FIRST_READ_BYTES: usize = 8 * 1024;

/// How much is read at once before other tasks may have their turn, in bytes.
const AT_ONCE_BYTES: usize = 1 << 20;

/// What one call writes, with the opening and closing of the file, in bytes.
const WRITE_BYTES: usize = 1024 * 1024;

/// What one call copies, in bytes: long enough to be worth its way, short enough not to hold up the
/// calls behind it.
const COPY_BYTES: u32 = 1024 * 1024;

/// What one read of a copy takes where the kernel can't copy by itself, in bytes.
const COPY_BUFFER_BYTES: usize = 256 * 1024;

/// Reads a whole file.
///
/// # Errors
///
/// As for [`File::open`] and [`File::read_at`]; `OutOfMemory` for a file that has no room in
/// memory.
///
/// # Cancel safety
///
/// Safe: it changes nothing.
///
/// # Kernel
///
/// What is in the page cache is read at once, where the file system answers from memory (since
/// 6.12). The rest by `IORING_OP_OPENAT`, `IORING_OP_READ`, and `IORING_OP_STATX` for a longer
/// file, since 5.6.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("file");
/// ringhold_fs::write(&path, [7; 20_000]).await?;
/// assert_eq!(ringhold_fs::read(&path).await?, [7; 20_000]);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    if let Some(bytes) = read_file_at_once(&to_c_string(path)?, AT_ONCE_BYTES).await {
        return bytes;
    }
    let file = File::open(path).await?;
    read_to_end(&file).await
}

async fn read_to_end(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if read_cached(file, &mut bytes).await? {
        return Ok(bytes);
    }
    let mut is_length_known = bytes.capacity() > 0;
    bytes.try_reserve(FIRST_READ_BYTES)?;
    loop {
        let begin = bytes.len();
        let (count, slice) = file.target.read(bytes.slice(begin..), begin as u64).await?;
        bytes = slice.into_inner();
        if count == 0 {
            bytes.shrink_to_fit();
            return Ok(bytes);
        }
        if bytes.len() < bytes.capacity() {
            continue;
        }
        if is_length_known {
            bytes.try_reserve(FIRST_READ_BYTES)?;
        } else {
            is_length_known = true;
            let length = usize::try_from(file.statx().await?.len()).unwrap_or(usize::MAX);
            // One byte more, so that the read that finds the end needs no more room.
            let rest = length.saturating_sub(bytes.len()).saturating_add(1);
            bytes.try_reserve_exact(rest.max(FIRST_READ_BYTES))?;
        }
    }
}

/// Reads as much from the file's start as is in memory, if its length can be told at once. Says
/// whether that was all.
async fn read_cached(file: &File, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let descriptor = &file.target.descriptor;
    let Some(stat) = ask_at_once(|files| files.statx_of(descriptor.descriptor())).await else {
        return Ok(false);
    };
    let length = usize::try_from(Stat::new(stat?).len()).unwrap_or(usize::MAX);
    // One byte more, so that the read that finds the end needs no more room.
    bytes.try_reserve_exact(length.saturating_add(1))?;
    while bytes.len() < bytes.capacity() {
        let begin = bytes.len() as u64;
        match read_at_once(descriptor, bytes, AT_ONCE_BYTES, begin).await {
            None => return Ok(false),
            Some(0) => return Ok(true),
            Some(_) => {}
        }
    }
    Ok(false)
}

/// Reads a whole file as text.
///
/// # Errors
///
/// `InvalidData` for what isn't UTF-8; and as for [`read`].
///
/// # Cancel safety
///
/// Safe: it changes nothing.
///
/// # Kernel
///
/// As for [`read`].
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("file");
/// ringhold_fs::write(&path, "grüß Gott").await?;
/// assert_eq!(ringhold_fs::read_to_string(&path).await?, "grüß Gott");
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path).await?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// Makes `contents` the whole of a file, and closes it. The bytes are copied first, since the
/// kernel needs them for itself; [`File::write_all_at`] takes a buffer that needs no copy.
///
/// # Errors
///
/// As for [`File::create`], [`File::write_at`] and [`File::close`].
///
/// # Cancel safety
///
/// Outcome unknown: the file may have been made, cut off, or written in part.
///
/// # Kernel
///
/// One cold call; for more than a mebibyte `IORING_OP_OPENAT`, `IORING_OP_WRITE` and
/// `IORING_OP_CLOSE`, since 5.6.
pub async fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let bytes = contents.as_ref().to_vec();
    if bytes.len() <= WRITE_BYTES && ringhold_runtime::system().at_once().writes_whole() {
        let path = to_c_string(path.as_ref())?;
        return Op::new(ColdCall::new(Call::WriteWhole { path, bytes })).await.map(drop);
    }
    let file = File::create(path).await?;
    if !bytes.is_empty() {
        write_all(file.target.clone(), bytes, 0).await?;
    }
    file.close().await
}

/// Copies the bytes and the permission bits of a regular file, over what is at `to`. Returns the
/// count of bytes.
///
/// Within a file system that can, no byte is moved (`copy_file_range`).
///
/// # Errors
///
/// `InvalidInput` where `from` is no regular file; and as for [`read()`] and [`write()`].
///
/// # Cancel safety
///
/// Outcome unknown: the file may have been made, cut off, or written in part.
///
/// # Kernel
///
/// Cold calls: `copy_file_range`, `fchmod`; between file systems that can't, `IORING_OP_READ` and
/// `IORING_OP_WRITE`.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// ringhold_fs::write(directory.join("one"), [7; 100_000]).await?;
/// let count = ringhold_fs::copy(directory.join("one"), directory.join("two")).await?;
/// assert_eq!(count, 100_000);
/// assert_eq!(ringhold_fs::read(directory.join("two")).await?, [7; 100_000]);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let source = File::open(from).await?;
    let stat = source.statx().await?;
    if !stat.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "only a regular file, or a link to one, is copied",
        ));
    }
    let target = open_copy(&stat, to.as_ref()).await?;
    let copied = copy_by_kernel(&source, &target).await?;
    let copied = copy_by_buffer(&source.target, &target.target, copied).await?;
    target.close().await?;
    Ok(copied)
}

/// Bits of a device that is written to are left alone.
async fn open_copy(source: &Stat, path: &Path) -> io::Result<File> {
    let mode = source.mode() & 0o7777;
    let mut options = OpenOptions::new();
    let target = options.write(true).create(true).truncate(true).mode(mode).open(path).await?;
    if target.statx().await?.is_file() {
        target.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).await?;
    }
    Ok(target)
}

/// Copies as far as the kernel does that by itself, and gives how far that was.
async fn copy_by_kernel(source: &File, target: &File) -> io::Result<u64> {
    let mut offset = 0;
    loop {
        let (source, target) = (source.target.descriptor.held(), target.target.descriptor.held());
        let call = Call::CopyRange { source, target, offset, length: COPY_BYTES };
        match Op::new(ColdCall::new(call)).await {
            Ok((0, _)) => return Ok(offset),
            Ok((count, _)) => offset += u64::from(count),
            Err(error) => match error.raw_os_error() {
                Some(
                    libc::EXDEV
                    | libc::EINVAL
                    | libc::EOPNOTSUPP
                    | libc::ENOSYS
                    | libc::EPERM
                    | libc::EBADF
                    | libc::ETXTBSY,
                ) => return Ok(offset),
                _ => return Err(error),
            },
        }
    }
}

/// Copies what is left from `offset` on, which is nothing where the kernel could do it all.
async fn copy_by_buffer(source: &Target, target: &Target, mut offset: u64) -> io::Result<u64> {
    let mut buffer = Vec::with_capacity(COPY_BUFFER_BYTES);
    loop {
        buffer.clear();
        let (count, filled) = source.read(buffer, offset).await?;
        if count == 0 {
            return Ok(offset);
        }
        (_, buffer) = write_all(target.clone(), filled, offset).await?;
        offset += count as u64;
    }
}
