//! One event for all listeners of a shard for one signal.
//!
//! A program may listen in each of thousands of tasks, so they share the descriptor and the
//! operation that waits for it. Whoever looks first takes what the event has counted, and wakes the
//! others; each listener compares how often the signal was told with what it has seen.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker, ready};

use ringhold_buffers::foreign::{self, ForeignWaker};
use ringhold_buffers::sync::{Mutex, MutexGuard, StaticMutex};
use slab::Slab;

use crate::context;
use crate::kernel::SignalEvents;
use crate::registry::ShardId;
use crate::shard::Shard;
use crate::task::budget;
use crate::waiting::Waiting;

/// The hubs that somebody listens at.
static HUBS: StaticMutex<BTreeMap<(ShardId, i32), Weak<Hub>>> = StaticMutex::new(BTreeMap::new());

struct Hub {
    // Dropped before the event, which it holds as well.
    waiting: Waiting,
    events: Box<dyn SignalEvents>,
    state: Mutex<State>,
    /// Wakes all who wait, and keeps nothing alive: the operation that has it is the hub's own.
    everybody: Waker,
}

struct State {
    /// How often the signal was told.
    told: u64,
    /// Of each listener, who waits; `None` for one that was woken, or that doesn't wait.
    wakers: Slab<Option<ForeignWaker>>,
}

impl Hub {
    fn new(number: i32) -> io::Result<Arc<Hub>> {
        let system = context::system();
        let events = system.on_signal(number, system.clone())?;
        let state = Mutex::new(State { told: 0, wakers: Slab::new() });
        Ok(Arc::new_cyclic(|hub| {
            let everybody = Waker::from(Arc::new(Everybody(hub.clone())));
            Hub { waiting: Waiting::default(), events, state, everybody }
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
        // Taken under the lock: a listener that comes between the two would be told of what came
        // before it.
        let mut state = self.lock();
        if self.events.take() {
            state.told += 1;
            drop(state);
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

/// The event is ready, or its operation has ended with its runtime: either way somebody has to
/// look.
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
    /// How often the signal had been told when the listener last looked.
    seen: u64,
    place: usize,
}

impl Listener {
    pub(super) fn new(number: i32) -> io::Result<Listener> {
        let hub = Hub::find(number)?;
        // What came before is told to those who listened then.
        hub.look();
        let mut state = hub.lock();
        let (seen, place) = (state.told, state.wakers.insert(None));
        drop(state);
        Ok(Listener { hub, seen, place })
    }

    /// Waits for the signal.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(budget::poll_step(cx));
        let Listener { hub, seen, place } = self;
        loop {
            hub.look();
            // In its place before the operation is polled, whose end wakes who is there. Made and
            // dropped without the lock.
            let waiter = Some(ForeignWaker::of(cx.waker()));
            let mut state = hub.lock();
            let told = state.told;
            let (waiter, unneeded) = if told == *seen { (waiter, None) } else { (None, waiter) };
            let replaced = std::mem::replace(&mut state.wakers[*place], waiter);
            drop(state);
            drop((replaced, unneeded));
            if told != *seen {
                *seen = told;
                return Poll::Ready(Ok(()));
            }
            let mut cx = Context::from_waker(&hub.everybody);
            ready!(hub.waiting.poll(hub.events.event(), libc::POLLIN as u32, &mut cx))?;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let waiter = self.hub.lock().wakers.remove(self.place);
        drop(waiter);
    }
}
