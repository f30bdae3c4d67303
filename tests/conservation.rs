//! Whatever is done with operations, nothing is lost: descriptors, leases, pinned memory and the
//! kernel's share go back to where they were.
//!
//! Each class of operations is a process of its own. `RINGHOLD_OPERATIONS` sets how many of a class
//! there are; the promise (P2) is 100,000. They are awaited, and dropped before the first poll,
//! queued, in flight, and completed but not looked at, by hand and with their tasks.

mod common;
mod conserved;
mod watched;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::{count, isolated, proc};
use conserved::{PAGE, PAGES, classes, lease, one_arena, patience, pinned};
use runtime::buffers;
use runtime::fs::{self, File};
use runtime::io::AsyncWriteExt;
use runtime::task::{spawn_local, yield_now};
use runtime::time::sleep;
use watched::{
    Cancels, Dropped, Flag, Pipe, RINGS, Watch, boxed, nop, pipe, poll_flagged, settle, turn_until,
    watched,
};

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
    class: Class,
    directory: PathBuf,
    file: File,
    pipe: Pipe,
}

impl Ground {
    async fn new(class: Class, directory: PathBuf) -> Ground {
        let path = conserved::page(&directory);
        let mut options = File::options();
        let file = options.read(true).write(true).open(&path).await.unwrap();
        // The first lease pins the arena, the eighth use of a file gives it a slot: that is the
        // base line.
        for _ in 0..8 {
            let lease = buffers::lease(PAGE).await.unwrap();
            file.read_fixed(lease, 0).await.unwrap();
        }
        let ground = Ground { class, directory, file, pipe: pipe() };
        std::fs::write(ground.path(0), b"").unwrap();
        ground
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.join(number.to_string())
    }

    fn open(&self) -> std::fs::File {
        std::fs::File::open(self.directory.join("file")).unwrap()
    }
}

impl conserved::Ground for Ground {
    fn operation(&self, number: usize) -> Dropped {
        let shared = self.directory.join("file");
        match self.class {
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

    fn ends(&self) -> bool {
        self.class != Class::Cancel
    }
}

classes! { Ground:
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
        let run = watched(&watch, (2, 4)).pool(one_arena()).run(forget(&watch, operations));
        let before = run.unwrap();
        watch.balance();
        proc::becomes("the pinned memory", 0, Duration::from_secs(1), proc::pinned_bytes);
        // The forgotten file is open for good; the ring, its event and the pool's ring are gone.
        let descriptors = proc::open_descriptors();
        assert!(descriptors < before, "{descriptors} descriptors are open after the end");
    });
}

/// Returns the descriptors that were open before anything was forgotten.
async fn forget(watch: &Watch, operations: u32) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let ground = Ground::new(Class::Nop, directory.path().to_owned()).await;
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
