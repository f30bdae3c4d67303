//! A disk with its file system, its page cache, and the descriptors that are open on it.
//!
//! Every file is there twice: as the cache has it, which is what every call sees, and as the medium
//! has it. Between the two lies the log of the calls that are not durable. A sync moves entries of
//! the log to the medium; a loss of power asks a [`Choose`](crate::choose::Choose) about each entry
//! that is left. The same calls and the same choices always give the same disk.
//!
//! # What is durable when
//!
//! Every rule promises what POSIX.1-2024 or ext4 in its default mode (`data=ordered`) promise, and
//! no more. POSIX speaks of *synchronized I/O file integrity completion* (`fsync`, `O_SYNC`) and
//! *synchronized I/O data integrity completion* (`fdatasync`, `O_DSYNC`): the data, and what is
//! needed to find it again.
//!
//! 1. **A sync makes durable what was complete when it began**, hence the [`Stamp`]. POSIX's
//!    `fsync` speaks of "all data for the open file descriptor"; what is written while it runs may
//!    be late for it.
//! 2. **`fdatasync` of a file makes its bytes, its holes and its size durable, in both
//!    directions**: without its size a file's bytes are not found, and ext4 commits the transaction
//!    of a truncate before it answers. `fsync` adds permissions and times.
//! 3. **`O_DSYNC`, `RWF_DSYNC` and their `SYNC` make durable the call's own range, and every size
//!    so far**, not what other calls wrote elsewhere: Linux syncs the range, and the size is one
//!    number.
//! 4. **A sync of a file doesn't make its name durable, and a sync of a directory makes nothing
//!    durable but its names.** `fsync(2)` says so; that ext4's journal happens to commit more is
//!    no promise. A directory's own name is its parent's.
//! 5. **A failed sync leaves its bytes in the cache, clean**: they are read until the cache is
//!    lost, no later sync tries them again, and every open description is told once (`errseq_t`).
//!    Where a later write dirties the same sector anew, the sector goes to the medium as the cache
//!    has it. Sizes and names that waited still wait.
//!
//! # What a loss of power leaves
//!
//! 1. **A write survives, is lost, or is torn at sectors.** A sector is written as a whole (what
//!    NVMe calls AWUPF of one block, and every disk in use keeps), and as the cache had it: where a
//!    write survives in a sector that it shares with older ones, theirs survive there too.
//!    Otherwise writes survive in any combination, and apply in the order of the calls.
//! 2. **The size is the one after one of the calls that changed it**, whatever became of their
//!    bytes: it is one number in the inode. Bytes that were lost below it read as zeros, as holes
//!    do; ext4 would rather have the old size, but other modes and file systems do it. What was
//!    written after a truncate, to where the truncate had cut, is lost with the truncate: its
//!    blocks were new.
//! 3. **Attributes are those after one of the calls that set them.** The times of a write are those
//!    of the last write that survived.
//! 4. **A call that changes names happened as a whole or not at all**, renames with both their ends
//!    and what they replaced: POSIX's `rename` wants the new name to be one file or the other at
//!    all times, and ext4 does it in one transaction of its journal. So a sync of either directory
//!    makes all of a rename durable.
//! 5. **Such calls survive in any combination that keeps these orders**, and a sync that makes one
//!    durable makes durable what it needs:
//!    - of two calls on one name of one directory, the later needs the earlier;
//!    - the removal of a directory needs what was done in it: it was empty;
//!    - a rename needs the names of the directory that it leads to, all the way up: otherwise
//!      what it moved would be under neither name;
//!    - a move of a directory into another one needs all earlier such moves: otherwise two
//!      directories could come to lie in each other.
//!
//!    A journal keeps more order than this. POSIX doesn't, and a service that needs an order has
//!    to sync.
//! 6. **A file or directory without a name is gone**, and so is all that lies below it.
//!
//! # What the medium does wrong
//!
//! [`MediaFaults`] are drawn, [`FileSystem::fail_next`] and [`FileSystem::corrupt`] are told. A bit
//! that flips is seen where the medium is read: by direct I/O, and in the cache once it was lost
//! ([`FileSystem::drop_caches`], [`FileSystem::lose_power`]). Lost and misdirected writes happen
//! when a sync, or the kernel by itself, writes to the medium, and are found the same way.

mod attributes;
mod copying;
mod descriptors;
mod directory;
mod durable;
mod faults;
mod identity;
mod inode;
mod links;
mod open;
mod pages;
mod path;
mod power;
mod ranges;
mod removal;
mod sync;
mod transfer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use attributes::Status;
pub use directory::Listed;
pub use faults::{FaultKind, MediaFaults};
pub use sync::Stamp;

use descriptors::Descriptors;
use directory::NameLog;
use faults::Faults;
use inode::{Attributes, Inode, Inodes, ROOT};

/// An error of a system call, by libc's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl fmt::Debug for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Errno({self})")
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

impl std::error::Error for Errno {}

/// The size of a disk, and what its kernel allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// What fits, in bytes; counted in pages of 4096.
    pub capacity_bytes: u64,
    /// How many files, directories and links there can be, the root directory included.
    pub inodes_max: usize,
    /// The first number that no descriptor gets, as `RLIMIT_NOFILE`.
    pub descriptors_max: usize,
    /// What the medium writes as a whole or not at all, in bytes; a power of two up to 4096.
    pub sector_bytes: u32,
    /// What the address of direct I/O's memory has to be a multiple of.
    pub direct_memory_alignment: u32,
    /// What the offset and the length of direct I/O have to be multiples of.
    pub direct_offset_alignment: u32,
    /// How many bytes of one file wait in the cache until the kernel writes the older half of them
    /// by itself.
    pub unsynced_bytes_max: u64,
    /// How many changes of names wait until the kernel writes the older half of them by itself.
    pub unsynced_names_max: usize,
}

impl Default for DiskConfig {
    /// 64 GiB, a million inodes, 1024 descriptors, and 512 for every alignment.
    fn default() -> DiskConfig {
        DiskConfig {
            capacity_bytes: 64 << 30,
            inodes_max: 1 << 20,
            descriptors_max: 1024,
            sector_bytes: 512,
            direct_memory_alignment: 512,
            direct_offset_alignment: 512,
            unsynced_bytes_max: 64 << 20,
            unsynced_names_max: 4096,
        }
    }
}

/// One host's disk, which survives, and its open descriptors, which don't.
///
/// Every call takes what the system call of its name takes, acts at once, and fails with an
/// [`Errno`].
///
/// ```
/// use ringhold_sim::choose::First;
/// use ringhold_sim::disk::{DiskConfig, FileSystem};
///
/// let mut disk = FileSystem::new(DiskConfig::default());
/// let file = disk.open_at(libc::AT_FDCWD, b"/log", libc::O_RDWR | libc::O_CREAT, 0o644).unwrap();
/// assert_eq!(file, 3);
/// assert_eq!(disk.write_at(file, 0, 0, b"entry", 0, &mut First), Ok(5));
/// let mut bytes = [0; 16];
/// assert_eq!(disk.read_at(file, 2, 0, &mut bytes, &mut First), Ok(3));
/// assert_eq!(&bytes[..3], b"try");
/// ```
#[derive(Debug)]
pub struct FileSystem {
    config: DiskConfig,
    inodes: Inodes,
    descriptors: Descriptors,
    names: NameLog,
    faults: Faults,
    /// The number of the last call that changed something.
    sequence: u64,
    now: Duration,
    /// Pages in use in the cache's view.
    used_pages: u64,
    current_directory: u64,
    uid: u32,
    gid: u32,
    umask: u32,
}

impl FileSystem {
    /// An empty disk: a root directory of root's, mode 0755, and nothing else.
    ///
    /// # Panics
    ///
    /// If an alignment or the sector is not a power of two, or the sector is larger than a page.
    pub fn new(config: DiskConfig) -> FileSystem {
        assert!(config.sector_bytes.is_power_of_two() && config.sector_bytes <= 4096);
        assert!(config.direct_memory_alignment.is_power_of_two());
        assert!(config.direct_offset_alignment.is_power_of_two());
        let mut disk = FileSystem {
            config,
            inodes: Inodes::new(),
            descriptors: Descriptors::default(),
            names: NameLog::default(),
            faults: Faults::default(),
            sequence: 0,
            now: Duration::ZERO,
            used_pages: 1,
            current_directory: ROOT,
            uid: 0,
            gid: 0,
            umask: 0o022,
        };
        let mut root = Inode::new_directory(ROOT, disk.fresh_attributes(0o755));
        root.links = 1;
        root.durable_links = 1;
        let number = disk.inodes.add(root);
        assert_eq!(number, ROOT, "the root directory is the first inode");
        disk
    }

    /// What it was made with.
    pub fn config(&self) -> &DiskConfig {
        &self.config
    }

    /// The time that files are stamped with from now on, since the UNIX epoch.
    pub fn set_now(&mut self, now: Duration) {
        self.now = now;
    }

    /// Who calls from now on. User 0, which it is at first, passes every check of permissions.
    pub fn set_user(&mut self, uid: u32, gid: u32) {
        (self.uid, self.gid) = (uid, gid);
    }

    /// The permissions that new files and directories don't get; 0022 at first.
    pub fn set_umask(&mut self, umask: u32) {
        self.umask = umask & 0o777;
    }

    /// The directory that relative paths start from; the root at first.
    ///
    /// # Errors
    ///
    /// As for looking up the path; `ENOTDIR`.
    pub fn set_current_directory(&mut self, path: &[u8]) -> Result<(), Errno> {
        let number = self.find_existing(libc::AT_FDCWD, path, true)?;
        self.inodes.get(number).directory()?;
        self.current_directory = number;
        Ok(())
    }

    /// The bytes in use, in whole pages.
    pub fn used_bytes(&self) -> u64 {
        self.used_pages * pages::PAGE_BYTES
    }

    /// The bytes that are left, in whole pages.
    pub fn free_bytes(&self) -> u64 {
        self.free_pages() * pages::PAGE_BYTES
    }

    /// How many files, directories and links there are, those that are only open included.
    pub fn used_inodes(&self) -> usize {
        self.inodes.live
    }

    fn free_pages(&self) -> u64 {
        (self.config.capacity_bytes / pages::PAGE_BYTES).saturating_sub(self.used_pages)
    }

    fn fresh_attributes(&self, permissions: u32) -> Attributes {
        let now = self.now;
        Attributes {
            permissions,
            uid: self.uid,
            gid: self.gid,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
        }
    }

    /// The number of the next call that changes something.
    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Adds an inode that has no name yet.
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    fn add_inode(&mut self, inode: Inode) -> Result<u64, Errno> {
        let blocks = inode.blocks();
        if self.inodes.live >= self.config.inodes_max || self.free_pages() < blocks {
            return Err(Errno(libc::ENOSPC));
        }
        self.used_pages += blocks;
        Ok(self.inodes.add(inode))
    }

    /// Frees what `number` takes if it is neither named nor open; forgets it once the medium
    /// doesn't name it either.
    fn release_if_unused(&mut self, number: u64) {
        let inode = self.inodes.get_mut(number);
        if inode.links > 0 || inode.opens > 0 {
            return;
        }
        if !inode.is_ghost {
            inode.is_ghost = true;
            self.used_pages -= inode.blocks();
            self.inodes.live -= 1;
            let inode = self.inodes.get_mut(number);
            if let Ok(file) = inode.file_mut() {
                file.cached = pages::Content::default();
            }
        }
        self.forget_if_gone(number);
    }

    fn forget_if_gone(&mut self, number: u64) {
        let inode = self.inodes.get(number);
        if inode.is_ghost && inode.durable_links == 0 && inode.pending_links == 0 {
            self.inodes.remove(number);
        }
    }
}
