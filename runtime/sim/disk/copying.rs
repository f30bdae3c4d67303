//! Changing a file's size, its blocks and its holes, and copying between files.

use std::ops::Range;

use super::durable::Change;
use super::inode::File;
use super::pages::{PAGE_BYTES, touched};
use super::transfer::FILE_BYTES_MOST;
use super::{Errno, FileSystem};
use crate::choose::Choose;

/// How much one step of a copy takes, in bytes.
const COPY_BYTES: u64 = 1 << 20;

impl FileSystem {
    /// Makes a file `length` bytes long: what was beyond is gone, what is new reads as zeros.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EINVAL` where it is not open for writing or not a file, `EFBIG`.
    pub fn truncate(&mut self, descriptor: i32, length: u64) -> Result<(), Errno> {
        let description = self.descriptors.get(descriptor)?;
        if description.has(libc::O_PATH) {
            return Err(Errno(libc::EBADF));
        }
        let number = description.inode;
        if !description.writes() || length > i64::MAX as u64 {
            return Err(Errno(libc::EINVAL));
        }
        if length > FILE_BYTES_MOST {
            return Err(Errno(libc::EFBIG));
        }
        self.truncate_inode(number, length)
    }

    pub(super) fn truncate_inode(&mut self, number: u64, length: u64) -> Result<(), Errno> {
        self.change(number, |file| {
            let size = file.cached.size;
            if length < size {
                file.cached.cut(length);
                Some(Change::Cut(length))
            } else {
                file.cached.size = length;
                (length > size).then_some(Change::Grow(length))
            }
        })
    }

    /// Changes a file as one call: what `make` gives is noted as not durable yet.
    fn change(
        &mut self,
        number: u64,
        make: impl FnOnce(&mut File) -> Option<Change>,
    ) -> Result<(), Errno> {
        let sequence = self.next_sequence();
        let now = self.now;
        let inode = self.inodes.get_mut(number);
        (inode.attributes.modified, inode.attributes.changed) = (now, now);
        let file = inode.file_mut()?;
        let before = file.cached.blocks();
        if let Some(change) = make(file) {
            file.log.push(sequence, now, change);
        }
        self.used_pages = self.used_pages - before + file.cached.blocks();
        Ok(())
    }

    /// As `fallocate(2)` with mode 0, `FALLOC_FL_KEEP_SIZE`, `FALLOC_FL_ZERO_RANGE`, or
    /// `FALLOC_FL_PUNCH_HOLE` with `FALLOC_FL_KEEP_SIZE`. Blocks are found for all of the range or
    /// for none of it.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EINVAL` where it is empty, `EFBIG`, `ENOSPC`, `ENODEV` where it is not a file,
    /// `EOPNOTSUPP` for other modes.
    pub fn allocate(
        &mut self,
        descriptor: i32,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        let description = self.descriptors.get(descriptor)?;
        // Linux finds no file under a descriptor of a path, before it looks at the range.
        if description.has(libc::O_PATH) {
            return Err(Errno(libc::EBADF));
        }
        if offset > i64::MAX as u64 || length == 0 || length > i64::MAX as u64 {
            return Err(Errno(libc::EINVAL));
        }
        let keeps_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let punches = mode == libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let zeroes = mode & !libc::FALLOC_FL_KEEP_SIZE == libc::FALLOC_FL_ZERO_RANGE;
        if !punches && !zeroes && mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        if !description.writes() {
            return Err(Errno(libc::EBADF));
        }
        let number = description.inode;
        let end = offset.checked_add(length).filter(|end| *end <= FILE_BYTES_MOST);
        let range = offset..end.ok_or(Errno(libc::EFBIG))?;
        if punches {
            return self.punch(number, range);
        }
        let file = self.inodes.get(number).file()?;
        if file.cached.missing(&range) > self.free_pages() {
            return Err(Errno(libc::ENOSPC));
        }
        if zeroes {
            let zeroed = range.clone();
            self.change(number, |file| {
                file.cached.zero(zeroed.clone(), false);
                Some(Change::Zero { range: zeroed, frees_blocks: false })
            })?;
        }
        let pages = touched(&range);
        self.change(number, |file| {
            file.cached.reserve(pages.clone());
            Some(Change::Reserve(pages))
        })?;
        if !keeps_size && self.inodes.get(number).size() < range.end {
            self.truncate_inode(number, range.end)?;
        }
        Ok(())
    }

    fn punch(&mut self, number: u64, range: Range<u64>) -> Result<(), Errno> {
        self.change(number, |file| {
            file.cached.zero(range.clone(), true);
            Some(Change::Zero { range, frees_blocks: true })
        })
    }

    /// Copies bytes from one open file to another, or within one, as `copy_file_range(2)`; the
    /// offsets are given, so that no position moves.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EISDIR`, `EINVAL` where the ranges overlap, `EFBIG`, `ENOSPC`.
    pub fn copy_range(
        &mut self,
        source: i32,
        source_offset: u64,
        target: i32,
        target_offset: u64,
        length: u64,
        choose: &mut dyn Choose,
    ) -> Result<u64, Errno> {
        let (from, to) = (self.descriptors.get(source)?, self.descriptors.get(target)?);
        let (from_number, to_number) = (from.inode, to.inode);
        if from.has(libc::O_PATH) || to.has(libc::O_PATH) {
            return Err(Errno(libc::EBADF));
        }
        self.inodes.get(from_number).file()?;
        self.inodes.get(to_number).file()?;
        if !from.reads() || !to.writes() || to.has(libc::O_APPEND) {
            return Err(Errno(libc::EBADF));
        }
        if target_offset >= FILE_BYTES_MOST {
            return Err(Errno(libc::EFBIG));
        }
        let size = self.inodes.get(from_number).size();
        let length = length.min(size.saturating_sub(source_offset));
        let length = length.min(FILE_BYTES_MOST - target_offset);
        if from_number == to_number && source_offset.abs_diff(target_offset) < length {
            return Err(Errno(libc::EINVAL));
        }
        let mut done = 0;
        while done < length {
            let mut bytes = vec![0; (length - done).min(COPY_BYTES) as usize];
            let file = self.inodes.get(from_number).file()?;
            file.cached.read(source_offset + done, &mut bytes);
            let at = target_offset + done;
            let file = self.inodes.get(to_number).file()?;
            let missing = file.cached.missing(&(at..at + bytes.len() as u64));
            match self.write_inode(to_number, at, &bytes, missing) {
                Ok(count) => done += count as u64,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            self.write_back(to_number, choose);
        }
        Ok(done)
    }

    /// Takes advice about how a file will be used, and does nothing about it.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EINVAL` for advice that is not known.
    pub fn advise(&self, descriptor: i32, advice: i32) -> Result<(), Errno> {
        if self.descriptors.get(descriptor)?.has(libc::O_PATH) {
            return Err(Errno(libc::EBADF));
        }
        let known = libc::POSIX_FADV_NORMAL..=libc::POSIX_FADV_NOREUSE;
        if known.contains(&advice) { Ok(()) } else { Err(Errno(libc::EINVAL)) }
    }

    /// The parts of a file that have blocks, in whole pages, as `SEEK_DATA` and `SEEK_HOLE` find
    /// them.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EISDIR`.
    pub fn extents(&self, descriptor: i32) -> Result<Vec<Range<u64>>, Errno> {
        let description = self.descriptors.get(descriptor)?;
        let content = &self.inodes.get(description.inode).file()?.cached;
        let mut extents: Vec<Range<u64>> = Vec::new();
        for page in content.held() {
            let (start, end) = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
            match extents.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => extents.push(start..end),
            }
        }
        Ok(extents)
    }
}
