//! One event for all listeners of a shard for one signal.
//!
//! A program may listen in each of thousands of tasks, so they share the descriptor and the
//! operation that waits for it. Whoever looks first takes what the event has counted, and wakes the
//! others; each listener compares how often the signal came with what it has seen.
//!
//! What comes between two listeners of a task, as in a loop that makes one anew in each round, is
//! told to the second ([`Memory`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker, ready};

use ringhold_buffers::foreign::{self, ForeignWaker};
use ringhold_kernel::SignalEvents;
use ringhold_kernel::sync::{Mutex, MutexGuard, StaticMutex};
use slab::Slab;

use crate::context;
use crate::fd::Fd;
use crate::local::ShardLocal;
use crate::registry::ShardId;
use crate::shard::Shard;
use crate::task::{Id, budget, try_id};
use crate::waiting::Waiting;

/// The hubs that have a listener.
static HUBS: StaticMutex<BTreeMap<(ShardId, i32), Weak<Hub>>> = StaticMutex::new(BTreeMap::new());

struct Hub {
    // Dropped before the event, which it holds as well.
    waiting: Waiting,
    // Dropped before the event, too: until then a handler may write to it.
    events: Box<dyn SignalEvents>,
    event: Fd,
    state: Mutex<State>,
    /// Wakes all who wait, and keeps nothing alive: the operation that has it is the hub's own.
    everybody: Waker,
}

/// What a shard remembers of a signal when its listeners are gone.
struct Memory {
    /// Of how many of the times that the signal came a listener of the shard has heard.
    heard: u64,
    /// By task (`None` for what is none), how many its last listener had seen when it was dropped.
    left: BTreeMap<Option<Id>, u64>,
}

/// By the signal's number.
static MEMORY: ShardLocal<RefCell<BTreeMap<i32, Memory>>> =
    ShardLocal::new(|| RefCell::new(BTreeMap::new()));

/// How many tasks that have listened a shard remembers; of the oldest it remembers what any of its
/// listeners has heard.
const LEFT_MAX: usize = 1024;

impl Memory {
    /// Where a new listener begins: `heard` is of how many a listener anywhere has heard.
    fn begin(number: i32, heard: u64) -> u64 {
        let begin = MEMORY.try_with(|memory| {
            let mut memory = memory.borrow_mut();
            let its = memory.entry(number).or_insert(Memory { heard, left: BTreeMap::new() });
            its.left.remove(&try_id()).unwrap_or(its.heard)
        });
        begin.unwrap_or(heard)
    }

    fn note(number: i32, change: impl FnOnce(&mut Memory)) {
        MEMORY.try_with(|memory| memory.borrow_mut().get_mut(&number).map(change));
    }

    fn leave(&mut self, seen: u64) {
        self.left.insert(try_id(), seen);
        if self.left.len() > LEFT_MAX {
            let oldest = self.left.keys().find(|id| id.is_some()).copied();
            oldest.and_then(|id| self.left.remove(&id));
        }
    }
}

struct State {
    /// Of each listener, who waits; `None` for one that was woken, or that doesn't wait.
    wakers: Slab<Option<ForeignWaker>>,
}

impl Hub {
    fn new(number: i32) -> io::Result<Arc<Hub>> {
        let system = context::system();
        let (events, event) = system.on_signal(number)?;
        let event = Fd::new(event, system);
        let state = Mutex::new(State { wakers: Slab::new() });
        Ok(Arc::new_cyclic(|hub| {
            let everybody = Waker::from(Arc::new(Everybody(hub.clone())));
            Hub { waiting: Waiting::default(), events, event, state, everybody }
        }))
    }

    /// That of the running shard; one of its own for who is on none.
    fn find(number: i32) -> io::Result<Arc<Hub>> {
        let Some(shard) = context::with_shard(|shard| shard.map(Shard::id)) else {
            return Hub::new(number);
        };
        let mut hubs = HUBS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(&(shard, number)).and_then(Weak::upgrade) {
            return Ok(hub);
        }
        let hub = Hub::new(number)?;
        hubs.retain(|_, known| known.strong_count() > 0);
        hubs.insert((shard, number), Arc::downgrade(&hub));
        Ok(hub)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all listeners of what the event has counted.
    fn look(&self) {
        // Taken under the lock: a listener that has found nothing under it is among those that are
        // woken.
        let state = self.lock();
        let is_told = self.events.take();
        drop(state);
        if is_told {
            self.wake_all();
        }
    }

    /// Wakes whoever waits, once.
    fn wake_all(&self) {
        let wakers: Vec<_> =
            self.lock().wakers.iter_mut().filter_map(|(_, waiter)| waiter.take()).collect();
        // Without the lock: wakers are foreign code.
        foreign::wake_all(wakers);
    }
}

/// All who wait at a hub.
struct Everybody(Weak<Hub>);

/// The event is ready, or its operation has ended with its runtime: either way the listeners have
/// to look.
impl Wake for Everybody {
    fn wake(self: Arc<Everybody>) {
        if let Some(hub) = self.0.upgrade() {
            hub.wake_all();
        }
    }
}

/// A listener at a hub.
pub(super) struct Listener {
    hub: Arc<Hub>,
    number: i32,
    /// How often the signal had come when the listener last looked.
    seen: u64,
    place: usize,
}

impl Listener {
    pub(super) fn new(number: i32) -> io::Result<Listener> {
        let hub = Hub::find(number)?;
        let seen = Memory::begin(number, hub.events.counts().heard());
        let place = hub.lock().wakers.insert(None);
        Ok(Listener { hub, number, seen, place })
    }

    /// Waits for the signal.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(budget::poll_step(cx));
        let Listener { hub, number, seen, place } = self;
        loop {
            hub.look();
            // In its place before the operation is polled, whose end wakes who is there. Made and
            // dropped without the lock.
            let waiter = Some(ForeignWaker::of(cx.waker()));
            let mut state = hub.lock();
            let came = hub.events.counts().came();
            let (waiter, unneeded) = if came == *seen { (waiter, None) } else { (None, waiter) };
            let replaced = std::mem::replace(&mut state.wakers[*place], waiter);
            drop(state);
            drop((replaced, unneeded));
            if came != *seen {
                *seen = came;
                hub.events.counts().hear(came);
                Memory::note(*number, |memory| memory.heard = memory.heard.max(came));
                return Poll::Ready(Ok(()));
            }
            let mut cx = Context::from_waker(&hub.everybody);
            ready!(hub.waiting.poll(&hub.event, libc::POLLIN as u32, &mut cx))?;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        Memory::note(self.number, |memory| memory.leave(self.seen));
        let waiter = self.hub.lock().wakers.remove(self.place);
        drop(waiter);
    }
}
