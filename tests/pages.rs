//! What happens to a file while it is read changes no byte outside of the lease: not a truncate,
//! not a hole, not a write-back.
//!
//! `RINGHOLD_READS` sets how many reads there are.

mod common;
mod watched;

use std::fs::File as StdFile;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::count;
use runtime::buffers::{self, Lease, PoolConfig};
use runtime::fs::{AlignmentError, File, Misaligned};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use watched::{RINGS, Random, Watch, watchdog, watched};

const PAGE: usize = 4096;
const FILE_LENGTH: usize = 64 * PAGE;

/// What the file holds, where it is no hole.
const CONTENTS: u8 = 0x5A;

/// What leases hold that nothing is read into.
const POISON: u8 = 0xEE;

/// What a lease holds before it is read into.
const STALE: u8 = 0xCC;

fn pool() -> PoolConfig {
    PoolConfig::new().limit(32 * PAGE).arena(32 * PAGE).keep(32 * PAGE)
}

/// Truncates, punches holes, writes, syncs and forgets the file's pages until it is told to stop.
fn meddle(path: &Path, random: &mut Random, stop: &AtomicBool, done: &[AtomicU64; 4]) {
    let file = StdFile::options().read(true).write(true).open(path).unwrap();
    let whole = vec![CONTENTS; FILE_LENGTH];
    while !stop.load(Ordering::Relaxed) {
        let (offset, length) = (random.below(FILE_LENGTH), 1 + random.below(8 * PAGE));
        let what = random.below(4);
        match what {
            0 => {
                file.set_len(offset as u64).unwrap();
                file.set_len(FILE_LENGTH as u64).unwrap();
            }
            1 => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&file, flags, offset as u64, length as u64).unwrap();
            }
            2 => file.write_all_at(&whole, 0).unwrap(),
            _ => {
                file.sync_data().unwrap();
                fadvise(&file, 0, None, Advice::DontNeed).unwrap();
            }
        }
        done[what].fetch_add(1, Ordering::Relaxed);
    }
}

/// A lease that is read into, with guards of the same pages before and behind it.
struct Guarded {
    before: Lease,
    target: Lease,
    behind: Lease,
}

impl Guarded {
    async fn new(random: &mut Random, unit: usize) -> Guarded {
        let mut behind = buffers::lease(4 * PAGE).await.unwrap();
        behind.resize(4 * PAGE, POISON);
        let units = 4 * PAGE / unit;
        let begin = 1 + random.below(units - 2);
        let before = behind.split_to(begin * unit);
        let length = 1 + random.below(units - begin - 1);
        let mut target = behind.split_to(length * unit);
        target.fill(STALE);
        Guarded { before, target, behind }
    }

    #[track_caller]
    fn check(&self, count: usize) {
        let outside = self.before.iter().chain(self.behind.iter());
        assert!(outside.into_iter().all(|byte| *byte == POISON), "a guard was written to");
        assert_eq!(self.target.len(), count);
        let wrong = self.target.iter().find(|byte| ![0, CONTENTS].contains(*byte));
        assert_eq!(wrong, None, "a read brought what the file never held");
    }
}

async fn read_on(file: &File, random: &mut Random, reads: usize, unit: usize) {
    // Whole pages of nobody's between the others.
    let neighbours: Vec<_> = (0..8)
        .map(|_| {
            let mut lease = buffers::try_lease(PAGE).unwrap();
            lease.resize(PAGE, POISON);
            lease
        })
        .collect();
    for _ in 0..reads / 3 {
        let mut three = Vec::new();
        for _ in 0..3 {
            let Guarded { before, target, behind } = Guarded::new(random, unit).await;
            let offset = random.below(FILE_LENGTH / unit) * unit;
            let read = file.read_fixed(target, offset as u64);
            three.push((before, behind, runtime::task::spawn_local(read)));
        }
        for (before, behind, read) in three {
            let (count, target) = read.await.unwrap().unwrap();
            Guarded { before, target, behind }.check(count);
        }
    }
    assert!(neighbours.iter().flat_map(|lease| lease.iter()).all(|byte| *byte == POISON));
}

#[test]
fn what_happens_to_a_file_while_it_is_read_changes_nothing_outside_of_the_lease() {
    let reads = count("RINGHOLD_READS", 24_000) as usize;
    let _watchdog = watchdog("reading while the file changes", 120 + reads as u64 / 200);
    let mut random = Random::from_environment();
    for rings in RINGS {
        for direct in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            std::fs::write(&path, vec![CONTENTS; FILE_LENGTH]).unwrap();
            let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::default());
            let meddler = {
                let (path, stop, done) = (path.clone(), stop.clone(), Arc::clone(&done));
                let mut random = random.fork();
                std::thread::spawn(move || meddle(&path, &mut random, &stop, &done))
            };
            let watch = Watch::new();
            let run = watched(&watch, rings).pool(pool()).run(async {
                let mut options = File::options();
                let file = match options.read(true).direct(direct).open(&path).await {
                    Err(error) if direct => {
                        return common::skip("direct reads", &error.to_string());
                    }
                    file => file.unwrap(),
                };
                let unit = file.alignment().map_or(1, |it| it.offset.max(it.memory) as usize);
                // On busy cores until each change has come in between a few times.
                while done.iter().any(|count: &AtomicU64| count.load(Ordering::Relaxed) < 10) {
                    read_on(&file, &mut random, reads / 4, unit).await;
                }
            });
            stop.store(true, Ordering::Relaxed);
            meddler.join().unwrap();
            run.unwrap();
            watch.balance();
            println!("rings of {rings:?}, direct: {direct}: {done:?} changes");
        }
    }
}

#[test]
fn direct_reads_of_leases_that_are_misaligned_are_refused_before_the_kernel_sees_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, vec![CONTENTS; FILE_LENGTH]).unwrap();
    let watch = Watch::new();
    let run = watched(&watch, (2, 4)).pool(pool()).run(async {
        let mut options = File::options();
        let file = match options.read(true).direct(true).open(&path).await {
            Ok(file) => file,
            Err(error) => return common::skip("misaligned leases", &error.to_string()),
        };
        let alignment = file.alignment().unwrap();
        let (memory, block) = (u64::from(alignment.memory), u64::from(alignment.offset));
        let taken = watch.taken();
        let page = || buffers::try_lease(PAGE).unwrap();
        let mut refused = Vec::new();
        // An offset, a length, and an address.
        refused.push((file.read_fixed(page(), 1).await, Misaligned::Offset, block, 1));
        let short = buffers::try_lease(PAGE - 1).unwrap();
        let given = PAGE as u64 - 1;
        refused.push((file.read_fixed(short, 0).await, Misaligned::Length, block, given));
        let mut behind = buffers::try_lease(2 * PAGE).unwrap();
        drop(behind.split_to(1));
        drop(behind.split_to(PAGE - 2));
        let rest = behind.split_to(PAGE);
        let given = {
            use buffers::IoBuf;
            rest.stable_ptr().addr() as u64
        };
        assert_eq!(given % memory, memory - 1);
        refused.push((file.read_fixed(rest, 0).await, Misaligned::Address, memory, given));
        for (result, what, wanted, given) in refused {
            let failed = result.unwrap_err();
            assert_eq!(failed.error.kind(), std::io::ErrorKind::InvalidInput);
            let inner = failed.error.get_ref().unwrap();
            let error = inner.downcast_ref::<AlignmentError>().unwrap();
            assert_eq!(*error, AlignmentError { what, wanted, given });
            assert!(failed.buffer.is_empty());
        }
        assert_eq!(watch.taken(), taken);
        assert_eq!(file.read_fixed(page(), 0).await.unwrap().0, PAGE);
    });
    run.unwrap();
    watch.balance();
}
