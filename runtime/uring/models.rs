//! The flag that keeps many wake-ups of a ring down to one message.

use std::sync::Arc;

use ringhold_kernel::sync::atomic::{AtomicUsize, Ordering};
use ringhold_kernel::sync::{Condvar, Mutex, model};
use ringhold_kernel::threads;

use crate::raised::Raised;

/// A ring that messages come to.
#[derive(Default)]
struct Ring {
    messages: Mutex<usize>,
    came: Condvar,
}

impl Ring {
    fn post(&self) {
        *self.messages.lock().expect("no holder panics") += 1;
        self.came.notify_one();
    }

    fn wait(&self) {
        let mut messages = self.messages.lock().expect("no holder panics");
        while *messages == 0 {
            messages = self.came.wait(messages).expect("no holder panics");
        }
        assert_eq!(std::mem::take(&mut *messages), 1, "the queue has room for one");
    }
}

/// Fails by deadlock where either side of the flag is relaxed, and by the assertion where the flag
/// is not asked.
#[test]
fn two_threads_wake_a_ring_by_one_message_and_both_are_noticed() {
    model(|| {
        let (raised, ring) = (Arc::new(Raised::new()), Arc::new(Ring::default()));
        let work = Arc::new(AtomicUsize::new(0));
        let wakers = [(); 2].map(|()| {
            let (raised, ring, work) = (raised.clone(), ring.clone(), work.clone());
            let wake = move || {
                work.fetch_add(1, Ordering::Relaxed);
                if raised.raise() {
                    ring.post();
                }
            };
            threads::start("model".to_owned(), None, wake).expect("a model's thread starts")
        });
        while work.load(Ordering::Relaxed) < 2 {
            ring.wait();
            raised.lower();
        }
        wakers.into_iter().for_each(|waker| waker.join().expect("the waker ends"));
    });
}
