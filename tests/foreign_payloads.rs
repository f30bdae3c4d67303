//! Payloads that panic when they are dropped, wherever the runtime runs code of the user's; and a
//! standard error that can't be written. None of them ends the process.

mod bombs;
mod common;
mod watched;

use std::cell::Cell;
use std::fs::File;
use std::future::{pending, poll_fn};
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use bombs::{Chain, quiet, well};
use common::proc::becomes;
use runtime::task::{self, JoinSet, ShardLocal};
use runtime::{Builder, Runtime};
use watched::{Cancels, Watch, pipe, poll_once, turn_until, watchdog, watched};

/// Panics with a [`Chain`], whose own drop panics, when it is dropped; while another panic unwinds,
/// too.
struct Mine(Arc<AtomicUsize>);

impl Drop for Mine {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
        panic_any(Chain);
    }
}

fn runtime() -> Runtime {
    quiet();
    Builder::new_multi_thread().shards(2).build().unwrap()
}

/// Runs what is to panic with a chain, and lets that rest.
#[track_caller]
fn panics_with_a_chain(code: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(code)).expect_err("it panics");
    assert!(payload.is::<Chain>());
    forget(payload);
}

#[test]
fn of_tasks_they_end_with_their_task() {
    let _watchdog = watchdog("payloads of tasks", 60);
    let (runtime, dropped) = (runtime(), Arc::new(AtomicUsize::new(0)));
    let mine = || Mine(dropped.clone());
    runtime.block_on(async {
        // Nobody joins; somebody does, and drops the error; drops it while a panic unwinds.
        drop(task::spawn(async { panic_any(Chain) }));
        drop(task::spawn(async { panic_any(Chain) }).await);
        let error = task::spawn(async { panic_any(Chain) }).await.unwrap_err();
        let unwound = task::spawn(async move {
            let _error = error;
            panic_any(Chain)
        });
        assert!(unwound.await.unwrap_err().is_panic());
        // The future, when it is done, when it panicked, and when it is aborted.
        let held = mine();
        let done = task::spawn(poll_fn(move |_| {
            let _held = &held;
            Poll::Ready(())
        }));
        assert!(done.await.unwrap_err().is_panic());
        let held = mine();
        let panicked = task::spawn(poll_fn(move |_| -> Poll<()> {
            let _held = &held;
            panic_any(Chain)
        }));
        assert!(panicked.await.unwrap_err().is_panic());
        let held = mine();
        let aborted = task::spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        well().await;
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_panic());
        assert_eq!(dropped.load(SeqCst), 3);
        // The output: of no interest, left in its handle, lost to the future's own destructor.
        let output = mine();
        drop(task::spawn(async { output }));
        turn_until(|| dropped.load(SeqCst) == 4).await;
        let output = mine();
        let handle = task::spawn(async { output });
        turn_until(|| handle.is_finished()).await;
        drop(handle);
        let (mut output, held) = (Some(mine()), mine());
        let lost = task::spawn(poll_fn(move |_| {
            let _held = &held;
            Poll::Ready(output.take().unwrap())
        }));
        assert!(lost.await.is_err_and(|error| error.is_panic()));
        assert_eq!(dropped.load(SeqCst), 7);
        well().await;
    });
}

#[test]
fn of_closures_and_sets_they_end_with_those() {
    let _watchdog = watchdog("payloads of closures", 60);
    let (runtime, dropped) = (runtime(), Arc::new(AtomicUsize::new(0)));
    let mine = || Mine(dropped.clone());
    runtime.block_on(async {
        drop(task::spawn_blocking(|| panic_any(Chain)));
        drop(task::spawn_blocking(|| panic_any(Chain)).await);
        let output = mine();
        drop(task::spawn_blocking(|| output));
        turn_until(|| dropped.load(SeqCst) == 1).await;
        let held = mine();
        let made = task::spawn_on(1, move || {
            let _held = held;
            std::future::ready(())
        });
        assert!(made.await.unwrap_err().is_panic());
        assert_eq!(dropped.load(SeqCst), 2);
        // Two outputs of one set: dropped with it, detached, and lost to a panic of a third task.
        for way in 0..3 {
            dropped.store(0, SeqCst);
            let mut set = JoinSet::new();
            for _ in 0..2 {
                let output = mine();
                set.spawn(async { output });
            }
            well().await;
            match way {
                0 => drop(set),
                1 => set.detach_all(),
                _ => {
                    set.spawn(async { panic_any(Chain) });
                    let joined = task::spawn(async move { drop(set.join_all().await) });
                    assert!(joined.await.unwrap_err().is_panic());
                }
            }
            turn_until(|| dropped.load(SeqCst) == 2).await;
            well().await;
        }
    });
}

#[test]
fn of_hooks_and_values_of_a_shard_they_cost_nothing() {
    static VALUE: ShardLocal<Cell<Option<Mine>>> = ShardLocal::new(|| Cell::new(None));
    static OTHER: ShardLocal<Cell<Option<Mine>>> = ShardLocal::new(|| Cell::new(None));
    static FAILS: ShardLocal<u32> = ShardLocal::new(|| panic_any(Chain));
    let _watchdog = watchdog("payloads of hooks", 60);
    quiet();
    let (dropped, hooks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let hook = || {
        let hooks = hooks.clone();
        move || {
            hooks.fetch_add(1, SeqCst);
            panic_any(Chain)
        }
    };
    let mut builder = Builder::new_multi_thread();
    builder.shards(2).on_thread_start(hook()).on_thread_stop(hook());
    builder.thread_name_fn(|| panic_any(Chain));
    let runtime = builder.build().unwrap();
    runtime.block_on(async {
        assert_eq!(task::spawn_blocking(|| 7).await.unwrap(), 7);
        let (first, second) = (Mine(dropped.clone()), Mine(dropped.clone()));
        let set = task::spawn(async {
            VALUE.with(|value| value.set(Some(first)));
            OTHER.with(|value| value.set(Some(second)));
            FAILS.with(|value| *value)
        });
        assert!(set.await.unwrap_err().is_panic());
        well().await;
    });
    drop(runtime);
    assert_eq!(dropped.load(SeqCst), 2, "a value's destructor cost another value its own");
    // Two shards and a thread for closures, each of which starts and stops.
    becomes("hooks", 6, Duration::from_secs(10), || hooks.load(SeqCst));
}

#[test]
fn of_the_root_they_come_after_the_end() {
    let _watchdog = watchdog("payloads of roots", 60);
    let dropped = Arc::new(AtomicUsize::new(0));
    quiet();
    // What it panics with, what it holds, and what it returned and its own destructor has lost.
    let pipe = pipe();
    let other = Arc::new(());
    for panics in [true, false] {
        let mine = || Mine(dropped.clone());
        let (held, mut output) = (mine(), (!panics).then(mine));
        let other = other.clone();
        let mut read = pipe.reader.read_at(vec![0; 8], 0);
        let root = poll_fn(move |_| {
            let _held = &held;
            drop(task::spawn_local({
                let other = other.clone();
                async move {
                    let _other = other;
                    pending::<()>().await;
                }
            }));
            assert!(poll_once(&mut read).is_pending());
            match panics {
                true => panic_any(Chain),
                false => Poll::Ready(output.take()),
            }
        });
        panics_with_a_chain(|| drop(Builder::new_current_thread().run(root).unwrap()));
    }
    assert_eq!(Arc::strong_count(&other), 1, "another task was not dropped");
    // In `block_on` of a runtime that goes on.
    let runtime = runtime();
    panics_with_a_chain(|| runtime.block_on(async { panic_any(Chain) }));
    runtime.block_on(well());
}

#[test]
fn at_the_end_of_a_runtime_they_hold_up_nothing() {
    let _watchdog = watchdog("payloads at the end", 60);
    let (runtime, dropped) = (runtime(), Arc::new(AtomicUsize::new(0)));
    let handles: Vec<_> = (0..200)
        .map(|number| {
            let held = Mine(dropped.clone());
            runtime.handle().spawn_on(number % 2, move || async move {
                let _held = held;
                pending::<()>().await;
            })
        })
        .collect();
    runtime.block_on(well());
    let handle = runtime.handle().clone();
    drop(runtime);
    assert_eq!(dropped.load(SeqCst), 200);
    for joined in handles {
        assert!(handle.block_on(joined).unwrap_err().is_panic());
    }
}

/// Something that is told of is leaked, and the program that it is told by goes on.
#[test]
fn a_full_disk_that_is_told_of_what_is_leaked_not_freed_ends_nothing() {
    const CHILD: &str = "RINGHOLD_TELLS";
    const NAME: &str = "a_full_disk_that_is_told_of_what_is_leaked_not_freed_ends_nothing";
    if std::env::var_os(CHILD).is_some() {
        let _watchdog = watchdog("telling", 30);
        let (watch, pipe) = (Watch::new(), pipe());
        watch.set_cancels(Cancels::Refuse);
        let mut builder = watched(&watch, (256, 512));
        let ended = builder.drain_deadline(Duration::from_millis(10)).run(async {
            assert!(task::spawn(async { panic!("told by the hook") }).await.is_err());
            let mut read = pipe.reader.read_at(vec![0; 8], 0);
            assert!(poll_once(&mut read).is_pending());
        });
        ended.unwrap();
        // The shard was leaked, and said so.
        assert_eq!(watch.inside(), 1);
        std::process::exit(7);
    }
    let run = |stderr: Stdio| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1").stderr(stderr);
        child.stdout(Stdio::null()).status().unwrap().code()
    };
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(run(full.into()), Some(7), "a full disk");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(run(writer.into()), Some(7), "a closed pipe");
}
