//! What broke in other runtimes when an operation was dropped, timed out, starved or forgotten, one
//! test each.

mod common;
mod watched;

use std::fs::File as StdFile;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{count, proc};
use runtime::buffers::{self, Lease, LeaseErrorKind, PoolConfig};
use runtime::fs::{self, File};
use runtime::task::{spawn_local, yield_now};
use runtime::time::{self, Instant, timeout};
use watched::{
    Cancels, Flag, RINGS, Watch, alone, nop, pipe, poll_flagged, poll_once, settle, turn_until,
    watchdog, watched,
};

const PAGE: usize = 4096;

fn pool(pages: usize) -> PoolConfig {
    PoolConfig::new().limit(pages * PAGE).arena(pages * PAGE).keep(pages * PAGE)
}

/// A file of one page of `byte`, in a directory that goes when the handle does.
fn page_file(byte: u8) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [byte; PAGE]).unwrap();
    (directory, path)
}

/// When an open is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Queued,
    InFlight,
    Arrived,
}

/// Polls 128 opens once, and drops them, or aborts the tasks that hold them.
async fn drop_opens(watch: &Watch, when: When, abort: bool) {
    let (_directory, path) = page_file(1);
    let before = proc::open_descriptors();
    let flags: Vec<_> = (0..128).map(|_| Arc::new(Flag::default())).collect();
    let mut opens: Vec<_> = flags.iter().map(|_| Box::pin(File::open(path.clone()))).collect();
    for (open, flag) in opens.iter_mut().zip(&flags) {
        assert!(poll_flagged(open, flag).is_pending());
    }
    match when {
        When::Queued => assert!(watch.inside() > 0),
        When::InFlight => yield_now().await,
        When::Arrived => {
            turn_until(|| flags.iter().all(|flag| flag.is_set())).await;
            assert_eq!(proc::open_descriptors(), before + 128);
        }
    }
    if abort {
        let hold = |open| async {
            let _open = open;
            std::future::pending::<()>().await;
        };
        let tasks: Vec<_> = opens.into_iter().map(|open| spawn_local(hold(open))).collect();
        if when == When::Arrived {
            yield_now().await;
        }
        tasks.iter().for_each(|task| task.abort());
        for task in tasks {
            assert!(task.await.unwrap_err().is_cancelled());
        }
    } else {
        drop(opens);
    }
    settle(watch).await;
    // What an open brought is closed by an operation of its own.
    nop().await.unwrap();
    settle(watch).await;
    assert_eq!(proc::open_descriptors(), before, "{when:?}, aborted: {abort}");
}

/// Scenario 3 (dropped in flight) and scenario 4 (completed, and dropped without another poll).
#[test]
fn a_dropped_open_leaves_no_descriptor_behind() {
    let _alone = alone();
    let _watchdog = watchdog("dropping opens", 60);
    for rings in RINGS {
        for when in [When::Queued, When::InFlight, When::Arrived] {
            for abort in [false, true] {
                let watch = Watch::new();
                watched(&watch, rings).run(drop_opens(&watch, when, abort)).unwrap();
                watch.balance();
            }
        }
    }
}

/// Scenario 10: the cancel of what timed out names a slot and its use, so that it can't end the
/// slot's next operation, however late it comes.
#[test]
fn a_timeout_ends_its_own_operation_and_no_other() {
    let _alone = alone();
    let rounds = count("RINGHOLD_TIMEOUTS", 200);
    let _watchdog = watchdog("timing out", 60 + u64::from(rounds) / 100);
    for cancels in [Cancels::Pass, Cancels::Delay(1), Cancels::Delay(6), Cancels::Refuse] {
        for rings in RINGS {
            let watch = Watch::new();
            watch.set_cancels(cancels);
            let run = watched(&watch, rings).pool(pool(16)).run(async {
                for _ in 0..rounds {
                    time_out(&watch).await;
                }
            });
            run.unwrap();
            watch.balance();
        }
    }
}

async fn time_out(watch: &Watch) {
    let (_directory, path) = page_file(0x5A);
    let file = File::open(path).await.unwrap();
    let mut full = pipe();
    full.fill(0x11);
    let mut lease = buffers::lease(PAGE).await.unwrap();
    lease.resize(64, 0x3C);
    let write = full.writer.write_fixed(lease, 0);
    assert!(timeout(Duration::from_micros(50), write).await.is_err());
    // The outcome is unknown, and whatever comes next is nothing of its business.
    for _ in 0..8 {
        let lease = buffers::lease(PAGE).await.unwrap();
        let (count, lease) = file.read_fixed(lease, 0).await.unwrap();
        assert_eq!((count, lease[0], lease[PAGE - 1]), (PAGE, 0x5A, 0x5A));
    }
    // A write whose cancel was refused ends when there is room for it.
    let drained = full.drain();
    assert!(drained.iter().all(|byte| [0x11, 0x3C].contains(byte)));
    settle(watch).await;
    assert_eq!(buffers::occupancy().leased, 0);
}

/// Scenario 13, operations: who holds futures that nobody polls keeps nobody else from the ring.
#[test]
fn futures_that_nobody_polls_take_no_room_in_the_ring() {
    let _alone = alone();
    let _watchdog = watchdog("operations beside futures that nobody polls", 60);
    for rings in RINGS {
        let watch = Watch::new();
        let run = watched(&watch, rings).run(async {
            let (_directory, path) = page_file(0x5A);
            let file = File::open(path).await.unwrap();
            let mut reads: Vec<_> = (0..1_000).map(|_| file.read_at(vec![0; PAGE], 0)).collect();
            assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
            // A thousand of them are in front of it, and none is ever polled again before it is
            // done.
            let (count, _) = file.read_at(vec![0; PAGE], 0).await.unwrap();
            assert_eq!(count, PAGE);
            assert_eq!(watch.inside(), 0);
            for read in reads {
                assert_eq!(read.await.unwrap(), (PAGE, vec![0x5A; PAGE]));
            }
        });
        run.unwrap();
        watch.balance();
    }
}

/// Scenario 13, leases: a pool that is held by futures that nobody polls says so, and a wait for it
/// can be given up.
#[test]
fn a_pool_that_is_held_by_futures_that_nobody_polls_can_be_waited_for_with_a_timeout() {
    let _alone = alone();
    let run = watched(&Watch::new(), (2, 4)).pool(pool(4)).run(async {
        let (_directory, path) = page_file(0x5A);
        let file = File::open(path).await.unwrap();
        let leases: Vec<Lease> = (0..4).map(|_| buffers::try_lease(PAGE).unwrap()).collect();
        let mut reads: Vec<_> = leases.into_iter().map(|it| file.read_fixed(it, 0)).collect();
        assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
        assert_eq!(buffers::try_lease(1).unwrap_err().kind(), LeaseErrorKind::Full);
        let mut wait = buffers::lease(1);
        assert!(poll_once(&mut wait).is_pending());
        assert_eq!(buffers::occupancy().waiters, 1);
        drop(wait);
        assert!(timeout(Duration::from_millis(2), buffers::lease(1)).await.is_err());
        assert_eq!((buffers::occupancy().waiters, buffers::occupancy().leased), (0, 4 * PAGE));
        drop(reads.pop());
        assert_eq!(buffers::lease(1).await.unwrap().capacity(), 1);
    });
    run.unwrap();
}

/// Scenario 20: the number stays taken until the last operation on the file is over.
#[test]
fn the_number_of_a_file_that_is_dropped_in_flight_is_not_given_to_another_file() {
    let _alone = alone();
    let _watchdog = watchdog("reusing numbers", 60);
    for rings in RINGS {
        for dropped in [false, true] {
            for attached in [false, true] {
                let watch = Watch::new();
                watch.set_cancels(Cancels::Refuse);
                let run = watched(&watch, rings).run(async {
                    reuse_a_number(&watch, dropped, attached).await;
                });
                run.unwrap();
                watch.balance();
            }
        }
    }
}

async fn reuse_a_number(watch: &Watch, dropped: bool, attached: bool) {
    let (_directory, path) = page_file(0x5A);
    let mut pipe = pipe();
    let number = pipe.reader.as_fd().as_raw_fd();
    if attached {
        // From the eighth use on the file has a slot of the ring's own table.
        for _ in 0..20 {
            pipe.meddler.write_all(b"x").unwrap();
            assert_eq!(pipe.reader.read_at(vec![0; 64], 0).await.unwrap().0, 1);
        }
    }
    let inode = std::fs::metadata(format!("/proc/self/fd/{number}")).unwrap().ino();
    let mut read = Some(pipe.reader.read_at(vec![0; 64], 0));
    assert!(poll_once(read.as_mut().unwrap()).is_pending());
    drop(pipe.reader);
    if dropped {
        read = None;
    }
    // The lowest numbers that are free are taken. None of them is the pipe's, before and after the
    // submission.
    for _ in 0..2 {
        let files: Vec<_> = (0..20).map(|_| StdFile::open(&path).unwrap()).collect();
        assert!(files.iter().all(|file| file.as_raw_fd() != number));
        let still = std::fs::metadata(format!("/proc/self/fd/{number}")).unwrap().ino();
        assert_eq!(still, inode);
        for _ in 0..4 {
            yield_now().await;
        }
    }
    assert_eq!(watch.inside(), 1);
    pipe.meddler.write_all(b"from the pipe").unwrap();
    if let Some(read) = read {
        let (count, bytes) = read.await.unwrap();
        assert_eq!(&bytes[..count], b"from the pipe");
    }
    settle(watch).await;
    nop().await.unwrap();
    settle(watch).await;
    let other = std::fs::metadata(format!("/proc/self/fd/{number}")).map(|it| it.ino()).ok();
    assert_ne!(other, Some(inode), "the pipe is still open");
}

/// Scenario 22: cancels go beside the limit, so completions overflow a queue of four, and none is
/// lost.
#[test]
fn completions_that_overflow_their_queue_arrive_all_the_same() {
    let _alone = alone();
    let rounds = count("RINGHOLD_OVERFLOWS", 500);
    let _watchdog = watchdog("overflowing", 60 + u64::from(rounds) / 100);
    for (submissions, completions) in [(2, 4), (4, 8), (8, 16)] {
        let watch = Watch::new();
        let run = watched(&watch, (submissions, completions)).run(async {
            let pipe = pipe();
            for _ in 0..rounds {
                let reads = (0..2 * completions).map(|_| pipe.reader.read_at(vec![0; 64], 0));
                let mut reads: Vec<_> = reads.collect();
                assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
                yield_now().await;
                // All that the ring takes is in flight; each gets a cancel, and both of them a
                // completion.
                assert_eq!(watch.inside() as u32, completions - 1);
                drop(reads);
                settle(&watch).await;
                nop().await.unwrap();
            }
        });
        run.unwrap();
        assert_eq!(watch.most_entries.load(Ordering::SeqCst), 2 * i64::from(completions - 1));
        watch.balance();
    }
}

/// Scenario 23: memory and file leak with the future, the lease counts as leased, and nothing else
/// suffers.
#[test]
fn a_future_that_is_forgotten_costs_nobody_else_anything() {
    let _alone = alone();
    let _watchdog = watchdog("forgetting", 60);
    for rings in RINGS {
        let watch = Watch::new();
        let run = watched(&watch, rings).pool(pool(16)).run(async {
            let (_directory, path) = page_file(0x5A);
            let file = File::open(&path).await.unwrap();
            let pipe = pipe();
            // One stays in the kernel, one is over before it is forgotten, one was never polled,
            // one waits for a lease.
            let lease = || buffers::try_lease(PAGE).unwrap();
            let mut held = pipe.reader.read_fixed(lease(), 0);
            assert!(poll_once(&mut held).is_pending());
            let (mut arrived, flag) = (file.read_fixed(lease(), 0), Arc::new(Flag::default()));
            assert!(poll_flagged(&mut arrived, &flag).is_pending());
            turn_until(|| flag.is_set()).await;
            let unpolled = file.read_fixed(lease(), 0);
            std::mem::forget((held, arrived, unpolled));
            assert_eq!(buffers::occupancy().leased, 3 * PAGE);
            for _ in 0..100 {
                let lease = buffers::lease(PAGE).await.unwrap();
                let (count, lease) = file.read_fixed(lease, 0).await.unwrap();
                assert_eq!((count, lease[PAGE - 1]), (PAGE, 0x5A));
            }
            assert_eq!(buffers::occupancy().leased, 3 * PAGE);
            assert_eq!(watch.inside(), 1);
            time::sleep(Duration::from_millis(1)).await;
            assert_eq!(fs::read(&path).await.unwrap(), [0x5A; PAGE]);
            Instant::now()
        });
        // A drain that waited for what was forgotten would take the whole deadline of a second.
        assert!(run.unwrap().elapsed() < Duration::from_secs(1));
        watch.balance();
    }
}
