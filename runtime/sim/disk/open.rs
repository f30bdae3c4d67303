//! Opening, closing and duplicating descriptors.

use super::descriptors::Description;
use super::inode::{File, Inode, Kind};
use super::path::{MAY_READ, MAY_WRITE, Place};
use super::{Errno, FileSystem};

/// What an open description remembers of the flags it was opened with.
const REMEMBERED: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_DIRECT
    | libc::O_DSYNC
    | libc::O_SYNC
    | libc::O_PATH
    | libc::O_NONBLOCK
    | libc::O_NOATIME;

const WITH_PATH: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;

impl FileSystem {
    /// Opens what `path` names, or makes a file there, and gives it the lowest free number from 3.
    ///
    /// # Errors
    ///
    /// As `openat(2)`, with its numbers.
    pub fn open_at(
        &mut self,
        directory: i32,
        path: &[u8],
        flags: i32,
        mode: u32,
    ) -> Result<i32, Errno> {
        let flags = if flags & libc::O_PATH != 0 { flags & WITH_PATH } else { flags };
        if flags & libc::O_TMPFILE == libc::O_TMPFILE {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let creates = flags & libc::O_CREAT != 0;
        let wants_directory = flags & libc::O_DIRECTORY != 0;
        if creates && wants_directory {
            return Err(Errno(libc::EINVAL));
        }
        if !self.descriptors.has_room(self.config.descriptors_max) {
            return Err(Errno(libc::EMFILE));
        }
        let is_exclusive = creates && flags & libc::O_EXCL != 0;
        let follows = flags & libc::O_NOFOLLOW == 0 && !is_exclusive;
        let place = self.find_to_open(directory, path, follows, creates)?;
        let (number, is_new) = match place.inode {
            Some(_) if is_exclusive => return Err(Errno(libc::EEXIST)),
            Some(number) => (number, false),
            None if creates => (self.create(&place, mode)?, true),
            None => return Err(Errno(libc::ENOENT)),
        };
        if !is_new {
            self.check_open(number, flags, place.wants_directory)?;
            if flags & libc::O_TRUNC != 0 && self.inodes.get(number).file().is_ok() {
                self.truncate_inode(number, 0)?;
            }
        }
        let inode = self.inodes.get_mut(number);
        let description = Description::new(number, flags & REMEMBERED, inode.failures);
        inode.opens += 1;
        self.descriptors.add(description, self.config.descriptors_max)
    }

    fn create(&mut self, place: &Place, mode: u32) -> Result<u64, Errno> {
        self.check_names_of(place.parent)?;
        let attributes = self.fresh_attributes(mode & 0o7777 & !self.umask);
        let number = self.add_inode(Inode::new(Kind::File(File::default()), attributes))?;
        self.attach_new(place.parent, &place.name, number);
        Ok(number)
    }

    fn check_open(&self, number: u64, flags: i32, has_slash: bool) -> Result<(), Errno> {
        let inode = self.inodes.get(number);
        let wants_directory = flags & libc::O_DIRECTORY != 0 || has_slash;
        if wants_directory && !inode.is_directory() {
            return Err(Errno(libc::ENOTDIR));
        }
        if flags & libc::O_PATH != 0 {
            return Ok(());
        }
        if inode.is_link() {
            return Err(Errno(libc::ELOOP));
        }
        let access = flags & libc::O_ACCMODE;
        let truncates = flags & libc::O_TRUNC != 0;
        let writes = access != libc::O_RDONLY || truncates;
        if inode.is_directory() && (writes || flags & libc::O_CREAT != 0) {
            return Err(Errno(libc::EISDIR));
        }
        if access != libc::O_WRONLY {
            self.check(inode, MAY_READ)?;
        }
        if writes {
            self.check(inode, MAY_WRITE)?;
        }
        if inode.is_directory() && flags & libc::O_DIRECT != 0 {
            return Err(Errno(libc::EINVAL));
        }
        Ok(())
    }

    /// Frees the number. A file that has no name left is gone with its last descriptor.
    ///
    /// # Errors
    ///
    /// `EBADF`.
    pub fn close(&mut self, descriptor: i32) -> Result<(), Errno> {
        if let Some(number) = self.descriptors.remove(descriptor)? {
            self.inodes.get_mut(number).opens -= 1;
            self.release_if_unused(number);
        }
        Ok(())
    }

    /// The first number that no descriptor gets.
    pub(crate) fn descriptors_max(&self) -> usize {
        self.config.descriptors_max
    }

    /// Another number for the same open description: they share position and flags.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EMFILE`.
    pub fn duplicate(&mut self, descriptor: i32) -> Result<i32, Errno> {
        self.descriptors.duplicate(descriptor, self.config.descriptors_max)
    }

    /// Takes the lowest free number for something that is not a file of this disk, a socket say.
    ///
    /// # Errors
    ///
    /// `EMFILE`.
    pub fn take_descriptor(&mut self) -> Result<i32, Errno> {
        self.descriptors.add_foreign(self.config.descriptors_max)
    }

    /// Gives back a number of [`take_descriptor`](FileSystem::take_descriptor).
    ///
    /// # Errors
    ///
    /// `EBADF`.
    pub fn give_descriptor(&mut self, descriptor: i32) -> Result<(), Errno> {
        self.descriptors.remove_foreign(descriptor)
    }

    /// The open descriptors, in order, those that are not files too.
    pub fn open_descriptors(&self) -> Vec<i32> {
        self.descriptors.open()
    }

    /// The position, and whether writes append.
    ///
    /// # Errors
    ///
    /// `EBADF`.
    pub fn position(&self, descriptor: i32) -> Result<(u64, bool), Errno> {
        let description = self.descriptors.get(descriptor)?;
        Ok((description.position, description.has(libc::O_APPEND)))
    }

    /// The `O_…` flags that the description was opened with and that still matter.
    ///
    /// # Errors
    ///
    /// `EBADF`.
    pub fn flags(&self, descriptor: i32) -> Result<i32, Errno> {
        Ok(self.descriptors.get(descriptor)?.flags)
    }
}
