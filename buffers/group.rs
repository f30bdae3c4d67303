//! Who asks for leases together: a queue of their own, shares, and a reserve.
#![forbid(unsafe_code)]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crate::PAGE;

/// The shares of who is of no group, and the most that a group can have.
pub(crate) const SHARES_MAX: u32 = 1000;

/// How much of a pool stays free for a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reserve {
    /// Nothing.
    #[default]
    Nothing,
    /// A sixteenth of the pool's limit.
    Sixteenth,
    /// So many bytes, rounded up to whole pages.
    Bytes(usize),
}

/// A group of those who ask for leases.
///
/// Its requests wait in a queue of their own. While several queues wait, each gets pages in
/// proportion to its shares. Its reserve stays free for it: others are only given what leaves room
/// for it. All reserves together are at most half of the pool.
///
/// ```
/// use ringhold_buffers::{LeaseGroup, LeaseErrorKind, PAGE, Pool, PoolConfig, Reserve};
///
/// let pool = Pool::unregistered(PoolConfig::new().limit(8 * PAGE).arena(8 * PAGE));
/// let reads = LeaseGroup::new(900, Reserve::Bytes(2 * PAGE));
/// pool.welcome(&reads);
/// let _most = pool.try_lease(6 * PAGE)?;
/// assert_eq!(pool.try_lease(PAGE).unwrap_err().kind(), LeaseErrorKind::Full);
/// assert!(pool.try_lease_in(&reads, 2 * PAGE).is_ok());
/// # Ok::<(), ringhold_buffers::LeaseError>(())
/// ```
#[derive(Debug)]
pub struct LeaseGroup {
    id: u32,
    shares: AtomicU32,
    reserve: Reserve,
}

impl LeaseGroup {
    /// A group with so many shares, 1 to 1000.
    ///
    /// # Panics
    /// If `shares` is not in that range.
    pub fn new(shares: u32, reserve: Reserve) -> Arc<LeaseGroup> {
        // 0 is the queue of who is of no group.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(id != u32::MAX, "the numbers of groups are used up");
        let group = LeaseGroup { id, shares: AtomicU32::new(SHARES_MAX), reserve };
        group.set_shares(shares);
        Arc::new(group)
    }

    /// Changes the shares, 1 to 1000, for what is granted from now on.
    ///
    /// # Panics
    /// If `shares` is not in that range.
    pub fn set_shares(&self, shares: u32) {
        assert!((1..=SHARES_MAX).contains(&shares), "{shares} shares");
        self.shares.store(shares, Ordering::Relaxed);
    }

    /// What stays free for it.
    pub fn reserve(&self) -> Reserve {
        self.reserve
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn shares(&self) -> u32 {
        self.shares.load(Ordering::Relaxed)
    }

    /// The pages that stay free for it in a pool of `limit` pages.
    pub(crate) fn reserved(&self, limit: usize) -> usize {
        match self.reserve {
            Reserve::Nothing => 0,
            Reserve::Sixteenth => (limit / 16).max(1),
            Reserve::Bytes(bytes) => bytes.div_ceil(PAGE),
        }
        .min(limit / 2)
    }
}
