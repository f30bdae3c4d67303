//! What takes in the completions of an operation that completes more than once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use ringhold_buffers::sync::{Mutex, MutexGuard};

use crate::kernel::Cqe;

/// Where the completions of one operation go that say more than a result: that others follow, that
/// the kernel has picked a buffer, or that it is done with one. The last completion comes here,
/// too, if it says any of that, and then ends the operation as any other's does.
pub trait Collector: Send + Sync + 'static {
    /// Takes a completion in, and says who waits for it. For the last one it says nobody: who waits
    /// for the end is woken in any case.
    ///
    /// It is called while the shard's driver is borrowed, so it runs no foreign code: it drops
    /// nothing that a user gave, and wakes nobody.
    fn collect(&self, cqe: Cqe) -> Option<Waker>;
}

impl fmt::Debug for dyn Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

/// What was collected and nobody has taken yet, and who waits for it.
#[derive(Debug)]
pub struct Arrivals<I>(Mutex<State<I>>);

#[derive(Debug)]
struct State<I> {
    items: VecDeque<I>,
    waker: Option<Waker>,
}

impl<I> Default for Arrivals<I> {
    fn default() -> Arrivals<I> {
        Arrivals(Mutex::new(State { items: VecDeque::new(), waker: None }))
    }
}

impl<I> Arrivals<I> {
    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what came; gives who waits, to be woken when nothing is borrowed, unless it is the
    /// last.
    pub fn add(&self, item: I, is_last: bool) -> Option<Waker> {
        let mut state = self.lock();
        state.items.push_back(item);
        if is_last { None } else { state.waker.take() }
    }

    /// Takes what came first.
    pub fn take(&self) -> Option<I> {
        self.lock().items.pop_front()
    }

    /// Takes what came first, or waits for it.
    pub fn poll_take(&self, cx: &Context<'_>) -> Poll<I> {
        if let Some(item) = self.take() {
            return Poll::Ready(item);
        }
        // Cloned before the lock is taken, and dropped after it: both run foreign code.
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(item);
        }
        let replaced = state.waker.replace(waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}
