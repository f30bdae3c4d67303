//! Std's locks, for ThreadSanitizer.
//!
//! A lock that is free is taken by code of std that is compiled with ours, and seen. One that has
//! to be waited for is taken by code that was compiled before, and not seen: all that the lock
//! orders would be reported as a race. So each lock has a count beside it that says the same where
//! it is seen: whoever lets go releases it, and whoever has come in acquires it.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LockResult, PoisonError, WaitTimeoutResult};
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Mutex<T> {
    holders: AtomicUsize,
    lock: std::sync::Mutex<T>,
}

#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    seen: Seen<'a>,
    guard: std::sync::MutexGuard<'a, T>,
}

/// Dropped before the guard beside it.
#[derive(Debug)]
struct Seen<'a>(&'a AtomicUsize);

impl<'a> Seen<'a> {
    fn enter(holders: &'a AtomicUsize) -> Seen<'a> {
        holders.load(Ordering::Acquire);
        Seen(holders)
    }
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Whether it is poisoned or not.
fn guarded<'a, T>(
    holders: &'a AtomicUsize,
    locked: LockResult<std::sync::MutexGuard<'a, T>>,
) -> LockResult<MutexGuard<'a, T>> {
    let seen = Seen::enter(holders);
    match locked {
        Ok(guard) => Ok(MutexGuard { seen, guard }),
        Err(poisoned) => Err(PoisonError::new(MutexGuard { seen, guard: poisoned.into_inner() })),
    }
}

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { holders: AtomicUsize::new(0), lock: std::sync::Mutex::new(value) }
    }

    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        guarded(&self.holders, self.lock.lock())
    }

    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.lock.get_mut()
    }

    pub fn into_inner(self) -> LockResult<T> {
        self.lock.into_inner()
    }
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

#[derive(Debug, Default)]
pub struct Condvar(std::sync::Condvar);

impl Condvar {
    pub const fn new() -> Condvar {
        Condvar(std::sync::Condvar::new())
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let MutexGuard { seen, guard } = guard;
        let holders = seen.0;
        drop(seen);
        guarded(holders, self.0.wait(guard))
    }

    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let MutexGuard { seen, guard } = guard;
        let holders = seen.0;
        drop(seen);
        let (guard, result) =
            self.0.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner);
        let guard = guarded(holders, Ok(guard)).unwrap_or_else(PoisonError::into_inner);
        Ok((guard, result))
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A value that is set once. Where it was set by code that was compiled before, the flag says so.
#[derive(Debug, Default)]
pub struct OnceLock<T> {
    is_seen: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub const fn new() -> OnceLock<T> {
        OnceLock { is_seen: AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }

    pub fn get(&self) -> Option<&T> {
        self.value.get().inspect(|_| self.see())
    }

    /// Waits until whoever has set the value says so, which is about to happen.
    fn see(&self) {
        while !self.is_seen.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let mut is_ours = false;
        let value = self.value.get_or_init(|| {
            is_ours = true;
            make()
        });
        match is_ours {
            true => self.is_seen.store(true, Ordering::Release),
            false => self.see(),
        }
        value
    }

    pub fn set(&self, value: T) -> Result<(), T> {
        let set = self.value.set(value);
        if set.is_ok() {
            self.is_seen.store(true, Ordering::Release);
        }
        set
    }
}
