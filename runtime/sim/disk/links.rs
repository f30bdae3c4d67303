//! Making and moving names: directories, links, rename.

use super::directory::NameEdit;
use super::inode::{Inode, Kind, ROOT};
use super::path::{Last, MAY_WRITE, Place};
use super::removal::trim_slashes;
use super::{Errno, FileSystem};

impl FileSystem {
    /// Where something is to be made: a free name in a directory that may be written.
    fn find_free(
        &self,
        directory: i32,
        path: &[u8],
        may_end_with_slash: bool,
    ) -> Result<Place, Errno> {
        let trimmed = trim_slashes(path);
        let place = self.find(directory, trimmed, false)?;
        if place.inode.is_some() {
            return Err(Errno(libc::EEXIST));
        }
        if trimmed.len() < path.len() && !may_end_with_slash {
            return Err(Errno(libc::ENOENT));
        }
        self.check_names_of(place.parent)?;
        Ok(place)
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// As `mkdirat(2)`, with its numbers.
    pub fn mkdir_at(&mut self, directory: i32, path: &[u8], mode: u32) -> Result<(), Errno> {
        let place = self.find_free(directory, path, true)?;
        let attributes = self.fresh_attributes(mode & 0o1777 & !self.umask);
        let number = self.add_inode(Inode::new_directory(place.parent, attributes))?;
        self.attach_new(place.parent, &place.name, number);
        Ok(())
    }

    /// Makes a symbolic link to `target`.
    ///
    /// # Errors
    ///
    /// As `symlinkat(2)`, with its numbers.
    pub fn symlink_at(&mut self, target: &[u8], directory: i32, path: &[u8]) -> Result<(), Errno> {
        if target.is_empty() {
            return Err(Errno(libc::ENOENT));
        }
        if target.len() >= 4096 {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        let place = self.find_free(directory, path, false)?;
        let attributes = self.fresh_attributes(0o777);
        let number = self.add_inode(Inode::new(Kind::Link(target.into()), attributes))?;
        self.attach_new(place.parent, &place.name, number);
        Ok(())
    }

    /// Gives a file another name. `flags` are `AT_SYMLINK_FOLLOW` and `AT_EMPTY_PATH`.
    ///
    /// # Errors
    ///
    /// As `linkat(2)`, with its numbers.
    pub fn link_at(
        &mut self,
        old_directory: i32,
        old_path: &[u8],
        new_directory: i32,
        new_path: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let number = if old_path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            self.descriptors.get(old_directory)?.inode
        } else {
            let follows = flags & libc::AT_SYMLINK_FOLLOW != 0;
            self.find_existing(old_directory, old_path, follows)?
        };
        let place = self.find_free(new_directory, new_path, false)?;
        let inode = self.inodes.get(number);
        if inode.is_directory() {
            return Err(Errno(libc::EPERM));
        }
        if inode.links == 0 {
            return Err(Errno(libc::ENOENT));
        }
        self.attach_new(place.parent, &place.name, number);
        Ok(())
    }

    /// What a symbolic link holds. An empty path is the link that was opened with `O_PATH`.
    ///
    /// # Errors
    ///
    /// As `readlinkat(2)`, with its numbers.
    pub fn read_link(&self, directory: i32, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let number = if path.is_empty() && directory != libc::AT_FDCWD {
            self.descriptors.get(directory)?.inode
        } else {
            self.find_existing(directory, path, false)?
        };
        match &self.inodes.get(number).kind {
            Kind::Link(target) => Ok(target.to_vec()),
            _ => Err(Errno(libc::EINVAL)),
        }
    }

    /// The path from the root, without links, of something that is there.
    ///
    /// # Errors
    ///
    /// As for looking up the path.
    pub fn canonicalize(&self, directory: i32, path: &[u8]) -> Result<Vec<u8>, Errno> {
        self.find_existing(directory, path, true)?;
        let place = self.find(directory, path, true)?;
        let gone = Errno(libc::ENOENT);
        let mut whole = self.path_of_directory(place.parent).ok_or(gone)?;
        if place.last == Last::Name {
            if whole.len() > 1 {
                whole.push(b'/');
            }
            whole.extend_from_slice(&place.name);
        }
        Ok(whole)
    }

    /// Gives what `old_path` names the name `new_path`, in one step. `flags` are
    /// `RENAME_NOREPLACE` and `RENAME_EXCHANGE`.
    ///
    /// # Errors
    ///
    /// As `renameat2(2)`, with its numbers.
    pub fn rename_at(
        &mut self,
        old_directory: i32,
        old_path: &[u8],
        new_directory: i32,
        new_path: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let no_replace = flags & libc::RENAME_NOREPLACE != 0;
        let exchanges = flags & libc::RENAME_EXCHANGE != 0;
        if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 || no_replace && exchanges
        {
            return Err(Errno(libc::EINVAL));
        }
        let old = self.find(old_directory, trim_slashes(old_path), false)?;
        let new = self.find(new_directory, trim_slashes(new_path), false)?;
        if old.last != Last::Name {
            return Err(Errno(libc::EBUSY));
        }
        if new.last != Last::Name {
            return Err(Errno(if no_replace { libc::EEXIST } else { libc::EBUSY }));
        }
        let number = old.existing()?;
        if no_replace && new.inode.is_some() {
            return Err(Errno(libc::EEXIST));
        }
        if exchanges {
            new.existing()?;
        }
        let old_slash = ends_with_slash(old_path);
        self.check_slashes(number, old_slash || !exchanges && ends_with_slash(new_path))?;
        if let (true, Some(target)) = (exchanges, new.inode) {
            self.check_slashes(target, ends_with_slash(new_path))?;
        }
        self.check_ancestors(number, &old, &new, exchanges)?;
        if new.inode == Some(number) {
            return Ok(());
        }
        self.check_names_of(old.parent)?;
        self.check_names_of(new.parent)?;
        match new.inode {
            Some(target) if exchanges => {
                self.check_moved(number, &old, &new)?;
                self.check_moved(target, &new, &old)?;
                self.exchange(&old, number, &new, target);
            }
            target => {
                target.map_or(Ok(()), |target| self.check_kinds(number, target))?;
                self.check_moved(number, &old, &new)?;
                target.map_or(Ok(()), |target| self.check_empty(target))?;
                self.move_over(&old, number, &new, target);
            }
        }
        Ok(())
    }

    fn check_slashes(&self, number: u64, has_slash: bool) -> Result<(), Errno> {
        if has_slash && !self.inodes.get(number).is_directory() {
            return Err(Errno(libc::ENOTDIR));
        }
        Ok(())
    }

    /// # Errors
    ///
    /// `EINVAL` where a directory would move into itself, `ENOTEMPTY` where it would replace one
    /// that it lies in.
    fn check_ancestors(
        &self,
        number: u64,
        old: &Place,
        new: &Place,
        exchanges: bool,
    ) -> Result<(), Errno> {
        if self.lies_in(new.parent, number) {
            return Err(Errno(libc::EINVAL));
        }
        match new.inode {
            Some(target) if self.lies_in(old.parent, target) => {
                Err(Errno(if exchanges { libc::EINVAL } else { libc::ENOTEMPTY }))
            }
            _ => Ok(()),
        }
    }

    /// Whether `directory` is `above` or lies below it.
    fn lies_in(&self, directory: u64, above: u64) -> bool {
        let mut at = directory;
        loop {
            let inode = self.inodes.get(at);
            match inode.directory() {
                _ if at == above => return true,
                Ok(names) if at != ROOT && inode.links > 0 => at = names.parent,
                _ => return false,
            }
        }
    }

    fn check_kinds(&self, number: u64, target: u64) -> Result<(), Errno> {
        let is_directory = |number| self.inodes.get(number).is_directory();
        match (is_directory(number), is_directory(target)) {
            (false, true) => Err(Errno(libc::EISDIR)),
            (true, false) => Err(Errno(libc::ENOTDIR)),
            _ => Ok(()),
        }
    }

    /// # Errors
    ///
    /// `EACCES` where a directory gets another parent, and may not be written to: its `..` changes.
    fn check_moved(&self, number: u64, old: &Place, new: &Place) -> Result<(), Errno> {
        let inode = self.inodes.get(number);
        match inode.is_directory() && old.parent != new.parent {
            true => self.check(inode, MAY_WRITE),
            false => Ok(()),
        }
    }

    fn check_empty(&self, target: u64) -> Result<(), Errno> {
        match self.inodes.get(target).directory() {
            Ok(names) if !names.names.is_empty() => Err(Errno(libc::ENOTEMPTY)),
            _ => Ok(()),
        }
    }

    fn move_over(&mut self, old: &Place, number: u64, new: &Place, target: Option<u64>) {
        let is_directory = self.inodes.get(number).is_directory();
        if target.is_some() {
            self.detach(new.parent, &new.name);
        }
        self.detach(old.parent, &old.name);
        self.attach(new.parent, &new.name, number);
        let leaves = NameEdit { directory: old.parent, name: old.name.clone(), now: None };
        let arrives = edit(new, number);
        let emptied = target.filter(|_| is_directory);
        self.record(vec![leaves, arrives], emptied, true, is_directory && old.parent != new.parent);
        if let Some(target) = target {
            self.release_if_unused(target);
        }
    }

    fn exchange(&mut self, old: &Place, number: u64, new: &Place, target: u64) {
        let is_directory = |number| self.inodes.get(number).is_directory();
        let moves_directory =
            old.parent != new.parent && (is_directory(number) || is_directory(target));
        self.detach(new.parent, &new.name);
        self.detach(old.parent, &old.name);
        self.attach(new.parent, &new.name, number);
        self.attach(old.parent, &old.name, target);
        self.record(vec![edit(old, target), edit(new, number)], None, true, moves_directory);
    }
}

fn edit(place: &Place, number: u64) -> NameEdit {
    NameEdit { directory: place.parent, name: place.name.clone(), now: Some(number) }
}

fn ends_with_slash(path: &[u8]) -> bool {
    path.last() == Some(&b'/')
}
