//! Where a file stands, and whether others may know.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringhold_runtime::Fd;

/// A position that only the kernel knows; as an offset, it means just that to the kernel.
pub(crate) const KERNELS: u64 = u64::MAX;

/// The position of an open file, which all its copies share.
///
/// A file that was opened by its path is nobody else's, and its position is kept here. Once another
/// may have it, which begins with a copy or with a look at its descriptor, the position is the
/// kernel's, and stays that.
#[derive(Debug)]
pub(crate) struct Standing {
    /// While it is ours: the position, or `KERNELS`. After that: what was heard of it last.
    position: AtomicU64,
    is_shared: AtomicBool,
    /// How often a copy of the file was put elsewhere.
    seeks: AtomicU64,
}

impl Standing {
    /// Of a file that was just opened by its path.
    pub(crate) fn own() -> Standing {
        Standing {
            position: AtomicU64::new(0),
            is_shared: AtomicBool::new(false),
            seeks: AtomicU64::new(0),
        }
    }

    /// Of a file that comes from elsewhere.
    pub(crate) fn shared() -> Standing {
        let standing = Standing::own();
        standing.set_position(KERNELS);
        standing.is_shared.store(true, Ordering::Relaxed);
        standing
    }

    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    pub(crate) fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Acquire)
    }

    /// From now on others may have the file: the kernel stands where we do.
    pub(crate) fn share(&self, file: &Fd) {
        if self.is_shared.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Ok(position) = i64::try_from(self.position()) {
            // What has no position needs none.
            let _ = file.system().open_files().seek(file.descriptor(), position, libc::SEEK_SET);
        }
    }

    /// Where the kernel is to stand when the file leaves; `None` where it does already.
    pub(crate) fn to_hand_over(&self) -> Option<u64> {
        let position = self.position();
        (!self.is_shared() && position != KERNELS).then_some(position)
    }

    pub(crate) fn seeks(&self) -> u64 {
        self.seeks.load(Ordering::Acquire)
    }

    /// A copy was put to `position`.
    pub(crate) fn note_seek(&self, position: u64) {
        self.set_position(position);
        self.seeks.fetch_add(1, Ordering::AcqRel);
    }
}
