//! What a file is: `statx`, permissions and times.

use std::time::Duration;

use super::inode::{Inode, Kind};
use super::pages::PAGE_BYTES;
use super::{Errno, FileSystem};

/// What `st_blocks` counts, in bytes.
const BLOCK_BYTES: u64 = 512;

/// The disk's device number, as a first virtual disk has it.
const DEVICE: (u32, u32) = (254, 0);

/// What `statx` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The inode's number; no other one ever has it.
    pub inode: u64,
    /// The kind (`S_IFMT`) and the permissions.
    pub mode: u32,
    /// The names it has.
    pub links: u32,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// The length in bytes.
    pub size: u64,
    /// The blocks of 512 bytes that it takes.
    pub blocks: u64,
    /// When it was read, about: as with `relatime`.
    pub accessed: Duration,
    /// When its content changed.
    pub modified: Duration,
    /// When anything of it changed.
    pub changed: Duration,
    /// When it was made.
    pub born: Duration,
    /// What direct I/O asks of memory, in bytes; 0 where there is no direct I/O.
    pub direct_memory_alignment: u32,
    /// What direct I/O asks of offset and length, in bytes; 0 where there is no direct I/O.
    pub direct_offset_alignment: u32,
}

fn stamp(of: Duration, into: &mut libc::statx_timestamp) {
    into.tv_sec = of.as_secs() as i64;
    into.tv_nsec = of.subsec_nanos();
}

impl Status {
    /// Writes it where a `statx` has its answer. What is not known is left as it is, so that it
    /// should be zeros before.
    pub fn fill(&self, answer: &mut libc::statx) {
        answer.stx_mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        answer.stx_blksize = PAGE_BYTES as u32;
        answer.stx_nlink = self.links;
        answer.stx_uid = self.uid;
        answer.stx_gid = self.gid;
        answer.stx_mode = self.mode as u16;
        answer.stx_ino = self.inode;
        answer.stx_size = self.size;
        answer.stx_blocks = self.blocks;
        stamp(self.accessed, &mut answer.stx_atime);
        stamp(self.born, &mut answer.stx_btime);
        stamp(self.changed, &mut answer.stx_ctime);
        stamp(self.modified, &mut answer.stx_mtime);
        (answer.stx_dev_major, answer.stx_dev_minor) = DEVICE;
        answer.stx_dio_mem_align = self.direct_memory_alignment;
        answer.stx_dio_offset_align = self.direct_offset_alignment;
        if self.direct_offset_alignment != 0 {
            answer.stx_mask |= STATX_DIOALIGN;
        }
    }
}

/// `STATX_DIOALIGN`, which older versions of libc don't name.
const STATX_DIOALIGN: u32 = 0x2000;

impl FileSystem {
    /// What `path` names is. `flags` are `AT_EMPTY_PATH` and `AT_SYMLINK_NOFOLLOW`; others are
    /// ignored.
    ///
    /// # Errors
    ///
    /// As `statx(2)`, with its numbers.
    pub fn statx(&self, directory: i32, path: &[u8], flags: i32) -> Result<Status, Errno> {
        let number = if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            match directory {
                libc::AT_FDCWD => self.current_directory,
                descriptor => self.descriptors.get(descriptor)?.inode,
            }
        } else {
            self.find_existing(directory, path, flags & libc::AT_SYMLINK_NOFOLLOW == 0)?
        };
        Ok(self.status(number))
    }

    fn status(&self, number: u64) -> Status {
        let inode = self.inodes.get(number);
        let attributes = &inode.attributes;
        let is_file = matches!(inode.kind, Kind::File(_));
        let alignment = |bytes| if is_file { bytes } else { 0 };
        Status {
            inode: number,
            mode: inode.mode(),
            links: inode.link_count(),
            uid: attributes.uid,
            gid: attributes.gid,
            size: inode.size(),
            blocks: inode.blocks() * PAGE_BYTES / BLOCK_BYTES,
            accessed: attributes.accessed,
            modified: attributes.modified,
            changed: attributes.changed,
            born: attributes.born,
            direct_memory_alignment: alignment(self.config.direct_memory_alignment),
            direct_offset_alignment: alignment(self.config.direct_offset_alignment),
        }
    }

    /// Sets the permissions of what `path` names, through links.
    ///
    /// # Errors
    ///
    /// As for looking up the path; `EPERM` for a file of another user.
    pub fn set_mode(&mut self, directory: i32, path: &[u8], mode: u32) -> Result<(), Errno> {
        let number = self.find_existing(directory, path, true)?;
        self.set_mode_of_inode(number, mode)
    }

    /// Sets the permissions of an open file.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EPERM`.
    pub fn set_mode_of(&mut self, descriptor: i32, mode: u32) -> Result<(), Errno> {
        let description = self.descriptors.get(descriptor)?;
        if description.has(libc::O_PATH) {
            return Err(Errno(libc::EBADF));
        }
        let number = description.inode;
        self.set_mode_of_inode(number, mode)
    }

    fn set_mode_of_inode(&mut self, number: u64, mode: u32) -> Result<(), Errno> {
        self.check_owner(number)?;
        self.set_attributes(number, |inode| inode.attributes.permissions = mode & 0o7777);
        Ok(())
    }

    /// Sets when an open file was read and changed; `None` leaves the one or the other.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EPERM`.
    pub fn set_times_of(
        &mut self,
        descriptor: i32,
        accessed: Option<Duration>,
        modified: Option<Duration>,
    ) -> Result<(), Errno> {
        let description = self.descriptors.get(descriptor)?;
        if description.has(libc::O_PATH) {
            return Err(Errno(libc::EBADF));
        }
        let number = description.inode;
        self.check_owner(number)?;
        self.set_attributes(number, |inode| {
            inode.attributes.accessed = accessed.unwrap_or(inode.attributes.accessed);
            inode.attributes.modified = modified.unwrap_or(inode.attributes.modified);
        });
        Ok(())
    }

    fn check_owner(&self, number: u64) -> Result<(), Errno> {
        let owner = self.inodes.get(number).attributes.uid;
        if self.uid == 0 || self.uid == owner { Ok(()) } else { Err(Errno(libc::EPERM)) }
    }

    fn set_attributes(&mut self, number: u64, set: impl FnOnce(&mut Inode)) {
        let sequence = self.next_sequence();
        let now = self.now;
        let inode = self.inodes.get_mut(number);
        set(inode);
        inode.attributes.changed = now;
        inode.attribute_log.push((sequence, inode.attributes));
    }
}
