//! Where a path begins: what the operations on paths share.

use std::ffi::CString;

use io_uring::types;
use libc::c_char;

use crate::fd::Fd;

/// A path, and the directory that a relative one begins at.
///
/// An operation that holds it keeps the directory open and the path's bytes in place: a `CString`
/// keeps them on the heap, where they stay as it moves.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory; `None` for the process's working directory.
    pub directory: Option<Fd>,
    /// The path.
    pub path: CString,
}

impl Place {
    /// A path that is absolute or begins at the working directory.
    pub fn new(path: CString) -> Place {
        Place { directory: None, path }
    }

    /// A path that begins at `directory`.
    pub fn within(directory: &Fd, path: CString) -> Place {
        Place { directory: Some(directory.clone()), path }
    }

    /// The directory as an entry names it. The kernel takes no registered file there.
    pub(crate) fn begin(&self) -> types::Fd {
        types::Fd(self.directory.as_ref().map_or(libc::AT_FDCWD, Fd::descriptor))
    }

    /// The path as an entry points to it.
    pub(crate) fn pointer(&self) -> *const c_char {
        self.path.as_ptr()
    }
}
