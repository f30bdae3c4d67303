//! Closures that block: a bounded set of threads that retire, closures that are aborted or left
//! over, and what the end of a runtime does about them.

mod common;
mod watched;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::{isolated, proc};
use ringhold_buffers::sync::Mutex;
use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::sync::mpsc;
use runtime::{Builder, Handle, Runtime, task, time};
use watched::watchdog;

const SOON: Duration = Duration::from_secs(10);

fn with_threads(threads: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.shards(1).max_blocking_threads(threads).build().unwrap()
}

/// A closure that runs until it is told to end.
struct Held {
    release: mpsc::UnboundedSender<()>,
    joined: task::JoinHandle<()>,
}

fn hold(runtime: &Runtime) -> Held {
    let (release, mut released) = mpsc::unbounded_channel();
    let (begin, mut begun) = mpsc::unbounded_channel();
    let joined = runtime.spawn_blocking(move || {
        begin.send(()).unwrap();
        let _ = released.blocking_recv();
    });
    begun.blocking_recv().unwrap();
    Held { release, joined }
}

#[test]
fn as_many_closures_run_at_once_as_there_may_be_threads_and_all_of_them_run() {
    let _watchdog = watchdog("a bounded set of threads", 60);
    for threads in [1, 3] {
        let runtime = with_threads(threads);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let together = Arc::new(Barrier::new(threads));
        let joins: Vec<_> = (0..60 * threads)
            .map(|number| {
                let (now, most, together) = (now.clone(), most.clone(), together.clone());
                runtime.spawn_blocking(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // All threads are needed here, and none is left for another closure.
                    together.wait();
                    now.fetch_sub(1, Ordering::SeqCst);
                    number
                })
            })
            .collect();
        for (number, joined) in joins.into_iter().enumerate() {
            assert_eq!(runtime.block_on(joined).unwrap(), number);
        }
        assert!(most.load(Ordering::SeqCst) <= threads);
        assert!(runtime.metrics().num_blocking_threads() <= threads);
    }
}

#[test]
fn threads_retire_when_there_was_nothing_to_do_and_come_back() {
    let test = isolated("threads_retire_when_there_was_nothing_to_do_and_come_back");
    test.run(|| {
        let mut builder = Builder::new_multi_thread();
        let (started, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (start, stop) = (started.clone(), stopped.clone());
        builder.shards(1).thread_keep_alive(Duration::from_millis(20));
        builder.on_thread_start(move || {
            start.fetch_add(1, Ordering::SeqCst);
        });
        builder.on_thread_stop(move || {
            stop.fetch_add(1, Ordering::SeqCst);
        });
        let runtime = builder.build().unwrap();
        runtime.block_on(async { Op::new(Nop).await.unwrap() });
        let idle = proc::threads();
        for round in 1..=3 {
            let together = Arc::new(Barrier::new(8));
            let joins: Vec<_> = (0..8)
                .map(|_| {
                    let together = together.clone();
                    runtime.spawn_blocking(move || together.wait())
                })
                .collect();
            assert_eq!(runtime.metrics().num_blocking_threads(), 8);
            joins.into_iter().for_each(|joined| assert!(runtime.block_on(joined).is_ok()));
            let threads = || runtime.metrics().num_blocking_threads();
            proc::becomes("blocking threads", 0, SOON, threads);
            proc::becomes("threads", idle, SOON, proc::threads);
            // The shard's own thread counts as well.
            proc::becomes("started", 1 + 8 * round, SOON, || started.load(Ordering::SeqCst));
            proc::becomes("stopped", 8 * round, SOON, || stopped.load(Ordering::SeqCst));
        }
    });
}

#[test]
fn one_thread_serves_closures_that_come_one_after_the_other() {
    let runtime = with_threads(512);
    for number in 0..500 {
        let closure = runtime.spawn_blocking(move || number);
        assert_eq!(runtime.block_on(closure).unwrap(), number);
    }
    // One that has just given its result may not wait for the next closure yet, and then another is
    // started: that happens now and then, and not for each of the five hundred.
    let threads = runtime.metrics().num_blocking_threads();
    assert!(threads < 100, "{threads}");
}

#[test]
fn a_closure_that_is_aborted_before_it_begins_never_runs() {
    let _watchdog = watchdog("aborting a closure", 60);
    let runtime = with_threads(1);
    let held = hold(&runtime);
    let captured = Arc::new(());
    let capture = captured.clone();
    let aborted = runtime.spawn_blocking(move || {
        drop(capture);
        panic!("it ran");
    });
    aborted.abort();
    held.release.send(()).unwrap();
    let error = runtime.block_on(aborted).unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(Arc::strong_count(&captured), 1, "what it had captured was not dropped");
    runtime.block_on(held.joined).unwrap();
}

#[test]
fn a_closure_that_has_begun_is_not_aborted() {
    let _watchdog = watchdog("aborting a running closure", 60);
    let runtime = with_threads(1);
    let held = hold(&runtime);
    held.joined.abort();
    assert!(!held.joined.is_finished());
    held.release.send(()).unwrap();
    runtime.block_on(held.joined).unwrap();
}

#[test]
fn a_closure_is_inside_its_runtime() {
    let _watchdog = watchdog("a closure inside its runtime", 60);
    let runtime = with_threads(4);
    let inside = runtime.spawn_blocking(|| {
        let spawned = task::spawn(async { Op::new(Nop).await.map(|()| 5).unwrap() });
        let nested = task::spawn_blocking(|| 6);
        Handle::current().block_on(async {
            time::sleep(Duration::from_millis(1)).await;
            let file = runtime::fs::File::open("/dev/zero").await.unwrap();
            let (count, _) = file.read_at(vec![1; 7], 0).await.unwrap();
            spawned.await.unwrap() + nested.await.unwrap() + count
        })
    });
    assert_eq!(runtime.block_on(inside).unwrap(), 18);
}

#[test]
fn dropping_a_runtime_waits_for_closures_that_run_and_drops_those_that_wait() {
    let _watchdog = watchdog("dropping a runtime with closures", 60);
    let runtime = with_threads(1);
    let held = hold(&runtime);
    let captured = Arc::new(());
    let capture = captured.clone();
    let left = runtime.spawn_blocking(move || drop(capture));
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = order.clone();
    let release = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        noted.lock().unwrap().push("released");
        held.release.send(()).unwrap();
        held.joined
    });
    let handle = runtime.handle().clone();
    drop(runtime);
    order.lock().unwrap().push("dropped");
    assert_eq!(*order.lock().unwrap(), ["released", "dropped"]);
    assert_eq!(Arc::strong_count(&captured), 1);
    assert!(handle.block_on(left).unwrap_err().is_cancelled());
    handle.block_on(release.join().unwrap()).unwrap();
    assert_eq!(handle.metrics().num_blocking_threads(), 0);
}

#[test]
fn shutdown_timeout_waits_no_longer_than_it_was_told() {
    let _watchdog = watchdog("shutdown_timeout", 60);
    let runtime = with_threads(1);
    let held = hold(&runtime);
    let begun = Instant::now();
    runtime.shutdown_timeout(Duration::from_millis(100));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(100), "{took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    held.release.send(()).unwrap();
    // With nothing to wait for it doesn't wait.
    let runtime = with_threads(1);
    runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
    let begun = Instant::now();
    runtime.shutdown_timeout(Duration::from_secs(30));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn shutdown_background_waits_for_nothing() {
    let test = isolated("shutdown_background_waits_for_nothing");
    test.run(|| {
        let threads = proc::threads();
        let runtime = with_threads(1);
        let held = hold(&runtime);
        let begun = Instant::now();
        runtime.shutdown_background();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        held.release.send(()).unwrap();
        proc::becomes("threads", threads, SOON, proc::threads);
        assert!(held.joined.is_finished());
    });
}

#[test]
fn a_runtime_that_is_dropped_by_one_of_its_closures_ends() {
    let _watchdog = watchdog("a runtime that is dropped by its closure", 30);
    let runtime = Arc::new(Mutex::new(Some(with_threads(2))));
    let (handle, its) = {
        let lock = runtime.lock().unwrap();
        (lock.as_ref().unwrap().handle().clone(), runtime.clone())
    };
    let dropping = handle.spawn_blocking(move || drop(its.lock().unwrap().take()));
    handle.block_on(dropping).unwrap();
    assert!(runtime.lock().unwrap().is_none());
    assert!(handle.block_on(handle.spawn(async {})).unwrap_err().is_cancelled());
}

#[test]
fn no_threads_at_all_are_refused() {
    let refused = catch_unwind(AssertUnwindSafe(|| {
        Builder::new_multi_thread().max_blocking_threads(0);
    }));
    let message = *refused.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(message, "Max blocking threads cannot be set to 0");
}

#[test]
fn a_paused_clock_stands_while_a_closure_runs() {
    let _watchdog = watchdog("a paused clock", 60);
    let mut builder = Builder::new_current_thread();
    let run = builder.start_paused(true).run(async {
        let begun = time::Instant::now();
        let slow = task::spawn_blocking(|| thread::sleep(Duration::from_millis(50)));
        runtime::select! {
            biased;
            done = slow => done.unwrap(),
            () = time::sleep(Duration::from_secs(5)) => panic!("time ran on past a closure"),
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
    run.unwrap();
}
