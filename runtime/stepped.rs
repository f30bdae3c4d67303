//! A runtime that starts no thread: whoever has it turns its shards, one at a time.
//!
//! This is how a simulation runs. Everything but the threads is that of any other runtime: the same
//! shards with the same drivers, the same pool, the same end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::builder::Builder;
use crate::context::{HandleScope, ShardScope};
use crate::handle::Handle;
use crate::plan::Plan;
use crate::shard::Shard;
use crate::task::JoinHandle;

/// A runtime whose shards are turned by hand.
#[derive(Debug)]
pub struct Stepped {
    handle: Handle,
    /// By number; `None` for a shard that has ended.
    shards: Vec<Option<Shard>>,
    leaked: bool,
}

impl Builder {
    /// Boots the shards on the calling thread and starts none of them.
    #[doc(hidden)]
    pub fn stepped(&mut self) -> io::Result<Stepped> {
        self.check()?;
        let plan = Plan::of(self);
        let mut shards = Vec::new();
        for _ in 0..self.shard_count() {
            shards.push(Some(plan.boot(self)?));
        }
        let remotes = shards.iter().flatten().map(|shard| shard.remote().clone()).collect();
        let handle = plan.share(self, remotes)?;
        Ok(Stepped { handle, shards, leaked: false })
    }
}

impl Stepped {
    /// The handle of the runtime.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    fn shard(&self, index: usize) -> Option<&Shard> {
        self.shards[index].as_ref()
    }

    /// Spawns on a shard that has not ended what `make` returns there.
    pub fn spawn_local<F: Future + 'static>(
        &self,
        index: usize,
        make: impl FnOnce() -> F,
    ) -> JoinHandle<F::Output> {
        let shard = self.shard(index).expect("the shard has not ended");
        let _entered = HandleScope::enter(&self.handle);
        let _scope = ShardScope::enter(shard);
        shard.spawn(make())
    }

    /// Whether a turn of the shard would find something to do without anything to come.
    pub fn has_work(&self, index: usize) -> bool {
        self.shard(index).is_some_and(Shard::has_work_now)
    }

    /// Turns a shard once.
    pub fn turn(&self, index: usize) {
        if let Some(shard) = self.shard(index) {
            let _entered = HandleScope::enter(&self.handle);
            shard.turn(&|| false);
        }
    }

    /// What the drivers of the shards that have not ended have counted.
    pub fn counts(&self) -> Vec<crate::driver::DriverCounts> {
        self.shards.iter().flatten().map(Shard::counts).collect()
    }

    /// Begins the end: tasks are dropped and operations cancelled, on each shard.
    pub fn stop(&self) {
        let _entered = HandleScope::enter(&self.handle);
        // Closures that have not begun are dropped, as when any runtime ends.
        self.handle.shared().blocking.shut_down(Some(Instant::now()));
        self.shards.iter().flatten().for_each(Shard::stop_intake);
    }

    /// Goes on with the end of a shard. `true` when it has ended.
    ///
    /// `deadline` is in the system's time. A shard that isn't drained by then is leaked.
    pub fn drain(&mut self, index: usize, deadline: Instant) -> bool {
        let _entered = HandleScope::enter(&self.handle);
        let Some(shard) = &self.shards[index] else { return true };
        let Some(drained) = shard.drain_step(deadline) else { return false };
        let shard = self.shards[index].take().expect("looked at above");
        self.leaked |= !shard.end(drained);
        true
    }

    /// Gives the pool's memory back, when all shards have ended. Says whether none was leaked.
    pub fn finish(self) -> bool {
        assert!(
            self.shards.iter().all(Option::is_none),
            "a runtime was finished before its shards"
        );
        let shared = Arc::clone(self.handle.shared());
        shared.pools.close(self.leaked);
        shared.arenas.close();
        !self.leaked
    }
}
