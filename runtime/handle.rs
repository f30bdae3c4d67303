//! A runtime as its users share it.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringhold_buffers::Pool;
use ringhold_kernel::System;

use crate::arenas::Arenas;
use crate::blocking::BlockingPool;
use crate::context::{self, HandleScope};
use crate::driver::DriverCounts;
use crate::inbox::{Adoption, Message};
use crate::park;
use crate::pool::NamedPool;
use crate::pools::Pools;
use crate::random::SharedRandom;
use crate::registry::{Remote, Standing};
use crate::shard::Shard;
use crate::task::{Id, JoinHandle, TaskGroupCounts, is_large, new_task};
use crate::time::clock::Clock;

/// Names a runtime, from any thread. Cloning it is cheap, and it keeps no thread of the runtime
/// alive.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) system: Arc<dyn System>,
    pub(crate) shards: Vec<Arc<Remote>>,
    pub(crate) pools: Pools,
    pub(crate) arenas: Arc<Arenas>,
    pub(crate) blocking: BlockingPool,
    pub(crate) clock: Arc<Clock>,
    pub(crate) next: AtomicUsize,
    /// For threads that are no shard.
    pub(crate) random: SharedRandom,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("shards", &self.shared.shards.len()).finish_non_exhaustive()
    }
}

/// Why there is no current runtime.
#[derive(Debug)]
pub struct TryCurrentError(());

impl fmt::Display for TryCurrentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(context::NO_RUNTIME)
    }
}

impl std::error::Error for TryCurrentError {}

/// Leaves the runtime that [`Handle::enter`] entered, when it is dropped. Guards are dropped in the
/// reverse of their order.
pub struct EnterGuard<'a> {
    _scope: HandleScope,
    _handle: std::marker::PhantomData<&'a Handle>,
}

impl fmt::Debug for EnterGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnterGuard")
    }
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    pub(crate) fn random(&self) -> &SharedRandom {
        &self.shared.random
    }

    /// The runtime that is entered on this thread.
    ///
    /// # Panics
    ///
    /// Where none is.
    #[track_caller]
    pub fn current() -> Handle {
        context::handle_or_panic()
    }

    /// The runtime that is entered on this thread.
    ///
    /// # Errors
    ///
    /// Where none is.
    pub fn try_current() -> Result<Handle, TryCurrentError> {
        context::handle().ok_or(TryCurrentError(()))
    }

    /// Enters the runtime on this thread until the guard is dropped: spawning, timers and I/O go
    /// there. On a shard, what is spawned and begun stays with that shard all the same.
    pub fn enter(&self) -> EnterGuard<'_> {
        EnterGuard { _scope: HandleScope::enter(self), _handle: std::marker::PhantomData }
    }

    /// Spawns a task from any thread. A shard of this runtime that calls it keeps the task;
    /// otherwise one is picked.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        if is_large::<F>() { self.spawn_sized(Box::pin(future)) } else { self.spawn_sized(future) }
    }

    pub(crate) fn spawn_sized<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut future = Some(future);
        let here = context::with_shard(|shard| match shard {
            Some(shard) if self.owns(shard.remote()) => {
                Some(shard.spawn(future.take().expect("taken once")))
            }
            _ => None,
        });
        here.unwrap_or_else(|| {
            self.send_task(self.any_shard(), future.take().expect("no shard took it"))
        })
    }

    /// Spawns what `make` returns on shard number `shard`, counted from 0. The future doesn't have
    /// to be `Send`.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[track_caller]
    pub fn spawn_on<M, F>(&self, shard: usize, make: M) -> JoinHandle<F::Output>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let shards = &self.shared.shards;
        let Some(remote) = shards.get(shard) else {
            panic!("there is no shard {shard}: the runtime has {}", shards.len());
        };
        // On its way the task holds nothing but `make`; what that returns is made, and stays, on
        // the shard.
        if is_large::<F>() || is_large::<M>() {
            let make = Box::new(make);
            return self.send_task(remote.clone(), async move { Box::pin(make()).await });
        }
        self.send_task(remote.clone(), async move { make().await })
    }

    /// Spawns a task on the shard that has the fewest, from any thread.
    pub fn spawn_balanced<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        if is_large::<F>() {
            self.spawn_balanced_sized(Box::pin(future))
        } else {
            self.spawn_balanced_sized(future)
        }
    }

    fn spawn_balanced_sized<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut future = Some(future);
        let target = self.idlest_shard();
        let here = context::with_shard(|shard| match shard {
            Some(shard) if Arc::ptr_eq(shard.remote(), &target) => {
                Some(shard.spawn(future.take().expect("taken once")))
            }
            _ => None,
        });
        here.unwrap_or_else(|| self.send_task(target, future.take().expect("no shard took it")))
    }

    /// Spawns on every shard what `make` returns there, given the shard's number. The futures need
    /// not be `Send`. The handles are in the order of the shards.
    pub fn on_every_shard<M, F>(&self, make: M) -> Vec<JoinHandle<F::Output>>
    where
        M: FnOnce(usize) -> F + Clone + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let on_shard = |shard| {
            let make = make.clone();
            self.spawn_on(shard, move || make(shard))
        };
        (0..self.shards()).map(on_shard).collect()
    }

    fn send_task<F: Future + 'static>(
        &self,
        remote: Arc<Remote>,
        future: F,
    ) -> JoinHandle<F::Output> {
        let (queued, listed, joined) = new_task(future, Id::next(), remote.clone());
        remote.send(Message::Adopt(Adoption::new(queued, listed, remote.clone())));
        JoinHandle::new(joined)
    }

    /// As [`crate::task::spawn_blocking`], on this runtime.
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, work: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.shared.blocking.spawn(self, work)
    }

    /// Polls `future` on this thread until it is ready. Its I/O is done by the runtime's shards:
    /// each operation takes a hop there and back. Where that matters, spawn the work and wait for
    /// its handle, or make this thread a shard (`Builder::run`, `#[runtime::main]`).
    ///
    /// # Panics
    ///
    /// On a shard, which would wait for itself.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        if is_large::<F>() {
            self.poll_here(Box::pin(future).as_mut())
        } else {
            self.poll_here(pin!(future))
        }
    }

    #[track_caller]
    fn poll_here<F: Future>(&self, future: Pin<&mut F>) -> F::Output {
        if self.stands_aside() {
            no_nested_block_on();
        }
        assert!(
            self.system().may_block(),
            "block_on would wait for ever: this runtime is simulated, and its shards turn on this \
             very thread; spawn the work and await it instead"
        );
        let _scope = HandleScope::enter(self);
        park::block_on(future, &self.shared.clock)
    }

    /// How many shards the runtime has.
    pub fn shards(&self) -> usize {
        self.shared.shards.len()
    }

    /// The runtime's pool of registered buffers.
    pub fn pool(&self) -> &Pool {
        self.shared.pools.main()
    }

    /// The pool of this name, which [`Builder::named_pool`](crate::Builder::named_pool) has given
    /// the runtime; `None` if there is none.
    pub fn named_pool(&self, name: &str) -> Option<NamedPool> {
        let pool = self.shared.pools.named(name)?.clone();
        Some(NamedPool { handle: self.clone(), pool })
    }

    /// What kind of scheduler this is, for code that asks tokio's question.
    pub fn runtime_flavor(&self) -> RuntimeFlavor {
        match self.shards() {
            1 => RuntimeFlavor::CurrentThread,
            _ => RuntimeFlavor::MultiThread,
        }
    }

    /// Counts of the runtime as it stands.
    pub fn metrics(&self) -> RuntimeMetrics {
        RuntimeMetrics { handle: self.clone() }
    }

    pub(crate) fn system(&self) -> &Arc<dyn System> {
        &self.shared.system
    }

    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.shared.clock
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether this thread keeps one of the runtime's shards from running.
    pub(crate) fn stands_aside(&self) -> bool {
        context::is_aside(|aside| self.shared.shards.iter().any(|shard| shard.id() == aside))
    }

    fn owns(&self, remote: &Arc<Remote>) -> bool {
        self.shared.shards.iter().any(|shard| Arc::ptr_eq(shard, remote))
    }

    /// The shard with the fewest tasks, the one that is running if it is one of several; one that
    /// has ended is chosen only if all have.
    fn idlest_shard(&self) -> Arc<Remote> {
        let here = context::with_shard(|shard| shard.map(Shard::id));
        let running = self.shared.shards.iter();
        let running = running.filter(|shard| shard.standing() == Standing::Running);
        let idlest = running
            .min_by_key(|shard| (shard.tasks.load(Ordering::Relaxed), Some(shard.id()) != here));
        idlest.cloned().unwrap_or_else(|| self.any_shard())
    }

    /// The shards in turn; one that has ended is chosen only if all have.
    pub(crate) fn any_shard(&self) -> Arc<Remote> {
        let shards = &self.shared.shards;
        let first = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let running = (0..shards.len())
            .map(|step| &shards[first.wrapping_add(step) % shards.len()])
            .find(|shard| shard.standing() == Standing::Running);
        running.unwrap_or(&shards[first % shards.len()]).clone()
    }
}

/// The kinds of runtimes that tokio tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeFlavor {
    /// One shard.
    CurrentThread,
    /// Several shards.
    MultiThread,
}

/// Counts of a runtime as it stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeMetrics {
    handle: Handle,
}

impl RuntimeMetrics {
    /// How many shards there are.
    pub fn num_workers(&self) -> usize {
        self.handle.shards()
    }

    /// How many tasks are alive, over all shards.
    pub fn num_alive_tasks(&self) -> usize {
        let shards = &self.handle.shared.shards;
        shards.iter().map(|shard| shard.tasks.load(Ordering::Relaxed)).sum()
    }

    /// What the driver of shard number `shard`, counted from 0, has counted: as of its last wait,
    /// or of at most 64 turns ago if it is busy.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[track_caller]
    pub fn driver_counts(&self, shard: usize) -> DriverCounts {
        self.handle.shared.shards[shard].counts()
    }

    /// What shard number `shard`, counted from 0, has counted of each group of tasks, the default
    /// group first. Empty before the first task of a group comes to the shard, and after the last
    /// group is gone.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use ringhold_runtime::Handle;
    /// use ringhold_runtime::task::TaskGroup;
    ///
    /// let scrub = TaskGroup::builder("scrub").shares(50).build();
    /// scrub.spawn(async {}).await.unwrap();
    ///
    /// let counts = Handle::current().metrics().task_groups(0);
    /// assert_eq!(counts[0].name, "default");
    /// assert_eq!((counts[1].name.as_str(), counts[1].shares, counts[1].polls), ("scrub", 50, 1));
    /// assert_eq!(counts[1].alive, 0);
    /// # }).unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[track_caller]
    pub fn task_groups(&self, shard: usize) -> Vec<TaskGroupCounts> {
        self.handle.shared.shards[shard].group_counts()
    }

    /// How many threads run or wait for blocking closures.
    pub fn num_blocking_threads(&self) -> usize {
        self.handle.shared.blocking.threads()
    }
}

/// A shard was asked to wait for a future.
#[track_caller]
pub(crate) fn no_nested_block_on() -> ! {
    panic!(
        "a shard can't block on a future: it would wait for itself; await the future, or \
         spawn_blocking a thread that blocks on it"
    )
}
