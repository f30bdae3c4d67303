//! How the log fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of the log. It can be cloned, since one failure is told to everybody who waits.
#[derive(Clone, Debug)]
pub enum Error {
    /// The operating system refused something.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The error.
        cause: Arc<io::Error>,
    },
    /// Bytes that were acknowledged are not what was written. The log has to be restored from
    /// elsewhere.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// No file has the record with this number, and later ones are there.
    Missing {
        /// The record's number.
        number: u64,
    },
    /// The record is longer than a frame can hold; nothing was appended.
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The log ends at another number, or has a later checkpoint.
    NoSuchRecord {
        /// The number that was asked for.
        number: u64,
    },
    /// The log has failed before, for this reason, and takes nothing until it is opened anew.
    Failed(Arc<Error>),
    /// The log was closed.
    Closed,
}

impl Error {
    /// What turns an error of the operating system into one that says where it happened.
    pub fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |cause| Error::Io { doing, path, cause: Arc::new(cause) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, path, cause } => write!(f, "{doing} {}: {cause}", path.display()),
            Error::Damaged { path, offset } => {
                write!(f, "{} is damaged at byte {offset}", path.display())
            }
            Error::Missing { number } => write!(f, "record {number} is in no segment"),
            Error::TooLong { length } => {
                let most = super::frame::RECORD_BYTES_MAX;
                write!(f, "a record of {length} bytes, at most {most} are possible")
            }
            Error::NoSuchRecord { number } => {
                write!(f, "{number} lies outside of what the log has")
            }
            Error::Failed(cause) => {
                write!(f, "the log has failed and must be opened anew: {cause}")
            }
            Error::Closed => write!(f, "the log was closed"),
        }
    }
}

impl std::error::Error for Error {}
