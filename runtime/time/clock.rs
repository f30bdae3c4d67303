//! The runtime's clock: the system's, until a test pauses it.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use ringhold_kernel::System;
use ringhold_kernel::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use ringhold_kernel::sync::{Mutex, MutexGuard, OnceLock};

use crate::context;
use crate::registry::Remote;
use crate::shard::Shard;

pub(crate) struct Clock {
    system: Arc<dyn System>,
    /// Timers count nanoseconds from here.
    epoch: Instant,
    /// Whether the time was ever paused: until then it is the system's, and costs no lock.
    altered: AtomicBool,
    /// Threads in `block_on` and blocking closures that are running: a paused clock must not run on
    /// while they do.
    holds: AtomicUsize,
    /// Who waits for the end of the last hold. Only a runtime of one shard can pause its clock.
    shard: OnceLock<Arc<Remote>>,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
enum State {
    /// The system's time, this much earlier or later.
    Running {
        ahead: Duration,
        behind: Duration,
    },
    Paused {
        at: Instant,
    },
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("paused", &self.is_paused()).finish_non_exhaustive()
    }
}

impl Clock {
    pub(crate) fn new(system: Arc<dyn System>) -> Arc<Clock> {
        let epoch = system.now();
        let state = State::Running { ahead: Duration::ZERO, behind: Duration::ZERO };
        Arc::new(Clock {
            system,
            epoch,
            altered: AtomicBool::new(false),
            holds: AtomicUsize::new(0),
            shard: OnceLock::new(),
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        if !self.is_altered() {
            return self.system.now();
        }
        match *self.lock() {
            State::Paused { at } => at,
            State::Running { ahead, behind } => self.system.now() + ahead - behind,
        }
    }

    /// A time as timers count it; what lies before the runtime's beginning is its beginning.
    pub(crate) fn nanos_at(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    pub(crate) fn nanos_now(&self) -> u64 {
        self.nanos_at(self.now())
    }

    /// Whether a test has ever paused the time.
    #[inline]
    pub(crate) fn is_altered(&self) -> bool {
        self.altered.load(Ordering::Acquire)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_altered() && matches!(*self.lock(), State::Paused { .. })
    }

    /// Stops the time. `false` if it was stopped already.
    pub(crate) fn pause(&self) -> bool {
        let now = self.now();
        let mut state = self.lock();
        if matches!(*state, State::Paused { .. }) {
            return false;
        }
        *state = State::Paused { at: now };
        self.altered.store(true, Ordering::Release);
        true
    }

    /// Lets the time run on from where it stopped. `false` if it was running.
    pub(crate) fn resume(&self) -> bool {
        let mut state = self.lock();
        let State::Paused { at } = *state else { return false };
        let real = self.system.now();
        *state = State::Running {
            ahead: at.saturating_duration_since(real),
            behind: real.saturating_duration_since(at),
        };
        true
    }

    /// Moves a stopped time. `false` if it is running.
    pub(crate) fn advance(&self, by: Duration) -> bool {
        match &mut *self.lock() {
            State::Paused { at } => {
                *at += by;
                true
            }
            State::Running { .. } => false,
        }
    }

    /// Moves a stopped time to a timer's nanosecond.
    pub(crate) fn advance_to(&self, nanos: u64) {
        let to = self.epoch + Duration::from_nanos(nanos);
        if let State::Paused { at } = &mut *self.lock() {
            *at = to.max(*at);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_altered() && self.nanos_now() == u64::MAX
    }

    pub(crate) fn is_held(&self) -> bool {
        self.holds.load(Ordering::SeqCst) > 0
    }

    /// Keeps a paused time where it is until [`Clock::release`].
    pub(crate) fn hold(&self) {
        self.holds.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn release(&self) {
        let last = self.holds.fetch_sub(1, Ordering::SeqCst) == 1;
        // The shard looks for holds after it has said that it is about to sleep, so either it sees
        // that there are none, or this sees it asleep.
        if last
            && self.is_altered()
            && let Some(shard) = self.shard.get()
        {
            shard.wake();
        }
    }

    /// Names the shard that moves a paused clock on.
    pub(crate) fn set_shard(&self, shard: &Arc<Remote>) {
        let _ = self.shard.set(shard.clone());
    }

    /// As [`Clock::hold`], until the guard is dropped.
    pub(crate) fn held(self: &Arc<Clock>) -> Hold {
        self.hold();
        Hold { clock: self.clone() }
    }
}

/// Whether the clock of the running shard, or else of the entered runtime, was moved beyond what
/// timers can count: 584 years after the runtime's beginning.
pub(super) fn is_at_its_end() -> bool {
    let here = context::with_shard(|shard| shard.map(Shard::time_is_over));
    here.or_else(|| context::handle().map(|handle| handle.clock().is_over())).unwrap_or(false)
}

/// Keeps a paused clock where it is.
#[derive(Debug)]
pub(crate) struct Hold {
    clock: Arc<Clock>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.clock.release();
    }
}
