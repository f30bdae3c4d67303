//! The groups of provided buffers that a driver's kernel has.
#![allow(unsafe_code)]

use std::io;

use ringhold_kernel::Provided;

use crate::driver::Driver;

/// The first number that a group may have. Linux 6.1 has what it knows of those below in an array
/// (`BGID_ARRAY` in `io_uring/kbuf.c`), in which how far it has come in a group's entries outlives
/// the group: in the next one of the same number it would go on from there, and so pick buffers
/// that nobody has provided. Of any other number it forgets everything, as 6.12 does of all.
const FIRST: u16 = 64;

/// Which numbers of groups are taken.
pub(super) struct GroupNumbers {
    /// Those that were given back.
    vacant: Vec<u16>,
    next: u16,
}

impl Default for GroupNumbers {
    fn default() -> GroupNumbers {
        GroupNumbers { vacant: Vec::new(), next: FIRST }
    }
}

impl GroupNumbers {
    fn take(&mut self) -> io::Result<u16> {
        if let Some(number) = self.vacant.pop() {
            return Ok(number);
        }
        let number = self.next;
        let next = number.checked_add(1);
        self.next = next.ok_or_else(|| io::Error::from_raw_os_error(libc::ENFILE))?;
        Ok(number)
    }
}

impl Driver {
    /// Makes a group with room for `entries` buffers. Returns its number, and whether the kernel
    /// can fill several of its buffers at once.
    pub(crate) fn add_group(&mut self, entries: u16) -> io::Result<(u16, bool)> {
        let number = self.groups.take()?;
        match self.kernel.add_group(number, entries) {
            Ok(()) => Ok((number, self.kernel.picks_bundles())),
            Err(error) => {
                self.groups.vacant.push(number);
                Err(error)
            }
        }
    }

    /// No receive names the group any more.
    pub(crate) fn remove_group(&mut self, number: u16) {
        self.kernel.remove_group(number);
        self.groups.vacant.push(number);
    }

    /// Provides the kernel with a buffer that the caller keeps, untouched, until the kernel has
    /// picked it or no receive names the group any more.
    pub(crate) fn provide(&mut self, group: u16, buffer: Provided) {
        // SAFETY: the buffer is a lease in a `Group`, which keeps it in place (S2) and hands it out
        // only when a completion has named it (S1); a receive that names the group, and no other
        // operation touches it, keeps the group until its final completion (S3).
        unsafe { self.kernel.provide(group, buffer) };
    }
}
