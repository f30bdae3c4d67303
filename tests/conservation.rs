//! Whatever is done with operations, nothing is lost: descriptors, leases, pinned memory and the
//! kernel's share go back to where they were.
//!
//! Each class of operations is a process of its own. `RINGHOLD_OPERATIONS` sets how many of a class
//! there are; the promise (P2) is 100,000. They are awaited, and dropped before the first poll,
//! queued, in flight, and completed but not looked at, by hand and with their tasks.

mod common;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{count, isolated, proc};
use runtime::buffers::{self, PoolConfig};
use runtime::fs::{self, File};
use runtime::io::AsyncWriteExt;
use runtime::task::{spawn_local, yield_now};
use runtime::time::sleep;
use watched::{
    Cancels, Dropped, Flag, Pipe, RINGS, Random, WHENS, Watch, When, boxed, nop, pipe,
    poll_flagged, settle, start_and_drop, turn_until, watched,
};

const PAGE: usize = 4096;
const PAGES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Open,
    Create,
    Statx,
    Read,
    Write,
    ReadFixed,
    WriteFixed,
    Fsync,
    Rename,
    Unlink,
    MakeDirectory,
    Close,
    Timeout,
    Nop,
    ColdCall,
    Cancel,
    WaitForLease,
}

/// What the operations of all classes work on.
struct Ground {
    directory: PathBuf,
    file: File,
    pipe: Pipe,
}

impl Ground {
    async fn new(directory: &Path) -> Ground {
        let path = directory.join("file");
        std::fs::write(&path, [0x5A; PAGE]).unwrap();
        let mut options = File::options();
        let file = options.read(true).write(true).open(&path).await.unwrap();
        Ground { directory: directory.to_owned(), file, pipe: pipe() }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.join(number.to_string())
    }

    /// An operation of the class that comes to an end by itself, but for the class of those that
    /// don't.
    fn operation(&self, class: Class, number: usize) -> Dropped {
        let lease = |filled| {
            let mut lease = buffers::try_lease(PAGE).unwrap();
            lease.resize(filled, 0x5A);
            lease
        };
        let shared = self.directory.join("file");
        match class {
            Class::Open => pinned(File::open(shared)),
            Class::Create => pinned(File::create(self.path(number % 64))),
            Class::Statx if number.is_multiple_of(2) => pinned(fs::metadata(shared)),
            Class::Statx => pinned(fs::statx(shared, true)),
            Class::Read => boxed(self.file.read_at(vec![0; PAGE], 0)),
            Class::Write => boxed(self.file.write_at(vec![0x5A; PAGE], 0)),
            Class::ReadFixed => boxed(self.file.read_fixed(lease(0), 0)),
            Class::WriteFixed => boxed(self.file.write_fixed(lease(PAGE), 0)),
            Class::Fsync => {
                let file = File::from(self.open());
                pinned(async move { file.sync_data().await })
            }
            // These two meet a file that is there, or is not, as the one before them left it.
            Class::Rename => pinned(fs::rename(self.path(number % 2), self.path(1 - number % 2))),
            Class::Unlink => {
                std::fs::write(self.path(number % 64), b"").unwrap();
                pinned(fs::remove_file(self.path(number % 64)))
            }
            Class::MakeDirectory => {
                let _ = std::fs::remove_dir(self.path(number % 64));
                pinned(fs::create_dir(self.path(number % 64)))
            }
            Class::Close => pinned(File::from(self.open()).close()),
            Class::Timeout => boxed(Box::pin(sleep(Duration::from_micros(number as u64 % 50)))),
            Class::Nop => pinned(nop()),
            Class::ColdCall => pinned(fs::canonicalize(shared)),
            Class::Cancel => boxed(self.pipe.reader.read_fixed(lease(0), 0)),
            Class::WaitForLease => pinned(buffers::lease(PAGE * (1 + number % PAGES))),
        }
    }

    fn open(&self) -> std::fs::File {
        std::fs::File::open(self.directory.join("file")).unwrap()
    }
}

fn pinned<T>(future: impl Future<Output = T> + 'static) -> Dropped {
    Box::pin(async move {
        future.await;
    })
}

async fn churn(class: Class, watch: &Watch, random: &mut Random, operations: usize) {
    let directory = tempfile::tempdir().unwrap();
    let ground = Ground::new(directory.path()).await;
    std::fs::write(ground.path(0), b"").unwrap();
    // The first lease pins the arena, the eighth use of a file gives it a slot: that is the base
    // line.
    for _ in 0..8 {
        let lease = buffers::lease(PAGE).await.unwrap();
        ground.file.read_fixed(lease, 0).await.unwrap();
    }
    let base = (proc::open_descriptors(), proc::pinned_bytes(), buffers::occupancy().mapped);
    let (mut done, mut groups) = (0, 0_u32);
    while done < operations {
        groups += 1;
        if groups.is_multiple_of(4) {
            settle(watch).await;
        }
        let size = (1 + random.below(8)).min(operations - done);
        let mut group: Vec<_> = (done..done + size).map(|it| ground.operation(class, it)).collect();
        done += size;
        let when = match random.below(5) {
            4 => None,
            choice => Some(WHENS[choice]),
        };
        let when = match when {
            None | Some(When::Arrived) if class == Class::Cancel => Some(When::InFlight),
            when => when,
        };
        let Some(when) = when else {
            for operation in group.drain(..) {
                operation.await;
            }
            continue;
        };
        let flags: Vec<_> = (0..size).map(|_| Arc::new(Flag::default())).collect();
        start_and_drop(group, when, &flags, random.below(2) == 0).await;
    }
    settle(watch).await;
    nop().await.unwrap();
    settle(watch).await;
    let occupancy = buffers::occupancy();
    let now = (proc::open_descriptors(), proc::pinned_bytes(), occupancy.mapped);
    assert_eq!(now, base, "descriptors, pinned bytes, mapped bytes");
    assert_eq!((occupancy.leased, occupancy.waiters), (0, 0));
    assert_eq!(occupancy.free, occupancy.mapped);
}

fn conserve(class: Class) {
    let operations = count("RINGHOLD_OPERATIONS", 2_000) as usize;
    let mut random = Random::from_environment();
    let before = proc::open_descriptors();
    for rings in RINGS {
        let watch = Watch::new();
        watched(&watch, rings)
            .pool(PoolConfig::new().limit(PAGES * PAGE).arena(PAGES * PAGE).keep(PAGES * PAGE))
            .run(churn(class, &watch, &mut random, operations / RINGS.len()))
            .unwrap();
        watch.balance();
        let second = Duration::from_secs(1);
        proc::becomes("the count of descriptors", before, second, proc::open_descriptors);
        proc::becomes("the pinned memory", 0, second, proc::pinned_bytes);
    }
}

macro_rules! classes {
    ($($test:ident: $class:ident,)*) => {$(
        #[test]
        fn $test() {
            isolated(stringify!($test))
                .deadline(patience())
                .run(|| conserve(Class::$class));
        }
    )*};
}

fn patience() -> Duration {
    Duration::from_secs(60)
        + Duration::from_millis(u64::from(count("RINGHOLD_OPERATIONS", 2_000)) * 5)
}

classes! {
    opens_leave_nothing_behind: Open,
    creates_leave_nothing_behind: Create,
    statxs_leave_nothing_behind: Statx,
    reads_leave_nothing_behind: Read,
    writes_leave_nothing_behind: Write,
    fixed_reads_leave_nothing_behind: ReadFixed,
    fixed_writes_leave_nothing_behind: WriteFixed,
    syncs_leave_nothing_behind: Fsync,
    renames_leave_nothing_behind: Rename,
    unlinks_leave_nothing_behind: Unlink,
    new_directories_leave_nothing_behind: MakeDirectory,
    closes_leave_nothing_behind: Close,
    sleeps_leave_nothing_behind: Timeout,
    nops_leave_nothing_behind: Nop,
    cold_calls_leave_nothing_behind: ColdCall,
    cancelled_reads_leave_nothing_behind: Cancel,
    waits_for_leases_leave_nothing_behind: WaitForLease,
}

/// A runtime that ends cancels what can be cancelled. What it was trusted with is none of that,
/// also where it waits for room.
#[test]
fn files_that_are_dropped_as_the_runtime_ends_are_written_and_closed() {
    isolated("files_that_are_dropped_as_the_runtime_ends_are_written_and_closed").run(|| {
        let before = proc::open_descriptors();
        for rings in RINGS {
            let directory = tempfile::tempdir().unwrap();
            let path = |number: usize| directory.path().join(number.to_string());
            let watch = Watch::new();
            let run = watched(&watch, rings).run(async {
                let mut files = Vec::new();
                for number in 0..50 {
                    let mut file = File::create(path(number)).await.unwrap();
                    file.write_all(number.to_string().as_bytes()).await.unwrap();
                    files.push(file);
                }
                // One half goes right before the runtime ends, the other when it has ended.
                files.split_off(25)
            });
            watch.balance();
            drop(run.unwrap());
            for number in 0..50 {
                let written = std::fs::read_to_string(path(number)).unwrap();
                assert_eq!(written, number.to_string());
            }
            let second = Duration::from_secs(1);
            proc::becomes("the count of descriptors", before, second, proc::open_descriptors);
        }
    });
}

/// As above, for files that a task holds.
#[test]
fn files_that_tasks_hold_as_the_runtime_ends_are_written_and_closed() {
    isolated("files_that_tasks_hold_as_the_runtime_ends_are_written_and_closed").run(|| {
        let before = proc::open_descriptors();
        for rings in RINGS {
            let directory = tempfile::tempdir().unwrap();
            let path = |number: usize| directory.path().join(number.to_string());
            let watch = Watch::new();
            let run = watched(&watch, rings).run(async {
                for number in 0..50 {
                    let mut file = File::create(path(number)).await.unwrap();
                    spawn_local(async move {
                        file.write_all(number.to_string().as_bytes()).await.unwrap();
                        std::future::pending::<()>().await;
                    });
                }
                yield_now().await;
            });
            run.unwrap();
            watch.balance();
            for number in 0..50 {
                let written = std::fs::read_to_string(path(number)).unwrap();
                assert_eq!(written, number.to_string());
            }
            let second = Duration::from_secs(1);
            proc::becomes("the count of descriptors", before, second, proc::open_descriptors);
        }
    });
}

/// Scenario 23: what was forgotten stays out, exactly that, and only until the runtime's end where
/// it is the kernel's.
#[test]
fn forgotten_operations_leave_exactly_what_they_held() {
    isolated("forgotten_operations_leave_exactly_what_they_held").deadline(patience()).run(|| {
        let operations = count("RINGHOLD_OPERATIONS", 2_000);
        let watch = Watch::new();
        watch.set_cancels(Cancels::Pass);
        let run = watched(&watch, (2, 4))
            .pool(PoolConfig::new().limit(PAGES * PAGE).arena(PAGES * PAGE).keep(PAGES * PAGE))
            .run(forget(&watch, operations));
        let before = run.unwrap();
        watch.balance();
        proc::becomes("the pinned memory", 0, Duration::from_secs(1), proc::pinned_bytes);
        // The forgotten file is open for good; the ring, its event and the pool's ring are gone.
        let descriptors = proc::open_descriptors();
        assert!(descriptors < before, "{descriptors} descriptors are open after the end");
    });
}

/// Gives the descriptors that were open before anything was forgotten.
async fn forget(watch: &Watch, operations: u32) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let ground = Ground::new(directory.path()).await;
    drop(buffers::lease(PAGE).await.unwrap());
    let before = proc::open_descriptors();
    for number in 0..operations as usize {
        let (mut nop, flag) = (Box::pin(nop()), Arc::new(Flag::default()));
        if number.is_multiple_of(2) {
            assert!(poll_flagged(&mut nop, &flag).is_pending());
            turn_until(|| flag.is_set()).await;
        }
        std::mem::forget(nop);
    }
    // Four leases and a file go with reads that are done.
    let forgotten = File::from(ground.open());
    for _ in 0..4 {
        let lease = buffers::lease(PAGE).await.unwrap();
        let (mut read, flag) = (forgotten.read_fixed(lease, 0), Arc::new(Flag::default()));
        assert!(poll_flagged(&mut read, &flag).is_pending());
        turn_until(|| flag.is_set()).await;
        std::mem::forget(read);
    }
    drop(forgotten);
    settle(watch).await;
    assert_eq!(proc::open_descriptors(), before + 1);
    assert_eq!(buffers::occupancy().leased, 4 * PAGE);
    assert_eq!(buffers::occupancy().free, (PAGES - 4) * PAGE);
    before
}
