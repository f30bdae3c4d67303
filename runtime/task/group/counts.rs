//! What a shard counts of a group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What one shard has counted of a group since the group's first task came to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskGroupCounts {
    /// The group's name; `default` for tasks that are in no group.
    pub name: String,
    /// Its shares, as of its last poll.
    pub shares: u32,
    /// How many polls its tasks had.
    pub polls: u64,
    /// How long those took.
    pub busy: Duration,
    /// How many of its tasks are alive.
    pub alive: usize,
    /// How many of its tasks are ready, and wait for their turn.
    pub ready: usize,
}

/// The same as the shard counts it, which is the only one to write: a load and a store are enough.
#[derive(Debug)]
pub(crate) struct LaneCounts {
    name: Arc<str>,
    shares: AtomicU32,
    polls: AtomicU64,
    busy_nanos: AtomicU64,
    alive: AtomicUsize,
    ready: AtomicUsize,
}

impl LaneCounts {
    pub(crate) fn new(name: Arc<str>, shares: u32) -> Arc<LaneCounts> {
        Arc::new(LaneCounts {
            name,
            shares: AtomicU32::new(shares),
            polls: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            alive: AtomicUsize::new(0),
            ready: AtomicUsize::new(0),
        })
    }

    pub(crate) fn shares(&self) -> u32 {
        self.shares.load(Ordering::Relaxed)
    }

    pub(crate) fn set_shares(&self, shares: u32) {
        self.shares.store(shares, Ordering::Relaxed);
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    pub(crate) fn set_alive(&self, alive: usize) {
        self.alive.store(alive, Ordering::Relaxed);
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ready(&self, ready: usize) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(crate) fn note_poll(&self, nanos: u64) {
        self.polls.store(self.polls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let busy = self.busy_nanos.load(Ordering::Relaxed).saturating_add(nanos);
        self.busy_nanos.store(busy, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> TaskGroupCounts {
        TaskGroupCounts {
            name: self.name.as_ref().to_owned(),
            shares: self.shares(),
            polls: self.polls.load(Ordering::Relaxed),
            busy: Duration::from_nanos(self.busy_nanos.load(Ordering::Relaxed)),
            alive: self.alive(),
            ready: self.ready(),
        }
    }
}
