//! Operations that are dropped at any moment: their buffers stay with the runtime until the kernel
//! is done with them.
//!
//! `RINGHOLD_DROPS` sets how many operations each of the long tests drops. What is checked for
//! every drop:
//!
//! - as many pages are out as operations are in the kernel: no lease came back early, none is lost;
//! - the pages that did come back are leased, filled and watched while stale operations are
//!   provoked to touch them;
//! - buffers of the heap are freed exactly when their operation is over.

mod common;
mod watched;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::count;
use runtime::buffers::{self, Lease, LeaseErrorKind, PoolConfig};
use runtime::fs::File;
use runtime::task::yield_now;
use watched::{
    Cancels, Counted, Dropped, Fault, Flag, Pipe, RINGS, Random, WHENS, Watch, When, boxed, pipe,
    poll_once, settle, start_and_drop, turn_until, watchdog, watched,
};

const PAGE: usize = 4096;

/// The pages of the pool in these tests, all in one arena.
const PAGES: usize = 8;

/// What pages hold that somebody else leased after the drop.
const POISON: u8 = 0xEE;

/// What a write that is dropped would have written.
const WRITTEN: u8 = 0x3C;

/// What is in the pipe that is full.
const FILLER: u8 = 0x11;

fn pool() -> PoolConfig {
    PoolConfig::new().limit(PAGES * PAGE).arena(PAGES * PAGE).keep(PAGES * PAGE)
}

/// Leases all that is free, and fills it.
fn poison() -> Vec<Lease> {
    let mut leases = Vec::new();
    loop {
        match buffers::try_lease(PAGE) {
            Ok(mut lease) => {
                lease.resize(PAGE, POISON);
                leases.push(lease);
            }
            Err(error) => {
                assert_eq!(error.kind(), LeaseErrorKind::Full);
                return leases;
            }
        }
    }
}

#[track_caller]
fn check_poison(leases: &[Lease]) {
    for lease in leases {
        assert!(lease.iter().all(|byte| *byte == POISON), "a leased page was written to");
    }
}

/// The files that the operations go to.
struct Targets {
    empty: Pipe,
    full: Pipe,
    /// 4 KiB of 0x5A.
    file: File,
    sink: File,
}

impl Targets {
    async fn new(directory: &std::path::Path) -> Targets {
        let path = directory.join("file");
        std::fs::write(&path, [0x5A; PAGE]).unwrap();
        let (empty, mut full) = (pipe(), pipe());
        full.fill(FILLER);
        let file = File::open(path).await.unwrap();
        let sink = File::create(directory.join("sink")).await.unwrap();
        Targets { empty, full, file, sink }
    }

    /// One operation that is ready at once if it should arrive, and else one that waits for
    /// somebody else.
    fn operation(&self, kind: usize, when: When, heap: &Arc<AtomicUsize>) -> Dropped {
        let arrives = when == When::Arrived;
        let source = if arrives { &self.file } else { &self.empty.reader };
        let sink = if arrives { &self.sink } else { &self.full.writer };
        match kind {
            0 => boxed(source.read_fixed(buffers::try_lease(PAGE).unwrap(), 0)),
            1 => {
                let mut lease = buffers::try_lease(PAGE).unwrap();
                lease.resize(64, WRITTEN);
                boxed(sink.write_fixed(lease, 0))
            }
            2 => boxed(source.read_at(Counted::new(64, 0, heap), 0)),
            _ => boxed(sink.write_at(Counted::new(64, WRITTEN, heap), 0)),
        }
    }

    /// Gives operations that are still in the kernel what they wait for.
    fn provoke(&mut self) {
        self.empty.meddler.write_all(&[0xB0; 64]).unwrap();
        check_written(&self.full.drain());
    }

    fn calm(&mut self) {
        self.empty.drain();
        check_written(&self.full.drain());
        self.full.fill(FILLER);
    }
}

#[track_caller]
fn check_written(bytes: &[u8]) {
    let wrong = bytes.iter().find(|byte| ![FILLER, WRITTEN].contains(*byte));
    assert_eq!(wrong, None, "a dropped write wrote bytes that are not the caller's");
}

async fn drop_at_random(watch: &Watch, random: &mut Random, drops: usize) {
    let directory = tempfile::tempdir().unwrap();
    let mut targets = Targets::new(directory.path()).await;
    let heap = Arc::new(AtomicUsize::new(0));
    let mut left = drops;
    while left > 0 {
        let when = WHENS[random.below(4)];
        let (abort, provoke) = (random.below(2) == 0, random.below(8) == 0);
        let size = 1 + random.below(6.min(left));
        let kinds: Vec<usize> = (0..size).map(|_| random.below(4)).collect();
        let operations = kinds.iter().map(|kind| targets.operation(*kind, when, &heap)).collect();
        let flags: Vec<_> = (0..size).map(|_| Arc::new(Flag::default())).collect();
        start_and_drop(operations, when, &flags, abort).await;
        if matches!(when, When::Unpolled | When::Arrived) {
            assert_eq!(watch.inside(), 0, "nothing stays in the kernel when dropped {when:?}");
        }
        let leases = poison();
        let out = PAGES - leases.len();
        let alive = heap.load(Ordering::SeqCst);
        assert_eq!(out + alive, watch.inside(), "{when:?}, {kinds:?}, aborted: {abort}");
        if provoke {
            targets.provoke();
        }
        settle(watch).await;
        check_poison(&leases);
        if provoke {
            targets.calm();
        }
        assert_eq!(heap.load(Ordering::SeqCst), 0);
        left -= size;
    }
    assert_eq!(poison().len(), PAGES);
}

/// Scenarios 1, 2, 4, 6 and 7, and promise P1: the default is short, the promise is 1,000,000
/// drops.
#[test]
fn a_buffer_is_not_used_again_before_the_kernel_is_done_with_it() {
    let drops = count("RINGHOLD_DROPS", 40_000) as usize;
    let _watchdog = watchdog("dropping at random", 60 + drops as u64 / 2_000);
    let mut random = Random::from_environment();
    for rings in RINGS {
        let watch = Watch::new();
        watched(&watch, rings)
            .pool(pool())
            .run(drop_at_random(&watch, &mut random, drops / RINGS.len()))
            .unwrap();
        watch.balance();
    }
}

/// As above, with cancels that come late: an operation that has ended must be nobody else's end.
#[test]
fn a_buffer_is_not_used_again_however_late_a_cancel_comes() {
    let drops = count("RINGHOLD_DROPS", 20_000) as usize;
    let _watchdog = watchdog("dropping with late cancels", 60 + drops as u64 / 1_000);
    let mut random = Random::from_environment();
    for rings in RINGS {
        let watch = Watch::new();
        watch.set_cancels(Cancels::Delay(3));
        watched(&watch, rings)
            .pool(pool())
            .run(drop_at_random(&watch, &mut random, drops / RINGS.len()))
            .unwrap();
        watch.balance();
    }
}

/// Blocks of the file that dropped writes go to.
const BLOCKS: usize = 256;

/// What a write to this block writes: never zero, never the poison.
fn block_byte(block: usize) -> u8 {
    1 + (block % 200) as u8
}

#[track_caller]
fn check_blocks(file: &std::fs::File) {
    let mut bytes = vec![0; BLOCKS * PAGE];
    file.read_exact_at(&mut bytes, 0).unwrap();
    for (block, bytes) in bytes.chunks(PAGE).enumerate() {
        let wrong = bytes.iter().find(|byte| **byte != 0 && **byte != block_byte(block));
        assert_eq!(wrong, None, "block {block} has bytes that no caller wrote");
    }
}

async fn drop_writes(watch: &Watch, random: &mut Random, drops: usize, direct: bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, vec![0; BLOCKS * PAGE]).unwrap();
    let std_file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    std_file.sync_all().unwrap();
    let mut options = File::options();
    let file = match options.write(true).direct(direct).open(&path).await {
        Ok(file) => file,
        Err(error) if direct => {
            return common::skip("dropped direct writes", &error.to_string());
        }
        Err(error) => panic!("{error}"),
    };
    let (mut left, mut rounds) = (drops, 0_u32);
    while left > 0 {
        let when = [When::Queued, When::InFlight][random.below(2)];
        let (abort, size) = (random.below(2) == 0, 1 + random.below(6.min(left)));
        let operations = (0..size).map(|_| {
            let block = random.below(BLOCKS);
            let mut lease = buffers::try_lease(PAGE).unwrap();
            // What is behind the filled bytes is somebody else's, who had the page before.
            let length = if direct { PAGE } else { 1 + random.below(PAGE) };
            lease.resize(length, block_byte(block));
            let offset = (block * PAGE) as u64;
            match random.below(2) {
                0 => boxed(file.write_fixed(lease, offset)),
                _ => boxed(file.write_at(lease, offset)),
            }
        });
        let operations: Vec<_> = operations.collect();
        let flags: Vec<_> = (0..size).map(|_| Arc::new(Flag::default())).collect();
        start_and_drop(operations, when, &flags, abort).await;
        let leases = poison();
        assert_eq!(PAGES - leases.len(), watch.inside());
        settle(watch).await;
        drop(leases);
        left -= size;
        rounds += 1;
        if rounds.is_multiple_of(1_000) {
            check_blocks(&std_file);
        }
    }
    check_blocks(&std_file);
}

/// Promise P5: the default is short, the promise is 100,000 drops. Direct writes are at the device
/// when they are dropped.
#[test]
fn a_dropped_write_never_writes_what_is_not_the_callers() {
    let drops = count("RINGHOLD_DROPS", 8_000) as usize;
    let _watchdog = watchdog("dropping writes", 120 + drops as u64 / 500);
    let mut random = Random::from_environment();
    for rings in RINGS {
        for direct in [false, true] {
            let watch = Watch::new();
            watched(&watch, rings)
                .pool(pool())
                .run(drop_writes(&watch, &mut random, drops / 4, direct))
                .unwrap();
            watch.balance();
        }
    }
}

/// Scenario 1.
#[test]
fn what_is_dropped_before_its_first_poll_was_never_submitted() {
    let watch = Watch::new();
    let run = watched(&watch, (2, 4)).pool(pool()).run(async {
        let pipe = pipe();
        let before = watch.taken();
        for _ in 0..1_000 {
            let lease = buffers::try_lease(PAGE).unwrap();
            drop(pipe.reader.read_fixed(lease, 0));
            assert_eq!(buffers::occupancy().leased, 0);
        }
        yield_now().await;
        assert_eq!(watch.taken(), before);
        // A dropped wait for a lease leaves nobody in the queue.
        let all: Vec<Lease> = (0..PAGES).map(|_| buffers::try_lease(PAGE).unwrap()).collect();
        let mut waits: Vec<_> = (0..100).map(|_| buffers::lease(PAGE)).collect();
        assert!(waits.iter_mut().all(|wait| poll_once(wait).is_pending()));
        assert_eq!(buffers::occupancy().waiters, 100);
        drop(waits);
        assert_eq!(buffers::occupancy().waiters, 0);
        drop(all);
        buffers::lease(PAGE).await.unwrap();
    });
    run.unwrap();
    watch.balance();
}

/// Scenario 2: the enters between the push and the submission fail, and the slot stays the
/// operation's all the same.
#[test]
fn what_is_dropped_after_its_push_survives_enters_that_fail() {
    for errno in [libc::EAGAIN, libc::EBUSY, libc::EINTR] {
        for after in [false, true] {
            for rings in RINGS {
                let watch = Watch::new();
                watched(&watch, rings).pool(pool()).run(fail_enters(&watch, errno, after)).unwrap();
                assert!(watch.failed_enters.load(Ordering::SeqCst) >= 20);
                watch.balance();
            }
        }
    }
}

async fn fail_enters(watch: &Watch, errno: i32, after: bool) {
    let mut pipe = pipe();
    let mut operation = pipe.reader.read_fixed(buffers::try_lease(PAGE).unwrap(), 0);
    assert!(poll_once(&mut operation).is_pending());
    assert_eq!(watch.inside(), 1);
    watch.set_fault(Fault { first: 1, times: 20, errno, after });
    drop(operation);
    let leases = poison();
    assert_eq!(leases.len(), PAGES - 1);
    pipe.meddler.write_all(&[0xB0; 64]).unwrap();
    settle(watch).await;
    check_poison(&leases);
    assert_eq!(buffers::try_lease(PAGE).unwrap().capacity(), PAGE);
    pipe.drain();
    // The shard goes on.
    watched::nop().await.unwrap();
    turn_until(|| watch.failed_enters.load(Ordering::SeqCst) >= 20).await;
}

/// Scenario 7: a cancel only speeds up what happens anyway.
#[test]
fn a_lease_stays_out_for_as_long_as_a_refused_cancel_leaves_its_read_in_flight() {
    for rings in RINGS {
        let watch = Watch::new();
        watch.set_cancels(Cancels::Refuse);
        let run = watched(&watch, rings).pool(pool()).run(async {
            let mut pipe = pipe();
            let mut operation =
                pipe.reader.read_fixed(buffers::try_lease(PAGES * PAGE).unwrap(), 0);
            assert!(poll_once(&mut operation).is_pending());
            yield_now().await;
            drop(operation);
            for _ in 0..100 {
                yield_now().await;
            }
            assert_eq!(buffers::occupancy().leased, PAGES * PAGE);
            assert_eq!(buffers::try_lease(1).unwrap_err().kind(), LeaseErrorKind::Full);
            assert_eq!(watch.inside(), 1);
            // The wait for a lease is met by the read's own end.
            let mut wait = buffers::lease(PAGES * PAGE);
            assert!(poll_once(&mut wait).is_pending());
            pipe.meddler.write_all(b"late").unwrap();
            assert_eq!(wait.await.unwrap().len(), 0);
        });
        run.unwrap();
        watch.balance();
    }
}

/// Scenario 6: the reads are dropped while a writer feeds the pipe from another thread.
#[test]
fn reads_that_are_dropped_while_the_kernel_writes_land_in_nobodys_pages() {
    let rounds = count("RINGHOLD_DROPS", 4_000) / 4;
    let _watchdog = watchdog("dropping while the kernel writes", 60 + u64::from(rounds) / 500);
    for rings in RINGS {
        let watch = Watch::new();
        let run = watched(&watch, rings).pool(pool()).run(async {
            let pipe = pipe();
            let mut feeder = pipe.meddler.try_clone().unwrap();
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let feeding = std::thread::spawn(move || {
                // The pipe is full at times; what counts is that it never runs dry.
                while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    let _ = feeder.write(&[0xB0; 100]);
                }
            });
            for round in 0..rounds {
                let size = 1 + round as usize % 3;
                let leases = (0..size).map(|_| buffers::try_lease(PAGE).unwrap());
                let mut reads: Vec<_> = leases.map(|it| pipe.reader.read_fixed(it, 0)).collect();
                for read in &mut reads {
                    let _ = poll_once(read);
                }
                if round.is_multiple_of(2) {
                    yield_now().await;
                }
                drop(reads);
                let leases = poison();
                assert_eq!(PAGES - leases.len(), watch.inside());
                settle(&watch).await;
                check_poison(&leases);
            }
            drop(stop);
            feeding.join().unwrap();
        });
        run.unwrap();
        watch.balance();
    }
}
