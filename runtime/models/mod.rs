//! Models of everything that crosses threads.
//!
//! Each drives the runtime's own types. With loom's types below them (`--cfg loom`) a model runs in
//! every order of events with at most three forced switches between threads; with std's, a few
//! times on real threads. What keeps a model from being empty is said above each: the change to the
//! code that it was seen to find.
//!
//! What is trusted: std's `Arc`, the queue of crossbeam, and the kernel, in whose place
//! [`kernel::ModelKernel`] stands.

mod blocking;
mod ending;
mod join_set;
mod kernel;
mod off_shard;
mod pool;
mod signals;
mod sleeping;
mod tasks;
mod time;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringhold_buffers::PoolConfig;

use crate::arenas::Arenas;
use crate::blocking::BlockingPool;
use crate::builder::ThreadHooks;
use crate::handle::{Handle, Shared};
use crate::inbox::Message;
use crate::pools::Pools;
use crate::random::SharedRandom;
use crate::registry::Remote;
use crate::shard::Shard;
use crate::time::clock::Clock;
use kernel::{Gate, ModelKernel, ModelSystem};
use ringhold_kernel::sync::atomic::{AtomicBool, Ordering};
use ringhold_kernel::sync::{JoinHandle, Mutex};
use ringhold_kernel::threads;

/// A shard on this thread, and what others reach it by.
struct Machine {
    shard: Shard,
    gate: Arc<Gate>,
    handle: Handle,
}

impl Machine {
    fn new() -> Machine {
        Machine::with_blocking(1, Duration::MAX)
    }

    /// At most `threads` for closures, each of which waits for another one for no time at all, or
    /// for ever.
    fn with_blocking(threads: usize, keep_alive: Duration) -> Machine {
        Machine::on(ModelSystem::new(), threads, keep_alive)
    }

    fn on(system: ModelSystem, threads: usize, keep_alive: Duration) -> Machine {
        let system = Arc::new(system);
        let clock = Clock::new(system.clone());
        let arenas = Arenas::new(system.clone(), clock.clone());
        let gate = system.gate.clone();
        let kernel = ModelKernel::new(gate.clone(), system.epoch);
        let shard = Shard::new(Box::new(kernel), arenas.clone(), clock.clone(), 0);
        let handle = Handle::new(Arc::new(Shared {
            pools: Pools::new(PoolConfig::new(), arenas.clone()),
            blocking: BlockingPool::new(threads, keep_alive, ThreadHooks::default()),
            system,
            shards: vec![shard.remote().clone()],
            arenas,
            clock,
            next: AtomicUsize::new(0),
            random: SharedRandom::new(0),
        }));
        Machine { shard, gate, handle }
    }

    fn remote(&self) -> &Arc<Remote> {
        self.shard.remote()
    }

    /// Turns the shard until it is stopped.
    fn serve(&self) {
        while !self.shard.is_stopping() {
            self.shard.turn(&|| false);
        }
    }

    fn shut_down(self) {
        let deadline = self.handle.system().now() + Duration::from_secs(1);
        assert!(self.shard.shut_down(deadline), "the shard did not drain");
    }
}

/// Ends the turning of a shard.
fn stop(remote: &Remote) {
    remote.send(Message::Run(Box::new(Shard::stop)));
}

fn start(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    threads::start("model".to_owned(), None, work).expect("a model's thread starts")
}

/// Something that one thread does and another one's future waits for.
#[derive(Default)]
struct Signal {
    given: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    fn give(&self) {
        self.given.store(true, Ordering::Release);
        let waker = self.waker.lock().expect("no holder panics").take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) {
        std::future::poll_fn(|cx| {
            *self.waker.lock().expect("no holder panics") = Some(cx.waker().clone());
            if self.given.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Counts its drops. The count is no place where threads meet.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn count(of: &AtomicUsize) -> usize {
    of.load(Ordering::Relaxed)
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}
