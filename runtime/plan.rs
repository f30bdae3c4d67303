//! What the parts of a runtime are made from, whoever turns its shards.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ringhold_kernel::{StartError, System};

use crate::arenas::Arenas;
use crate::blocking::BlockingPool;
use crate::builder::Builder;
use crate::handle::{Handle, Shared};
use crate::pools::Pools;
use crate::random::SharedRandom;
use crate::registry::Remote;
use crate::shard::Shard;
use crate::time::clock::Clock;

/// What the parts of a runtime are made from.
pub(crate) struct Plan {
    pub(crate) system: Arc<dyn System>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) arenas: Arc<Arenas>,
}

impl Plan {
    pub(crate) fn of(builder: &Builder) -> Plan {
        let system = builder.system.clone();
        let clock = Clock::new(system.clone());
        if builder.start_paused {
            clock.pause();
        }
        let arenas = Arenas::new(system.clone(), clock.clone());
        Plan { arenas, clock, system }
    }

    pub(crate) fn boot(&self, builder: &Builder) -> Result<Shard, StartError> {
        let kernel = self.system.boot(&builder.kernel)?;
        Ok(Shard::new(kernel, self.arenas.clone(), self.clock.clone(), self.system.seed()))
    }

    pub(crate) fn share(
        self,
        builder: &Builder,
        shards: Vec<Arc<Remote>>,
    ) -> Result<Handle, StartError> {
        self.arenas.open()?;
        self.arenas.set_shards(&shards);
        let pools = Pools::of(builder, &*self.system, &self.arenas, shards.len());
        pools.begin(builder, &*self.system, shards.len())?;
        Ok(Handle::new(Arc::new(Shared {
            pools,
            blocking: BlockingPool::new(
                builder.blocking_threads_max,
                builder.blocking_keep_alive,
                builder.hooks.clone(),
            ),
            random: SharedRandom::new(self.system.seed()),
            system: self.system,
            shards,
            arenas: self.arenas,
            clock: self.clock,
            next: AtomicUsize::new(0),
        })))
    }
}
