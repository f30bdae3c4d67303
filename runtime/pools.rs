//! The pools of a runtime: how large they are, what is done for them at the start, and the giving
//! back of what has gone idle.

use std::sync::Arc;
use std::time::Duration;

use ringhold_buffers::{LeaseErrorKind, LeaseGroup, PAGE, POOL_SLOTS, Pool, PoolConfig};
use ringhold_kernel::sync::atomic::{AtomicBool, Ordering};
use ringhold_kernel::{ARENA_SLOTS, StartError, System};

use crate::arenas::Arenas;
use crate::builder::Builder;
use crate::handle::Handle;
use crate::telling::tell;

/// Between two looks for arenas that have gone idle: an arena that was not used from one to the
/// next may be given back.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// How long what a load has used stays mapped, and half of it again.
const LINGER: Duration = Duration::from_secs(30);

/// How many pools a runtime can have beside its own.
pub(crate) const NAMED_MAX: usize = ARENA_SLOTS / POOL_SLOTS - 1;

/// The runtime's own pool, and those that have names.
#[derive(Debug)]
pub(crate) struct Pools {
    main: Pool,
    named: Vec<(String, Pool)>,
    sweeper: Sweeper,
}

impl Pools {
    pub(crate) fn new(config: PoolConfig, arenas: Arc<Arenas>) -> Pools {
        let keep = config.keep.max(config.prefill);
        let sweeper = Sweeper { sweeping: AtomicBool::new(false), keep };
        Pools { main: Pool::new(config, arenas), named: Vec::new(), sweeper }
    }

    pub(crate) fn of(
        builder: &Builder,
        system: &dyn System,
        arenas: &Arc<Arenas>,
        shards: usize,
    ) -> Pools {
        let config = builder.pool.clone().unwrap_or_else(|| default_config(system, shards));
        let config = match builder.pool_limit {
            Some(limit) => config.limit(limit),
            None => config,
        };
        let config = match builder.pool_prefill {
            Some(prefill) => config.prefill(prefill),
            None => config,
        };
        let mut pools = Pools::new(config, arenas.clone());
        for (index, (name, config)) in builder.named_pools.iter().enumerate() {
            let pool = Pool::numbered(config.clone(), arenas.clone(), 1 + index);
            pools.sweeper.keep += config.keep.max(config.prefill);
            pools.named.push((name.clone(), pool));
        }
        pools
    }

    /// Maps what is to be mapped at the start, and looks whether the user's limit allows for any
    /// lease at all.
    ///
    /// # Errors
    ///
    /// If it doesn't.
    pub(crate) fn begin(
        &self,
        builder: &Builder,
        system: &dyn System,
        shards: usize,
    ) -> Result<(), StartError> {
        for pool in self.all() {
            let (asked, filled) = (pool.prefill(), pool.fill());
            if filled < asked {
                tell!(warn, asked, filled, "a pool was not filled at the start");
            }
        }
        let Some(limit) = system.locked_memory_limit() else { return Ok(()) };
        // Who may lock not even a page doesn't lease.
        if limit < PAGE as u64 {
            return Ok(());
        }
        let rings = system.ring_bytes(&builder.kernel) * shards as u64;
        let donor = system.ring_bytes(&builder.kernel.smallest());
        let needed = rings + donor + PAGE as u64;
        // Where the limit would do, others may have taken it, and may give it back. Not every
        // kernel charges rings, so where it would not, a lease is tried.
        if needed > limit
            && let Err(error) = self.main.try_lease(PAGE)
            && error.kind() == LeaseErrorKind::LockedMemory
        {
            return Err(StartError::NoRoomForLeases { limit, needed });
        }
        Ok(())
    }

    pub(crate) fn main(&self) -> &Pool {
        &self.main
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Pool> {
        let found = self.named.iter().find(|(known, _)| known == name);
        found.map(|(_, pool)| pool)
    }

    fn all(&self) -> impl Iterator<Item = &Pool> {
        std::iter::once(&self.main).chain(self.named.iter().map(|(_, pool)| pool))
    }

    /// Keeps the reserve of a group free in each of them.
    pub(crate) fn welcome(&self, group: &Arc<LeaseGroup>) {
        self.all().for_each(|pool| pool.welcome(group));
    }

    /// Ends leasing, and leaves the memory mapped for good if the kernel may still write to it.
    pub(crate) fn close(&self, leaked: bool) {
        for pool in self.all() {
            pool.close();
            if leaked {
                pool.leak();
            }
        }
    }

    /// Something is leased: what goes idle later is to be given back.
    #[inline]
    pub(crate) fn watch(&self, handle: &Handle) {
        if !self.sweeper.sweeping.load(Ordering::Relaxed) {
            self.sweeper.start(handle);
        }
    }

    /// Gives back what has gone idle, and says whether there is more to look for.
    fn sweep(&self) -> bool {
        let (mut more, mut mapped, mut waiters) = (false, 0, 0);
        for pool in self.all() {
            more |= pool.sweep();
            let occupancy = pool.occupancy();
            mapped += occupancy.mapped;
            waiters += occupancy.waiters;
        }
        // What is leased now goes idle later, and who waits may be met by memory that others gave
        // back.
        more || mapped > self.sweeper.keep || waiters > 0
    }
}

/// Looks for idle arenas for as long as there are any to look at; an idle runtime isn't woken for
/// it.
#[derive(Debug)]
struct Sweeper {
    sweeping: AtomicBool,
    /// Bytes that the pools keep even when they are idle.
    keep: usize,
}

impl Sweeper {
    #[cold]
    fn start(&self, handle: &Handle) {
        // A paused clock would jump to the sweeper's timers.
        if handle.clock().is_paused() || self.sweeping.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = Arc::downgrade(handle.shared());
        handle.spawn(async move {
            loop {
                crate::time::sleep(SWEEP_INTERVAL).await;
                let Some(shared) = shared.upgrade() else { return };
                if !shared.pools.sweep() {
                    shared.pools.sweeper.sweeping.store(false, Ordering::SeqCst);
                    return;
                }
            }
        });
    }
}

/// The pool that a runtime has if its builder says nothing: half of what the user may lock, so that
/// a second process of the same user can start as well, and 64 MiB a shard where nothing limits it.
fn default_config(system: &dyn System, shards: usize) -> PoolConfig {
    const MIB: usize = 1 << 20;
    let config = PoolConfig::new().linger(LINGER);
    match system.locked_memory_limit() {
        None => config.limit(64 * MIB * shards).arena(4 * MIB),
        Some(limit) => {
            let bytes = usize::try_from(limit).unwrap_or(usize::MAX);
            let most = 64 * MIB * shards;
            let half = (bytes / 2).min(most);
            let arena = (half / 8).next_power_of_two().clamp(64 << 10, 4 * MIB);
            // A huge page wherever two fit.
            let arena = if half >= 4 * MIB { arena.max(2 * MIB) } else { arena };
            let config = config.limit(half.max(64 << 10)).arena(arena);
            if half < most { config.half_of(limit) } else { config }
        }
    }
}
