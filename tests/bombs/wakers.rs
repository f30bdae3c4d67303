//! Wakers that panic where they are told to, with payloads that panic in their turn.

#![allow(unsafe_code)] // A waker whose clone panics is made of its parts.

use std::fmt;
use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{RawWaker, RawWakerVTable, Waker};

/// A payload whose drop panics with its like.
#[derive(Debug)]
pub struct Chain;

impl Drop for Chain {
    fn drop(&mut self) {
        panic_any(Chain);
    }
}

/// Where a waker panics. All but `Clone` may be together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fuses {
    pub clone: bool,
    pub wake: bool,
    /// Of the last copy.
    pub drop: bool,
}

#[derive(Default)]
struct Action(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Action")
    }
}

/// What was done with a waker and its copies.
#[derive(Debug, Default)]
pub struct Grump {
    fuses: Fuses,
    pub woken: AtomicUsize,
    pub dropped: AtomicUsize,
    copies: AtomicUsize,
    /// What the drop of the next copy does.
    action: Action,
}

impl Grump {
    /// Does this when a copy is dropped, once.
    pub fn when_dropped(&self, action: impl FnOnce() + Send + 'static) {
        *self.action.0.lock().unwrap() = Some(Box::new(action));
    }

    pub fn new(fuses: Fuses) -> (Arc<Grump>, Waker) {
        let grump = Arc::new(Grump { fuses, ..Grump::default() });
        let waker = waker_of(&grump);
        (grump, waker)
    }

    pub fn woken(&self) -> usize {
        self.woken.load(SeqCst)
    }

    /// No copy is left.
    pub fn is_gone(&self) -> bool {
        self.copies.load(SeqCst) == 0
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_copy);

fn waker_of(grump: &Arc<Grump>) -> Waker {
    // SAFETY: the table's functions keep the count of the `Arc` that the data comes from.
    unsafe { Waker::from_raw(raw(grump)) }
}

fn raw(grump: &Arc<Grump>) -> RawWaker {
    grump.copies.fetch_add(1, SeqCst);
    RawWaker::new(Arc::into_raw(grump.clone()).cast(), &TABLE)
}

/// What a waker's data points to, which the waker counts.
unsafe fn grump(data: *const ()) -> Arc<Grump> {
    // SAFETY: the data is from `Arc::into_raw`, and the caller owns its count.
    unsafe { Arc::from_raw(data.cast()) }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the waker keeps its count.
    let grump = std::mem::ManuallyDrop::new(unsafe { grump(data) });
    if grump.fuses.clone {
        panic_any(Chain);
    }
    raw(&grump)
}

unsafe fn wake(data: *const ()) {
    /// Goes with the waker, also while a panic of it unwinds: as an `Arc` would in `Wake::wake`.
    struct Consumed(*const ());
    impl Drop for Consumed {
        fn drop(&mut self) {
            // SAFETY: `wake` owns the waker's count.
            unsafe { drop_copy(self.0) };
        }
    }
    let consumed = Consumed(data);
    // SAFETY: as above; the count goes at the end.
    unsafe { wake_by_ref(consumed.0) };
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the waker keeps its count.
    let grump = std::mem::ManuallyDrop::new(unsafe { grump(data) });
    grump.woken.fetch_add(1, SeqCst);
    if grump.fuses.wake {
        panic_any(Chain);
    }
}

unsafe fn drop_copy(data: *const ()) {
    // SAFETY: the waker's count goes with it.
    let grump = unsafe { grump(data) };
    let is_last = grump.copies.fetch_sub(1, SeqCst) == 1;
    grump.dropped.fetch_add(1, SeqCst);
    let action = grump.action.0.lock().unwrap().take();
    if let Some(action) = action {
        action();
    }
    if is_last && grump.fuses.drop {
        panic_any(Chain);
    }
}
