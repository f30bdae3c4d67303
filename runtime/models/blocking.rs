//! The threads for closures that block: a closure runs or is cancelled, and who waits is told.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use ringhold_buffers::sync::atomic::Ordering;
use ringhold_buffers::sync::model;

use super::{Counted, Machine, Signal, count, start};

/// Fails by deadlock where a closure is left to a thread that waits no more: where `enqueue` goes
/// by threads instead of idle ones, and where a thread whose wait timed out doesn't look at the
/// queue again.
#[test]
fn a_closure_that_comes_while_a_thread_retires_runs() {
    model(|| {
        let machine = Machine::with_blocking(1, Duration::ZERO);
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let ran = ran.clone();
            let work = move || {
                ran.fetch_add(1, Ordering::Relaxed);
            };
            machine.handle.block_on(machine.handle.spawn_blocking(work)).expect("it runs");
        }
        assert_eq!(count(&ran), 2);
        assert!(machine.handle.shared().blocking.shut_down(None));
        machine.shut_down();
    });
}

/// Fails by deadlock where an idle thread isn't notified of a closure.
#[test]
fn an_idle_thread_takes_the_next_closure() {
    model(|| {
        let machine = Machine::new();
        for number in [1, 2] {
            let task = machine.handle.spawn_blocking(move || number);
            assert_eq!(machine.handle.block_on(task).expect("it runs"), number);
        }
        assert!(machine.handle.shared().blocking.shut_down(None));
        assert_eq!(machine.handle.shared().blocking.threads(), 0);
        machine.shut_down();
    });
}

/// Fails by deadlock where `enqueue` doesn't look whether the pool is closed under the same lock
/// under which it queues, where `shut_down` doesn't notify, and where a thread goes to sleep without
/// having looked for that.
#[test]
fn a_closure_that_comes_while_the_pool_closes_runs_or_is_cancelled() {
    model(|| {
        let machine = Machine::new();
        let drops = Arc::new(AtomicUsize::new(0));
        let (handle, counted) = (machine.handle.clone(), Counted(drops.clone()));
        let caller = start(move || {
            let result = handle.block_on(handle.spawn_blocking(move || drop(counted)));
            assert!(result.is_ok() || result.is_err_and(|error| error.is_cancelled()));
        });
        assert!(machine.handle.shared().blocking.shut_down(None));
        caller.join().expect("the caller ends");
        assert_eq!(count(&drops), 1);
        assert_eq!(machine.handle.shared().blocking.threads(), 0);
        machine.shut_down();
    });
}

/// Fails as a race where a closure's task isn't `SCHEDULED` while it runs: the abort sends it home,
/// where the shard drops what runs here.
#[test]
fn a_closure_that_is_aborted_while_it_runs_ends_once() {
    model(|| {
        let machine = Machine::new();
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = Counted(drops.clone());
        let task = machine.handle.spawn_blocking(move || drop(counted));
        task.abort();
        let result = machine.handle.block_on(task);
        assert!(result.is_ok() || result.is_err_and(|error| error.is_cancelled()));
        assert_eq!(count(&drops), 1);
        assert!(machine.handle.shared().blocking.shut_down(None));
        machine.shut_down();
    });
}

/// Fails by deadlock where a closure that finds no idle thread starts none.
#[test]
fn two_closures_that_wait_for_each_other_run_on_two_threads() {
    model(|| {
        let machine = Machine::with_blocking(2, Duration::MAX);
        let signal = Arc::new(Signal::default());
        let (giver, handle) = (signal.clone(), machine.handle.clone());
        let waiting = machine.handle.spawn_blocking(move || handle.block_on(signal.wait()));
        let giving = machine.handle.spawn_blocking(move || giver.give());
        machine.handle.block_on(waiting).expect("it was given the signal");
        machine.handle.block_on(giving).expect("it gave the signal");
        assert!(machine.handle.shared().blocking.shut_down(None));
        machine.shut_down();
    });
}
