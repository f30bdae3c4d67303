//! Loom's types, where they differ from std's in what is asked of them here.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LockResult};
use std::time::Duration;
use std::{env, fmt};

pub use loom;
pub use loom::cell::Cell;
pub use loom::thread::JoinHandle;

/// Locks that may stand in a static, and that no model's thread waits for.
pub use std::sync::OnceLock;
pub use std::sync::{
    Condvar as StaticCondvar, Mutex as StaticMutex, MutexGuard as StaticMutexGuard,
};

pub use crate::__modelled_thread_local as thread_local;

/// As std's: the running of initialisers at compile time is left away.
#[doc(hidden)]
#[macro_export]
macro_rules! __modelled_thread_local {
    ($($(#[$attribute:meta])* static $name:ident: $type:ty = const { $value:expr };)*) => {
        $($crate::sync::loom::thread_local! { $(#[$attribute])* static $name: $type = $value; })*
    };
}

/// How many of a thread's switches to another one loom forces, where the environment doesn't say.
const PREEMPTIONS: usize = 3;

/// Runs a model in every order of events, and says how many there were.
pub fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.max_branches = 20_000;
    let orders = Arc::new(AtomicU64::new(0));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        run();
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("{name}: {} orders", orders.load(Ordering::Relaxed));
    // Exhaustive means that nothing ended it early.
    assert!(env::var_os("LOOM_MAX_PERMUTATIONS").is_none());
    assert!(env::var_os("LOOM_MAX_DURATION").is_none());
}

/// Loom's, but for the flag.
pub mod atomic {
    pub use loom::sync::atomic::*;

    /// Loom orders the stores of two threads to one place by what the threads know of each other,
    /// and not all of them, as the language does. A store that reads what it replaces comes after
    /// that for everybody.
    #[derive(Debug, Default)]
    pub struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn new(value: bool) -> AtomicBool {
            AtomicBool(loom::sync::atomic::AtomicBool::new(value))
        }

        #[track_caller]
        pub fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        #[track_caller]
        pub fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        #[track_caller]
        pub fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }
}

/// Loom's threads, but for parking: loom's would also end a wait for a lock.
pub mod thread {
    use super::{Condvar, Mutex, lock};
    use std::sync::Arc;

    pub use loom::thread::{Builder, JoinHandle};

    #[derive(Debug, Default)]
    struct Parker {
        unparked: Mutex<bool>,
        changed: Condvar,
    }

    #[derive(Clone, Debug)]
    pub struct Thread(Arc<Parker>);

    loom::thread_local! {
        static CURRENT: Arc<Parker> = Arc::default();
    }

    pub fn current() -> Thread {
        Thread(CURRENT.with(Arc::clone))
    }

    pub fn park() {
        let parker = current().0;
        let mut unparked = lock(&parker.unparked);
        while !*unparked {
            unparked = parker.changed.wait(unparked).expect("loom's locks are never poisoned");
        }
        *unparked = false;
    }

    impl Thread {
        pub fn unpark(&self) {
            *lock(&self.0.unparked) = true;
            self.0.changed.notify_one();
        }
    }
}

/// A cell whose accesses have to be ordered, among each other and before its end.
#[derive(Debug)]
pub struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(loom::cell::UnsafeCell::new(value))
    }

    /// Counts as a write.
    #[track_caller]
    pub fn get(&self) -> *mut T {
        self.0.with_mut(|pointer| pointer)
    }
}

impl<T> Drop for UnsafeCell<T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.get();
        }
    }
}

/// A queue whose order of pushes and pops is trusted. Whether it is empty is a relaxed look, so
/// that who relies on the answer has to bring fences of its own.
#[derive(Debug)]
pub struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    length: atomic::AtomicUsize,
}

impl<T> Queue<T> {
    pub fn new() -> Queue<T> {
        Queue { items: Mutex::new(VecDeque::new()), length: atomic::AtomicUsize::new(0) }
    }

    pub fn push(&self, item: T) {
        let mut items = lock(&self.items);
        items.push_back(item);
        self.length.store(items.len(), Ordering::Relaxed);
    }

    pub fn pop(&self) -> Option<T> {
        let mut items = lock(&self.items);
        let item = items.pop_front();
        self.length.store(items.len(), Ordering::Relaxed);
        item
    }

    pub fn is_empty(&self) -> bool {
        self.length.load(Ordering::Relaxed) == 0
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue::new()
    }
}

/// Loom's, with guards that know it.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: loom::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(lock(self))
    }

    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }
}

#[track_caller]
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let guard = mutex.0.lock().expect("loom's locks are never poisoned");
    MutexGuard { mutex, guard }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MutexGuard")
    }
}

/// Loom's, with waits that time out: at once if they may wait for no time at all, and else never.
#[derive(Debug, Default)]
pub struct Condvar(loom::sync::Condvar);

#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    pub fn new() -> Condvar {
        Condvar(loom::sync::Condvar::new())
    }

    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let MutexGuard { mutex, guard } = guard;
        let guard = self.0.wait(guard).expect("loom's locks are never poisoned");
        Ok(MutexGuard { mutex, guard })
    }

    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        if timeout.is_zero() {
            let mutex = guard.mutex;
            drop(guard);
            Ok((lock(mutex), WaitTimeoutResult(true)))
        } else {
            let MutexGuard { mutex, guard } = guard;
            let guard = self.0.wait(guard).expect("loom's locks are never poisoned");
            Ok((MutexGuard { mutex, guard }, WaitTimeoutResult(false)))
        }
    }

    #[track_caller]
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    #[track_caller]
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
