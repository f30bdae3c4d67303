//! The seam to whoever registers arenas with the kernel, and the way of an arena out of its pool.
#![forbid(unsafe_code)]

use std::{
    fmt, io, mem,
    ptr::NonNull,
    sync::Weak,
    time::{Duration, Instant},
};

use ringhold_kernel::ArenaId;

use crate::{pool::Shared, region::Region};

/// Registers a pool's arenas with the kernel. Implemented by the runtime.
///
/// `register`, `retire`, `start` and `pause` are called without the pool's lock and may use the
/// pool; the others may not. All may be called on any thread: growing happens where `start` runs
/// it, or where `try_lease` asks for it, giving back where the pool is swept or its last handle or
/// lease is dropped.
///
/// ```
/// use std::{io, ptr::NonNull, sync::Arc};
/// use ringhold_buffers::{ArenaId, Pool, PoolConfig, Registrar, Retiring};
///
/// /// Has no table that could reach anything.
/// struct Nowhere;
///
/// impl Registrar for Nowhere {
///     fn register(&self, _: ArenaId, _: NonNull<u8>, _: usize) -> io::Result<()> {
///         Ok(())
///     }
///     fn retire(&self, retiring: Retiring) {
///         retiring.complete();
///     }
/// }
///
/// let pool = Pool::new(PoolConfig::new(), Arc::new(Nowhere));
/// let lease = pool.try_lease(1)?;
/// assert_eq!(lease.arena().unwrap().slot, 0);
/// # Ok::<(), ringhold_buffers::LeaseError>(())
/// ```
pub trait Registrar: Send + Sync + 'static {
    /// Registers, and thereby pins, `length` bytes at `address` as buffer `arena.slot`.
    ///
    /// # Errors
    /// ENOMEM means that the user's locked memory is used up: the pool makes do with less. Any
    /// other error goes to who asked for the lease. After an error the memory must not be
    /// registered.
    fn register(&self, arena: ArenaId, address: NonNull<u8>, length: usize) -> io::Result<()>;

    /// Takes an arena out of every table that may reach it, in its own time, and then calls
    /// [`Retiring::complete`]. Nothing of the arena is leased, nor ever will be again. If the rings
    /// are closed and drained already, completes at once; if it can't be known, drops the value.
    fn retire(&self, retiring: Retiring);

    /// The time, by which waiting is measured.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Runs `work`, which maps and registers memory and takes milliseconds, beside the caller, or
    /// at once where it can't.
    ///
    /// If the work is dropped without having run, the pool goes on as after a failure.
    fn start(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    /// Waits that long for locked memory that others give back late. Returns `false`, without
    /// having waited, where nothing is given back late or the pool is about to end. Called by what
    /// [`start`](Registrar::start) was given.
    fn pause(&self, length: Duration) -> bool {
        let _ = length;
        false
    }

    /// What this user may lock, in bytes; `None` without a limit.
    fn locked_memory_limit(&self) -> Option<u64> {
        None
    }

    /// How many bytes of the mapped range are in huge pages; 0 where that can't be known.
    fn huge_bytes(&self, address: NonNull<u8>, length: usize) -> usize {
        let _ = (address, length);
        0
    }
}

impl fmt::Debug for dyn Registrar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Registrar")
    }
}

/// An arena on its way out: idle, still mapped, still in the kernel's tables.
///
/// Dropped without [`complete`](Retiring::complete), the memory stays mapped and the slot stays
/// unused for good: some table might still reach the pages.
#[must_use = "dropping it leaks the arena; call `complete` once no table reaches it"]
pub struct Retiring {
    id: ArenaId,
    region: Option<Region>,
    pool: Weak<Shared>,
}

impl Retiring {
    pub(crate) fn new(id: ArenaId, region: Region, pool: Weak<Shared>) -> Retiring {
        Retiring { id, region: Some(region), pool }
    }

    /// Which arena it is.
    pub fn arena(&self) -> ArenaId {
        self.id
    }

    /// Its size in bytes.
    pub fn length(&self) -> usize {
        self.region.as_ref().map_or(0, Region::length)
    }

    /// Unmaps the memory, and frees the slot for an arena with the next generation.
    ///
    /// To be called once no ring's table reaches the arena any more; a table that still does
    /// keeps the old pages and would take I/O into them unseen.
    pub fn complete(mut self) {
        let Some(region) = self.region.take() else { return };
        let Some(pool) = self.pool.upgrade() else { return drop(region) };
        if pool.with(|state| state.is_leaked()) {
            self.region = Some(region);
            return;
        }
        drop(region);
        pool.with(|state| state.finish_retirement(self.id));
    }
}

impl Drop for Retiring {
    fn drop(&mut self) {
        let Some(region) = self.region.take() else { return };
        mem::forget(region);
        if let Some(pool) = self.pool.upgrade() {
            pool.with(|state| state.abandon_retirement(self.id));
        }
    }
}

impl fmt::Debug for Retiring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Retiring")
            .field("arena", &self.id)
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}
