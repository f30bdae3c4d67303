//! Wake-ups by messages and by events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ringhold_kernel::{Cqe, Kernel, KernelConfig, Wait};

use super::*;
use crate::{Uring, setup};

const TOO_LONG: Duration = Duration::from_secs(20);

fn config() -> KernelConfig {
    KernelConfig { submissions: 4, completions: 8, roomy: false, ..KernelConfig::default() }
}

/// A ring of each way; the first is what this kernel was found to have.
fn rings() -> [Uring; 2] {
    let ring = setup::ring(&config()).unwrap();
    let event = Waking::by_event().unwrap();
    [Uring::new(&config()).unwrap(), Uring::woken_by(event, ring, &config())]
}

/// Waits for a wake-up and takes what has completed.
fn wait(ring: &mut Uring) -> Vec<Cqe> {
    let begin = Instant::now();
    ring.enter(Wait::For { timeout: Some(TOO_LONG), idle: true }).unwrap();
    assert!(begin.elapsed() < TOO_LONG, "a wake-up was lost");
    let mut batch = Vec::with_capacity(8);
    ring.reap(&mut batch);
    batch
}

#[test]
fn this_kernel_takes_messages_from_threads_without_a_ring() {
    let ring = Uring::new(&config()).unwrap();
    if matches!(*ring.wake, Waking::Event(_)) {
        let must_run = std::env::var_os("RINGHOLD_MUST_RUN").is_some();
        assert!(!must_run, "this kernel takes no message from a thread");
        eprintln!("SKIPPED messages to a ring: the kernel is older than 6.13");
    }
}

#[test]
fn each_wake_up_ends_a_wait() {
    for mut ring in rings() {
        let unparker = ring.unparker();
        let woken = Arc::new(AtomicU32::new(0));
        let seen = woken.clone();
        // What the probe has left ends the first wait of a ring that takes messages.
        ring.enter(Wait::No).unwrap();
        ring.reap(&mut Vec::with_capacity(8));
        let waker = thread::spawn(move || {
            for round in 0..1000 {
                unparker.unpark();
                while seen.load(Ordering::Acquire) == round {
                    thread::yield_now();
                }
            }
        });
        for _ in 0..1000 {
            assert!(wait(&mut ring).is_empty());
            woken.fetch_add(1, Ordering::Release);
        }
        waker.join().unwrap();
    }
}

#[test]
fn wake_ups_that_nobody_took_are_one_completion() {
    for mut ring in rings() {
        for _ in 0..1000 {
            ring.unparker().unpark();
        }
        ring.enter(Wait::No).unwrap();
        assert_eq!(ring.ring.completion().len(), 1);
        assert!(wait(&mut ring).is_empty());
        assert_eq!(ring.overflows(), 0);
        assert!(!ring.needs_enter() || matches!(*ring.wake, Waking::Event(_)));
    }
}

#[test]
fn what_would_wake_a_ring_that_has_ended_reaches_no_other_ring() {
    let ring = Uring::new(&config()).unwrap();
    let (unparker, descriptor) = (ring.unparker(), ring.ring.as_raw_fd());
    drop(ring);
    // Other tests open descriptors as well, so the number may be taken.
    let mut others: Vec<_> = (0..4).map(|_| setup::ring(&config()).unwrap()).collect();
    if !others.iter().any(|other| other.as_raw_fd() == descriptor) {
        eprintln!("the descriptor was taken by another thread");
    }
    unparker.unpark();
    for other in &mut others {
        other.submitter().submit().unwrap();
        assert_eq!(other.completion().len(), 0);
    }
}
