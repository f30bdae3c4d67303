//! A panic stays where it happened: in its task, its closure, its `block_on`; the shard goes on.
//!
//! `RINGHOLD_PANICS` sets how many tasks panic among as many others.

#![allow(clippy::async_yields_async)] // One future is carried to another thread here.

mod bombs;
mod common;
mod watched;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bombs::{Bomb, EXPECTED, expected, quiet, text, two_shards, well};
use common::count;
use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::buffers::{self, IoBuf, IoBufMut};
use runtime::{Builder, Handle, task, time};
use watched::{pipe, poll_once, turn_until, watchdog};

#[test]
fn panicking_tasks_don_t_touch_the_others() {
    let tasks = count("RINGHOLD_PANICS", 2000);
    let _watchdog = watchdog("panicking tasks", 60 + u64::from(tasks) / 100);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [7; 4096]).unwrap();
    for rings in [(256, 512), (2, 4)] {
        quiet();
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.shards(2).ring_entries(rings.0, rings.1).build().unwrap();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for number in 0..tasks {
            let path = path.clone();
            bad.push(runtime.handle().spawn_on(number as usize % 2, move || async move {
                match number % 4 {
                    0 => expected(),
                    1 => task::yield_now().await,
                    2 => time::sleep(Duration::from_micros(u64::from(number % 512))).await,
                    _ => Op::new(Nop).await.unwrap(),
                }
                // What it holds in flight goes with it.
                let file = std::fs::File::open(path).unwrap();
                let file = runtime::fs::File::from_std(file);
                let mut read = file.read_at(vec![0; 4096], 0);
                assert!(poll_once(&mut read).is_pending());
                panic_any(number);
            }));
            good.push(runtime.spawn(async move {
                task::yield_now().await;
                Op::new(Nop).await.unwrap();
                time::sleep(Duration::from_micros(u64::from(number % 512))).await;
                number
            }));
        }
        runtime.block_on(async {
            for (number, joined) in good.into_iter().enumerate() {
                assert_eq!(joined.await.unwrap(), number as u32);
            }
            for (number, joined) in bad.into_iter().enumerate() {
                let payload = joined.await.unwrap_err().into_panic();
                if number % 4 == 0 {
                    assert_eq!(text(&*payload), Some(EXPECTED));
                } else {
                    assert_eq!(*payload.downcast::<u32>().unwrap(), number as u32);
                }
            }
            well().await;
        });
    }
}

#[test]
fn a_panic_in_a_destructor_of_a_task_is_its_result() {
    let _watchdog = watchdog("panics in destructors", 60);
    let runtime = two_shards();
    runtime.block_on(async {
        // When it is done: the future's own state, and the output that nobody wants.
        let mut bomb = Some(Bomb);
        let done = task::spawn(poll_fn(move |_| {
            let _captured = &mut bomb;
            Poll::Ready(5)
        }));
        assert!(done.await.unwrap_err().is_panic());
        drop(task::spawn(async { Bomb }));
        well().await;
        // When it is aborted, waiting.
        let aborted = task::spawn(async {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        });
        well().await;
        aborted.abort();
        let error = aborted.await.unwrap_err();
        assert!(error.is_panic() && !error.is_cancelled());
        well().await;
    });
    // When the shard ends.
    let left = runtime.spawn(async {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
    });
    let others = Arc::new(());
    let other = others.clone();
    drop(runtime.spawn(async move {
        std::future::pending::<()>().await;
        drop(other);
    }));
    let handle = runtime.handle().clone();
    runtime.block_on(well());
    drop(runtime);
    assert!(handle.block_on(left).unwrap_err().is_panic());
    assert_eq!(Arc::strong_count(&others), 1, "another task was not dropped");
}

/// Panics when it is woken.
struct Grumpy(AtomicUsize);

impl Wake for Grumpy {
    fn wake(self: Arc<Grumpy>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        expected();
    }
}

/// Polls once with a waker that panics, and gives the count of its wakes.
fn poll_grumpily<F: Future + Unpin>(future: &mut F) -> Arc<Grumpy> {
    let (grumpy, polled) = poll_racing(future);
    assert!(polled.is_pending());
    grumpy
}

fn poll_racing<F: Future + Unpin>(future: &mut F) -> (Arc<Grumpy>, Poll<F::Output>) {
    let grumpy = Arc::new(Grumpy(AtomicUsize::new(0)));
    let waker = Waker::from(grumpy.clone());
    let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
    (grumpy, polled)
}

async fn was_woken(grumpy: &Grumpy) {
    turn_until(|| grumpy.0.load(Ordering::SeqCst) == 1).await;
}

#[test]
fn a_panic_in_a_waker_costs_nobody_else_a_wake_up() {
    let _watchdog = watchdog("panics in wakers", 60);
    quiet();
    for rings in [(256, 512), (2, 4)] {
        let mut builder = Builder::new_current_thread();
        let run = builder.ring_entries(rings.0, rings.1).run(async {
            // Of completions that come together.
            let mut nops: Vec<_> = (0..64).map(|_| Op::new(Nop)).collect();
            let grumpy: Vec<_> = nops.iter_mut().map(poll_grumpily).collect();
            well().await;
            for woken in &grumpy {
                was_woken(woken).await;
            }
            assert!(nops.iter_mut().all(|nop| poll_once(nop).is_ready()));
            // Of timers that are due together.
            let sleep = || Box::pin(time::sleep(Duration::from_millis(1)));
            let mut sleeps: Vec<_> = (0..64).map(|_| sleep()).collect();
            let polled = sleeps.iter_mut().map(poll_racing);
            // On a busy machine some are over before they are polled.
            let grumpy: Vec<_> =
                polled.filter_map(|(woken, polled)| polled.is_pending().then_some(woken)).collect();
            well().await;
            for woken in &grumpy {
                was_woken(woken).await;
            }
            // Of a join handle.
            let mut joined = task::spawn(async { 5 });
            was_woken(&poll_grumpily(&mut joined)).await;
            assert_eq!(joined.await.unwrap(), 5);
        });
        run.unwrap();
    }
}

#[test]
fn a_panic_in_a_foreign_threads_waker_doesn_t_reach_the_shard() {
    let _watchdog = watchdog("panics in foreign wakers", 60);
    let runtime = two_shards();
    let _entered = runtime.enter();
    for _ in 0..100 {
        // An operation and a timer of a thread that is no shard.
        let mut nop = Op::new(Nop);
        let mut sleep = Box::pin(time::sleep(Duration::from_millis(1)));
        runtime.block_on(was_woken(&poll_grumpily(&mut nop)));
        if let (woken, Poll::Pending) = poll_racing(&mut sleep) {
            runtime.block_on(was_woken(&woken));
        }
        // One that a shard started, and that was done before it was polled elsewhere.
        let carried = runtime.spawn(async {
            let mut nop = Op::new(Nop);
            assert!(poll_once(&mut nop).is_pending());
            nop
        });
        let mut nop = runtime.block_on(carried).unwrap();
        // The shard may be faster than this very poll; it wakes all the same.
        let (woken, polled) = poll_racing(&mut nop);
        runtime.block_on(was_woken(&woken));
        assert!(polled.is_ready() || poll_once(&mut nop).is_ready());
    }
    runtime.block_on(well());
}

#[test]
fn a_panic_of_a_blocking_closure_is_its_result() {
    let _watchdog = watchdog("panics of closures", 60);
    quiet();
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.shards(1).max_blocking_threads(2).build().unwrap();
    runtime.block_on(async {
        for number in 0..200u32 {
            let error = task::spawn_blocking(move || panic_any(number)).await.unwrap_err();
            assert!(error.is_panic());
            assert_eq!(*error.into_panic().downcast::<u32>().unwrap(), number);
            assert_eq!(task::spawn_blocking(move || number).await.unwrap(), number);
            assert!(
                task::spawn_blocking(|| Bomb)
                    .await
                    .is_ok_and(|bomb| { catch_unwind(AssertUnwindSafe(|| drop(bomb))).is_err() })
            );
            drop(task::spawn_blocking(|| Bomb));
        }
        well().await;
    });
    assert!(runtime.metrics().num_blocking_threads() <= 2);
}

#[test]
fn a_panic_of_block_on_reaches_its_caller_and_the_runtime_goes_on() {
    let _watchdog = watchdog("panics of block_on", 60);
    let runtime = two_shards();
    for _ in 0..10 {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                Op::new(Nop).await.unwrap();
                expected();
            });
        }));
        assert_eq!(text(&*panicked.unwrap_err()), Some(EXPECTED));
        runtime.block_on(well());
    }
}

/// A buffer whose end is a panic.
struct Mined(Vec<u8>, Arc<AtomicUsize>);

impl Drop for Mined {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        expected();
    }
}

mod mined {
    //! The buffer's side of the contract.
    #![allow(unsafe_code)]

    use super::{IoBuf, IoBufMut, Mined};

    // SAFETY: the vector's memory stays where it is while the vector moves (S2), and it is filled
    // (S9).
    unsafe impl IoBuf for Mined {
        fn stable_ptr(&self) -> *const u8 {
            self.0.as_ptr()
        }

        fn bytes_init(&self) -> usize {
            self.0.len()
        }

        fn bytes_total(&self) -> usize {
            self.0.len()
        }
    }

    // SAFETY: as above.
    unsafe impl IoBufMut for Mined {
        fn stable_mut_ptr(&mut self) -> *mut u8 {
            self.0.as_mut_ptr()
        }

        unsafe fn set_init(&mut self, _position: usize) {}
    }
}

#[test]
fn a_panic_of_an_orphaned_buffers_destructor_doesn_t_end_the_shard() {
    let _watchdog = watchdog("panics of buffers", 60);
    quiet();
    let freed = Arc::new(AtomicUsize::new(0));
    let runtime = two_shards();
    let (reads, pipe) = runtime.block_on(async {
        let pipe = task::spawn(async { pipe() }).await.unwrap();
        let (reader, freed) = (pipe.reader.try_clone().await.unwrap(), freed.clone());
        let reads = task::spawn_on(1, move || async move {
            let read = || reader.read_at(Mined(vec![0; 8], freed.clone()), 0);
            let mut reads: Vec<_> = (0..32).map(|_| read()).collect();
            assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
            // A quarter of them is dropped at home.
            reads.truncate(24);
            reads
        });
        (reads.await.unwrap(), pipe)
    });
    let mut reads = reads.into_iter();
    // And the others away from it: on a foreign thread, and on the other shard.
    drop(reads.by_ref().take(12).collect::<Vec<_>>());
    runtime.block_on(runtime.spawn(async move { drop(reads) })).unwrap();
    common::proc::becomes("freed", 32, Duration::from_secs(10), || freed.load(Ordering::SeqCst));
    runtime.block_on(well());
    drop(pipe);
}

#[test]
fn a_panicking_task_gives_its_leases_back() {
    let _watchdog = watchdog("leases of a panicking task", 60);
    quiet();
    let mut builder = Builder::new_current_thread();
    let run = builder.pool_limit(16 * 1024).run(async {
        let pipe = pipe();
        for _ in 0..200 {
            let reader = pipe.reader.try_clone().await.unwrap();
            let panicked = task::spawn(async move {
                let kept = buffers::lease(8192).await.unwrap();
                let mut read = reader.read_fixed(buffers::lease(8192).await.unwrap(), 0);
                assert!(poll_once(&mut read).is_pending());
                task::yield_now().await;
                drop((read, kept));
                expected();
            });
            assert!(panicked.await.unwrap_err().is_panic());
        }
        turn_until(|| buffers::occupancy().leased == 0).await;
    });
    run.unwrap();
}

#[test]
fn a_panic_of_a_message_s_closure_is_its_tasks() {
    let runtime = two_shards();
    let made = runtime.handle().spawn_on(1, || {
        expected();
        #[allow(unreachable_code)]
        std::future::ready(())
    });
    assert!(runtime.block_on(made).unwrap_err().is_panic());
    runtime.block_on(well());
}

#[test]
fn unwinding_of_a_task_leaves_the_thread_s_state_as_it_was() {
    let runtime = two_shards();
    let (sender, receiver) = mpsc::channel();
    runtime.block_on(async {
        let panicked = task::spawn_on(0, || async { expected() });
        let id = panicked.id();
        assert_eq!(panicked.await.unwrap_err().id(), id);
        let after = task::spawn_on(0, move || async move {
            sender.send(task::id()).unwrap();
            Handle::current().shards()
        });
        let after_id = after.id();
        assert_eq!(after.await.unwrap(), 2);
        assert_eq!(receiver.recv().unwrap(), after_id);
        assert_ne!(id, after_id);
    });
}
