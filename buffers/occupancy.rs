//! What a pool shows of itself.
#![forbid(unsafe_code)]

use std::time::Duration;

/// How full a pool is, who waits, and what it has done, all taken at one moment.
///
/// Always `mapped == leased + free + retiring + leaked`.
///
/// ```
/// use ringhold_buffers::{Pool, PoolConfig};
///
/// let pool = Pool::unregistered(PoolConfig::new().limit(65536).arena(16384));
/// assert_eq!(pool.occupancy().mapped, 0); // arenas are mapped when they are needed
/// let lease = pool.try_lease(1)?;
/// let occupancy = pool.occupancy();
/// assert_eq!((occupancy.mapped, occupancy.leased, occupancy.free), (16384, 4096, 12288));
/// # drop(lease);
/// # Ok::<(), ringhold_buffers::LeaseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Occupancy {
    /// The most bytes the pool may map.
    pub limit: usize,
    /// Bytes mapped, and pinned if the pool is a registered one.
    pub mapped: usize,
    /// Bytes leased, in whole pages; frozen ones included.
    pub leased: usize,
    /// Bytes mapped that can be leased at once.
    pub free: usize,
    /// The most bytes that are free in one piece, for a lease is one.
    pub largest_free: usize,
    /// Bytes that are kept free for groups with a reserve, and not leased to others.
    pub reserved: usize,
    /// Bytes of arenas that are in huge pages; 0 where the kernel can't tell (before 6.7).
    pub huge: usize,
    /// Bytes of arenas that are on their way out: still mapped, never leased again.
    pub retiring: usize,
    /// Bytes of arenas that were given up without being unmapped.
    pub leaked: usize,
    /// Bytes frozen, in whole pages.
    pub frozen: usize,
    /// The most bytes that may be frozen at a time.
    pub frozen_limit: usize,
    /// Arenas that leases come from.
    pub arenas: usize,
    /// Another arena is being mapped and registered.
    pub growing: bool,
    /// Requests that wait their turn.
    pub waiters: usize,
    /// How long the one that has waited longest has waited.
    pub oldest_wait: Duration,
    /// The bytes that this one wants.
    pub oldest_wait_bytes: usize,
    /// Leases handed out so far.
    pub leases_total: u64,
    /// Requests that had to wait so far.
    pub waits_total: u64,
    /// What requests waited, together: those that still wait as well.
    pub wait_time_total: Duration,
    /// Requests that were served before one that had its turn, so far.
    pub passed_total: u64,
    /// Arenas mapped so far.
    pub grown_total: u64,
    /// Arenas unmapped so far.
    pub given_back_total: u64,
    /// Attempts to grow that failed for want of memory so far.
    pub shortages_total: u64,
    /// The pool is closed: nothing is leased any more.
    pub closed: bool,
}
