//! Removing names.

use super::directory::NameEdit;
use super::path::Last;
use super::{Errno, FileSystem};

impl FileSystem {
    /// Removes a name: of a file or a link, or with `AT_REMOVEDIR` of an empty directory. A file
    /// that is open stays until its last descriptor is closed.
    ///
    /// # Errors
    ///
    /// As `unlinkat(2)`, with its numbers.
    pub fn unlink_at(&mut self, directory: i32, path: &[u8], flags: i32) -> Result<(), Errno> {
        if flags & !libc::AT_REMOVEDIR != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let removes_directory = flags & libc::AT_REMOVEDIR != 0;
        // A slash at the end doesn't let a link be followed: its name is what goes.
        let trimmed = trim_slashes(path);
        let place = self.find(directory, trimmed, false)?;
        match place.last {
            Last::Name => {}
            _ if !removes_directory => return Err(Errno(libc::EISDIR)),
            Last::Dot => return Err(Errno(libc::EINVAL)),
            Last::DotDot => return Err(Errno(libc::ENOTEMPTY)),
            Last::Root => return Err(Errno(libc::EBUSY)),
        }
        let number = place.existing()?;
        let inode = self.inodes.get(number);
        if !removes_directory && trimmed.len() < path.len() {
            let is_directory = inode.is_directory();
            return Err(Errno(if is_directory { libc::EISDIR } else { libc::ENOTDIR }));
        }
        self.check_names_of(place.parent)?;
        match (inode.directory(), removes_directory) {
            (Ok(_), false) => return Err(Errno(libc::EISDIR)),
            (Err(_), true) => return Err(Errno(libc::ENOTDIR)),
            (Ok(names), true) if !names.names.is_empty() => return Err(Errno(libc::ENOTEMPTY)),
            _ => {}
        }
        self.detach(place.parent, &place.name);
        let edit = NameEdit { directory: place.parent, name: place.name, now: None };
        self.record(vec![edit], removes_directory.then_some(number), false, false);
        self.release_if_unused(number);
        Ok(())
    }
}

/// The path without slashes at its end, but for the root's own.
pub(super) fn trim_slashes(path: &[u8]) -> &[u8] {
    let last = path.iter().rposition(|byte| *byte != b'/');
    match last {
        Some(last) => &path[..=last],
        None => &path[..path.len().min(1)],
    }
}
