//! From a path to what it names.

use std::borrow::Cow;

use super::inode::{Inode, Kind, ROOT};
use super::{Errno, FileSystem};

/// How many symbolic links one path may lead through.
const LINKS_MOST: usize = 40;

const NAME_BYTES_MOST: usize = 255;

/// With the zero at its end.
const PATH_BYTES_MOST: usize = 4096;

/// What the last part of a path was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Name,
    Dot,
    DotDot,
    Root,
}

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) parent: u64,
    pub(super) name: Box<[u8]>,
    /// What has that name, if anything.
    pub(super) inode: Option<u64>,
    pub(super) last: Last,
    /// The path ended with a slash.
    pub(super) wants_directory: bool,
}

impl Place {
    fn fixed(inode: u64, last: Last) -> Place {
        let name = Box::default();
        Place { parent: inode, name, inode: Some(inode), last, wants_directory: true }
    }

    /// # Errors
    ///
    /// `ENOENT`.
    pub(super) fn existing(&self) -> Result<u64, Errno> {
        self.inode.ok_or(Errno(libc::ENOENT))
    }
}

/// What may be done to an inode, as the permission bits count it.
pub(super) const MAY_EXECUTE: u32 = 1;
pub(super) const MAY_WRITE: u32 = 2;
pub(super) const MAY_READ: u32 = 4;

/// Splits off the first part of a path without leading slashes; the rest keeps its slashes.
fn first_part(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    path.split_at(end)
}

fn skip_slashes(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    &path[start..]
}

impl FileSystem {
    /// # Errors
    ///
    /// `EACCES` unless whoever runs here may do `what` with it.
    pub(super) fn check(&self, inode: &Inode, what: u32) -> Result<(), Errno> {
        if self.uid == 0 {
            return Ok(());
        }
        let attributes = &inode.attributes;
        let shift = match () {
            () if attributes.uid == self.uid => 6,
            () if attributes.gid == self.gid => 3,
            () => 0,
        };
        if attributes.permissions >> shift & what == what {
            Ok(())
        } else {
            Err(Errno(libc::EACCES))
        }
    }

    /// # Errors
    ///
    /// `EACCES`, or `ENOENT` in a directory that was removed.
    pub(super) fn check_names_of(&self, directory: u64) -> Result<(), Errno> {
        let inode = self.inodes.get(directory);
        self.check(inode, MAY_WRITE | MAY_EXECUTE)?;
        if inode.links == 0 { Err(Errno(libc::ENOENT)) } else { Ok(()) }
    }

    /// The directory that a path starts from.
    fn start(&self, directory: i32, path: &[u8]) -> Result<u64, Errno> {
        if path.is_empty() {
            return Err(Errno(libc::ENOENT));
        }
        if path.len() >= PATH_BYTES_MOST {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        if path.first() == Some(&b'/') {
            return Ok(ROOT);
        }
        if directory == libc::AT_FDCWD {
            return Ok(self.current_directory);
        }
        Ok(self.descriptors.get(directory)?.inode)
    }

    /// Finds what `path` names. The last part is followed where it is a link if `follows`, or if a
    /// slash comes after it.
    pub(super) fn find(&self, directory: i32, path: &[u8], follows: bool) -> Result<Place, Errno> {
        self.find_to_open(directory, path, follows, false)
    }

    /// As `find`; `EISDIR` where a file is to be made but a slash comes after its name, in a link
    /// too.
    pub(super) fn find_to_open(
        &self,
        directory: i32,
        path: &[u8],
        follows: bool,
        creates: bool,
    ) -> Result<Place, Errno> {
        let mut at = self.start(directory, path)?;
        let mut rest: Cow<'_, [u8]> = Cow::Borrowed(skip_slashes(path));
        let mut links_left = LINKS_MOST;
        if rest.is_empty() {
            return Ok(Place::fixed(ROOT, Last::Root));
        }
        loop {
            let (part, after) = first_part(&rest);
            let next = skip_slashes(after);
            let is_last = next.is_empty();
            let inode = self.inodes.get(at);
            let names = inode.directory()?;
            self.check(inode, MAY_EXECUTE)?;
            if part == b"." || part == b".." {
                let last = if part == b"." { Last::Dot } else { Last::DotDot };
                if last == Last::DotDot {
                    // What is left of a removed directory has nothing above it.
                    at = if inode.links == 0 { Err(Errno(libc::ENOENT))? } else { names.parent };
                }
                if is_last {
                    return Ok(Place::fixed(at, last));
                }
                rest = Cow::Owned(next.to_vec());
                continue;
            }
            if part.len() > NAME_BYTES_MOST {
                return Err(Errno(libc::ENAMETOOLONG));
            }
            let found = names.names.get(part).copied();
            let wants_directory = !after.is_empty();
            if creates && is_last && wants_directory {
                return Err(Errno(libc::EISDIR));
            }
            if let Some(Kind::Link(target)) = found.map(|number| &self.inodes.get(number).kind)
                && (!is_last || follows || wants_directory)
            {
                links_left = links_left.checked_sub(1).ok_or(Errno(libc::ELOOP))?;
                if target.first() == Some(&b'/') {
                    at = ROOT;
                }
                let whole = [skip_slashes(target), after].concat();
                if skip_slashes(&whole).is_empty() {
                    return Ok(Place::fixed(ROOT, Last::Root));
                }
                rest = Cow::Owned(skip_slashes(&whole).to_vec());
                continue;
            }
            if is_last {
                let name = part.into();
                let last = Last::Name;
                return Ok(Place { parent: at, name, inode: found, last, wants_directory });
            }
            at = found.ok_or(Errno(libc::ENOENT))?;
            rest = match rest {
                Cow::Borrowed(rest) => Cow::Borrowed(skip_slashes(first_part(rest).1)),
                Cow::Owned(rest) => Cow::Owned(skip_slashes(first_part(&rest).1).to_vec()),
            };
        }
    }

    /// What `path` names, which has to be there.
    pub(super) fn find_existing(
        &self,
        directory: i32,
        path: &[u8],
        follows: bool,
    ) -> Result<u64, Errno> {
        let place = self.find(directory, path, follows)?;
        let number = place.existing()?;
        if place.wants_directory && !self.inodes.get(number).is_directory() {
            return Err(Errno(libc::ENOTDIR));
        }
        Ok(number)
    }

    /// The path from the root to a directory, or `None` if it was removed.
    pub(super) fn path_of_directory(&self, directory: u64) -> Option<Vec<u8>> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut at = directory;
        while at != ROOT {
            let parent = self.inodes.get(at).directory().ok()?.parent;
            let names = &self.inodes.get(parent).directory().ok()?.names;
            let (name, _) = names.iter().find(|(_, number)| **number == at)?;
            parts.push(name);
            at = parent;
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Some(path)
    }
}
