//! What takes in the completions of an operation that completes more than once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;

use ringhold_kernel::Cqe;
use ringhold_kernel::sync::Mutex;

/// Where the completions of one operation go that say more than a result: that others follow, that
/// the kernel has picked a buffer, or that it is done with one. The last completion comes here,
/// too, if it says any of that, and then ends the operation as any other's does.
///
/// Who waits polls the operation's [`Op`](crate::Op) first and looks here then: what was collected
/// after the look wakes whoever polled last.
pub trait Collector: Send + Sync + 'static {
    /// Takes a completion in, and says whether who waits is to be woken for it. Of the last one it
    /// is woken in any case.
    ///
    /// It is called while the shard's driver is borrowed, so it runs no foreign code: it drops
    /// nothing that a user gave.
    fn collect(&self, cqe: Cqe) -> bool;
}

impl fmt::Debug for dyn Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

/// What was collected and not taken yet, in order.
#[derive(Debug)]
pub struct Arrivals<I>(Mutex<VecDeque<I>>);

impl<I> Default for Arrivals<I> {
    fn default() -> Arrivals<I> {
        Arrivals(Mutex::new(VecDeque::new()))
    }
}

impl<I> Arrivals<I> {
    /// Adds what came.
    pub fn add(&self, item: I) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(item);
    }

    /// Takes what came first.
    pub fn take(&self) -> Option<I> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
