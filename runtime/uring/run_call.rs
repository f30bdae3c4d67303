//! Cold calls on Linux: what each of them does. Runs on a thread that may block.
#![allow(unsafe_code)] // Descriptors that a call names and its operation keeps open.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use ringhold_kernel::{Ahead, Call, DirectoryEntry, NewDescriptor};
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

/// Room for one batch of `getdents64(2)`, in bytes: a thousand short names. It is on the stack.
const BATCH_BYTES: usize = 32 * 1024;

/// How many entries are enough for a batch; with fewer the kernel is asked again, since to come
/// back for the end costs more.
const BATCH_ENTRIES: usize = 512;

/// How often a call that a signal interrupted is begun again before the error is the caller's.
const INTERRUPTIONS: usize = 16;

/// Does what `call` says, and fills its answer in. Returns the result, or a negated errno.
pub(crate) fn run(call: &mut Call) -> i32 {
    for _ in 1..INTERRUPTIONS {
        match attempt(call) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return result_of(outcome),
        }
    }
    result_of(attempt(call))
}

fn result_of(outcome: io::Result<i32>) -> i32 {
    match outcome {
        Ok(result) => result,
        Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
    }
}

fn attempt(call: &mut Call) -> io::Result<i32> {
    match call {
        Call::ReadLink { path, target } => {
            *target = fs::read_link(as_path(path))?.into_os_string().into_vec();
        }
        Call::Canonicalize { path, resolved } => {
            *resolved = fs::canonicalize(as_path(path))?.into_os_string().into_vec();
        }
        Call::OpenDirectory { path, system, directory, entries, ended } => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(path.as_c_str(), flags, Mode::empty())?;
            *ended = read_directory(opened.as_fd(), entries)?;
            *directory = Some(NewDescriptor::new(opened.into_raw_fd(), system.clone()));
        }
        Call::ReadDirectory { directory, entries, ended } => {
            *ended = read_directory(borrow(directory), entries)?;
        }
        Call::WriteWhole { path, bytes } => write_whole(path, bytes)?,
        Call::SetMode { path, mode } => {
            rustix::fs::chmod(path.as_c_str(), Mode::from_raw_mode(*mode))?;
        }
        Call::SetModeOf { file, mode } => {
            rustix::fs::fchmod(borrow(file), Mode::from_raw_mode(*mode))?;
        }
        Call::Duplicate { file, system, copy } => {
            let descriptor = rustix::io::fcntl_dupfd_cloexec(borrow(file), 0)?;
            *copy = Some(NewDescriptor::new(descriptor.into_raw_fd(), system.clone()));
        }
        Call::Truncate { file, length } => rustix::fs::ftruncate(borrow(file), *length)?,
        Call::Seek { file, offset, whence, position } => {
            *position = rustix::fs::seek(borrow(file), seek_from(*offset, *whence)?)?;
        }
        Call::Metadata { path, follow, metadata } => {
            let path = as_path(path);
            let answer = if *follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
            *metadata = Some(Box::new(answer?));
        }
        Call::MetadataOf { file, metadata } => {
            *metadata = Some(Box::new(as_std_file(file).metadata()?));
        }
        Call::MetadataWithin { directory, name, metadata } => {
            *metadata = Some(Box::new(metadata_within(borrow(directory), name)?));
        }
        Call::ReadHere { ahead } => return read_here(ahead),
        Call::WriteHere { file, bytes, begin } => {
            let written = rustix::io::write(borrow(&file.descriptor()), &bytes[*begin..])?;
            return as_result(written);
        }
        Call::CopyRange { source, target, offset, length } => {
            return copy_range(source.descriptor(), target.descriptor(), *offset, *length);
        }
        Call::SetTimesOf { file, accessed, modified } => {
            let mut times = fs::FileTimes::new();
            if let Some(time) = accessed {
                times = times.set_accessed(*time);
            }
            if let Some(time) = modified {
                times = times.set_modified(*time);
            }
            as_std_file(file).set_times(times)?;
        }
    }
    Ok(0)
}

fn as_path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

/// The descriptor of an open file, for the time of a call on it.
fn borrow(file: &RawFd) -> BorrowedFd<'_> {
    // SAFETY: the operation whose call this is holds the file until the call is complete (S1), and
    // the call is borrowed for that long.
    unsafe { BorrowedFd::borrow_raw(*file) }
}

/// An open file as std has it, which doesn't close it.
fn as_std_file(file: &RawFd) -> ManuallyDrop<fs::File> {
    // SAFETY: as for `borrow` (S1); the descriptor isn't closed here, since the value is never
    // dropped.
    ManuallyDrop::new(unsafe { fs::File::from_raw_fd(borrow(file).as_raw_fd()) })
}

/// std makes its `Metadata` of a path or of an open file only, and a path may lead elsewhere by
/// now.
fn metadata_within(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<fs::Metadata> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?).metadata()
}

fn seek_from(offset: i64, whence: i32) -> io::Result<SeekFrom> {
    match whence {
        libc::SEEK_SET => u64::try_from(offset).map(SeekFrom::Start).map_err(|_| invalid()),
        libc::SEEK_CUR => Ok(SeekFrom::Current(offset)),
        libc::SEEK_END => Ok(SeekFrom::End(offset)),
        _ => Err(invalid()),
    }
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// What is written in one piece by every file system, and lies in one block of most.
const PAGE_BYTES: u64 = 4096;

/// Opens, writes and closes.
///
/// A page at most that takes the place of as many bytes is written over them. To cut the file off
/// first would wait for the disk to have them, and give the block away just to find another one;
/// and whoever reads meanwhile, or after a crash, would find the file empty.
fn write_whole(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))?);
    let before = file.metadata()?;
    let length = bytes.len() as u64;
    let is_cut_off = length == 0 || before.len() > 0 && before.len() != length;
    if before.is_file() && (is_cut_off || length > PAGE_BYTES) {
        file.set_len(0)?;
    }
    io::Write::write_all(&mut file, bytes)?;
    // SAFETY: the number is this file's own, and is closed here and nowhere else (S10).
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // It is closed all the same, and that is all that is known.
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}

/// One batch, or what is left before the end; says whether that was reached. `RawDir` asks the
/// kernel again only when its buffer is used up, so the loop ends before that.
fn read_directory(
    directory: BorrowedFd<'_>,
    entries: &mut Vec<DirectoryEntry>,
) -> rustix::io::Result<bool> {
    entries.clear();
    let mut buffer = [MaybeUninit::uninit(); BATCH_BYTES];
    let mut batch = RawDir::new(directory, &mut buffer);
    while let Some(entry) = batch.next() {
        let entry = match entry {
            // A directory that was removed has no entries, and no end of them either.
            Err(Errno::NOENT) => break,
            // What came before is told first; the next call meets the error again.
            Err(_) if !entries.is_empty() => return Ok(false),
            entry => entry?,
        };
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let (inode, kind) = (entry.ino(), d_type(entry.file_type()));
            entries.push(DirectoryEntry { name: name.to_owned(), inode, kind });
        }
        if batch.is_buffer_empty() && entries.len() >= BATCH_ENTRIES {
            return Ok(false);
        }
    }
    Ok(true)
}

fn d_type(kind: rustix::fs::FileType) -> u8 {
    use rustix::fs::FileType;
    match kind {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}

fn copy_range(from: RawFd, to: RawFd, offset: u64, length: u32) -> io::Result<i32> {
    let (mut read_at, mut write_at) = (offset, offset);
    let copied = rustix::fs::copy_file_range(
        borrow(&from),
        Some(&mut read_at),
        borrow(&to),
        Some(&mut write_at),
        length as usize,
    )?;
    as_result(copied)
}

fn as_result(count: usize) -> io::Result<i32> {
    i32::try_from(count).map_err(|_| Errno::OVERFLOW.into())
}

/// One `read(2)`. Who reads or seeks at the same time leaves unknown where it ended.
fn read_here(ahead: &mut Ahead) -> io::Result<i32> {
    let (descriptor, bytes, room) = ahead.to_read();
    let file = borrow(&descriptor);
    let before = rustix::fs::tell(file)?;
    let room = &mut bytes.spare_capacity_mut()[..room];
    let count = rustix::io::read(file, room)?.0.len();
    // SAFETY: the system call has filled that many bytes behind the vector's end (S9).
    unsafe { bytes.set_len(bytes.len() + count) };
    let after = rustix::fs::tell(file)?;
    if after == before + count as u64 {
        ahead.set_end(after);
    }
    as_result(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn directory() -> fs::File {
        fs::File::open("/proc/self/fd").expect("procfs is mounted")
    }

    #[test]
    fn a_failing_call_gives_its_negated_errno() {
        let mut call =
            Call::ReadLink { path: c"/proc/no such file".to_owned(), target: Vec::new() };
        assert_eq!(run(&mut call), -libc::ENOENT);
    }

    #[test]
    fn a_directory_is_read_to_its_end_without_dots() {
        let open = directory();
        let mut names = Vec::new();
        loop {
            let directory = open.as_fd().as_raw_fd();
            let mut call = Call::ReadDirectory { directory, entries: Vec::new(), ended: false };
            assert_eq!(run(&mut call), 0);
            let Call::ReadDirectory { entries, ended, .. } = call else { unreachable!() };
            names.extend(entries.into_iter().map(|entry| entry.name));
            if ended {
                break;
            }
        }
        let own = open.as_raw_fd().to_string();
        assert!(names.iter().any(|name| name.to_bytes() == own.as_bytes()), "{names:?}");
        assert!(!names.iter().any(|name| name.to_bytes().starts_with(b".")), "{names:?}");
    }

    #[test]
    fn a_removed_directory_has_no_entries() {
        let path = std::env::temp_dir().join(format!("ringhold-removed-{}", std::process::id()));
        fs::create_dir(&path).expect("nothing has the name");
        let open = fs::File::open(&path).expect("it is there");
        fs::remove_dir(&path).expect("it is empty");
        let directory = open.as_raw_fd();
        let mut call = Call::ReadDirectory { directory, entries: Vec::new(), ended: false };
        assert_eq!(run(&mut call), 0);
        assert!(matches!(call, Call::ReadDirectory { entries, .. } if entries.is_empty()));
    }
}
