//! Entering a runtime: by handle, by `block_on`, by `#[runtime::test]`; and what is said where
//! there is none.

mod common;
mod watched;

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use ringhold_buffers::sync::Mutex;
use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::runtime::RuntimeFlavor;
use runtime::task::yield_now;
use runtime::{Builder, Handle, Runtime, task, time};
use watched::watchdog;

fn shards(shards: usize) -> Runtime {
    Builder::new_multi_thread().shards(shards).build().unwrap()
}

#[test]
fn what_needs_a_runtime_says_so_where_there_is_none() {
    let message = |called: thread::Result<()>| {
        let payload = called.unwrap_err();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap().to_owned()
    };
    for called in [
        catch_unwind(|| drop(Handle::current())),
        catch_unwind(|| drop(task::spawn(async {}))),
        catch_unwind(|| drop(task::spawn_on(0, || async {}))),
        catch_unwind(|| drop(task::spawn_blocking(|| {}))),
    ] {
        let message = message(called);
        assert!(message.starts_with("there is no runtime here: this must be called"), "{message}");
    }
    let error = Handle::try_current().unwrap_err();
    assert!(error.to_string().starts_with("there is no runtime here"), "{error}");
    let runtime = shards(1);
    let _entered = runtime.enter();
    let message = message(catch_unwind(|| drop(task::spawn_local(async {}))));
    assert!(message.starts_with("`spawn_local` must be called from a task"), "{message}");
}

#[test]
fn entering_nests_and_is_left_in_order() {
    let (one, two) = (shards(1), shards(2));
    let now = || Handle::try_current().ok().map(|handle| handle.shards());
    assert_eq!(now(), None);
    {
        let _one = one.enter();
        assert_eq!(now(), Some(1));
        {
            let _two = two.handle().enter();
            assert_eq!(now(), Some(2));
            assert_eq!(one.block_on(async { Handle::current().shards() }), 1);
            assert_eq!(now(), Some(2));
        }
        assert_eq!(now(), Some(1));
    }
    assert_eq!(now(), None);
}

#[test]
fn a_shard_refuses_to_block_on_a_future() {
    let _watchdog = watchdog("blocking on a shard", 60);
    let runtime = shards(1);
    let nested = |handle: Handle| async move {
        let nested = catch_unwind(AssertUnwindSafe(|| handle.block_on(async {})));
        *nested.unwrap_err().downcast::<&str>().unwrap()
    };
    let other = shards(1);
    for handle in [runtime.handle().clone(), other.handle().clone()] {
        let message = runtime.block_on(runtime.spawn(nested(handle))).unwrap();
        assert!(message.starts_with("a shard can't block on a future"), "{message}");
    }
    let run = runtime
        .spawn(async { catch_unwind(|| Builder::new_current_thread().run(async {})).is_err() });
    assert!(runtime.block_on(run).unwrap());
    // On threads that are no shards it may, also within another block_on.
    assert_eq!(runtime.block_on(async { other.block_on(async { 5 }) }), 5);
    let handle = other.handle().clone();
    let inside = runtime.spawn_blocking(move || handle.block_on(async { 6 }));
    assert_eq!(runtime.block_on(inside).unwrap(), 6);
    // And in place, where the shard waits for it.
    let in_place =
        runtime.spawn(async move { task::block_in_place(|| other.block_on(async { 7 })) });
    assert_eq!(runtime.block_on(in_place).unwrap(), 7);
}

#[test]
fn a_shard_refuses_to_be_waited_for_by_what_it_runs_at_any_depth() {
    let _watchdog = watchdog("blocking in a circle", 60);
    let first = shards(1);
    let handle = first.handle().clone();
    let blocked = first.spawn(async move {
        task::block_in_place(|| {
            let second = Builder::new_current_thread().run(async {
                task::block_in_place(|| {
                    let again = || handle.block_on(async {});
                    let refused = catch_unwind(AssertUnwindSafe(again));
                    *refused.unwrap_err().downcast::<&str>().unwrap()
                })
            });
            // It has left nothing behind: another runtime may still be waited for.
            assert_eq!(shards(1).block_on(async { 7 }), 7);
            second.unwrap()
        })
    });
    let message = first.block_on(blocked).unwrap();
    assert!(message.starts_with("a shard can't block on a future"), "{message}");
}

#[test]
fn block_on_runs_futures_that_wait_for_everything_there_is() {
    let _watchdog = watchdog("block_on", 60);
    let runtime = shards(2);
    let out = runtime.block_on(async {
        let local = Rc::new(5);
        time::sleep(Duration::from_millis(1)).await;
        Op::new(Nop).await.unwrap();
        yield_now().await;
        let spawned = task::spawn(async { 6 });
        let slept = time::timeout(Duration::from_millis(1), pending::<()>()).await;
        assert!(slept.is_err());
        *local + spawned.await.unwrap() + task::spawn_blocking(|| 7).await.unwrap()
    });
    assert_eq!(out, 18);
}

#[test]
fn many_threads_may_block_on_one_runtime() {
    let _watchdog = watchdog("many threads that block", 60);
    let runtime = shards(2);
    let sum = Mutex::new(0);
    thread::scope(|scope| {
        for number in 0..8 {
            let (runtime, sum) = (&runtime, &sum);
            scope.spawn(move || {
                for _ in 0..50 {
                    let got = runtime.block_on(async {
                        Op::new(Nop).await.unwrap();
                        runtime.spawn(async move { number }).await.unwrap()
                    });
                    *sum.lock().unwrap() += got;
                }
            });
        }
    });
    assert_eq!(*sum.lock().unwrap(), 50 * 28);
}

#[runtime::test]
async fn a_test_runs_on_a_shard_of_its_own() {
    let local = Rc::new(5);
    let spawned = task::spawn_local(async move { *local });
    assert_eq!(spawned.await.unwrap(), 5);
    assert_eq!(Handle::current().shards(), 1);
}

#[runtime::test(shards = 2)]
async fn a_test_may_have_shards() -> std::io::Result<()> {
    assert_eq!(Handle::current().shards(), 2);
    let other = task::spawn_on(1, || async { thread::current().id() });
    assert_ne!(other.await?, thread::current().id());
    Op::new(Nop).await
}

#[runtime::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_test_may_have_tokio_s_arguments() {
    assert_eq!(Handle::current().shards(), 3);
    assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::MultiThread);
}

#[runtime::test(start_paused = true)]
async fn a_test_may_stop_the_clock() {
    let begun = std::time::Instant::now();
    time::sleep(Duration::from_secs(3600)).await;
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[runtime::test]
#[should_panic(expected = "the test's own words")]
async fn a_test_that_panics_fails() {
    yield_now().await;
    panic!("the test's own words");
}

#[runtime::test]
#[ignore = "it is never run, and must be seen by the attribute"]
async fn a_test_may_be_ignored() {
    panic!("an ignored test was run");
}
