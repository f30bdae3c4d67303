//! Tasks: spawning, joining, aborting.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) mod budget;
pub(crate) mod coop;
pub(crate) mod group;
mod join_error;
mod join_handle;
mod join_set;

mod large;
mod raw;
mod ready;
mod run_queue;
pub(crate) mod spawn;
mod yield_now;

pub use crate::local::ShardLocal;
pub use budget::consume_budget;
pub use group::{TaskGroup, TaskGroupBuilder, TaskGroupCounts};
pub use join_error::JoinError;
pub use join_handle::{AbortHandle, JoinHandle};
pub use join_set::JoinSet;

pub use spawn::{
    block_in_place, id, on_every_shard, spawn, spawn_balanced, spawn_blocking, spawn_local,
    spawn_on, try_id,
};
pub use yield_now::yield_now;

pub(crate) use large::is_large;
pub(crate) use raw::{Ran, TaskRef, new_task};
pub(crate) use ready::ReadyQueue;
pub(crate) use run_queue::RunQueue;

/// Names a task among all of the process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(NonZeroU64);

impl Id {
    pub(crate) fn next() -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Id(NonZeroU64::new(NEXT.fetch_add(1, Ordering::Relaxed)).expect("ids don't run out"))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
