//! Leases of the current runtime's pools.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ringhold_buffers::{Lease, LeaseError, LeaseFuture, Occupancy, Pool};

use crate::context;
use crate::handle::Handle;
use crate::task::budget;

/// Waits its turn for `length` bytes of the current runtime's pool.
///
/// The lease is empty, its capacity is `length`, and its memory is 4096-aligned and registered with
/// the kernel. It goes back when it is dropped, on any thread.
///
/// Waiting is first come, first served among the tasks of one
/// [`TaskGroup`](crate::task::TaskGroup), and by shares among groups; a group's reserve is there
/// for it alone. While a large request waits for a range that is not there, smaller ones may pass
/// it, under bounds that keep it from being starved: see [`Pool`]. Where the pool has to grow, that
/// happens on a thread of its own.
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
    handle.shared().pools.watch(&handle);
    lease_of(handle.pool(), length)
}

/// Asks as the group of tasks that is current.
fn lease_of(pool: &Pool, length: usize) -> Leasing {
    let waiting = match context::has_group().then(context::group).flatten() {
        Some(group) => pool.lease_in(group.leasing(), length),
        None => pool.lease(length),
    };
    Leasing { waiting }
}

fn try_lease_of(pool: &Pool, length: usize) -> Result<Lease, LeaseError> {
    match context::has_group().then(context::group).flatten() {
        Some(group) => pool.try_lease_in(group.leasing(), length),
        None => pool.try_lease(length),
    }
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
/// Where the pool has to grow, that happens here and now, which takes milliseconds for some MiB.
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
    handle.shared().pools.watch(&handle);
    try_lease_of(handle.pool(), length)
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

/// The pool of this name, which [`Builder::named_pool`](crate::Builder::named_pool) has given the
/// current runtime; `None` if there is none.
///
/// # Panics
///
/// Where no runtime is entered.
#[track_caller]
pub fn named_pool(name: &str) -> Option<NamedPool> {
    current().named_pool(name)
}

/// A pool of a runtime beside its own: what is leased of it is good for the same operations, on
/// every shard, and whatever happens to the runtime's own pool leaves it as it is.
///
/// ```
/// use ringhold_buffers::PoolConfig;
/// use ringhold_runtime::{Builder, lease, named_pool};
///
/// let log = PoolConfig::new().limit(64 << 10).arena(64 << 10);
/// Builder::new_current_thread().pool_limit(64 << 10).named_pool("log", log).run(async {
///     let all = lease(64 << 10).await?;
///     let record = named_pool("log").expect("it was configured").lease(4096).await?;
///     assert_eq!((all.capacity(), record.capacity()), (64 << 10, 4096));
///     assert!(named_pool("cache").is_none());
///     std::io::Result::Ok(())
/// })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct NamedPool {
    pub(crate) handle: Handle,
    pub(crate) pool: Pool,
}

impl NamedPool {
    /// As [`lease()`], of this pool.
    ///
    /// # Errors
    ///
    /// As [`lease()`].
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`lease()`].
    pub fn lease(&self, length: usize) -> Leasing {
        self.handle.shared().pools.watch(&self.handle);
        lease_of(&self.pool, length)
    }

    /// As [`try_lease()`], of this pool.
    ///
    /// # Errors
    ///
    /// As [`try_lease()`].
    pub fn try_lease(&self, length: usize) -> Result<Lease, LeaseError> {
        self.handle.shared().pools.watch(&self.handle);
        try_lease_of(&self.pool, length)
    }

    /// What it holds at this moment, and what it has counted.
    pub fn occupancy(&self) -> Occupancy {
        self.pool.occupancy()
    }
}

#[track_caller]
fn current() -> Handle {
    context::handle_or_panic()
}
