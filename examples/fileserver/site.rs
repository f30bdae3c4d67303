//! The files below the root.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use runtime::fs::{File, OpenOptions};

use crate::conditions::Version;
use crate::target::Target;

/// The end of the year 9999, since 1970.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// What a request for a directory gets.
const INDEX: &str = "index.html";

/// What names a file as long as it is open: its device, and its number there.
type Identity = (u64, u64);

/// A directory whose files are served. Each shard has its own.
pub struct Site {
    root: File,
    direct: bool,
    /// Files that are being sent, so that a thousand clients of one take one descriptor.
    open: RefCell<HashMap<Identity, Weak<File>>>,
}

/// What is at a target.
pub enum Found {
    File(Document),
    /// The target is a directory, and doesn't end like one.
    Directory,
}

/// A file, as it is now.
pub struct Document {
    pub file: Rc<File>,
    pub length: u64,
    pub version: Version,
    pub media_type: String,
}

impl Site {
    pub async fn open(root: &Path, direct: bool) -> io::Result<Site> {
        let root = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(root).await?;
        Ok(Site { root, direct, open: RefCell::default() })
    }

    /// What a target names. Its path can't lead out of the root, whatever links there are.
    pub async fn find(&self, target: &Target) -> Result<Found, StatusCode> {
        let file = if target.is_directory {
            match self.open_beneath(&target.path.join(INDEX)).await {
                // The directory is there, and isn't listed.
                Err(error) if is_missing(&error) && self.is_directory(&target.path).await => {
                    return Err(StatusCode::FORBIDDEN);
                }
                opened => opened,
            }
        } else {
            self.open_beneath(&target.path).await
        };
        let file = file.map_err(|error| status_of(&error))?;
        let stat = file.statx().await.map_err(|error| status_of(&error))?;
        if stat.is_dir() && !target.is_directory {
            return Ok(Found::Directory);
        }
        if !stat.is_file() {
            return Err(StatusCode::NOT_FOUND);
        }
        let since = stat.modified().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // A header says years of four digits, and some file systems later ones.
        let since = since.min(LATEST);
        let name = if target.is_directory { Path::new(INDEX) } else { &target.path };
        Ok(Found::File(Document {
            file: self.shared((stat.dev(), stat.ino()), file),
            length: stat.len(),
            version: Version {
                tag: format!("\"{:x}-{:x}\"", since.as_nanos(), stat.len()),
                modified: SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()),
            },
            media_type: mime_guess::from_path(name).first_or_octet_stream().to_string(),
        }))
    }

    async fn open_beneath(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // A pipe is not waited for.
        options.read(true).custom_flags(libc::O_NONBLOCK).direct(self.direct);
        match options.open_beneath(&self.root, path).await {
            // A directory, or a file system that has no direct reads.
            Err(error) if self.direct && error.kind() == io::ErrorKind::InvalidInput => {
                options.direct(false).open_beneath(&self.root, path).await
            }
            opened => opened,
        }
    }

    async fn is_directory(&self, path: &Path) -> bool {
        if path.as_os_str().is_empty() {
            return true;
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        options.open_beneath(&self.root, path).await.is_ok()
    }

    /// The same file, opened before, if it still is.
    fn shared(&self, identity: Identity, file: File) -> Rc<File> {
        let mut open = self.open.borrow_mut();
        if let Some(before) = open.get(&identity).and_then(Weak::upgrade) {
            return before;
        }
        if open.len() == open.capacity() {
            // Before it grows.
            open.retain(|_, file| file.strong_count() > 0);
        }
        let file = Rc::new(file);
        open.insert(identity, Rc::downgrade(&file));
        file
    }
}

fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

fn status_of(error: &io::Error) -> StatusCode {
    use io::ErrorKind::{CrossesDevices, PermissionDenied};
    match error.kind() {
        _ if is_missing(error) => StatusCode::NOT_FOUND,
        // Where a link leads out of the root, nothing is told of what is there.
        CrossesDevices => StatusCode::NOT_FOUND,
        // A socket can't be opened, nor a device that isn't there.
        _ if is_no_file(error) => StatusCode::NOT_FOUND,
        PermissionDenied => StatusCode::FORBIDDEN,
        // Links in a circle.
        _ if error.raw_os_error() == Some(libc::ELOOP) => StatusCode::FORBIDDEN,
        _ if is_full(error) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn is_no_file(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV))
}

/// Whether there is no descriptor or no memory left.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN))
}
