//! A runtime ends: its tasks are dropped on their own shards, its operations are cancelled and
//! drained, and it takes a bounded time.
//!
//! `RINGHOLD_CYCLES` sets how often a runtime is started and stopped, `RINGHOLD_LATE_WAKES` how
//! many wake-ups come late, and `RINGHOLD_WAITS` how many operations wait when a runtime ends.

mod common;
mod dice;
mod held;
mod watched;

use std::future::{Future, pending, poll_fn};
use std::iter;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use common::{count, isolated, proc};
use dice::Dice;
use held::Account;
use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::buffers;
use runtime::fs::File;
use runtime::net::UnixStream;
use runtime::sync::mpsc;
use runtime::{Builder, Handle, task, time};
use watched::{Pipe, pipe, poll_once, turn_until, watchdog};

/// How long the end of a runtime may take whose operations can all be cancelled.
const BOUND: Duration = Duration::from_secs(2);

/// How much later than it should a thing may be on a machine that does others as well.
const PATIENCE: Duration = Duration::from_millis(400);

/// The default queues, such as hold all that the tests start, and the smallest.
const RINGS: [(u32, u32); 3] = [(256, 512), (1024, 2048), (2, 4)];

/// Starts an operation in a task that then stays with it, ready or not.
fn hold<F>(mut operation: F, polled: &Arc<AtomicUsize>)
where
    F: Future + Unpin + Send + 'static,
{
    let polled = polled.clone();
    let mut started = false;
    drop(task::spawn(poll_fn(move |cx| {
        if !std::mem::replace(&mut started, true) {
            assert!(Pin::new(&mut operation).poll(cx).is_pending());
            polled.fetch_add(1, Ordering::SeqCst);
        }
        Poll::<()>::Pending
    })));
}

/// Starts a thousand operations, a hundred of which read empty pipes, each in a task of its own or
/// already dropped.
async fn a_thousand_operations(account: &Arc<Account>, path: &std::path::Path) -> Vec<Pipe> {
    let polled = Arc::new(AtomicUsize::new(0));
    let pipes: Vec<Pipe> = (0..10).map(|_| pipe()).collect();
    let file = Arc::new(File::options().read(true).write(true).open(path).await.unwrap());
    for number in 0..100 {
        let read = pipes[number % 10].reader.read_at(account.buffer(64), 0);
        hold(read, &polled);
    }
    for number in 0..450 {
        let offset = (number % 16) * 4096;
        hold(file.read_at(account.buffer(4096), offset), &polled);
        hold(file.write_at(account.buffer(4096), offset), &polled);
    }
    turn_until(|| polled.load(Ordering::SeqCst) == 1000).await;
    for number in 0..100 {
        // Dropped in flight: these are the slots' own from here on.
        let mut read = pipes[number % 10].reader.read_at(account.buffer(64), 0);
        assert!(poll_once(&mut read).is_pending());
    }
    pipes
}

#[test]
fn a_thousand_operations_in_flight_end_with_their_runtime() {
    let _watchdog = watchdog("ending with a thousand operations", 60);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [7; 64 * 1024]).unwrap();
    for rings in RINGS {
        for shards in [1, 2] {
            let account = Account::new();
            let ended = account.builder(shards, rings).run(async {
                // The pipes outlive the runtime, so that no read of them ends by itself.
                (a_thousand_operations(&account, &path).await, Instant::now())
            });
            let (pipes, begun) = ended.unwrap();
            let took = begun.elapsed();
            assert!(took < BOUND, "{rings:?}, {shards} shards: {took:?}");
            drop(pipes);
            account.balances();
            assert_eq!(account.closed.load(Ordering::SeqCst), shards);
            assert_eq!(account.unregistered.load(Ordering::SeqCst), shards);
        }
    }
}

#[test]
fn a_thousand_operations_end_with_a_runtime_that_is_dropped_elsewhere() {
    let _watchdog = watchdog("ending with a thousand operations", 60);
    let directory = tempfile::tempdir().unwrap();
    let path = Arc::new(directory.path().join("file"));
    std::fs::write(&*path, [7; 64 * 1024]).unwrap();
    for rings in RINGS {
        let account = Account::new();
        let runtime = account.builder(2, rings).build().unwrap();
        let (held, of_it) = (account.clone(), path.clone());
        let started = runtime.spawn(async move { a_thousand_operations(&held, &of_it).await });
        let pipes = runtime.block_on(started).unwrap();
        let begun = Instant::now();
        drop(runtime);
        assert!(begun.elapsed() < BOUND, "{rings:?}: {:?}", begun.elapsed());
        account.balances();
        drop(pipes);
    }
}

/// A clock that stands still while this thread could run and has no core, on a machine that does
/// others as well. Whatever the thread waits for otherwise counts.
struct OwnTime {
    begun: Instant,
    without_a_core: Duration,
}

impl OwnTime {
    fn begin() -> OwnTime {
        OwnTime { begun: Instant::now(), without_a_core: OwnTime::without_a_core() }
    }

    fn without_a_core() -> Duration {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        let nanos = statistics.split(' ').nth(1).expect("it has three numbers");
        Duration::from_nanos(nanos.parse().unwrap())
    }

    fn elapsed(&self) -> Duration {
        self.begun.elapsed() - (OwnTime::without_a_core() - self.without_a_core)
    }
}

/// Many tasks that wait for one silent peer, which is given back with the stream: to drop that
/// would end the waits.
async fn many_waits(waits: u32) -> (UnixStream, Arc<UnixStream>) {
    let (stream, peer) = UnixStream::pair().unwrap();
    let stream = Arc::new(stream);
    for _ in 0..waits {
        let stream = stream.clone();
        drop(task::spawn(async move { drop(stream.readable().await) }));
    }
    let metrics = Handle::current().metrics();
    turn_until(|| metrics.driver_counts(0).submitted >= u64::from(waits)).await;
    (peer, stream)
}

#[test]
fn many_waits_end_with_their_runtime_within_a_second() {
    let waits = count("RINGHOLD_WAITS", 80_000);
    let _watchdog = watchdog("ending with many waits", 60);
    for rings in RINGS {
        let mut builder = Builder::new_current_thread();
        builder.ring_entries(rings.0, rings.1).drain_deadline(Duration::from_secs(60));
        let ended = builder.run(async { (many_waits(waits).await, OwnTime::begin()) });
        let (_peer, begun) = ended.unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{waits} waits, {rings:?}: {took:?}");
    }
}

#[test]
fn the_deadline_holds_however_many_are_stuck() {
    let waits = count("RINGHOLD_WAITS", 40_000);
    isolated("the_deadline_holds_however_many_are_stuck").run(|| {
        let account = Account::new();
        let mut builder = account.builder(1, (256, 512));
        builder.drain_deadline(Duration::from_millis(300));
        let ended = builder.run(async {
            let peer = many_waits(waits).await;
            account.refuses_cancels.store(true, Ordering::SeqCst);
            (peer, Instant::now(), OwnTime::begin())
        });
        let (_peer, begun, own) = ended.unwrap();
        let (own, took) = (own.elapsed(), begun.elapsed());
        assert!(took > Duration::from_millis(300), "nothing was stuck: {took:?}");
        assert!(own < Duration::from_millis(400) + PATIENCE, "{waits} waits: {own:?} of {took:?}");
    });
}

#[test]
fn what_is_stuck_past_the_deadline_is_leaked_not_freed() {
    let _watchdog = watchdog("ending with stuck operations", 60);
    for rings in [(256, 512), (2, 4)] {
        let account = Account::new();
        let mut builder = account.builder(1, rings);
        builder.drain_deadline(Duration::from_millis(200)).pool_limit(64 * 1024);
        let ended = builder.run(async {
            let pipe = pipe();
            let (mut dropped, mut fixed, mut late) = (
                pipe.reader.read_at(account.buffer(64), 0),
                pipe.reader.read_fixed(buffers::lease(4096).await.unwrap(), 0),
                pipe.reader.read_at(account.buffer(64), 0),
            );
            assert!(poll_once(&mut dropped).is_pending() && poll_once(&mut fixed).is_pending());
            assert!(poll_once(&mut late).is_pending());
            task::yield_now().await;
            account.refuses_cancels.store(true, Ordering::SeqCst);
            drop((dropped, fixed));
            (pipe, late, Instant::now())
        });
        let (pipe, late, begun) = ended.unwrap();
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(200), "it gave up before its deadline: {took:?}");
        assert!(took < BOUND, "{took:?}");
        assert_eq!(account.inside(), 3);
        // What comes home only now is leaked like what was there when the shard gave up.
        drop(late);
        assert_eq!(account.alive(), 2, "the buffer of a stuck operation was freed");
        assert_eq!(account.freed_inside.load(Ordering::SeqCst), 0);
        assert_eq!(account.closed.load(Ordering::SeqCst), 0);
        assert_eq!(account.unregistered.load(Ordering::SeqCst), 0);
        drop(pipe);
    }
}

/// Law 9: "close and leak, and say so", where nobody subscribed to events.
#[test]
fn what_is_leaked_not_freed_is_said_aloud() {
    const CHILD: &str = "RINGHOLD_SAYS_LEAKED";
    if std::env::var_os(CHILD).is_some() {
        let account = Account::new();
        let mut builder = account.builder(1, (256, 512));
        let pipe = builder.drain_deadline(Duration::from_millis(50)).run(async {
            let pipe = pipe();
            let mut reads = [(); 3].map(|()| pipe.reader.read_at(vec![0; 64], 0));
            assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
            task::yield_now().await;
            account.refuses_cancels.store(true, Ordering::SeqCst);
            drop(reads);
            pipe
        });
        drop(pipe.unwrap());
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "what_is_leaked_not_freed_is_said_aloud", "--nocapture"]);
    let output = child.env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("still write to is leaked (3 operations in flight)"), "{said}");
}

#[test]
fn the_pool_of_a_stuck_shard_is_leaked_not_freed() {
    let _watchdog = watchdog("a leaked pool", 60);
    let account = Account::new();
    let mut builder = account.builder(1, (256, 512));
    builder.drain_deadline(Duration::from_millis(50)).pool_limit(64 * 1024);
    let ended = builder.run(async {
        let pipe = pipe();
        let lease = buffers::lease(4096).await.unwrap();
        let address = lease.as_ptr() as usize;
        let mut read = pipe.reader.read_fixed(lease, 0);
        assert!(poll_once(&mut read).is_pending());
        task::yield_now().await;
        account.refuses_cancels.store(true, Ordering::SeqCst);
        (address, pipe)
    });
    let (address, _pipe) = ended.unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().any(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let bounds = [start, end].map(|bound| usize::from_str_radix(bound, 16).unwrap());
        (bounds[0]..bounds[1]).contains(&address)
    });
    assert!(mapped, "what the kernel may still write to was unmapped");
}

/// Notes on which thread it was made and on which it was dropped.
struct Native {
    born: ThreadId,
    died: mpsc::UnboundedSender<(ThreadId, ThreadId)>,
}

impl Native {
    fn new(died: &mpsc::UnboundedSender<(ThreadId, ThreadId)>) -> Native {
        Native { born: thread::current().id(), died: died.clone() }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let _ = self.died.send((self.born, thread::current().id()));
    }
}

#[test]
fn tasks_are_dropped_on_their_own_shards() {
    let _watchdog = watchdog("dropping tasks", 60);
    let runtime = Builder::new_multi_thread().shards(3).build().unwrap();
    let (died, mut dead) = mpsc::unbounded_channel();
    let mut ready = Vec::new();
    for number in 0..300 {
        let died = died.clone();
        let (made, is_made) = mpsc::unbounded_channel();
        ready.push(is_made);
        drop(runtime.handle().spawn_on(number % 3, move || async move {
            let native = Native::new(&died);
            // One that can't be sent.
            let local = std::rc::Rc::new(native);
            let inner = local.clone();
            drop(task::spawn_local(async move {
                let _inner = inner;
                pending::<()>().await;
            }));
            let waits = time::sleep(Duration::from_secs(3600));
            made.send(()).unwrap();
            waits.await;
            drop(local);
        }));
    }
    ready.into_iter().for_each(|mut is_made| is_made.blocking_recv().unwrap());
    drop(runtime);
    drop(died);
    let deaths: Vec<_> = iter::from_fn(|| dead.blocking_recv()).collect();
    assert_eq!(deaths.len(), 300);
    assert!(deaths.iter().all(|(born, died)| born == died));
    let mut homes: Vec<_> = deaths.iter().map(|(born, _)| format!("{born:?}")).collect();
    homes.sort();
    homes.dedup();
    assert_eq!(homes.len(), 3);
}

#[test]
fn destructors_of_tasks_may_spawn_wake_and_start_operations() {
    struct Busy(Arc<AtomicUsize>, Option<Waker>);
    impl Busy {
        fn keep(&mut self, waker: &Waker) {
            self.1 = Some(waker.clone());
        }
    }
    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            if let Some(waker) = self.1.take() {
                waker.wake();
            }
            let spawned = task::spawn(async {});
            spawned.abort();
            let mut nop = Op::new(Nop);
            assert!(poll_once(&mut nop).is_pending());
            let mut sleep = Box::pin(time::sleep(Duration::from_secs(1)));
            assert!(poll_once(&mut sleep).is_pending());
        }
    }
    let _watchdog = watchdog("busy destructors", 60);
    for rings in [(256, 512), (2, 4)] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let mut builder = Builder::new_current_thread();
        let counted = dropped.clone();
        let run = builder.ring_entries(rings.0, rings.1).run(async move {
            for _ in 0..100 {
                let mut busy = Busy(counted.clone(), None);
                drop(task::spawn(poll_fn(move |cx| {
                    busy.keep(cx.waker());
                    Poll::<()>::Pending
                })));
            }
            task::yield_now().await;
        });
        run.unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 100);
        assert!(begun.elapsed() < BOUND);
    }
}

/// What of a runtime is left when it has ended.
fn remains() -> [usize; 3] {
    [proc::threads(), proc::open_descriptors(), proc::pinned_bytes()]
}

#[test]
fn a_runtime_may_be_dropped_anywhere() {
    isolated("a_runtime_may_be_dropped_anywhere").run(|| {
        let watched = || {
            let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
            runtime.block_on(async { drop(buffers::lease(4096).await.unwrap()) });
            runtime
        };
        let before = remains();
        for how in 0..6 {
            let runtime = watched();
            let handle = runtime.handle().clone();
            let pending = runtime.spawn(pending::<()>());
            match how {
                // Its own task, its own block_on, and a task that holds it when it is dropped.
                0 => drop(handle.spawn(async move { drop(runtime) })),
                1 => handle.block_on(async move { drop(runtime) }),
                2 => handle.spawn(async move { drop(runtime.spawn(pending_with(1))) }).abort(),
                // Another runtime's task, a foreign thread, and its own closure.
                3 => watched()
                    .block_on(async { task::spawn(async move { drop(runtime) }).await })
                    .unwrap(),
                4 => thread::spawn(move || drop(runtime)).join().unwrap(),
                _ => drop(handle.spawn_blocking(move || drop(runtime))),
            }
            assert!(handle.block_on(pending).unwrap_err().is_cancelled(), "{how}");
            drop(handle);
            let begun = Instant::now();
            while remains() != before {
                assert!(begun.elapsed() < BOUND, "{how}: {:?} and not {before:?}", remains());
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
}

async fn pending_with<T>(_value: T) {
    pending::<()>().await;
}

/// One life of a runtime that does a little of everything.
fn cycle(number: u32, path: &std::path::Path) {
    let shards = 1 + number as usize % 2;
    let mut builder = Builder::new_multi_thread();
    builder.shards(shards).pool_limit(64 * 1024);
    if number.is_multiple_of(3) {
        builder.ring_entries(2, 4);
    }
    let body = async {
        let file = File::open(path).await.unwrap();
        let lease = buffers::lease(4096).await.unwrap();
        let (count, lease) = file.read_fixed(lease, 0).await.unwrap();
        assert_eq!((count, lease[0]), (4096, 7));
        let pipe = pipe();
        let mut read = pipe.reader.read_fixed(lease, 0);
        assert!(poll_once(&mut read).is_pending());
        // The read may be on the other shard than the task. Where that shard ends first it cancels
        // the read while the task is still alive, so the outcome is not looked at.
        drop(task::spawn(async move { drop(read.await) }));
        drop(task::spawn(time::sleep(Duration::from_secs(60))));
        let elsewhere = task::spawn_on(shards - 1, || async { Op::new(Nop).await.unwrap() });
        elsewhere.await.unwrap();
        if number.is_multiple_of(16) {
            assert_eq!(task::spawn_blocking(|| 5).await.unwrap(), 5);
        }
    };
    if number.is_multiple_of(2) {
        builder.run(body).unwrap();
    } else {
        builder.build().unwrap().block_on(body);
    }
}

/// The process's address space, and what of it is in memory, in bytes.
fn memory() -> [usize; 2] {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let mut pages = statm.split(' ').map(|pages| pages.parse::<usize>().unwrap());
    [0, 1].map(|_| pages.next().unwrap() * 4096)
}

#[test]
fn starting_and_stopping_leaves_nothing_behind() {
    let cycles = count("RINGHOLD_CYCLES", 200);
    let test = isolated("starting_and_stopping_leaves_nothing_behind");
    test.deadline(Duration::from_secs(20 + u64::from(cycles) / 20)).run(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [7; 4096]).unwrap();
        (0..cycles / 4).for_each(|number| cycle(number, &path));
        let (descriptors, resident) = (proc::open_descriptors(), memory()[1]);
        (0..cycles).for_each(|number| cycle(number, &path));
        let second = Duration::from_secs(1);
        proc::becomes("descriptors", descriptors, second, proc::open_descriptors);
        proc::becomes("pinned memory", 0, second, proc::pinned_bytes);
        let [address_space, now] = memory();
        let grown = now.saturating_sub(resident);
        println!("{cycles} cycles: {grown} bytes of resident memory more");
        // The allocator's own noise is bounded; a leak of 200 bytes a cycle is 2 MB in the long
        // run. AddressSanitizer, known by its terabytes of shadow, keeps what is freed, and finds
        // leaks itself.
        let sanitized = address_space > 1 << 40;
        assert!(sanitized || grown < 2 << 20, "{grown} bytes in {cycles} cycles");
    });
}

/// Gives its waker away, and never ends.
async fn give_waker(to: mpsc::UnboundedSender<Waker>) {
    poll_fn(|cx| {
        to.send(cx.waker().clone()).unwrap();
        Poll::<()>::Pending
    })
    .await;
}

/// Uses up a waker in one of the ways there are.
fn use_up(waker: Waker, dice: &mut Dice) {
    match dice.below(4) {
        0 => waker.wake(),
        1 => {
            waker.wake_by_ref();
            waker.wake_by_ref();
        }
        2 => drop(waker.clone()),
        _ => {
            let copies = [waker.clone(), waker.clone()];
            copies.into_iter().for_each(Waker::wake);
        }
    }
}

#[test]
fn wakers_do_nothing_on_any_thread_after_the_runtime_has_ended() {
    let wakes = count("RINGHOLD_LATE_WAKES", 4000) as usize;
    let _watchdog = watchdog("late wakes", 60 + wakes as u64 / 500);
    let mut dice = Dice::from_environment();
    // Half of the wakes come while the runtime ends, the other half after it.
    for round in 0..wakes.div_ceil(1000) {
        let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
        let (sender, mut wakers) = mpsc::unbounded_channel();
        for number in 0..500 {
            let sender = sender.clone();
            drop(runtime.handle().spawn_on(number % 2, || give_waker(sender)));
        }
        let wakers: Vec<Waker> = iter::from_fn(|| wakers.blocking_recv()).take(500).collect();
        let mut threads = Vec::new();
        for share in wakers.chunks(125) {
            let (share, mut dice) = (share.to_vec(), dice.split());
            threads.push(thread::spawn(move || {
                share.into_iter().for_each(|waker| use_up(waker, &mut dice));
            }));
        }
        if round % 2 == 0 {
            drop(runtime);
        } else {
            runtime.shutdown_background();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        wakers.into_iter().for_each(|waker| use_up(waker, &mut dice));
    }
}
