//! Where the pools of a runtime grow: on a thread of their own, so that no shard waits while memory
//! is mapped, faulted in and pinned.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use ringhold_kernel::System;
use ringhold_kernel::sync::{Condvar, Mutex, MutexGuard};

use crate::telling::tell;
use crate::time::clock::Hold;

/// How long the thread stays when there is nothing to do.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// One piece of work: an arena.
pub(crate) struct Growth {
    pub(crate) work: Box<dyn FnOnce() + Send>,
    /// A paused clock stands still until it is done.
    pub(crate) hold: Hold,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Growth>,
    /// The thread is there, or on its way.
    running: bool,
    closed: bool,
}

/// The thread, and what it has to do.
#[derive(Default)]
pub(crate) struct Grower {
    state: Mutex<State>,
    changed: Condvar,
}

impl Grower {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it done, on the thread. Where there can be none it is done here; when the runtime has
    /// ended it is dropped.
    pub(crate) fn start(self: &Arc<Grower>, system: &dyn System, growth: Growth) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return drop(growth);
        }
        state.queue.push_back(growth);
        if state.running {
            self.changed.notify_all();
            return;
        }
        state.running = true;
        drop(state);
        let thread = Thread { grower: self.clone(), stays: system.may_block(), over: false };
        let started =
            system.start_thread("ringhold-pool".to_owned(), None, Box::new(move || thread.run()));
        if started.is_err() {
            // Its thread was dropped, and what was queued with it, unless somebody queued more.
            tell!(warn, "no thread could be started for the pool, which grows on a shard");
            let growth = self.lock().queue.pop_front();
            if let Some(growth) = growth {
                (growth.work)();
            }
        }
    }

    /// Waits that long, or until the end. Says whether it is not the end.
    pub(crate) fn pause(&self, length: Duration) -> bool {
        let deadline = Instant::now() + length;
        let mut state = self.lock();
        while !state.closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return true };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    /// Takes no more, and ends the thread when it has done what it is at.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            self.changed.notify_all();
            std::mem::take(&mut state.queue)
        };
        drop(dropped);
    }

    /// The next piece of work; `None` ends the thread.
    fn next(&self, stays: bool) -> Option<Growth> {
        let mut state = self.lock();
        let end = Instant::now() + KEEP_ALIVE;
        loop {
            if let Some(growth) = state.queue.pop_front() {
                return Some(growth);
            }
            let left = end.checked_duration_since(Instant::now());
            let Some(left) = left.filter(|_| stays && !state.closed) else {
                // Under the lock: who queues after this starts another thread.
                state.running = false;
                return None;
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The thread. If it is dropped before its end (it panicked, or its machine has ended before it
/// began), the next growth starts another one.
struct Thread {
    grower: Arc<Grower>,
    stays: bool,
    over: bool,
}

impl Thread {
    fn run(mut self) {
        while let Some(Growth { work, hold }) = self.grower.next(self.stays) {
            work();
            drop(hold);
        }
        self.over = true;
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.grower.lock().running = false;
    }
}
