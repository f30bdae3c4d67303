//! The pool of the current runtime, and the giving back of what has gone idle.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ringhold_buffers::sync::atomic::{AtomicBool, Ordering};
use ringhold_buffers::{Lease, LeaseError, LeaseFuture, Occupancy, Pool, PoolConfig};

use crate::context;
use crate::handle::Handle;
use crate::kernel::System;
use crate::task::budget;

/// Between two looks for arenas that have gone idle: an arena that nobody used from one to the next
/// is given back.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// Waits its turn for `length` bytes of the current runtime's pool.
///
/// The lease is empty, its capacity is `length`, and its memory is 4096-aligned and registered with
/// the kernel. It goes back when it is dropped, on any thread. Waiting is first come, first served,
/// across sizes.
///
/// # Errors
///
/// [`LeaseError`] says by its kind whether the request could never be met, or locked memory ran
/// short, and then names the limit, what is in use, and the cures.
///
/// # Cancel safety
///
/// Safe: a dropped wait leaves the queue, and loses its place there.
///
/// # Panics
///
/// Where no runtime is entered.
///
/// # Deadlock
///
/// A task that holds leases while it waits for another one may wait for itself. Lease what a step
/// needs at once, put a [`timeout`](crate::time::timeout) around it, or use [`try_lease`].
#[track_caller]
pub fn lease(length: usize) -> Leasing {
    let handle = current();
    handle.shared().sweeper.watch(&handle);
    Leasing { waiting: handle.pool().lease(length) }
}

/// The future of [`lease()`].
#[derive(Debug)]
#[must_use = "nothing is leased until it is awaited"]
pub struct Leasing {
    waiting: LeaseFuture,
}

impl Future for Leasing {
    type Output = Result<Lease, LeaseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A pool with free pages answers at once, so a loop that leases must not keep its shard for
        // itself.
        match budget::poll_step(cx) {
            Poll::Ready(()) => Pin::new(&mut self.waiting).poll(cx),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// As [`lease()`], without waiting.
///
/// # Errors
///
/// As [`lease()`], and of the kind `Full` where that one would wait.
///
/// # Panics
///
/// Where no runtime is entered.
#[track_caller]
pub fn try_lease(length: usize) -> Result<Lease, LeaseError> {
    let handle = current();
    handle.shared().sweeper.watch(&handle);
    handle.pool().try_lease(length)
}

/// What the current runtime's pool holds at this moment, and what it has counted.
///
/// # Panics
///
/// Where no runtime is entered.
#[track_caller]
pub fn occupancy() -> Occupancy {
    current().pool().occupancy()
}

/// The current runtime's pool.
///
/// # Panics
///
/// Where no runtime is entered.
#[track_caller]
pub fn pool() -> Pool {
    current().pool().clone()
}

#[track_caller]
fn current() -> Handle {
    context::handle_or_panic()
}

/// Looks for idle arenas for as long as there are any to look at; an idle runtime isn't woken for
/// it.
#[derive(Debug)]
pub(crate) struct Sweeper {
    sweeping: AtomicBool,
    /// Bytes that the pool keeps even when they are idle.
    keep: usize,
}

impl Sweeper {
    pub(crate) fn new(keep: usize) -> Sweeper {
        Sweeper { sweeping: AtomicBool::new(false), keep }
    }

    #[inline]
    pub(crate) fn watch(&self, handle: &Handle) {
        if !self.sweeping.load(Ordering::Relaxed) {
            self.start(handle);
        }
    }

    #[cold]
    fn start(&self, handle: &Handle) {
        // A paused clock would jump to the sweeper's timers.
        if handle.clock().is_paused() || self.sweeping.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = std::sync::Arc::downgrade(handle.shared());
        handle.spawn(async move {
            loop {
                crate::time::sleep(SWEEP_INTERVAL).await;
                let Some(shared) = shared.upgrade() else { return };
                let sweeping = shared.pool.sweep();
                let Occupancy { mapped, waiters, .. } = shared.pool.occupancy();
                // What is leased now goes idle later, and who waits may be met by memory that
                // others gave back.
                if !sweeping && mapped <= shared.sweeper.keep && waiters == 0 {
                    shared.sweeper.sweeping.store(false, Ordering::SeqCst);
                    return;
                }
            }
        });
    }
}

/// The pool that a runtime has if its builder says nothing: half of what the user may lock, so that
/// a second process of the same user can start as well, and 64 MiB a shard where nothing limits it.
pub(crate) fn default_config(system: &dyn System, shards: usize) -> PoolConfig {
    const MIB: usize = 1 << 20;
    match system.locked_memory_limit() {
        None => PoolConfig::new().limit(64 * MIB * shards).arena(4 * MIB),
        Some(limit) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let half = (limit / 2).min(64 * MIB * shards);
            let arena = (half / 8).next_power_of_two().clamp(64 << 10, 4 * MIB);
            PoolConfig::new().limit(half.max(64 << 10)).arena(arena)
        }
    }
}
