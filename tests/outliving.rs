//! Futures, files and leases that live longer than the runtime they came from.

#![allow(clippy::async_yields_async)] // Futures are carried out of their runtime here.

mod common;
mod dice;
mod held;
mod watched;

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{isolated, proc};
use held::Account;
use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::buffers::{self, Failed, LeaseErrorKind};
use runtime::fs::File;
use runtime::runtime::OperationError;
use runtime::sync::mpsc;
use runtime::{Builder, Handle, Runtime, task, time};
use watched::{pipe, poll_once, turn_until, watchdog};

fn two_shards() -> Runtime {
    Builder::new_multi_thread().shards(2).pool_limit(64 * 1024).build().unwrap()
}

/// A file of 4096 sevens.
fn sevens() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [7; 4096]).unwrap();
    (directory, path)
}

#[test]
fn a_read_that_was_done_gives_its_bytes_after_the_runtime_has_ended() {
    let _watchdog = watchdog("a result that outlives its runtime", 60);
    let (_directory, path) = sevens();
    for rings in [(256, 512), (2, 4)] {
        let account = Account::new();
        let mut builder = account.builder(1, rings);
        let (mut read, mut fixed) = builder
            .run(async {
                let file = File::open(&path).await.unwrap();
                let mut read = file.read_at(vec![0; 4096], 0);
                let mut fixed = file.read_fixed(buffers::lease(4096).await.unwrap(), 0);
                assert!(poll_once(&mut read).is_pending() && poll_once(&mut fixed).is_pending());
                turn_until(|| account.inside() == 0).await;
                (read, fixed)
            })
            .unwrap();
        let Poll::Ready(Ok((count, buffer))) = poll_once(&mut read) else {
            panic!("the result was lost")
        };
        assert_eq!((count, buffer), (4096, vec![7; 4096]));
        let Poll::Ready(Ok((count, lease))) = poll_once(&mut fixed) else {
            panic!("the result was lost")
        };
        assert_eq!((count, &lease[..]), (4096, &[7; 4096][..]));
    }
}

#[test]
fn a_read_that_was_in_flight_is_cancelled_and_gives_its_buffer_back() {
    let _watchdog = watchdog("an operation that outlives its runtime", 60);
    for rings in [(256, 512), (2, 4)] {
        let account = Account::new();
        let ended = account.builder(1, rings).run(async {
            let pipe = pipe();
            // With queues of two and four some of these wait for room.
            let mut reads: Vec<_> =
                (0..8).map(|_| pipe.reader.read_at(account.buffer(64), 0)).collect();
            assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
            task::yield_now().await;
            (pipe, reads)
        });
        let (pipe, mut reads) = ended.unwrap();
        assert_eq!(account.alive(), 8, "the future holds its buffer");
        for read in &mut reads[..4] {
            let Poll::Ready(Err(Failed { error, buffer })) = poll_once(read) else {
                panic!("it is neither pending for ever nor a success");
            };
            let why = error.get_ref().and_then(|error| error.downcast_ref());
            assert_eq!(why, Some(&OperationError::RuntimeEnded), "{error}");
            drop(buffer);
        }
        // The others are dropped without another poll.
        drop(reads);
        account.balances();
        drop(pipe);
    }
}

#[test]
fn a_stuck_operation_stays_pending_and_its_buffer_is_leaked_not_freed() {
    let _watchdog = watchdog("a stuck operation", 60);
    let account = Account::new();
    let mut builder = account.builder(1, (256, 512));
    let ended = builder.drain_deadline(Duration::from_millis(50)).run(async {
        let pipe = pipe();
        let mut reads: Vec<_> =
            (0..2).map(|_| pipe.reader.read_at(account.buffer(64), 0)).collect();
        assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
        task::yield_now().await;
        account.refuses_cancels.store(true, Ordering::SeqCst);
        (pipe, reads)
    });
    let (pipe, mut reads) = ended.unwrap();
    assert!(poll_once(&mut reads[0]).is_pending(), "the kernel may still write to its buffer");
    assert!(poll_once(&mut reads[0]).is_pending());
    thread::spawn(move || drop(reads)).join().unwrap();
    assert_eq!(account.alive(), 2, "the kernel may still write to what was freed");
    assert_eq!(account.freed_inside.load(Ordering::SeqCst), 0);
    drop(pipe);
}

#[test]
fn an_operation_that_was_not_started_says_that_there_is_no_runtime() {
    let (mut read, handle) = two_shards().block_on(async {
        let pipe = pipe();
        (pipe.reader.read_at(vec![0; 8], 0), Handle::current())
    });
    {
        // The runtime has ended, and is entered all the same.
        let _entered = handle.enter();
        let Poll::Ready(Err(failed)) = poll_once(&mut read) else {
            panic!("no shard is left to do it, and nobody who could wake it later")
        };
        assert!(failed.error.to_string().contains("shut down"), "{}", failed.error);
        assert_eq!(failed.buffer.len(), 8);
    }
    let mut nop = Op::new(Nop);
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll_once(&mut nop)));
    let message = *polled.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("there is no runtime here"), "{message}");
}

#[test]
fn a_file_that_outlives_its_runtime_is_closed_when_it_is_dropped() {
    isolated("a_file_that_outlives_its_runtime_is_closed_when_it_is_dropped").run(|| {
        let (_directory, path) = sevens();
        let before = proc::open_descriptors();
        let files = two_shards().block_on(async {
            let used = File::open(&path).await.unwrap();
            // Often enough to be in a shard's table of registered files.
            let used = task::spawn(async move {
                for _ in 0..32 {
                    used.read_at(vec![0; 16], 0).await.unwrap();
                }
                used
            });
            (File::open(&path).await.unwrap(), used.await.unwrap())
        });
        let open = || {
            let entries = std::fs::read_dir("/proc/self/fd").unwrap();
            let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            targets.filter(|target| *target == path).count()
        };
        assert_eq!(open(), 2);
        drop(files.0);
        assert_eq!(open(), 1);
        thread::spawn(move || drop(files.1)).join().unwrap();
        assert_eq!(open(), 0);
        assert_eq!(proc::open_descriptors(), before);
    });
}

#[test]
fn a_file_works_in_the_next_runtime() {
    let (_directory, path) = sevens();
    let file = two_shards().block_on(File::open(&path)).unwrap();
    let (count, buffer) =
        two_shards().block_on(async move { file.read_at(vec![0; 8], 0).await.unwrap() });
    assert_eq!((count, buffer), (8, vec![7; 8]));
}

#[test]
fn leases_and_frozen_bytes_stay_readable_and_their_memory_goes_with_the_last() {
    isolated("leases_and_frozen_bytes_stay_readable_and_their_memory_goes_with_the_last").run(
        || {
            let second = Duration::from_secs(1);
            let (_directory, path) = sevens();
            for background in [false, true] {
                let runtime = two_shards();
                let (lease, frozen, mut empty) = runtime.block_on(async {
                    let file = File::open(&path).await.unwrap();
                    let (_, read) =
                        file.read_fixed(buffers::lease(4096).await.unwrap(), 0).await.unwrap();
                    let (_, kept) =
                        file.read_fixed(buffers::lease(4096).await.unwrap(), 0).await.unwrap();
                    (read, kept.freeze().unwrap(), buffers::lease(100).await.unwrap())
                });
                assert!(proc::pinned_bytes() > 0);
                match background {
                    true => runtime.shutdown_background(),
                    false => drop(runtime),
                }
                proc::becomes("pinned memory", 0, second, proc::pinned_bytes);
                assert_eq!(&lease[..], &[7; 4096][..]);
                empty.extend_from_slice(b"still good");
                assert_eq!(&empty[..], b"still good");
                let bytes = bytes::Bytes::from(frozen.clone());
                drop((lease, frozen));
                let read = thread::spawn(move || assert_eq!(&bytes[..], &[7; 4096][..]));
                read.join().unwrap();
            }
        },
    );
}

/// The events that wake shards up go with the shards, and not with what was leased from them.
#[test]
fn a_lease_that_outlives_its_runtime_keeps_no_descriptor_open() {
    isolated("a_lease_that_outlives_its_runtime_keeps_no_descriptor_open").run(|| {
        let before = proc::open_descriptors();
        let mut lease = two_shards().block_on(async { buffers::lease(4096).await.unwrap() });
        let second = Duration::from_secs(1);
        proc::becomes("the count of descriptors", before, second, proc::open_descriptors);
        lease.extend_from_slice(b"still good");
        assert_eq!(&lease[..], b"still good");
    });
}

#[test]
fn who_waits_for_a_lease_when_the_runtime_ends_is_told_that_the_pool_is_closed() {
    let _watchdog = watchdog("waiting for a lease", 60);
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.shards(1).pool_limit(16 * 1024).build().unwrap();
    let pool = runtime.handle().pool().clone();
    let all = runtime.block_on(pool.lease(16 * 1024)).unwrap();
    let handle = runtime.handle().clone();
    let waiting = thread::spawn(move || handle.block_on(pool.lease(4096)));
    let waiters = || runtime.handle().pool().occupancy().waiters;
    proc::becomes("waiters", 1, Duration::from_secs(10), waiters);
    drop(runtime);
    let error = waiting.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), LeaseErrorKind::Closed);
    drop(all);
}

#[test]
fn join_handles_give_what_was_done_and_call_the_rest_cancelled() {
    let _watchdog = watchdog("join handles that outlive their runtime", 60);
    let runtime = two_shards();
    let done = runtime.spawn(async { 5 });
    while !done.is_finished() {
        thread::yield_now();
    }
    let waiting = runtime.spawn(pending::<u8>());
    let handle = runtime.handle().clone();
    drop(runtime);
    let late = handle.spawn(async { 6 });
    let late_blocking = handle.spawn_blocking(|| 7);
    let late_on = handle.spawn_on(1, || async { 8 });
    for (name, joined) in [
        ("waiting", handle.block_on(waiting).map(i32::from)),
        ("spawned", handle.block_on(late)),
        ("blocking", handle.block_on(late_blocking)),
        ("spawned on a shard", handle.block_on(late_on)),
    ] {
        assert!(joined.unwrap_err().is_cancelled(), "{name}");
    }
    assert_eq!(handle.block_on(done).unwrap(), 5);
    assert_eq!(handle.metrics().num_alive_tasks(), 0);
}

#[test]
fn a_sleep_on_a_foreign_thread_says_that_the_runtime_has_shut_down() {
    let _watchdog = watchdog("a sleep that outlives its runtime", 60);
    let runtime = two_shards();
    let handle = runtime.handle().clone();
    let (asleep, mut is_asleep) = mpsc::unbounded_channel();
    let sleeper = thread::spawn(move || {
        handle.block_on(async {
            let mut sleep = pin!(time::sleep(Duration::from_secs(3600)));
            assert!(poll_once(&mut sleep.as_mut()).is_pending());
            asleep.send(()).unwrap();
            sleep.await;
        });
    });
    is_asleep.blocking_recv().unwrap();
    drop(runtime);
    let message = *sleeper.join().unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(message, "the runtime shut down while a thread outside of it waited for a timer");
}

#[test]
fn a_timer_of_a_shard_that_has_ended_goes_on_in_another_runtime() {
    let _watchdog = watchdog("a sleep that changes its runtime", 60);
    let begun = Instant::now();
    let mut sleep = two_shards().block_on(async {
        let slept = task::spawn(async {
            let mut sleep = Box::pin(time::sleep(Duration::from_millis(50)));
            assert!(poll_once(&mut sleep).is_pending());
            sleep
        });
        slept.await.unwrap()
    });
    two_shards().block_on(async {
        task::spawn(async move { sleep.as_mut().await }).await.unwrap();
    });
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[test]
fn wakers_of_a_join_handle_are_woken_when_the_runtime_ends() {
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let runtime = two_shards();
    let mut waiting = runtime.spawn(pending::<()>());
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(pin!(&mut waiting).poll(&mut cx).is_pending());
    drop(runtime);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(joined) = pin!(&mut waiting).poll(&mut cx) else { panic!("it has ended") };
    assert!(joined.unwrap_err().is_cancelled());
}
