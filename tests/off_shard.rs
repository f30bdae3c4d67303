//! Operations that are started, polled and dropped away from their shard.

#![allow(clippy::async_yields_async)] // Futures are carried from one place to another here.

mod common;
mod dice;
mod held;
mod watched;

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use common::{count, proc};
use dice::Dice;
use held::Account;
use runtime::fs::File;
use runtime::runtime::OperationError;
use runtime::sync::mpsc;
use runtime::{Handle, Runtime, task, time};
use watched::{pipe, poll_once, watchdog};

const RINGS: [(u32, u32); 2] = [(256, 512), (2, 4)];

/// A file of 4096 sevens.
fn sevens() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [7; 4096]).unwrap();
    (directory, path)
}

fn runtime_of(account: &Arc<Account>, rings: (u32, u32)) -> Runtime {
    account.builder(2, rings).build().unwrap()
}

/// Somebody else's executor: it knows nothing of this runtime.
fn drive<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Where a future is polled to its end.
#[derive(Clone, Copy, Debug)]
enum Place {
    Shard(usize),
    BlockOn,
    ForeignExecutor,
    Futures,
    OtherRuntime,
}

const PLACES: [Place; 6] = [
    Place::Shard(0),
    Place::Shard(1),
    Place::BlockOn,
    Place::ForeignExecutor,
    Place::Futures,
    Place::OtherRuntime,
];

fn finish<F>(runtime: &Runtime, place: Place, future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let _entered = runtime.enter();
    match place {
        Place::Shard(shard) => {
            runtime.block_on(runtime.handle().spawn_on(shard, || future)).unwrap()
        }
        Place::BlockOn => runtime.block_on(future),
        Place::ForeignExecutor => drive(future),
        Place::Futures => futures::executor::block_on(future),
        Place::OtherRuntime => {
            let other = Account::new().builder(1, (256, 512)).build().unwrap();
            other.block_on(other.spawn(future)).unwrap()
        }
    }
}

/// Polls once, where it is said, and brings the future back.
fn begin<F>(runtime: &Runtime, place: Place, mut future: F) -> F
where
    F: Future + Unpin + Send + 'static,
    F::Output: Send,
{
    finish(runtime, place, async move {
        assert!(poll_once(&mut future).is_pending());
        future
    })
}

#[test]
fn a_read_goes_through_wherever_it_is_begun_and_wherever_it_is_finished() {
    let _watchdog = watchdog("reads away from their shard", 60);
    let (_directory, path) = sevens();
    for rings in RINGS {
        let account = Account::new();
        let runtime = runtime_of(&account, rings);
        let file = Arc::new(runtime.block_on(File::open(&path)).unwrap());
        for first in PLACES {
            for last in PLACES {
                let read = begin(&runtime, first, file.read_at(account.buffer(4096), 0));
                let (count, buffer) = finish(&runtime, last, read).unwrap();
                assert_eq!(count, 4096, "begun on {first:?}, finished on {last:?}");
                drop(buffer);
                let lease = runtime.block_on(runtime.handle().pool().lease(4096)).unwrap();
                if matches!(first, Place::OtherRuntime) {
                    // Its pool is another one, and fixed means fixed.
                    continue;
                }
                let read = begin(&runtime, first, file.read_fixed(lease, 0));
                let (count, lease) = finish(&runtime, last, read).unwrap();
                assert_eq!((count, &lease[..]), (4096, &[7; 4096][..]));
            }
        }
        drop(runtime);
        account.balances();
    }
}

#[test]
fn a_read_that_waits_is_woken_where_it_was_polled_last() {
    let _watchdog = watchdog("reads that wait away from their shard", 60);
    for first in PLACES {
        for last in PLACES {
            if matches!(first, Place::OtherRuntime) {
                // The runtime of that place has ended when the future comes back.
                continue;
            }
            let account = Account::new();
            let runtime = runtime_of(&account, (256, 512));
            let mut pipe = runtime.block_on(async { pipe() });
            let read = begin(&runtime, first, pipe.reader.read_at(account.buffer(4096), 0));
            let writing = thread::spawn(move || {
                thread::sleep(Duration::from_millis(2));
                io::Write::write_all(&mut pipe.meddler, &[9; 100]).unwrap();
                pipe
            });
            let (count, buffer) = finish(&runtime, last, read).unwrap();
            assert_eq!(count, 100, "begun on {first:?}, finished on {last:?}");
            drop((buffer, writing.join().unwrap(), runtime));
            account.balances();
        }
    }
}

#[test]
fn a_read_that_is_dropped_away_from_its_shard_frees_its_buffer_when_it_is_over() {
    let _watchdog = watchdog("reads dropped away from their shard", 60);
    let (_directory, path) = sevens();
    for rings in RINGS {
        let account = Account::new();
        let runtime = runtime_of(&account, rings);
        let pipe = runtime.block_on(async { pipe() });
        let file = runtime.block_on(File::open(&path)).unwrap();
        for first in PLACES {
            for last in PLACES {
                // One that waits for good, one that is done by itself, and one that is polled on
                // the way.
                let waits = begin(&runtime, first, pipe.reader.read_at(account.buffer(64), 0));
                let done = begin(&runtime, first, file.read_at(account.buffer(64), 0));
                let other = begin(&runtime, first, pipe.reader.read_at(account.buffer(64), 0));
                let other = match first {
                    Place::OtherRuntime => other,
                    _ => begin(&runtime, Place::BlockOn, other),
                };
                finish(&runtime, last, async move { drop((waits, done, other)) });
                let bound = Duration::from_secs(10);
                proc::becomes("buffers", 0, bound, || account.alive());
                assert_eq!(account.freed_inside.load(Ordering::SeqCst), 0);
            }
        }
        drop((runtime, pipe, file));
        account.balances();
    }
}

#[test]
fn a_future_that_wanders_between_shards_and_threads_is_never_lost() {
    let rounds = u64::from(count("RINGHOLD_WANDERS", 600));
    let _watchdog = watchdog("futures that wander", 60 + rounds / 100);
    let (_directory, path) = sevens();
    let mut dice = Dice::from_environment();
    for rings in RINGS {
        let account = Account::new();
        let runtime = runtime_of(&account, rings);
        let file = runtime.block_on(File::open(&path)).unwrap();
        let mut pipe = runtime.block_on(async { pipe() });
        for _ in 0..rounds {
            let fed = dice.below(2) == 0;
            let mut read: Pin<Box<dyn Future<Output = usize> + Send>> = match fed {
                true => {
                    let read = file.read_at(account.buffer(4096), 0);
                    Box::pin(async { read.await.unwrap().0 })
                }
                false => {
                    let read = pipe.reader.read_at(account.buffer(4096), 0);
                    Box::pin(async { read.await.unwrap().0 })
                }
            };
            let mut done = None;
            for _ in 0..dice.below(5) {
                let place = PLACES[dice.below(4) as usize];
                let (back, ended) = finish(&runtime, place, async move {
                    let polled = poll_once(&mut read.as_mut());
                    (read, polled)
                });
                read = back;
                if let Poll::Ready(count) = ended {
                    done = Some(count);
                    break;
                }
            }
            match (done, dice.below(3), fed) {
                (Some(count), _, _) => assert_eq!(count, 4096),
                (None, 0, _) => drop(read),
                (None, _, true) => assert_eq!(finish(&runtime, Place::Futures, read), 4096),
                (None, _, false) => {
                    io::Write::write_all(&mut pipe.meddler, b"x").unwrap();
                    assert_eq!(finish(&runtime, Place::ForeignExecutor, read), 1);
                }
            }
            // A read that was dropped is over before the next one, whose bytes it might take.
            proc::becomes("buffers", 0, Duration::from_secs(10), || account.alive());
            assert_eq!(pipe.drain(), b"");
        }
        drop((runtime, pipe, file));
        account.balances();
    }
}

#[test]
fn one_file_may_be_read_by_both_shards_and_foreign_threads_at_once() {
    let _watchdog = watchdog("one file on many threads", 60);
    let (_directory, path) = sevens();
    for rings in RINGS {
        let account = Account::new();
        let runtime = runtime_of(&account, rings);
        let file = Arc::new(runtime.block_on(File::open(&path)).unwrap());
        let reads = |file: Arc<File>, account: Arc<Account>| async move {
            for offset in 0..200 {
                let (count, _) = file.read_at(account.buffer(16), offset).await.unwrap();
                assert_eq!(count, 16);
            }
        };
        let on_shards: Vec<_> = (0..2)
            .map(|shard| {
                let reads = reads(file.clone(), account.clone());
                runtime.handle().spawn_on(shard, || reads)
            })
            .collect();
        thread::scope(|scope| {
            for _ in 0..2 {
                let reads = reads(file.clone(), account.clone());
                scope.spawn(|| runtime.block_on(reads));
            }
        });
        on_shards.into_iter().for_each(|joined| runtime.block_on(joined).unwrap());
        drop((runtime, file));
        account.balances();
    }
}

#[test]
fn select_carries_the_loser_away_and_another_task_finishes_it() {
    let _watchdog = watchdog("a future carried away by select", 60);
    let account = Account::new();
    let runtime = runtime_of(&account, (256, 512));
    let mut pipe = runtime.block_on(async { pipe() });
    let read = pipe.reader.read_at(account.buffer(64), 0);
    let carried = runtime.handle().spawn_on(0, || async move {
        match futures::future::select(read, Box::pin(time::sleep(Duration::from_millis(1)))).await {
            futures::future::Either::Left(_) => panic!("there was nothing to read"),
            futures::future::Either::Right((_, read)) => read,
        }
    });
    let read = runtime.block_on(carried).unwrap();
    let finished = runtime.handle().spawn_on(1, || read);
    io::Write::write_all(&mut pipe.meddler, b"abc").unwrap();
    let (count, buffer) = runtime.block_on(finished).unwrap().unwrap();
    assert_eq!(count, 3);
    drop((buffer, runtime, pipe));
    account.balances();
}

#[test]
fn a_shard_that_ends_with_what_others_hold_in_flight_tells_them() {
    let _watchdog = watchdog("waiting for a shard that ends", 60);
    for place in [Place::BlockOn, Place::ForeignExecutor, Place::Futures, Place::OtherRuntime] {
        let account = Account::new();
        let runtime = runtime_of(&account, (256, 512));
        let pipe = runtime.block_on(async { pipe() });
        let read = begin(&runtime, Place::Shard(0), pipe.reader.read_at(account.buffer(64), 0));
        let (waits, mut is_waiting) = mpsc::unbounded_channel();
        let handle = runtime.handle().clone();
        let waiting = thread::spawn(move || {
            let _entered = handle.enter();
            let mut read = read;
            let told = async move {
                let polled = std::future::poll_fn(|cx| {
                    let polled = Pin::new(&mut read).poll(cx);
                    let _ = waits.send(());
                    polled
                });
                let cause = |error: io::Error| error.downcast::<OperationError>().ok();
                polled.await.map(|_| ()).map_err(|failed| cause(failed.error))
            };
            match place {
                Place::BlockOn => handle.block_on(told),
                Place::Futures => futures::executor::block_on(told),
                Place::OtherRuntime => Account::new().builder(1, (256, 512)).run(told).unwrap(),
                _ => drive(told),
            }
        });
        is_waiting.blocking_recv().unwrap();
        drop(runtime);
        assert_eq!(waiting.join().unwrap(), Err(Some(OperationError::RuntimeEnded)), "{place:?}");
        account.balances();
        drop(pipe);
    }
}

#[test]
fn tasks_wake_up_for_operations_that_foreign_threads_started() {
    let _watchdog = watchdog("operations of foreign threads", 60);
    let account = Account::new();
    let runtime = runtime_of(&account, (2, 4));
    let woken = Arc::new(AtomicUsize::new(0));
    let pipe = runtime.block_on(async { pipe() });
    // More of them than the kernel takes at once; each is begun here and finished by a task.
    let reads: Vec<_> = (0..50)
        .map(|_| {
            let read = pipe.reader.read_at(account.buffer(1), 0);
            begin(&runtime, Place::BlockOn, read)
        })
        .collect();
    let joins: Vec<_> = reads
        .into_iter()
        .map(|read| {
            let woken = woken.clone();
            runtime.spawn(async move {
                let (count, _) = read.await.unwrap();
                woken.fetch_add(count, Ordering::SeqCst);
            })
        })
        .collect();
    io::Write::write_all(&mut &pipe.meddler, &[1; 50]).unwrap();
    joins.into_iter().for_each(|joined| runtime.block_on(joined).unwrap());
    assert_eq!(woken.load(Ordering::SeqCst), 50);
    drop((runtime, pipe));
    account.balances();
}

#[test]
fn a_handle_that_is_entered_is_enough_to_begin() {
    let _watchdog = watchdog("beginning under a handle", 60);
    let (_directory, path) = sevens();
    let account = Account::new();
    let runtime = runtime_of(&account, (256, 512));
    let handle: Handle = runtime.handle().clone();
    let read = thread::spawn(move || {
        let _entered = handle.enter();
        futures::executor::block_on(async {
            let file = File::open(&path).await.unwrap();
            time::sleep(Duration::from_millis(1)).await;
            let joined = task::spawn(async { 1 });
            let late = time::timeout(Duration::from_millis(1), pending::<()>()).await;
            assert!(late.is_err());
            file.read_at(vec![0; 4096], 0).await.unwrap().0 + joined.await.unwrap()
        })
    });
    assert_eq!(read.join().unwrap(), 4097);
}
