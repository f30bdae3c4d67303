//! What becomes of an operation: it is awaited, dropped at some moment, aborted, panicked over, or
//! handed to a thread that the runtime knows nothing of.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::FutureExt;
use runtime::sync::oneshot;
use runtime::task::yield_now;
use runtime::time::{sleep, timeout};

use crate::draws::Draws;
use crate::operations::{KINDS, Kind};
use crate::tally::{Child, Tracked, Work, panic_as_drawn};
use crate::world::{Scene, World};

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Awaited in place.
    Awaited,
    /// Dropped before the first poll.
    Unpolled,
    /// Dropped right after the first poll.
    Queued,
    /// Dropped a few turns after the first poll.
    Lingering,
    /// Dropped when it had been woken, before the poll that the wake-up asks for.
    Arrived,
    /// Polled with another waker first, and then awaited.
    Rewoken,
    /// Raced against a few turns.
    Selected,
    /// Raced against the clock.
    TimedOut,
    /// Awaited in a task of its own.
    Joined,
    /// Polled on one shard, and then awaited on another.
    Moved,
    /// Its task is aborted from the same shard, from another, and by a foreign thread.
    Aborted,
    AbortedAcross,
    AbortedAbroad,
    /// Its task panics while it is in flight.
    Panicked,
    /// A destructor in its task panics.
    Bombed,
    /// Its task's handle is dropped.
    Detached,
    /// Polled on a shard, and dropped by a foreign thread.
    DroppedAbroad,
    /// Polled on a shard or not, and awaited by a foreign thread.
    AwaitedAbroad,
    /// Awaited by a blocking closure.
    Blocking,
}

use Fate::*;

/// All of them, by name. One that stands here several times is drawn so much more often.
pub const FATES: &[(Fate, &str)] = &[
    (Awaited, "awaited"),
    (Awaited, "awaited"),
    (Awaited, "awaited"),
    (Awaited, "awaited"),
    (Unpolled, "unpolled"),
    (Queued, "queued"),
    (Queued, "queued"),
    (Lingering, "lingering"),
    (Lingering, "lingering"),
    (Arrived, "arrived"),
    (Arrived, "arrived"),
    (Rewoken, "rewoken"),
    (Selected, "selected"),
    (TimedOut, "timed_out"),
    (Joined, "joined"),
    (Moved, "moved"),
    (Aborted, "aborted"),
    (AbortedAcross, "aborted_across"),
    (AbortedAbroad, "aborted_abroad"),
    (Panicked, "panicked"),
    (Bombed, "bombed"),
    (Detached, "detached"),
    (DroppedAbroad, "dropped_abroad"),
    (AwaitedAbroad, "awaited_abroad"),
    (Blocking, "blocking"),
];

/// An operation as it was drawn.
pub struct Drawing {
    /// What it does.
    pub kind: &'static Kind,
    /// What becomes of it.
    pub fate: (Fate, &'static str),
    draws: Draws,
    number: u64,
}

impl Drawing {
    /// Operation number `number`.
    pub fn new(seed: u64, number: u64) -> Drawing {
        let mut draws = Draws::of(seed, number);
        let kind = &KINDS[draws.below(KINDS.len())];
        Drawing { kind, fate: draws.pick(FATES), draws, number }
    }

    fn make(&mut self, world: &Arc<World>, armed: bool) -> Tracked {
        let (world, draws, number) = (world.clone(), self.draws.fork(), self.number);
        let tally = world.tally.clone();
        tally.track((self.kind.make)(Scene { world, draws, armed, number }))
    }

    /// The operation, or a timeout around it if it might wait for ever.
    fn bounded(&mut self, work: Tracked) -> Work {
        let patience = Duration::from_micros(self.draws.below(2_000) as u64);
        match self.kind.unbounded {
            true => Box::pin(timeout(patience, work).map(drop)),
            false => Box::pin(work),
        }
    }

    /// The operation in a task of its own, on any shard.
    fn spawn(&mut self, world: &World, work: Work) -> Child<()> {
        match self.draws.once_in(2) {
            true => world.spawn_on(self.draws.below(world.shards), work),
            false => {
                let life = world.tally.live();
                Child::new(&world.tally, runtime::spawn(life.of(work)))
            }
        }
    }

    async fn turns(&mut self) {
        for _ in 0..self.draws.below(8) {
            yield_now().await;
        }
    }

    /// Makes the operation, and has its fate happen.
    pub async fn run(mut self, world: &Arc<World>) {
        match self.fate.0 {
            Awaited | Unpolled | Queued | Lingering | Arrived | Rewoken | Selected | TimedOut => {
                self.in_place(world).await;
            }
            Joined | Aborted | AbortedAcross | AbortedAbroad | Panicked | Bombed | Detached => {
                self.in_a_task(world).await;
            }
            Moved | DroppedAbroad | AwaitedAbroad | Blocking => self.elsewhere(world).await,
        }
    }

    async fn in_place(&mut self, world: &Arc<World>) {
        let mut work = self.make(world, false);
        match self.fate.0 {
            Unpolled => drop(work),
            Queued => drop(poll_once(&mut work)),
            Lingering => {
                let _ = poll_once(&mut work);
                self.turns().await;
            }
            Arrived => {
                let flag = Arc::new(Flag::default());
                let waker = Waker::from(flag.clone());
                if work.poll_unpin(&mut Context::from_waker(&waker)).is_pending() {
                    flag.wait().await;
                }
            }
            Rewoken => {
                if poll_once(&mut work).is_pending() {
                    self.turns().await;
                    self.bounded(work).await;
                }
            }
            Selected => {
                runtime::select! {
                    () = work => {}
                    () = self.turns() => {}
                }
            }
            TimedOut => {
                let patience = Duration::from_micros(self.draws.below(1_000) as u64);
                let _ = timeout(patience, work).await;
            }
            _ => self.bounded(work).await,
        }
    }

    async fn in_a_task(&mut self, world: &Arc<World>) {
        let work = self.make(world, true);
        let child = match self.fate.0 {
            Aborted | AbortedAcross | AbortedAbroad => self.spawn(world, Box::pin(work)),
            Panicked => {
                let polls = self.draws.up_to(3);
                self.spawn(world, Box::pin(panic_after(work, polls)))
            }
            Bombed => {
                let work = self.bounded(work);
                let bombed = async move {
                    let _bomb = Bomb;
                    work.await;
                };
                self.spawn(world, Box::pin(bombed))
            }
            _ => {
                let work = self.bounded(work);
                self.spawn(world, work)
            }
        };
        if self.fate.0 == Detached {
            return drop(child);
        }
        let abort = child.handle().abort_handle();
        let is_bombed_early = self.fate.0 == Bombed && self.draws.once_in(2);
        match self.fate.0 {
            Aborted | AbortedAcross | AbortedAbroad => self.turns().await,
            _ => {}
        }
        match self.fate.0 {
            Aborted => abort.abort(),
            AbortedAbroad => world.foreign.run(move || abort.abort()),
            AbortedAcross => {
                let shard = self.draws.below(world.shards);
                world.spawn_on(shard, async move { abort.abort() }).await;
            }
            _ if is_bombed_early => {
                self.turns().await;
                abort.abort();
            }
            _ => {}
        }
        child.await;
    }

    async fn elsewhere(&mut self, world: &Arc<World>) {
        let mut work = self.make(world, false);
        let is_ready = !self.draws.once_in(3) && poll_once(&mut work).is_ready();
        if is_ready {
            return;
        }
        if self.draws.once_in(2) {
            self.turns().await;
        }
        if self.fate.0 == DroppedAbroad {
            return world.foreign.run(move || drop(work));
        }
        let work = self.bounded(work);
        let handle = world.handle.clone();
        match self.fate.0 {
            Moved => drop(self.spawn(world, work).await),
            AwaitedAbroad => {
                let (done, waiting) = oneshot::channel();
                world.waiting.run(move || {
                    handle.block_on(work);
                    let _ = done.send(());
                });
                let _ = waiting.await;
            }
            _ => {
                let life = world.tally.live();
                let closure = move || life.of_closure(|| handle.block_on(work));
                Child::new(&world.tally, runtime::spawn_blocking(closure)).await;
            }
        }
    }
}

/// Panics between two polls, or instead of one.
async fn panic_after(mut work: Tracked, polls: usize) {
    for _ in 0..polls {
        if poll_fn(|cx| Poll::Ready(work.poll_unpin(cx))).await.is_ready() {
            break;
        }
        yield_now().await;
    }
    panic_as_drawn();
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_as_drawn();
    }
}

fn poll_once(work: &mut Tracked) -> Poll<()> {
    work.poll_unpin(&mut Context::from_waker(Waker::noop()))
}

/// Notices that it was woken.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Whether it was woken.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until it was woken, but not for long: what was polled may wait for ever.
    async fn wait(&self) {
        for _ in 0..30 {
            if self.is_set() {
                return;
            }
            yield_now().await;
        }
        if !self.is_set() {
            sleep(Duration::from_micros(500)).await;
        }
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
