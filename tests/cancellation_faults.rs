//! Every operation is resolved exactly once: with queues of two and four, and whichever enter fails
//! in whatever way.

mod common;
mod watched;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::count;
use ringhold_runtime::ops::Nop;
use ringhold_runtime::{Cqe, Op};
use runtime::Handle;
use runtime::buffers::{self, PoolConfig};
use runtime::fs::{self, File};
use runtime::task::{JoinSet, spawn_local, yield_now};
use watched::{
    Cancels, Fault, Pipe, Watch, nop, pipe, poll_once, settle, turn_until, watchdog, watched,
};

const PAGE: usize = 4096;

fn pool() -> PoolConfig {
    PoolConfig::new().limit(8 * PAGE).arena(8 * PAGE).keep(8 * PAGE)
}

/// Promise P7: 100,000 nops, many at once.
#[test]
fn nops_are_resolved_once_each_through_queues_of_two_and_four() {
    let nops = u64::from(count("RINGHOLD_NOPS", 20_000));
    let _watchdog = watchdog("nops", 60 + nops / 5_000);
    let watch = Watch::new();
    let run = watched(&watch, (2, 4)).run(async {
        let tasks: Vec<_> = (0..100)
            .map(|task| {
                let mine = nops / 100 + u64::from(task < nops % 100);
                spawn_local(async move {
                    for _ in 0..mine {
                        nop().await.unwrap();
                    }
                    mine
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        done
    });
    assert_eq!(run.unwrap(), nops);
    assert_eq!(watch.taken(), nops);
    watch.balance();
}

/// Promise P7: 10,000 files, each written, read, renamed and removed.
#[test]
fn operations_on_files_are_resolved_once_each_through_queues_of_two_and_four() {
    let files = count("RINGHOLD_FILES", 1_000);
    let _watchdog = watchdog("files", 60 + u64::from(files) / 50);
    let watch = Watch::new();
    let run = watched(&watch, (2, 4)).pool(pool()).run(async {
        let directory = tempfile::tempdir().unwrap();
        let mut tasks = JoinSet::new();
        for number in 0..files {
            let path = directory.path().join(number.to_string());
            tasks.spawn_local(async move {
                let renamed = path.with_extension("renamed");
                let bytes = number.to_ne_bytes();
                let file = File::create_new(&path).await.unwrap();
                let mut lease = buffers::lease(PAGE).await.unwrap();
                lease.extend_from_slice(&bytes);
                let (count, lease) = file.write_fixed(lease, 0).await.unwrap();
                assert_eq!(count, 4);
                fs::rename(&path, &renamed).await.unwrap();
                let (count, lease) = file.read_fixed(lease, 0).await.unwrap();
                assert_eq!((count, &lease[..]), (4, &bytes[..]));
                assert_eq!(file.metadata().await.unwrap().len(), 4);
                file.close().await.unwrap();
                fs::remove_file(&renamed).await.unwrap();
            });
            if tasks.len() == 200 {
                tasks.join_next().await.unwrap().unwrap();
            }
        }
        while let Some(joined) = tasks.join_next().await {
            joined.unwrap();
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    });
    run.unwrap();
    watch.balance();
}

/// Reads, writes, nops, an open, and drops in all states, until `enough`.
async fn work(watch: &Watch, enough: impl Fn() -> bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [0x5A; PAGE]).unwrap();
    let mut pipe: Pipe = pipe();
    while !enough() {
        let file = File::open(&path).await.unwrap();
        let nops: Vec<_> = (0..7).map(|_| spawn_local(Op::new(Nop))).collect();
        let lease = buffers::lease(PAGE).await.unwrap();
        let (count, lease) = file.read_fixed(lease, 0).await.unwrap();
        assert_eq!((count, lease[0], lease[PAGE - 1]), (PAGE, 0x5A, 0x5A));
        // One is dropped in the kernel's queue, one in the kernel.
        let mut dropped = pipe.reader.read_fixed(lease, 0);
        assert!(poll_once(&mut dropped).is_pending());
        drop(dropped);
        let mut dropped = pipe.reader.read_at(vec![0; 64], 0);
        assert!(poll_once(&mut dropped).is_pending());
        yield_now().await;
        drop(dropped);
        for nop in nops {
            nop.await.unwrap().unwrap();
        }
        settle(watch).await;
        pipe.meddler.write_all(b"x").unwrap();
        assert_eq!(pipe.reader.read_at(vec![0; 64], 0).await.unwrap().0, 1);
    }
}

/// Promise P7: the n-th enter fails, for every n from 1 to 200, with each error, before and after
/// Linux took what was queued.
#[test]
fn operations_are_resolved_once_each_whichever_enter_fails() {
    let last = u64::from(count("RINGHOLD_ENTERS", 200));
    let _watchdog = watchdog("failing enters", 240);
    for (errno, after) in [libc::EAGAIN, libc::EBUSY, libc::EINTR]
        .into_iter()
        .flat_map(|errno| [(errno, false), (errno, true)])
    {
        for first in 1..=last {
            let watch = Watch::new();
            // Every seventh time it fails a few times in a row.
            let times = if first % 7 == 0 { 5 } else { 1 };
            watch.set_fault(Fault { first, times, errno, after });
            let failed = || watch.failed_enters.load(Ordering::SeqCst);
            let run = watched(&watch, (2, 4)).pool(pool()).run(async {
                work(&watch, || failed() >= times).await;
            });
            run.unwrap();
            assert_eq!(failed(), times, "enter {first}");
            watch.balance();
        }
    }
}

/// As above, where the failing enters are those of the shutdown.
#[test]
fn a_shutdown_drains_through_enters_that_fail() {
    let _watchdog = watchdog("a shutdown with failing enters", 120);
    for errno in [libc::EAGAIN, libc::EBUSY, libc::EINTR] {
        for cancels in [Cancels::Pass, Cancels::Delay(3)] {
            let watch: Arc<Watch> = Watch::new();
            watch.set_cancels(cancels);
            let run = watched(&watch, (2, 4)).pool(pool()).run(async {
                let pipe = pipe();
                for _ in 0..20 {
                    let lease = buffers::try_lease(100);
                    let Ok(lease) = lease else { break };
                    let read = pipe.reader.read_fixed(lease, 0);
                    spawn_local(async move { read.await.unwrap() });
                }
                let mut turns = 0;
                turn_until(|| watch.inside() == 3).await;
                while turns < 3 {
                    yield_now().await;
                    turns += 1;
                }
                watch.set_fault(Fault { first: 1, times: 60, errno, after: false });
            });
            run.unwrap();
            assert!(watch.failed_enters.load(Ordering::SeqCst) >= 10);
            watch.balance();
        }
    }
}

/// A cancel may look where its operation is not, or can't be stopped: Linux 6.1 moves a read of a
/// pipe about. It is sent again until the operation has ended, so that nothing is kept.
#[test]
fn a_cancel_that_ends_nothing_is_sent_again_after_a_pause() {
    let _watchdog = watchdog("cancels in vain", 120);
    for errno in [libc::ENOENT, libc::EALREADY] {
        for (rings, times) in [((2, 4), 1), ((2, 4), 6), ((256, 512), 40)] {
            let watch = Watch::new();
            let run = watched(&watch, rings).pool(pool()).run(async {
                let pipe = pipe();
                let mut reads = Vec::new();
                for _ in 0..2 {
                    let mut read = pipe.reader.read_fixed(buffers::lease(100).await.unwrap(), 0);
                    assert!(poll_once(&mut read).is_pending());
                    reads.push(read);
                }
                turn_until(|| watch.inside() == 2).await;
                watch.set_cancels(Cancels::Fail { times, errno });
                drop(reads);
                assert_eq!(buffers::occupancy().leased, 2 * PAGE);
                turn_until(|| watch.inside() == 0).await;
                turn_until(|| buffers::occupancy().leased == 0).await;
            });
            run.unwrap();
            assert_eq!(watch.cancels.load(Ordering::SeqCst), times + 2);
            assert_eq!(watch.cancelled.load(Ordering::SeqCst), 2);
            let pauses = watch.pauses.load(Ordering::SeqCst);
            assert!((times.div_ceil(2)..=times).contains(&pauses), "{pauses} pauses");
            watch.balance();
        }
    }
}

/// As above, where they are the cancels of a shard that ends, and one that is asleep.
#[test]
fn a_shutdown_cancels_again_what_a_cancel_has_not_found() {
    let _watchdog = watchdog("a shutdown with cancels in vain", 60);
    let watch = Watch::new();
    let run = watched(&watch, (2, 4)).pool(pool()).run(async {
        let pipe = pipe();
        let lease = buffers::lease(100).await.unwrap();
        let read = pipe.reader.read_fixed(lease, 0);
        drop(spawn_local(async move { read.await.unwrap() }));
        turn_until(|| watch.inside() == 1).await;
        watch.set_cancels(Cancels::Fail { times: 5, errno: libc::ENOENT });
        // The pipe outlives the runtime, so that nothing but the cancel ends the read.
        pipe
    });
    drop(run.unwrap());
    assert_eq!(watch.cancels.load(Ordering::SeqCst), 6);
    assert_eq!(watch.cancelled.load(Ordering::SeqCst), 1);
    watch.balance();
}

/// A completion that says that more follow, of an operation that is none any more, changes nothing.
#[test]
fn a_stray_completion_of_many_is_counted_and_passed_over() {
    const MORE: u32 = 1 << 1;
    let watch = Watch::new();
    let run = watched(&watch, (2, 4)).run(async {
        nop().await.unwrap();
        watch.give_stray(Cqe { user_data: 0xFFFF_0000_0001, result: 1, flags: MORE });
        nop().await.unwrap();
        nop().await.unwrap();
        // The counts are told to others at the latest after so many turns.
        for _ in 0..1000 {
            yield_now().await;
        }
        Handle::current().metrics().driver_counts(0).strays
    });
    assert_eq!(run.unwrap(), 1);
    watch.balance();
}
