//! Spawning.

use std::cell::Cell;
use std::future::Future;

use ringhold_kernel::sync::thread_local;

use crate::context;
use crate::task::{Id, JoinHandle, coop, is_large};

thread_local! {
    static RUNNING: Cell<Option<Id>> = const { Cell::new(None) };
}

/// Names the task that is polled. Called by the shard.
#[inline]
pub(crate) fn set_running(id: Option<Id>) -> Option<Id> {
    RUNNING.with(|running| running.replace(id))
}

/// The id of the task that is running, if one is.
pub fn try_id() -> Option<Id> {
    RUNNING.with(Cell::get)
}

/// The id of the task that is running.
///
/// # Panics
///
/// Outside of a task.
#[track_caller]
pub fn id() -> Id {
    try_id().expect("this is not called from within a task")
}

/// Spawns a task, wherever a runtime is entered. On a shard it stays on that shard; elsewhere the
/// runtime picks one.
///
/// The task starts at its shard's next turn, whether or not the handle is awaited. Tasks don't
/// move: what is spawned from a task runs on the same core. [`spawn_on`] spreads work over the
/// cores.
///
/// # Panics
///
/// Where no runtime is entered.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if is_large::<F>() { spawn_sized(Box::pin(future)) } else { spawn_sized(future) }
}

#[inline(always)]
#[track_caller]
fn spawn_sized<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut future = Some(future);
    let here = context::with_shard(|shard| {
        shard.map(|shard| shard.spawn(future.take().expect("taken once")))
    });
    match here {
        Some(handle) => handle,
        None => context::handle_or_panic().spawn_sized(future.take().expect("no shard took it")),
    }
}

/// Spawns a task that doesn't have to be `Send`, on the shard that is running.
///
/// # Panics
///
/// Where no shard is running: in `Runtime::block_on` of a runtime whose shards have threads of
/// their own, spawn with [`spawn_on`].
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    if is_large::<F>() { spawn_local_sized(Box::pin(future)) } else { spawn_local_sized(future) }
}

#[inline(always)]
#[track_caller]
fn spawn_local_sized<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let mut future = Some(future);
    let here = context::with_shard(|shard| {
        shard.map(|shard| shard.spawn(future.take().expect("taken once")))
    });
    here.expect(
        "`spawn_local` must be called from a task, or from within `#[runtime::main]` or \
         `Builder::run`: there is no shard on this thread",
    )
}

/// Spawns what `make` returns on shard number `shard`, counted from 0. The closure is sent there,
/// so the future doesn't have to be `Send`.
///
/// # Panics
///
/// Where no runtime is entered, or where it has no such shard.
#[track_caller]
pub fn spawn_on<M, F>(shard: usize, make: M) -> JoinHandle<F::Output>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    context::handle_or_panic().spawn_on(shard, make)
}

/// Spawns a task on the shard that has the fewest tasks, wherever a runtime is entered.
///
/// Tasks don't move, so work that comes in at one shard and can be done at any is spread over the
/// cores as it is spawned. What needs no balance is better off with [`spawn`], which costs no
/// message and leaves the task beside what it works with.
///
/// ```
/// # ringhold_runtime::Builder::new_multi_thread().shards(2).run(async {
/// use ringhold_runtime::task::spawn_balanced;
///
/// let squares: Vec<_> = (0..10_u32).map(|n| spawn_balanced(async move { n * n })).collect();
/// let mut sum = 0;
/// for square in squares {
///     sum += square.await.unwrap();
/// }
/// assert_eq!(sum, 285);
/// # }).unwrap();
/// ```
///
/// # Panics
///
/// Where no runtime is entered.
#[track_caller]
pub fn spawn_balanced<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    context::handle_or_panic().spawn_balanced(future)
}

/// Spawns on every shard what `make` returns there, given the shard's number, counted from 0: a
/// listener a shard, say, or a cache. The futures need not be `Send`. The handles are in the order
/// of the shards; dropping one detaches its task.
///
/// ```
/// # ringhold_runtime::Builder::new_multi_thread().shards(2).run(async {
/// use ringhold_runtime::task::on_every_shard;
///
/// let mut numbers = Vec::new();
/// for handle in on_every_shard(|shard| async move { shard * 10 }) {
///     numbers.push(handle.await.unwrap());
/// }
/// assert_eq!(numbers, [0, 10]);
/// # }).unwrap();
/// ```
///
/// # Panics
///
/// Where no runtime is entered.
#[track_caller]
pub fn on_every_shard<M, F>(make: M) -> Vec<JoinHandle<F::Output>>
where
    M: FnOnce(usize) -> F + Clone + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    context::handle_or_panic().on_every_shard(make)
}

/// Runs a closure that blocks on a thread of the runtime's own for such.
///
/// A closure that has begun can't be aborted; one that has not is dropped when its handle is
/// aborted.
///
/// # Panics
///
/// Where no runtime is entered.
#[track_caller]
pub fn spawn_blocking<F, R>(work: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    context::handle_or_panic().spawn_blocking(work)
}

/// Runs a closure that blocks on this very thread.
///
/// Unlike in tokio, the shard's other tasks can't be moved away meanwhile: they wait. Use
/// [`spawn_blocking`] for all but the shortest work; this is here so that code written for tokio
/// compiles.
///
/// # Panics
///
/// If the closure panics; and if it blocks on a future of its own runtime, whose shard would wait
/// for itself. Await the future, or block on it in [`spawn_blocking`].
pub fn block_in_place<F, R>(work: F) -> R
where
    F: FnOnce() -> R,
{
    let aside = context::Aside::step();
    let result = coop::without(work);
    drop(aside);
    result
}
