//! Wakers that panic, at every place where one is kept: when they are cloned, woken, or dropped.
//! Nobody else's wake-up is lost, and nothing but the waker's own poll panics.

mod bombs;
mod common;
mod watched;

use std::future::{Future, poll_fn};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bombs::{Fuses, Grump, quiet, well};
use runtime::net::UnixStream;
use runtime::runtime::Builder;
use runtime::signal::unix::{SignalKind, signal};
use runtime::sync::oneshot;
use runtime::{buffers, task, time};
use rustix::process::{Signal, getpid, kill_process};
use watched::{Cancels, Flag, Pipe, Watch, pipe, poll_flagged, poll_once, watchdog, watched};

const PAGE: usize = 4096;

/// Where wakers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// An operation's slot.
    Operation,
    /// The wheel.
    Timer,
    /// A task, of whoever joins it.
    Task,
    /// A blocking closure, as above.
    Closure,
    /// A `JoinSet`.
    Set,
    /// The queue of the pool.
    Lease,
    /// A stream, of who waits for a dropped read to end.
    Orphan,
    /// The poll that a socket is waited for by.
    Readable,
    /// The listeners for a signal.
    Signal,
}

const PLACES: [Place; 9] = [
    Place::Operation,
    Place::Timer,
    Place::Task,
    Place::Closure,
    Place::Set,
    Place::Lease,
    Place::Orphan,
    Place::Readable,
    Place::Signal,
];

type Waits = Pin<Box<dyn Future<Output = ()>>>;

/// Turns the shard until `done` says so. A thread that is none parks each time, so that it doesn't
/// hold the clock.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        task::spawn(async {}).await.unwrap();
    }
}

/// Two futures that wait, and what ends their waiting. Where one is gone, it ends the other's.
type Pair = (Waits, Waits, Box<dyn FnOnce()>);

fn waits(future: impl Future + 'static) -> Waits {
    Box::pin(async move {
        future.await;
    })
}

/// Two of each, and what has to be done for both.
fn two<T>(make: impl Fn() -> (Waits, T), end: impl Fn(T) + 'static) -> Pair
where
    T: 'static,
{
    let ((first, its), (second, other)) = (make(), make());
    let done = move || {
        end(its);
        end(other);
    };
    (first, second, Box::new(done))
}

fn pair_of_tasks(place: Place) -> Pair {
    match place {
        Place::Task => two(
            || {
                let (sender, receiver) = oneshot::channel();
                (waits(task::spawn(receiver)), sender)
            },
            |sender| {
                let _ = sender.send(7);
            },
        ),
        Place::Closure => two(
            || {
                let (sender, receiver) = mpsc::channel();
                (waits(task::spawn_blocking(move || receiver.recv())), sender)
            },
            |sender| {
                let _ = sender.send(7);
            },
        ),
        _ => two(
            || {
                let (sender, receiver) = oneshot::channel();
                let mut set = task::JoinSet::new();
                set.spawn(receiver);
                (waits(async move { set.join_next().await }), sender)
            },
            |sender| {
                let _ = sender.send(7);
            },
        ),
    }
}

async fn pair_at(place: Place, watch: &Watch) -> Pair {
    match place {
        Place::Operation => two(
            || {
                let Pipe { reader, writer, meddler } = pipe();
                let read = async move {
                    let _writer = writer;
                    reader.read_at(vec![0; 1], 0).await
                };
                (waits(read), meddler)
            },
            |mut meddler| meddler.write_all(b"x").unwrap(),
        ),
        Place::Timer => {
            let sleep = || waits(time::sleep(Duration::from_secs(60)));
            let advance = || drop(task::spawn(time::advance(Duration::from_secs(61))));
            (sleep(), sleep(), Box::new(advance))
        }
        Place::Task | Place::Closure | Place::Set => pair_of_tasks(place),
        Place::Lease => {
            let held = buffers::lease(2 * PAGE).await.unwrap();
            let lease = || waits(buffers::lease(PAGE));
            (lease(), lease(), Box::new(|| drop(held)))
        }
        Place::Orphan => {
            let (near, far) = UnixStream::pair().unwrap();
            let before = watch.inside();
            watch.set_cancels(Cancels::Refuse);
            {
                let mut read = Box::pin(near.read_owned(vec![0; 1]));
                assert!(poll_once(&mut read).is_pending());
                until(|| watch.inside() > before).await;
            }
            let near = Arc::new(near);
            let readable = |near: Arc<UnixStream>| waits(async move { near.readable().await });
            let write = move || assert_eq!(far.try_write(b"xy").unwrap(), 2);
            (readable(near.clone()), readable(near), Box::new(write))
        }
        Place::Readable => two(
            || {
                let (near, far) = UnixStream::pair().unwrap();
                (waits(async move { poll_fn(|cx| near.poll_read_ready(cx)).await }), far)
            },
            |far| {
                let _ = far.try_write(b"x");
            },
        ),
        Place::Signal => {
            let mut listener = signal(SignalKind::user_defined2()).unwrap();
            let mut other = signal(SignalKind::user_defined2()).unwrap();
            // What came to listeners of this task that were dropped without taking it.
            for listener in [&mut listener, &mut other] {
                let mut is_told = |cx: &mut Context<'_>| listener.poll_recv(cx).is_ready();
                while poll_fn(|cx| Poll::Ready(is_told(cx))).await {}
            }
            let send = || kill_process(getpid(), Signal::USR2).unwrap();
            let first = waits(async move { listener.recv().await });
            (first, waits(async move { other.recv().await }), Box::new(send))
        }
    }
}

/// Polls it with the waker, which has no other copy then.
fn poll_with(future: &mut Waits, waker: Waker) {
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
}

fn poll_well(future: &mut Waits) -> Arc<Flag> {
    let flag = Arc::default();
    assert!(poll_flagged(future, &flag).is_pending());
    flag
}

/// What panics when it is woken, or dropped, or both.
const FUSES: [Fuses; 3] = [
    Fuses { clone: false, wake: true, drop: false },
    Fuses { clone: false, wake: false, drop: true },
    Fuses { clone: false, wake: true, drop: true },
];

async fn another_is_woken_all_the_same(place: Place, watch: &Watch) {
    for fuses in FUSES {
        let (mut bad, mut good, end) = pair_at(place, watch).await;
        let (grump, waker) = Grump::new(fuses);
        poll_with(&mut bad, waker);
        let flag = poll_well(&mut good);
        end();
        until(|| grump.woken() == 1 && flag.is_set()).await;
        drop((bad, good));
        until(|| grump.is_gone()).await;
        watch.set_cancels(Cancels::Pass);
        well().await;
    }
}

async fn who_comes_after_it_is_woken(place: Place, watch: &Watch) {
    let (mut first, mut second, end) = pair_at(place, watch).await;
    let (grump, waker) = Grump::new(FUSES[1]);
    poll_with(&mut first, waker);
    let flags = [poll_well(&mut first), poll_well(&mut second)];
    end();
    until(|| flags.iter().all(|flag| flag.is_set())).await;
    drop((first, second));
    // Streams keep all wakers of those who wait for a dropped read, and tell them apart by nothing.
    until(|| grump.is_gone()).await;
    watch.set_cancels(Cancels::Pass);
    well().await;
}

async fn a_dropped_wait_takes_nobody_with_it(place: Place, watch: &Watch) {
    let (mut bad, mut good, end) = pair_at(place, watch).await;
    let (grump, waker) = Grump::new(FUSES[2]);
    poll_with(&mut bad, waker);
    let flag = poll_well(&mut good);
    drop(bad);
    end();
    until(|| flag.is_set()).await;
    drop(good);
    until(|| grump.is_gone()).await;
    watch.set_cancels(Cancels::Pass);
    well().await;
}

async fn a_clone_that_panics_is_the_polls_own(place: Place, watch: &Watch) {
    let (mut bad, mut good, end) = pair_at(place, watch).await;
    let before = poll_well(&mut good);
    let (grump, waker) = Grump::new(Fuses { clone: true, ..Fuses::default() });
    let polled = catch_unwind(AssertUnwindSafe(|| {
        bad.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
    }));
    std::mem::forget(polled.expect_err("the panic is the poll's"));
    drop((waker, bad));
    assert!(grump.is_gone());
    end();
    until(|| before.is_set()).await;
    drop(good);
    watch.set_cancels(Cancels::Pass);
    well().await;
}

async fn walk(watch: Arc<Watch>) {
    for place in PLACES {
        println!("{place:?}");
        another_is_woken_all_the_same(place, &watch).await;
        who_comes_after_it_is_woken(place, &watch).await;
        a_dropped_wait_takes_nobody_with_it(place, &watch).await;
        a_clone_that_panics_is_the_polls_own(place, &watch).await;
    }
}

fn builder(watch: &Arc<Watch>) -> Builder {
    let mut builder = watched(watch, (256, 512));
    builder.pool_limit(2 * PAGE).start_paused(true);
    builder
}

#[test]
fn wakers_that_panic_do_so_alone() {
    let _watchdog = watchdog("wakers that panic", 60);
    quiet();
    let watch = Watch::new();
    // On a shard.
    builder(&watch).run(walk(watch.clone())).unwrap();
    watch.balance();
    // By a thread that is none.
    let runtime = builder(&watch).build().unwrap();
    runtime.block_on(walk(watch.clone()));
    drop(runtime);
    watch.balance();
}

#[test]
fn a_runtime_ends_though_all_who_wait_have_wakers_that_panic() {
    let _watchdog = watchdog("ends among wakers that panic", 60);
    quiet();
    for is_on_shard in [true, false] {
        let watch = Watch::new();
        let wait = async |watch: Arc<Watch>| {
            let (mut waiting, mut grumps, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            for place in PLACES {
                // What is refused is never cancelled, and would hold up the end.
                let (mut first, mut second, end) = pair_at(place, &watch).await;
                watch.set_cancels(Cancels::Pass);
                for future in [&mut first, &mut second] {
                    let (grump, waker) = Grump::new(FUSES[2]);
                    poll_with(future, waker);
                    grumps.push(grump);
                }
                // A closure that has begun is waited for.
                match place {
                    Place::Closure => end(),
                    _ => ends.push(end),
                }
                waiting.push((first, second));
            }
            (waiting, grumps, ends)
        };
        let (waiting, grumps, _ends) = if is_on_shard {
            builder(&watch).run(wait(watch.clone())).unwrap()
        } else {
            let runtime = builder(&watch).build().unwrap();
            runtime.block_on(wait(watch.clone()))
        };
        // What outlives its runtime is dropped, or polled, like anything else.
        drop(waiting);
        for (place, grump) in PLACES.iter().flat_map(|place| [place, place]).zip(grumps) {
            assert!(grump.is_gone(), "{place:?}, on a shard: {is_on_shard}");
        }
        watch.balance();
    }
}
