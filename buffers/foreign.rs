//! The one way to run what is not ours: wakers, destructors, hooks and closures of the user's.
//!
//! Such code may panic anywhere, and it may do so while a panic unwinds already, where another one
//! that gets out ends the process. So whoever runs it puts every resource where it belongs first,
//! and then runs it through this module, out of which no panic comes. It has been told by the panic
//! hook by then.
//!
//! What a panic brings, its payload, is foreign as well: its destructor may panic in turn.

#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::thread;

/// Runs foreign code, and returns what it returned or what it panicked with.
///
/// The caller passes the payload on to whoever awaits it, or hands it to [`discard`].
///
/// # Errors
///
/// The payload of the panic.
#[inline]
pub fn run<R>(code: impl FnOnce() -> R) -> thread::Result<R> {
    catch_unwind(AssertUnwindSafe(code))
}

/// Runs foreign code, and returns what it returned unless it panicked.
#[inline]
pub fn attempt<R>(code: impl FnOnce() -> R) -> Option<R> {
    match run(code) {
        Ok(returned) => Some(returned),
        Err(payload) => {
            discard_payload(payload);
            None
        }
    }
}

/// Runs foreign code whose outcome is not awaited.
#[inline]
pub fn contain(code: impl FnOnce()) {
    attempt(code);
}

/// Drops what may have a foreign destructor.
#[inline]
pub fn discard<T>(value: T) {
    contain(move || drop(value));
}

/// Wakes them all, first come, first woken.
pub fn wake_all(wakers: impl IntoIterator<Item = ForeignWaker>) {
    wakers.into_iter().for_each(ForeignWaker::wake);
}

#[cold]
fn discard_payload(payload: Box<dyn Any + Send>) {
    if let Err(another) = run(move || drop(payload)) {
        // One that panics with its own like would go on for ever.
        mem::forget(another);
    }
}

/// What a panic brought, for whoever asks for it. Dropping it doesn't unwind.
#[derive(Debug)]
pub struct Payload(Option<Box<dyn Any + Send>>);

impl Payload {
    /// The payload of a panic that was caught.
    pub fn new(payload: Box<dyn Any + Send>) -> Payload {
        Payload(Some(payload))
    }

    /// A look at it.
    pub fn get(&self) -> &(dyn Any + Send) {
        self.0.as_deref().expect("it is there until it is taken")
    }

    /// Takes it out of our care.
    pub fn take(mut self) -> Box<dyn Any + Send> {
        self.0.take().expect("it is taken once")
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(payload) = self.0.take() {
            discard_payload(payload);
        }
    }
}

/// A waker that was given to us. Neither waking nor dropping it unwinds.
///
/// Whatever keeps a waker for later keeps it as this, so that no way out, unwinding included, drops
/// it bare.
#[derive(Debug)]
pub struct ForeignWaker(Waker);

impl ForeignWaker {
    /// A copy of the waker of whoever polls. Cloning it is foreign code, and a panic of that is the
    /// poll's.
    #[inline]
    pub fn of(waker: &Waker) -> ForeignWaker {
        ForeignWaker(waker.clone())
    }

    /// One that does nothing.
    #[inline]
    pub fn noop() -> ForeignWaker {
        ForeignWaker::of(Waker::noop())
    }

    /// Wakes, and drops the waker.
    #[inline]
    pub fn wake(self) {
        // By reference: a waker that panics in `wake` would be dropped while that unwinds, and
        // ended the process if it panicked there, too.
        contain(|| self.0.wake_by_ref());
    }

    /// Whether `waker` would wake the same.
    #[inline]
    pub fn will_wake(&self, waker: &Waker) -> bool {
        self.0.will_wake(waker)
    }
}

impl From<Waker> for ForeignWaker {
    #[inline]
    fn from(waker: Waker) -> ForeignWaker {
        ForeignWaker(waker)
    }
}

impl Drop for ForeignWaker {
    #[inline]
    fn drop(&mut self) {
        // What is left in its place does nothing when it is dropped.
        discard(mem::replace(&mut self.0, Waker::noop().clone()));
    }
}

/// Writes a line to standard error. If that fails, on a full disk or a closed pipe, the line is
/// lost: there is no other place to report to.
#[cold]
pub fn report(what: fmt::Arguments<'_>) {
    let line = format!("ringhold: {what}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::panic_any;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    use super::*;

    /// A payload whose drop panics with its like.
    struct Chain(Arc<AtomicUsize>);

    impl Drop for Chain {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
            panic_any(Chain(self.0.clone()));
        }
    }

    /// A waker that panics wherever it can.
    struct Grump(Arc<AtomicUsize>);

    impl Wake for Grump {
        fn wake(self: Arc<Grump>) {
            self.0.fetch_add(1, SeqCst);
            panic_any(Chain(self.0.clone()));
        }
    }

    impl Drop for Grump {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
            panic_any(Chain(self.0.clone()));
        }
    }

    fn grump() -> (Arc<AtomicUsize>, ForeignWaker) {
        let count = Arc::new(AtomicUsize::new(0));
        (count.clone(), Waker::from(Arc::new(Grump(count))).into())
    }

    #[test]
    fn what_is_run_returns_its_value_or_its_payload() {
        assert_eq!(run(|| 7).unwrap(), 7);
        let payload = run(|| panic_any(7_u32)).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&7_u32));
    }

    #[test]
    fn a_payload_whose_drop_panics_is_dropped_once_and_the_next_one_is_left() {
        let count = Arc::new(AtomicUsize::new(0));
        contain(|| panic_any(Chain(count.clone())));
        assert_eq!(count.load(SeqCst), 1);
        discard(Chain(count.clone()));
        assert_eq!(count.load(SeqCst), 3);
    }

    #[test]
    fn a_waker_that_panics_in_its_wake_and_in_its_drop_does_both_once() {
        let (count, waker) = grump();
        waker.wake();
        // Its wake and the payload of that, its drop and the payload of that.
        assert_eq!(count.load(SeqCst), 4);
        let (count, waker) = grump();
        drop(waker);
        assert_eq!(count.load(SeqCst), 2);
    }

    #[test]
    fn what_is_dropped_while_a_panic_unwinds_may_panic() {
        let (count, waker) = grump();
        let payload = run(move || {
            let _dropped_while_unwinding = waker;
            panic_any(7_u32);
        });
        assert_eq!(payload.unwrap_err().downcast_ref(), Some(&7_u32));
        assert_eq!(count.load(SeqCst), 2);
    }

    #[test]
    fn all_are_woken_in_their_order_whichever_panic() {
        let woken = Arc::new(AtomicUsize::new(0));
        struct Third(Arc<AtomicUsize>, usize);
        impl Wake for Third {
            fn wake(self: Arc<Third>) {
                assert_eq!(self.0.fetch_add(1, SeqCst), self.1, "the order");
                assert_ne!(self.1 % 3, 0, "every third panics");
            }
        }
        let third = |number| Waker::from(Arc::new(Third(woken.clone(), number))).into();
        wake_all((0..10).map(third));
        assert_eq!(woken.load(SeqCst), 10);
    }
}
