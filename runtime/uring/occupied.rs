//! The ring's threads that are occupied for as long as it takes.
//!
//! What may block goes to threads of the kernel's, of which a shard has a few at most: usually four
//! a core. An open that waits for a peer would take one from all others, maybe for ever. So while
//! there are such opens, there may be as many threads more.

use io_uring::IoUring;
use ringhold_kernel::Cqe;

/// What occupies threads now.
#[derive(Default)]
pub(super) struct Occupied {
    /// The entries' user data.
    by: Vec<u64>,
    /// How many threads there may be beside; known once something waits.
    beside: Option<u32>,
}

impl Occupied {
    /// An entry that may wait was pushed.
    #[cold]
    pub(super) fn begin(&mut self, ring: &IoUring, user_data: u64) {
        self.by.push(user_data);
        self.allow(ring);
    }

    /// Completions came.
    #[inline]
    pub(super) fn end(&mut self, ring: &IoUring, batch: &[Cqe]) {
        if !self.by.is_empty() {
            self.remove(ring, batch);
        }
    }

    #[cold]
    fn remove(&mut self, ring: &IoUring, batch: &[Cqe]) {
        let before = self.by.len();
        self.by.retain(|user_data| batch.iter().all(|cqe| cqe.user_data != *user_data));
        if self.by.len() < before {
            self.allow(ring);
        }
    }

    /// Where the kernel can't be told (before 5.15), the opens share what there is.
    fn allow(&mut self, ring: &IoUring) {
        let submitter = ring.submitter();
        if self.beside.is_none() {
            // Zeros change nothing, and are answered by what there is.
            let mut now = [0, 0];
            let asked = submitter.register_iowq_max_workers(&mut now);
            self.beside = asked.is_ok().then_some(now[0]);
        }
        if let Some(beside) = self.beside {
            let more = u32::try_from(self.by.len()).unwrap_or(u32::MAX);
            let _ = submitter.register_iowq_max_workers(&mut [beside.saturating_add(more), 0]);
        }
    }
}
