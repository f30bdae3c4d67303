//! What has a number on the disk: files, directories and symbolic links, each as the cache has it
//! and as the medium has it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Errno;
use super::durable::FileLog;
use super::pages::{Content, PAGE_BYTES};

/// The number of the root directory, as on ext4.
pub(super) const ROOT: u64 = 2;

/// A target up to this length lies in the inode itself, as on ext4.
const INLINE_LINK_BYTES: usize = 60;

pub(super) type Names = BTreeMap<Box<[u8]>, u64>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    /// The permission bits only.
    pub(super) permissions: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) accessed: Duration,
    pub(super) modified: Duration,
    pub(super) changed: Duration,
    pub(super) born: Duration,
}

#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) cached: Content,
    pub(super) durable: Content,
    pub(super) log: FileLog,
    /// The medium doesn't hold what was written to it, so that a read of the medium can differ
    /// from a read of the cache.
    pub(super) is_damaged: bool,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) names: Names,
    pub(super) durable: Names,
    pub(super) parent: u64,
    /// How many of `names` are directories.
    pub(super) subdirectories: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    File(File),
    Directory(Directory),
    Link(Box<[u8]>),
}

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    pub(super) durable_attributes: Attributes,
    /// What `attributes` was set to by name and is not durable, with the number of the call.
    pub(super) attribute_log: Vec<(u64, Attributes)>,
    /// Names in the cache.
    pub(super) links: u32,
    /// Names on the medium.
    pub(super) durable_links: u32,
    /// Changes of names that aren't durable and give this inode a name.
    pub(super) pending_links: u32,
    /// Open descriptions.
    pub(super) opens: u32,
    /// Neither named nor open in the cache: kept only for what the medium may still say.
    pub(super) is_ghost: bool,
    /// How many of its writes to the medium failed so far; a description that saw fewer has an
    /// error to tell.
    pub(super) failures: u64,
    pub(super) last_failure: Errno,
}

impl Inode {
    pub(super) fn new(kind: Kind, attributes: Attributes) -> Inode {
        Inode {
            kind,
            attributes,
            durable_attributes: attributes,
            attribute_log: Vec::new(),
            links: 0,
            durable_links: 0,
            pending_links: 0,
            opens: 0,
            is_ghost: false,
            failures: 0,
            last_failure: Errno(libc::EIO),
        }
    }

    pub(super) fn new_directory(parent: u64, attributes: Attributes) -> Inode {
        let (names, durable) = (Names::new(), Names::new());
        let directory = Directory { names, durable, parent, subdirectories: 0 };
        Inode::new(Kind::Directory(directory), attributes)
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    pub(super) fn is_link(&self) -> bool {
        matches!(self.kind, Kind::Link(_))
    }

    /// # Errors
    ///
    /// `ENOTDIR`.
    pub(super) fn directory(&self) -> Result<&Directory, Errno> {
        match &self.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno(libc::ENOTDIR)),
        }
    }

    pub(super) fn directory_mut(&mut self) -> Result<&mut Directory, Errno> {
        match &mut self.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno(libc::ENOTDIR)),
        }
    }

    /// # Errors
    ///
    /// `EISDIR`, or `EINVAL` for a link.
    pub(super) fn file(&self) -> Result<&File, Errno> {
        match &self.kind {
            Kind::File(file) => Ok(file),
            Kind::Directory(_) => Err(Errno(libc::EISDIR)),
            Kind::Link(_) => Err(Errno(libc::EINVAL)),
        }
    }

    pub(super) fn file_mut(&mut self) -> Result<&mut File, Errno> {
        match &mut self.kind {
            Kind::File(file) => Ok(file),
            Kind::Directory(_) => Err(Errno(libc::EISDIR)),
            Kind::Link(_) => Err(Errno(libc::EINVAL)),
        }
    }

    /// The blocks that it takes in the cache's view, in pages.
    pub(super) fn blocks(&self) -> u64 {
        match &self.kind {
            Kind::File(file) => file.cached.blocks(),
            Kind::Directory(_) => 1,
            Kind::Link(target) => u64::from(target.len() >= INLINE_LINK_BYTES),
        }
    }

    pub(super) fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(file) => file.cached.size,
            Kind::Directory(_) => PAGE_BYTES,
            Kind::Link(target) => target.len() as u64,
        }
    }

    /// `S_IFMT` and the permissions.
    pub(super) fn mode(&self) -> u32 {
        let kind = match self.kind {
            Kind::File(_) => libc::S_IFREG,
            Kind::Directory(_) => libc::S_IFDIR,
            Kind::Link(_) => libc::S_IFLNK,
        };
        kind | self.attributes.permissions
    }

    /// `DT_…`, as a directory's listing has it.
    pub(super) fn entry_kind(&self) -> u8 {
        match self.kind {
            Kind::File(_) => libc::DT_REG,
            Kind::Directory(_) => libc::DT_DIR,
            Kind::Link(_) => libc::DT_LNK,
        }
    }

    /// A directory's names are its own, its `.`, and the `..` of each directory in it.
    pub(super) fn link_count(&self) -> u32 {
        match &self.kind {
            Kind::Directory(_) if self.links == 0 => 0,
            Kind::Directory(directory) => 2 + directory.subdirectories,
            _ => self.links,
        }
    }
}

/// All inodes, by number. A number is never used twice, so that what is left of a removed file is
/// never taken for another.
#[derive(Debug)]
pub(super) struct Inodes {
    table: Vec<Option<Box<Inode>>>,
    /// Those that the cache knows: named or open.
    pub(super) live: usize,
}

impl Inodes {
    pub(super) fn new() -> Inodes {
        Inodes { table: (0..ROOT).map(|_| None).collect(), live: 0 }
    }

    pub(super) fn add(&mut self, inode: Inode) -> u64 {
        self.table.push(Some(Box::new(inode)));
        self.live += 1;
        self.table.len() as u64 - 1
    }

    pub(super) fn get(&self, number: u64) -> &Inode {
        match self.table.get(number as usize) {
            Some(Some(inode)) => inode,
            _ => panic!("inode {number} is named but isn't there"),
        }
    }

    pub(super) fn get_mut(&mut self, number: u64) -> &mut Inode {
        match self.table.get_mut(number as usize) {
            Some(Some(inode)) => inode,
            _ => panic!("inode {number} is named but isn't there"),
        }
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.table[number as usize] = None;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Inode)> {
        let present = |(number, slot): (usize, _)| {
            let slot: &Option<Box<Inode>> = slot;
            slot.as_deref().map(|inode| (number as u64, inode))
        };
        self.table.iter().enumerate().filter_map(present)
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.iter().map(|(number, _)| number).collect()
    }
}
