//! Operations on the files of a host, as they take effect.

use std::ffi::CString;
use std::fs::Metadata;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringhold_kernel::{Ahead, Call, DirectoryEntry, NewDescriptor, System};

use crate::Choose;
use crate::disk::{Errno, FileSystem, Status};
use crate::faults::{Fault, Faults};
use crate::memory::Span;
use crate::metadata;
use crate::request::{Request, Transfer};
use crate::ring::InFlight;

/// Where the path of a cold call begins.
const HERE: i32 = libc::AT_FDCWD;

/// How many names of a directory one call brings at most.
const BATCH: usize = 256;

/// What an operation takes effect on.
pub(crate) struct Effects<'a> {
    pub(crate) files: &'a mut FileSystem,
    pub(crate) faults: &'a mut Faults,
    pub(crate) choose: &'a mut dyn Choose,
    pub(crate) struck: &'a mut Vec<Fault>,
}

type Outcome = Result<i32, Errno>;

impl Effects<'_> {
    /// Does what was asked for: the result, or a negated errno.
    pub(crate) fn run(&mut self, operation: &InFlight) -> i32 {
        match self.attempt(operation) {
            Ok(result) => result,
            Err(Errno(errno)) => -errno,
        }
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.faults.strikes(fault, self.choose);
        if strikes {
            self.struck.push(fault);
        }
        strikes
    }

    fn refuse_if(&mut self, fault: Fault, errno: i32) -> Result<(), Errno> {
        if self.strikes(fault) { Err(Errno(errno)) } else { Ok(()) }
    }

    fn attempt(&mut self, operation: &InFlight) -> Outcome {
        let file = operation.file.map_or(-1, |file| file.descriptor);
        self.refuse_if(Fault::NoMemory, libc::ENOMEM)?;
        match &operation.request {
            Request::Nop | Request::Advise { .. } => Ok(0),
            Request::Read(transfer) => self.read(file, transfer),
            Request::Write(transfer) => self.write(file, transfer),
            Request::Sync { data_only, .. } => {
                self.files.sync(file, *data_only, operation.begun, self.choose).map(|()| 0)
            }
            Request::Allocate { mode, offset, length, .. } => {
                self.refuse_if(Fault::NoSpace, libc::ENOSPC)?;
                self.files.allocate(file, *mode, *offset, *length).map(|()| 0)
            }
            Request::Truncate { length, .. } => self.files.truncate(file, *length).map(|()| 0),
            // As under the filters of many containers.
            Request::OpenBeneath => Err(Errno(libc::ENOSYS)),
            Request::Call(call) => call.with(|call| self.call(call)),
            Request::Cancel { .. } => unreachable!("cancels are the ring's"),
            Request::Pause { .. } => Err(Errno(libc::ETIME)),
            Request::PollReady { events, .. } => {
                // A file of a disk is always ready.
                Ok((*events & (libc::POLLIN | libc::POLLOUT) as u32) as i32)
            }
            Request::Connect { .. }
            | Request::Receive { .. }
            | Request::Send { .. }
            | Request::Shutdown { .. } => Err(Errno(libc::ENOTSOCK)),
            by_name => self.run_by_name(by_name),
        }
    }

    /// What is asked for by a path.
    fn run_by_name(&mut self, request: &Request) -> Outcome {
        let files = &mut *self.files;
        match request {
            Request::Open { place, flags, mode } => {
                files.open_at(place.directory, &place.path, *flags, *mode)
            }
            Request::Statx { place, flags, answer } => {
                let status = files.statx(place.directory, &place.path, *flags)?;
                answer.with(|answer| status.fill(answer));
                Ok(0)
            }
            Request::Rename { from, to, flags } => files
                .rename_at(from.directory, &from.path, to.directory, &to.path, *flags)
                .map(|()| 0),
            Request::Unlink { place, flags } => {
                files.unlink_at(place.directory, &place.path, *flags).map(|()| 0)
            }
            Request::MakeDirectory { place, mode } => {
                files.mkdir_at(place.directory, &place.path, *mode).map(|()| 0)
            }
            Request::Link { from, to, flags } => files
                .link_at(from.directory, &from.path, to.directory, &to.path, *flags)
                .map(|()| 0),
            Request::Symlink { target, link } => {
                files.symlink_at(target, link.directory, &link.path).map(|()| 0)
            }
            other => unreachable!("{other:?} names no path"),
        }
    }

    /// How many of `length` bytes are moved.
    fn moved(&mut self, length: usize) -> usize {
        if length > 1 && self.strikes(Fault::ShortTransfer) {
            1 + self.choose.pick(length - 1)
        } else {
            length
        }
    }

    fn read(&mut self, file: RawFd, transfer: &Transfer) -> Outcome {
        let length = transfer.spans.iter().map(|span| span.length()).sum();
        let mut left = self.moved(length);
        let mut done = 0;
        let mut bytes = Vec::new();
        for span in &transfer.spans {
            let here = self.whole_blocks(file, left.min(span.length()), span.length());
            bytes.resize(here, 0);
            let offset = offset_after(transfer.offset, done);
            let count =
                self.files.read_at(file, offset, span.address(), &mut bytes, self.choose)?;
            span.fill(&bytes[..count]);
            (done, left) = (done + count, left.saturating_sub(here));
            if count < span.length() || left == 0 {
                break;
            }
        }
        Ok(done as i32)
    }

    fn write(&mut self, file: RawFd, transfer: &Transfer) -> Outcome {
        self.refuse_if(Fault::NoSpace, libc::ENOSPC)?;
        let length = transfer.spans.iter().map(|span| span.length()).sum();
        let mut left = self.moved(length);
        let mut done = 0;
        for span in &transfer.spans {
            let here = self.whole_blocks(file, left.min(span.length()), span.length());
            let source: &[u8] = &Span::source(span)[..here];
            let offset = offset_after(transfer.offset, done);
            let address = span.address();
            let count = match self.files.write_at(
                file,
                offset,
                address,
                source,
                transfer.flags,
                self.choose,
            ) {
                Ok(count) => count,
                // What was written before counts.
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            (done, left) = (done + count, left.saturating_sub(here));
            if count < span.length() || left == 0 {
                break;
            }
        }
        Ok(done as i32)
    }

    /// A transfer on a direct file is cut short at a block only, and moves one at least. What is
    /// not cut short is left as it is, for the disk to refuse it if it is misaligned.
    fn whole_blocks(&self, file: RawFd, length: usize, asked: usize) -> usize {
        match self.files.direct_alignment(file) {
            Some(block) if length < asked => (length / block * block).max(block).min(asked),
            _ => length,
        }
    }

    fn call(&mut self, call: &mut Call) -> Outcome {
        let files = &mut *self.files;
        match call {
            Call::ReadLink { path, target } => *target = files.read_link(HERE, path.as_bytes())?,
            Call::Canonicalize { path, resolved } => {
                *resolved = files.canonicalize(HERE, path.as_bytes())?;
            }
            Call::OpenDirectory { path, system, directory, entries, ended } => {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                let opened = files.open_at(HERE, path.as_bytes(), flags, 0)?;
                *directory = Some(NewDescriptor::new(opened, system.clone()));
                read_directory(files, opened, entries)?;
                *ended = entries.is_empty();
            }
            Call::ReadDirectory { directory, entries, ended } => {
                read_directory(files, *directory, entries)?;
                *ended = entries.is_empty();
            }
            Call::SetMode { path, mode } => files.set_mode(HERE, path.as_bytes(), *mode)?,
            Call::SetModeOf { file, mode } => files.set_mode_of(*file, *mode)?,
            Call::Duplicate { file, system, copy } => {
                *copy = Some(duplicate(files, *file, system)?);
            }
            Call::Truncate { file, length } => files.truncate(*file, *length)?,
            Call::Seek { file, offset, whence, position } => {
                *position = files.seek(*file, *offset, *whence)?;
            }
            Call::Metadata { path, follow, metadata } => {
                let flags = if *follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
                let status = files.statx(HERE, path.as_bytes(), flags)?;
                *metadata = Some(to_metadata(&status)?);
            }
            Call::MetadataOf { file, metadata } => {
                let status = files.statx(*file, b"", libc::AT_EMPTY_PATH)?;
                *metadata = Some(to_metadata(&status)?);
            }
            Call::MetadataWithin { directory, name, metadata } => {
                let flags = libc::AT_SYMLINK_NOFOLLOW;
                let status = files.statx(*directory, name.as_bytes(), flags)?;
                *metadata = Some(to_metadata(&status)?);
            }
            Call::ReadHere { ahead } => return self.read_here(ahead),
            Call::WriteHere { file, bytes, begin } => {
                return self.write_here(file.descriptor(), &bytes[*begin..]);
            }
            Call::CopyRange { source, target, offset, length } => {
                let (source, target) = (source.descriptor(), target.descriptor());
                let (offset, length) = (*offset, u64::from(*length));
                let copied =
                    files.copy_range(source, offset, target, offset, length, self.choose)?;
                return Ok(copied as i32);
            }
            Call::SetTimesOf { file, accessed, modified } => {
                files.set_times_of(*file, since_epoch(*accessed), since_epoch(*modified))?;
            }
            Call::WriteWhole { .. } => {
                panic!("a simulated file is written by operations: its system says so")
            }
        }
        Ok(0)
    }
}

/// The position of the open file itself.
const HERE_IN_FILE: u64 = u64::MAX;

impl Effects<'_> {
    fn read_here(&mut self, ahead: &mut Ahead) -> Outcome {
        let (file, bytes, room) = ahead.to_read();
        let length = self.moved(room);
        let length = self.whole_blocks(file, length, room);
        let begin = bytes.len();
        bytes.resize(begin + length, 0);
        let into = &mut bytes[begin..];
        let memory = into.as_ptr().addr();
        let count = self.files.read_at(file, HERE_IN_FILE, memory, into, self.choose);
        bytes.truncate(begin + count.unwrap_or(0));
        ahead.set_end(self.files.position(file)?.0);
        count.map(|count| count as i32)
    }

    fn write_here(&mut self, file: RawFd, bytes: &[u8]) -> Outcome {
        self.refuse_if(Fault::NoSpace, libc::ENOSPC)?;
        let length = self.moved(bytes.len());
        let length = self.whole_blocks(file, length, bytes.len());
        let (memory, bytes) = (bytes.as_ptr().addr(), &bytes[..length]);
        let count = self.files.write_at(file, HERE_IN_FILE, memory, bytes, 0, self.choose)?;
        Ok(count as i32)
    }
}

fn offset_after(offset: u64, done: usize) -> u64 {
    // `u64::MAX` means the file's own position, which moves by itself.
    if offset == u64::MAX { offset } else { offset + done as u64 }
}

fn duplicate(
    files: &mut FileSystem,
    file: RawFd,
    system: &Arc<dyn System>,
) -> Result<NewDescriptor, Errno> {
    files.duplicate(file).map(|copy| NewDescriptor::new(copy, system.clone()))
}

/// One batch of a directory's names, without the two that every directory has.
fn read_directory(
    files: &mut FileSystem,
    directory: RawFd,
    entries: &mut Vec<DirectoryEntry>,
) -> Result<(), Errno> {
    entries.clear();
    while entries.is_empty() {
        let batch = match files.read_directory(directory, BATCH) {
            // As Linux says of a directory that was removed; it is the end.
            Err(Errno(libc::ENOENT)) => break,
            batch => batch?,
        };
        if batch.is_empty() {
            break;
        }
        let named = batch.into_iter().filter(|listed| !matches!(&*listed.name, b"." | b".."));
        entries.extend(named.map(|listed| DirectoryEntry {
            name: CString::new(listed.name).expect("a name has no nul"),
            inode: listed.inode,
            kind: listed.kind,
        }));
    }
    Ok(())
}

fn to_metadata(status: &Status) -> Result<Box<Metadata>, Errno> {
    let failed = |error: io::Error| Errno(error.raw_os_error().unwrap_or(libc::EIO));
    metadata::of(status).map(Box::new).map_err(failed)
}

fn since_epoch(time: Option<SystemTime>) -> Option<Duration> {
    time.map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}
