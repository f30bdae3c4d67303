//! Waiting for a future on a thread that is no shard.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use ringhold_kernel::sync::atomic::{AtomicBool, Ordering};
use ringhold_kernel::sync::thread::{self, Thread};

use crate::context;
use crate::handle::no_nested_block_on;

use crate::time::clock::Clock;

/// Wakes the thread, and holds a paused clock from the moment of waking: the thread is about to
/// run, so time must not run on past it.
struct Parked {
    thread: Thread,
    woken: AtomicBool,
    clock: Arc<Clock>,
}

impl Wake for Parked {
    fn wake(self: Arc<Parked>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Parked>) {
        // The hold comes before the flag: whoever sees the flag gives a hold up.
        self.clock.hold();
        if self.woken.swap(true, Ordering::SeqCst) {
            self.clock.release();
        } else {
            self.thread.unpark();
        }
    }
}

impl Parked {
    /// Waits to be woken. The hold of whoever woke us goes on until the next call.
    fn wait(&self) {
        self.clock.release();
        while !self.woken.swap(false, Ordering::SeqCst) {
            thread::park();
        }
    }
}

/// Gives up the last hold, also when the future panics.
struct Held<'a>(&'a Parked);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.clock.release();
        // A waker that is still out there may wake us once more, and its hold must not stay.
        if self.0.woken.swap(true, Ordering::SeqCst) {
            self.0.clock.release();
        }
    }
}

#[track_caller]
pub(crate) fn block_on<F: Future>(mut future: Pin<&mut F>, clock: &Arc<Clock>) -> F::Output {
    if context::with_shard(|shard| shard.is_some()) {
        no_nested_block_on();
    }
    let parked = Arc::new(Parked {
        thread: thread::current(),
        woken: AtomicBool::new(false),
        clock: clock.clone(),
    });
    clock.hold();
    let held = Held(&parked);
    let waker = Waker::from(parked.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            drop(held);
            return output;
        }
        parked.wait();
    }
}
