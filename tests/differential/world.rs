//! A place and the files that are open in it, and what each call says there, in words that are the
//! same wherever the same happens.
//!
//! What may differ is left out: inode and device numbers, times, space in blocks, the lengths of
//! directories, the order of listings, and what direct I/O has to be aligned to. What tmpfs can't
//! do is done for it:
//!
//! - it has no `FALLOC_FL_ZERO_RANGE`: a length is set and a hole is punched;
//! - it has no direct I/O before Linux 6.6: files are opened without it.

use std::fmt::Debug;
use std::fs::Metadata;
use std::io::{self, ErrorKind, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use runtime::buffers::{self, Failed};
use runtime::fs::{self, Allocation, File, OpenOptions, Stat};
use runtime::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::place::{Kernel, Place};
use crate::program::{Call, How, Options, PAGE, SLOTS};

/// What a call on a slot without a file says.
pub const NO_FILE: &str = "no file";

pub struct World {
    place: Place,
    /// The place's path without links in it, to be told from the rest of canonical paths.
    root: PathBuf,
    files: [Option<File>; SLOTS],
    has_direct: bool,
}

/// What a call gave, in words.
fn said<T: Debug>(outcome: io::Result<T>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("error {number}: {error}"),
            None => format!("error {:?}", error.kind()),
        },
    }
}

/// A short name for many bytes.
fn summed(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let start: Vec<u8> = bytes.iter().copied().take(4).collect();
    format!("{} bytes {sum:x} {start:?}", bytes.len())
}

fn described(stat: &Stat) -> (u32, u64, Option<u64>) {
    (stat.mode(), stat.nlink(), (!stat.is_dir()).then_some(stat.len()))
}

fn described_by_std(metadata: &Metadata) -> (u32, Option<u64>) {
    (metadata.permissions().mode(), (!metadata.is_dir()).then_some(metadata.len()))
}

fn bytes_of(length: usize, fill: u8) -> Vec<u8> {
    (0..length).map(|at| fill.wrapping_add((at % 251) as u8)).collect()
}

impl World {
    pub async fn new(place: Place) -> io::Result<World> {
        let root = fs::canonicalize(place.root()).await?;
        let probe = place.at("probe");
        let mut options = OpenOptions::new();
        let probed = options.write(true).create_new(true).direct(true).open(&probe).await;
        let has_direct = probed.is_ok() || place.kernel != Kernel::Tmpfs;
        // The open that is refused makes the file on some kernels.
        if fs::try_exists(&probe).await? {
            fs::remove_file(&probe).await?;
        }
        Ok(World { place, root, files: Default::default(), has_direct })
    }

    /// Makes a call. Calls on a slot without a file do nothing.
    pub async fn call(&mut self, call: &Call) -> String {
        match self.file_call(call).await {
            Some(said) => said,
            None => self.name_call(call).await,
        }
    }

    /// A call on a file or a slot; `None` for other calls.
    async fn file_call(&mut self, call: &Call) -> Option<String> {
        let slot = match *call {
            Call::Open { slot, path, options } => {
                let opened = self.open(path, options).await;
                return Some(said(opened.map(|file| self.files[slot] = Some(file))));
            }
            Call::Close { slot }
            | Call::Clone { slot, .. }
            | Call::ReadAt { slot, .. }
            | Call::WriteAt { slot, .. }
            | Call::Seek { slot, .. }
            | Call::ReadOn { slot, .. }
            | Call::WriteOn { slot, .. }
            | Call::SetLength { slot, .. }
            | Call::Allocate { slot, .. }
            | Call::Sync { slot, .. }
            | Call::StatOpen { slot }
            | Call::SetModeOf { slot, .. } => slot,
            _ => return None,
        };
        let Some(mut file) = self.files[slot].take() else { return Some(NO_FILE.to_owned()) };
        let said = match *call {
            Call::Close { .. } => return Some(said(file.close().await)),
            Call::Clone { into, .. } => {
                let cloned = file.try_clone().await;
                self.files[slot] = Some(file);
                return Some(said(cloned.map(|copy| self.files[into] = Some(copy))));
            }
            Call::ReadAt { offset, length, how, .. } => {
                said(self.read_at(&file, offset, length, how).await.map(|it| summed(&it)))
            }
            Call::WriteAt { offset, length, fill, how, .. } => {
                said(self.write_at(&file, offset, bytes_of(length, fill), how).await)
            }
            Call::Seek { offset, whence, .. } => said(seek(&mut file, offset, whence).await),
            Call::ReadOn { length, .. } => said(read_on(&mut file, length).await),
            Call::WriteOn { length, fill, .. } => {
                said(write_on(&mut file, &bytes_of(length, fill)).await)
            }
            Call::SetLength { length, .. } => said(file.set_len(length).await),
            Call::Allocate { offset, length, how, .. } => {
                said(self.allocate(&file, offset, length, how).await)
            }
            Call::Sync { data_only: true, .. } => said(file.sync_data().await),
            Call::Sync { .. } => said(file.sync_all().await),
            Call::SetModeOf { mode, .. } => {
                said(file.set_permissions(PermissionsExt::from_mode(mode)).await)
            }
            _ => said(file.statx().await.map(|stat| described(&stat))),
        };
        self.files[slot] = Some(file);
        Some(said)
    }

    async fn open(&self, path: &str, options: Options) -> io::Result<File> {
        let mut set = OpenOptions::new();
        set.read(options.read).write(options.write).append(options.append);
        set.truncate(options.truncate).create(options.create).create_new(options.create_new);
        set.mode(options.mode).direct(options.direct && self.has_direct);
        let opened = set.open(self.place.at(path)).await?;
        // Nowhere is a directory opened for direct I/O, so not without it, either.
        match options.direct && opened.statx().await?.is_dir() {
            true => Err(ErrorKind::InvalidInput.into()),
            false => Ok(opened),
        }
    }

    /// Direct I/O goes by whole pages, from and into leases.
    fn fit(&self, file: &File, offset: u64, length: usize, how: How) -> (u64, usize, How) {
        if file.is_direct() {
            return (offset / PAGE * PAGE, length.next_multiple_of(PAGE as usize), How::Fixed);
        }
        (offset, length, how)
    }

    async fn read_at(
        &self,
        file: &File,
        offset: u64,
        length: usize,
        how: How,
    ) -> io::Result<Vec<u8>> {
        let (offset, length, how) = self.fit(file, offset, length, how);
        match how {
            How::Plain => Ok(file.read_at(Vec::with_capacity(length), offset).await?.1),
            How::Exact => match file.read_exact_at(vec![0; length], offset).await {
                Err(Failed { error, buffer }) if error.kind() == ErrorKind::UnexpectedEof => {
                    Ok(buffer)
                }
                read => Ok(read?.1),
            },
            How::Fixed => {
                let read = file.read_fixed(buffers::lease(length.max(1)).await?, offset);
                // Half of them from the other shard, where there is one.
                let shard = self.place.last_shard() * (length % 2);
                let (count, lease) = runtime::spawn_on(shard, || read).await??;
                assert_eq!(lease.len(), count);
                Ok(lease.to_vec())
            }
            How::Vectored => {
                let third = length / 3;
                let parts = [third, 0, length - 2 * third, third];
                let parts = parts.map(Vec::with_capacity).into();
                let (count, parts) = file.readv_at(parts, offset).await?;
                let bytes = parts.concat();
                assert_eq!(bytes.len(), count);
                Ok(bytes)
            }
        }
    }

    async fn write_at(
        &self,
        file: &File,
        offset: u64,
        mut bytes: Vec<u8>,
        how: How,
    ) -> io::Result<usize> {
        let (offset, length, how) = self.fit(file, offset, bytes.len(), how);
        bytes.resize(length, 0xEE);
        match how {
            How::Plain => Ok(file.write_at(bytes, offset).await?.0),
            How::Exact => Ok(file.write_all_at(bytes, offset).await?.0),
            How::Fixed => {
                let mut lease = buffers::lease(length.max(1)).await?;
                lease.extend_from_slice(&bytes);
                let write = file.write_fixed(lease, offset);
                let shard = self.place.last_shard() * (length % 2);
                Ok(runtime::spawn_on(shard, || write).await??.0)
            }
            How::Vectored => {
                let rest = bytes.split_off(length / 3);
                Ok(file.writev_at(vec![bytes, Vec::new(), rest], offset).await?.0)
            }
        }
    }

    async fn allocate(
        &self,
        file: &File,
        offset: u64,
        length: u64,
        how: Allocation,
    ) -> io::Result<()> {
        let allocated = file.allocate(offset, length, how).await;
        let Err(error) = &allocated else { return Ok(()) };
        let is_unknown = error.raw_os_error() == Some(libc::EOPNOTSUPP);
        if self.place.kernel == Kernel::Tmpfs && how == Allocation::Zero && is_unknown {
            let end = offset + length;
            if file.statx().await?.len() < end {
                file.set_len(end).await?;
            }
            return file.allocate(offset, length, Allocation::PunchHole).await;
        }
        allocated
    }

    async fn name_call(&self, call: &Call) -> String {
        let at = |path: &str| self.place.at(path);
        match *call {
            Call::Read { path } => said(fs::read(at(path)).await.map(|it| summed(&it))),
            Call::Write { path, length, fill } => {
                said(fs::write(at(path), bytes_of(length, fill)).await)
            }
            Call::Copy { from, to } => said(fs::copy(at(from), at(to)).await),
            Call::Rename { from, to } => said(fs::rename(at(from), at(to)).await),
            Call::RemoveFile { path } => said(fs::remove_file(at(path)).await),
            Call::RemoveDirectory { path } => said(fs::remove_dir(at(path)).await),
            // Where it ends at what is forbidden, the order of the listing decides what is gone.
            Call::RemoveTree { .. } if !self.place.is_root() => "left out".to_owned(),
            Call::RemoveTree { path } => said(fs::remove_dir_all(at(path)).await),
            Call::MakeDirectory { path } => said(fs::create_dir(at(path)).await),
            Call::MakeTree { path } => said(fs::create_dir_all(at(path)).await),
            Call::Link { from, to } => said(fs::hard_link(at(from), at(to)).await),
            Call::Symlink { target, path } => said(fs::symlink(target, at(path)).await),
            Call::ReadLink { path } => said(fs::read_link(at(path)).await),
            // What it asks for in a directory before `.` and `..` is the C library's matter.
            Call::Canonicalize { path } if path.contains("/.") && !self.place.is_root() => {
                "left out".to_owned()
            }
            Call::Canonicalize { path } => {
                let resolved = fs::canonicalize(at(path)).await;
                said(resolved.map(|it| it.strip_prefix(&self.root).map(ToOwned::to_owned)))
            }
            Call::Stat { path, follow } => {
                said(fs::statx(at(path), follow).await.map(|stat| described(&stat)))
            }
            Call::Metadata { path, follow } => {
                let asked = match follow {
                    true => fs::metadata(at(path)).await,
                    false => fs::symlink_metadata(at(path)).await,
                };
                said(asked.map(|metadata| described_by_std(&metadata)))
            }
            Call::Exists { path } => said(fs::try_exists(at(path)).await),
            Call::SetMode { path, mode } => {
                said(fs::set_permissions(at(path), PermissionsExt::from_mode(mode)).await)
            }
            Call::List { path } => said(list(at(path)).await),
            _ => unreachable!("{call:?} is on a file"),
        }
    }

    /// All that is there, path by path.
    pub async fn tree(&mut self) -> io::Result<Vec<String>> {
        self.files = Default::default();
        let mut found = Vec::new();
        let mut folders = vec![String::new()];
        let set = |path: &str, mode| {
            fs::set_permissions(self.place.at(path), PermissionsExt::from_mode(mode))
        };
        while let Some(folder) = folders.pop() {
            // All modes are told; now that they are, everything is looked at.
            set(&folder, 0o777).await?;
            for (name, kind) in list(self.place.at(&folder)).await? {
                let path = format!("{folder}{name}");
                let stat = described(&fs::statx(self.place.at(&path), false).await?);
                if kind == 'f' {
                    set(&path, 0o666).await?;
                }
                let content = match kind {
                    'l' => format!("{:?}", fs::read_link(self.place.at(&path)).await?),
                    'f' => said(fs::read(self.place.at(&path)).await.map(|it| summed(&it))),
                    _ => String::new(),
                };
                found.push(format!("{path}: {stat:?} {content}"));
                if kind == 'd' {
                    folders.push(format!("{path}/"));
                }
            }
        }
        Ok(found)
    }
}

async fn seek(file: &mut File, offset: i64, whence: usize) -> io::Result<Option<u64>> {
    // Where a directory ends is its file system's matter.
    if !file.statx().await?.is_file() {
        return Ok(None);
    }
    let to = match whence {
        0 => SeekFrom::Start(offset.unsigned_abs()),
        1 => SeekFrom::Current(offset),
        _ => SeekFrom::End(offset),
    };
    file.seek(to).await.map(Some)
}

/// Direct files are left alone: the cursor's buffer is not aligned.
async fn read_on(file: &mut File, length: usize) -> io::Result<String> {
    if file.is_direct() {
        return Ok("direct".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes).await?;
    Ok(summed(&bytes))
}

async fn write_on(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if file.is_direct() {
        return Ok(());
    }
    file.write_all(bytes).await?;
    file.flush().await
}

/// The names in a directory with their kinds, in order.
async fn list(path: PathBuf) -> io::Result<Vec<(String, char)>> {
    let mut entries = fs::read_dir(path).await?;
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let kind = entry.file_type().await?;
        let kind = match (kind.is_file(), kind.is_dir()) {
            (true, _) => 'f',
            (_, true) => 'd',
            _ => 'l',
        };
        found.push((entry.file_name().into_string().expect("names are text"), kind));
    }
    found.sort();
    Ok(found)
}
