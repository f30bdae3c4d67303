//! std's `Metadata` of a simulated file.
//!
//! Nobody but std can make one, and only from a real file. So a real file of the same kind, length,
//! permissions and times stands in for the moment. Its inode, its device and its owner are not the
//! simulated one's; `fs::statx` tells those.

use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::disk::Status;

/// The metadata of a file that is what `status` says.
pub(crate) fn of(status: &Status) -> io::Result<Metadata> {
    let permissions = Permissions::from_mode(status.mode & 0o7777);
    match status.mode & libc::S_IFMT {
        libc::S_IFDIR => {
            let place = Place::new();
            fs::create_dir(&place.0)?;
            fs::set_permissions(&place.0, permissions)?;
            let metadata = fs::metadata(&place.0);
            fs::remove_dir(&place.0)?;
            metadata
        }
        libc::S_IFLNK => {
            let place = Place::new();
            symlink("x".repeat(status.size as usize), &place.0)?;
            let metadata = fs::symlink_metadata(&place.0);
            fs::remove_file(&place.0)?;
            metadata
        }
        _ => {
            let directory = std::env::temp_dir();
            let file = File::options().write(true).custom_flags(libc::O_TMPFILE).open(directory)?;
            file.set_len(status.size)?;
            file.set_permissions(permissions)?;
            file.set_times(times(status))?;
            file.metadata()
        }
    }
}

fn times(status: &Status) -> FileTimes {
    let time = |since: Duration| SystemTime::UNIX_EPOCH + since;
    FileTimes::new().set_accessed(time(status.accessed)).set_modified(time(status.modified))
}

/// A path that nothing else has.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringhold-sim-{}-{number}", std::process::id());
        Place(std::env::temp_dir().join(name))
    }
}
