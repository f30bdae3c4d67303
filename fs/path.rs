//! Paths as the kernel takes them.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ringhold_runtime::ops::Place;

/// The path with a zero byte at its end.
///
/// # Errors
///
/// `InvalidInput` for a path that has one before.
pub(crate) fn to_c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "a path can't contain a zero byte")
    })
}

/// The path as an operation's argument.
pub(crate) fn to_place(path: &Path) -> io::Result<Place> {
    to_c_string(path).map(Place::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_zero_byte_is_invalid_input() {
        let error = to_c_string(Path::new("a\0b")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "a path can't contain a zero byte");
        assert_eq!(to_c_string(Path::new("ab")).unwrap(), c"ab".to_owned());
    }
}
