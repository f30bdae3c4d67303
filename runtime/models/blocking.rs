//! The threads for closures that block: a closure runs or is cancelled, and who waits is told.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use ringhold_kernel::sync::atomic::Ordering;
use ringhold_kernel::sync::{Condvar, Mutex, model};

use super::kernel::ModelSystem;
use super::{Counted, Machine, count, start, stop};

/// Fails by deadlock where a thread whose wait timed out ends without a look at the queue, and
/// where one that ends tells nobody.
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

/// Fails by deadlock where `shut_down` doesn't notify, and where a thread goes to sleep without a
/// look whether the pool is closed; by its last assertion where `enqueue` doesn't look for that.
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
        let (handle, remote) = (machine.handle.clone(), machine.remote().clone());
        let counted = Counted(drops.clone());
        let caller = start(move || {
            let task = handle.spawn_blocking(move || drop(counted));
            task.abort();
            let result = handle.block_on(task);
            assert!(result.is_ok() || result.is_err_and(|error| error.is_cancelled()));
            assert!(handle.shared().blocking.shut_down(None));
            stop(&remote);
        });
        machine.serve();
        caller.join().expect("the caller ends");
        assert_eq!(count(&drops), 1);
        machine.shut_down();
    });
}

/// Fails by deadlock where `enqueue` goes by how many threads there are, and not by how many are
/// idle.
#[test]
fn two_closures_that_wait_for_each_other_run_on_two_threads() {
    model(|| {
        let machine = Machine::with_blocking(2, Duration::MAX);
        let step = Arc::new((Mutex::new(0), Condvar::new()));
        let reach = |wanted: u32| {
            let step = step.clone();
            move || {
                let (reached, changed) = &*step;
                let mut reached = reached.lock().expect("no holder panics");
                while *reached + 1 < wanted {
                    reached = changed.wait(reached).expect("no holder panics");
                }
                *reached = wanted;
                changed.notify_all();
            }
        };
        // The first waits for the second, and this thread for both.
        drop(machine.handle.spawn_blocking(reach(2)));
        drop(machine.handle.spawn_blocking(reach(1)));
        reach(3)();
        assert!(machine.handle.shared().blocking.shut_down(None));
        machine.shut_down();
    });
}

/// Fails by deadlock where the thread that could not be started is taken back without telling who
/// waits for the threads to end.
#[test]
fn a_pool_that_closes_while_no_thread_can_be_started_waits_for_none() {
    model(|| {
        let system = ModelSystem { refuses_threads: true, ..ModelSystem::new() };
        let machine = Machine::on(system, 1, Duration::MAX);
        let handle = machine.handle.clone();
        let caller = start(move || {
            let result = handle.block_on(handle.spawn_blocking(|| ()));
            assert!(result.is_err_and(|error| error.is_cancelled()));
        });
        assert!(machine.handle.shared().blocking.shut_down(None));
        caller.join().expect("the caller ends");
        machine.shut_down();
    });
}
