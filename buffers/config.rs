//! What a pool is told at its start.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::{LARGEST_ARENA, PAGE, POOL_SLOTS};

/// How large a pool may get, and how it grows and shrinks. All sizes are bytes.
///
/// ```
/// use ringhold_buffers::PoolConfig;
///
/// let config = PoolConfig::new().limit(16 << 20).arena(2 << 20).keep(0);
/// assert_eq!(config.limit, 16 << 20);
/// assert_eq!(config.frozen_percent, 50);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// The most bytes it ever maps. Rounded down to whole pages, at least one.
    pub limit: usize,
    /// The bytes of an arena, by which it grows. Rounded up to whole pages, and so far up that the
    /// limit is reached with [`POOL_SLOTS`] arenas; at most the limit and 1 GiB. A larger request
    /// gets an arena of its own size.
    pub arena: usize,
    /// The bytes that stay mapped though they are not leased.
    pub keep: usize,
    /// How long as much stays mapped as a load has used at most; half of it stays as long again,
    /// and so on. With zero, what is idle from one sweep to the next goes at once.
    pub linger: Duration,
    /// The bytes that are mapped at the start, and stay.
    pub prefill: usize,
    /// The share of the limit, in percent, that may be frozen at a time.
    pub frozen_percent: u8,
    /// The limit of locked memory that `limit` is the half of, if none was set.
    #[doc(hidden)]
    pub half_of: Option<u64>,
}

impl Default for PoolConfig {
    /// 4 MiB in arenas of 1 MiB, of which one is kept, and half of which may be frozen: it fits
    /// beside the rings of an unprivileged user under the usual 8 MiB of locked memory.
    fn default() -> PoolConfig {
        PoolConfig {
            limit: 4 << 20,
            arena: 1 << 20,
            keep: 1 << 20,
            linger: Duration::ZERO,
            prefill: 0,
            frozen_percent: 50,
            half_of: None,
        }
    }
}

impl PoolConfig {
    /// The default configuration.
    pub fn new() -> PoolConfig {
        PoolConfig::default()
    }

    /// Sets the most bytes that the pool ever maps.
    pub fn limit(self, limit: usize) -> PoolConfig {
        PoolConfig { limit, half_of: None, ..self }
    }

    /// Sets the bytes of an arena.
    pub fn arena(self, arena: usize) -> PoolConfig {
        PoolConfig { arena, ..self }
    }

    /// Sets the bytes that stay mapped though they are not leased.
    pub fn keep(self, keep: usize) -> PoolConfig {
        PoolConfig { keep, ..self }
    }

    /// Sets how long as much stays mapped as a load has used at most, and half of it again.
    pub fn linger(self, linger: Duration) -> PoolConfig {
        PoolConfig { linger, ..self }
    }

    /// Sets the bytes that are mapped at the start, and stay.
    pub fn prefill(self, prefill: usize) -> PoolConfig {
        PoolConfig { prefill, ..self }
    }

    /// Says of which limit of locked memory the pool's limit is the half.
    #[doc(hidden)]
    pub fn half_of(self, locked: u64) -> PoolConfig {
        PoolConfig { half_of: Some(locked), ..self }
    }

    /// Sets the share of the limit, in percent (at most 100), that may be frozen at a time.
    pub fn frozen_percent(self, frozen_percent: u8) -> PoolConfig {
        PoolConfig { frozen_percent, ..self }
    }

    /// The same, rounded as the fields say.
    pub(crate) fn rounded(mut self) -> PoolConfig {
        self.limit = (self.limit / PAGE).max(1) * PAGE;
        let least = self.limit.div_ceil(POOL_SLOTS).next_multiple_of(PAGE);
        let most = self.limit.min(LARGEST_ARENA);
        let arena = self.arena.min(LARGEST_ARENA).next_multiple_of(PAGE);
        self.arena = arena.max(least).min(most);
        self.prefill = self.prefill.min(self.limit);
        self.keep = self.keep.max(self.prefill);
        self.frozen_percent = self.frozen_percent.min(100);
        self
    }

    /// The most bytes that may be frozen at a time.
    pub(crate) fn frozen_limit(&self) -> usize {
        (self.limit as u128 * u128::from(self.frozen_percent) / 100) as usize
    }
}
