//! Reading and writing.

use std::ops::Range;
use std::sync::Arc;

use super::durable::{Bytes, Change, Written, overlap};
use super::faults::FaultKind;
use super::inode::{File, Kind};
use super::pages::{Content, PAGE_BYTES, touched};
use super::{Errno, FileSystem};
use crate::choose::Choose;

/// The offset that stands for the position.
const AT_POSITION: u64 = u64::MAX;

/// The largest file, in bytes, as on ext4 with pages of 4096.
pub(super) const FILE_BYTES_MOST: u64 = (1 << 44) - PAGE_BYTES;

/// The most that one call transfers, as on Linux.
const TRANSFER_BYTES_MOST: usize = 0x7fff_f000;

/// A write up to this length keeps its bytes for itself until it is durable; a longer one shares
/// the cache's pages.
const OWN_BYTES_MOST: usize = 1024;

/// `RWF_DONTCACHE`, which libc doesn't name.
const RWF_DONTCACHE: i32 = 0x80;

const KNOWN_FLAGS: i32 = libc::RWF_HIPRI
    | libc::RWF_DSYNC
    | libc::RWF_SYNC
    | libc::RWF_NOWAIT
    | libc::RWF_APPEND
    | libc::RWF_NOAPPEND
    | RWF_DONTCACHE;

impl FileSystem {
    /// Reads from `offset` on, or with [`u64::MAX`] from the position, which moves. `memory` is the
    /// address that direct I/O reads to, and matters for its alignment only.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EISDIR`, `EINVAL` for direct I/O that is not aligned, or what is wrong with the
    /// medium.
    pub fn read_at(
        &mut self,
        descriptor: i32,
        offset: u64,
        memory: usize,
        into: &mut [u8],
        choose: &mut dyn Choose,
    ) -> Result<usize, Errno> {
        let description = self.descriptors.get(descriptor)?;
        if !description.reads() {
            return Err(Errno(libc::EBADF));
        }
        let number = description.inode;
        let is_direct = description.has(libc::O_DIRECT);
        let from = if offset == AT_POSITION { description.position } else { offset };
        if from > i64::MAX as u64 {
            return Err(Errno(libc::EINVAL));
        }
        let length = into.len().min(TRANSFER_BYTES_MOST);
        let into = &mut into[..length];
        let inode = self.inodes.get(number);
        let file = inode.file()?;
        if is_direct {
            self.check_direct(from, memory, length)?;
        }
        let reach = from..file.cached.size.min(from.saturating_add(length as u64)).max(from);
        let is_from_medium = !reach.is_empty() && (is_direct || file.cached.is_cold(&reach));
        self.meet_faults_of_read(number, &reach, is_from_medium, choose)?;
        let now = self.now;
        let inode = self.inodes.get_mut(number);
        let file = inode.file_mut()?;
        let count = match is_direct && file.is_damaged {
            true => file.on_medium(&touched(&reach)).read(from, into),
            false => file.cached.read(from, into),
        };
        if is_from_medium && !is_direct {
            file.cached.warm(&reach);
        }
        let attributes = &mut inode.attributes;
        // As `relatime`: only the first read after a change is noted.
        if attributes.accessed <= attributes.modified {
            attributes.accessed = now;
        }
        if offset == AT_POSITION {
            self.descriptors.get_mut(descriptor)?.position = from + count as u64;
        }
        Ok(count)
    }

    #[inline]
    fn meet_faults_of_read(
        &mut self,
        number: u64,
        reach: &Range<u64>,
        is_from_medium: bool,
        choose: &mut dyn Choose,
    ) -> Result<(), Errno> {
        let failure = match is_from_medium {
            true => self.faults.strike(FaultKind::Read, number, choose),
            false => self.faults.strike_planned(FaultKind::Read, number),
        };
        if let Some(errno) = failure {
            return Err(errno);
        }
        if is_from_medium && self.faults.strike(FaultKind::BitFlip, number, choose).is_some() {
            self.rot(number, reach, choose);
        }
        Ok(())
    }

    fn check_direct(&self, offset: u64, memory: usize, length: usize) -> Result<(), Errno> {
        let of_offset = u64::from(self.config.direct_offset_alignment);
        let of_memory = self.config.direct_memory_alignment as usize;
        let is_aligned = offset.is_multiple_of(of_offset)
            && (length as u64).is_multiple_of(of_offset)
            && memory.is_multiple_of(of_memory);
        if is_aligned { Ok(()) } else { Err(Errno(libc::EINVAL)) }
    }

    /// Writes at `offset`, or with [`u64::MAX`] at the position, which moves; where the descriptor
    /// or `rw_flags` say append, at the end. With `RWF_DSYNC`, `RWF_SYNC` or a descriptor that was
    /// opened so, what it wrote is durable when it returns. A full disk takes what fits.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EINVAL` for direct I/O that is not aligned, `EOPNOTSUPP` for other flags, `EAGAIN`
    /// with `RWF_NOWAIT` where blocks have to be found or a sync waited for, `EFBIG`, `ENOSPC`, or
    /// what is wrong with the medium.
    pub fn write_at(
        &mut self,
        descriptor: i32,
        offset: u64,
        memory: usize,
        from: &[u8],
        rw_flags: i32,
        choose: &mut dyn Choose,
    ) -> Result<usize, Errno> {
        let description = self.descriptors.get(descriptor)?;
        if !description.writes() {
            return Err(Errno(libc::EBADF));
        }
        if rw_flags & !KNOWN_FLAGS != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let number = description.inode;
        let all_flags = description.flags;
        let appends = rw_flags & libc::RWF_APPEND != 0
            || all_flags & libc::O_APPEND != 0 && rw_flags & libc::RWF_NOAPPEND == 0;
        let file = self.inodes.get(number).file()?;
        let at = match offset {
            _ if appends => file.cached.size,
            AT_POSITION => description.position,
            offset => offset,
        };
        if at > i64::MAX as u64 {
            return Err(Errno(libc::EINVAL));
        }
        if from.is_empty() {
            return Ok(0);
        }
        if all_flags & libc::O_DIRECT != 0 {
            self.check_direct(at, memory, from.len())?;
        }
        if at >= FILE_BYTES_MOST {
            return Err(Errno(libc::EFBIG));
        }
        let length = from.len().min(TRANSFER_BYTES_MOST).min((FILE_BYTES_MOST - at) as usize);
        let syncs = Syncs::of(all_flags, rw_flags);
        let file = self.inodes.get(number).file()?;
        let missing = file.cached.missing(&(at..at + length as u64));
        if rw_flags & libc::RWF_NOWAIT != 0 && (missing > 0 || syncs != Syncs::Nothing) {
            return Err(Errno(libc::EAGAIN));
        }
        if let Some(errno) = self.faults.strike(FaultKind::Write, number, choose) {
            return Err(errno);
        }
        let count = self.write_inode(number, at, &from[..length], missing)?;
        if offset == AT_POSITION {
            self.descriptors.get_mut(descriptor)?.position = at + count as u64;
        }
        self.write_back(number, choose);
        if syncs != Syncs::Nothing {
            let (begun, range) = (self.stamp(), at..at + count as u64);
            let data_only = syncs == Syncs::Data;
            let synced = self.sync_inode(number, data_only, begun, Some(&range), choose);
            self.tell_failure(descriptor, number, synced.err())?;
        }
        Ok(count)
    }

    /// Writes into the cache as far as there is room; `missing` pages need a block.
    pub(super) fn write_inode(
        &mut self,
        number: u64,
        at: u64,
        from: &[u8],
        missing: u64,
    ) -> Result<usize, Errno> {
        let free = self.free_pages();
        let file = self.inodes.get(number).file()?;
        let length = match missing <= free {
            true => from.len(),
            false => file.cached.fitting(at, from.len(), free),
        };
        if length == 0 {
            return Err(Errno(libc::ENOSPC));
        }
        let sequence = self.next_sequence();
        let now = self.now;
        let inode = self.inodes.get_mut(number);
        inode.attributes.modified = now;
        inode.attributes.changed = now;
        let file = inode.file_mut()?;
        let before = file.cached.blocks();
        file.put(at, &from[..length], sequence, now);
        self.used_pages += file.cached.blocks() - before;
        Ok(length)
    }

    /// Moves the position, as `lseek(2)` with `SEEK_SET`, `SEEK_CUR` or `SEEK_END`; a directory's
    /// goes to its start.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EINVAL`.
    pub fn seek(&mut self, descriptor: i32, offset: i64, whence: i32) -> Result<u64, Errno> {
        let description = self.descriptors.get(descriptor)?;
        if description.has(libc::O_PATH) {
            return Err(Errno(libc::EBADF));
        }
        let base = match whence {
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => description.position,
            libc::SEEK_END => self.inodes.get(description.inode).size(),
            _ => return Err(Errno(libc::EINVAL)),
        };
        let target = base.checked_add_signed(offset).filter(|it| *it <= FILE_BYTES_MOST);
        let target = target.ok_or(Errno(libc::EINVAL))?;
        let is_directory = self.inodes.get(description.inode).is_directory();
        if is_directory && target == 0 {
            self.rewind_directory(descriptor)?;
        }
        self.descriptors.get_mut(descriptor)?.position = target;
        Ok(target)
    }

    /// Drops what is clean from the cache: it is read from the medium again. What a failed sync
    /// left behind is gone then.
    pub fn drop_caches(&mut self) {
        for number in self.inodes.numbers() {
            let inode = self.inodes.get_mut(number);
            let Kind::File(file) = &mut inode.kind else { continue };
            if inode.is_ghost {
                continue;
            }
            let before = file.cached.blocks();
            file.evict();
            self.used_pages = self.used_pages - before + file.cached.blocks();
        }
    }
}

/// What a write makes durable before it returns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syncs {
    Nothing,
    Data,
    Everything,
}

impl Syncs {
    fn of(open_flags: i32, rw_flags: i32) -> Syncs {
        if open_flags & libc::O_SYNC == libc::O_SYNC || rw_flags & libc::RWF_SYNC != 0 {
            Syncs::Everything
        } else if open_flags & libc::O_DSYNC != 0 || rw_flags & libc::RWF_DSYNC != 0 {
            Syncs::Data
        } else {
            Syncs::Nothing
        }
    }
}

impl File {
    fn put(&mut self, at: u64, from: &[u8], sequence: u64, now: std::time::Duration) {
        let range = at..at + from.len() as u64;
        self.cached.write(at, from);
        let bytes = if from.len() <= OWN_BYTES_MOST {
            Bytes::Own(from.into())
        } else {
            let page = |number| Arc::clone(self.cached.page(number).expect("it was written"));
            Bytes::Pages(touched(&range).map(page).collect())
        };
        let grown = (range.end > self.cached.size).then_some(range.end);
        let written = Written { range, bytes, gone: Vec::new() };
        self.log.push(sequence, now, Change::Bytes(written));
        if let Some(size) = grown {
            self.cached.size = size;
            self.log.push(sequence, now, Change::Grow(size));
        }
    }

    /// Some pages as the medium has them once the kernel has written what still waits, but not
    /// what it gave up.
    fn on_medium(&self, pages: &Range<u64>) -> Content {
        let mut content = Content::hole(self.cached.size);
        for number in pages.clone() {
            if let Some(page) = self.durable.page(number) {
                content.put_page(number, Arc::clone(page));
            }
        }
        let reach = pages.start * PAGE_BYTES..pages.end * PAGE_BYTES;
        for entry in &self.log.entries {
            match &entry.change {
                Change::Bytes(written) if !entry.is_abandoned => {
                    for part in written.live(&reach) {
                        written.put(&part, &mut content);
                    }
                }
                Change::Zero { range, .. } => content.zero(overlap(range, &reach), true),
                Change::Cut(size) => content.cut(*size),
                _ => {}
            }
        }
        content.size = self.cached.size;
        content
    }

    fn evict(&mut self) {
        if self.is_damaged {
            let pages: Vec<u64> = self.durable.held().chain(self.cached.held()).collect();
            for number in pages {
                let view = self.on_medium(&(number..number + 1));
                if let Some(page) = view.page(number) {
                    self.cached.put_page(number, Arc::clone(page));
                } else if self.cached.page(number).is_some() {
                    self.cached.page_mut(number).fill(0);
                }
            }
            self.log.entries.retain(|entry| !entry.is_abandoned);
        }
        self.cached.cool();
        for entry in &self.log.entries {
            if let Change::Bytes(written) = &entry.change {
                self.cached.warm(&written.range);
            }
        }
    }
}
