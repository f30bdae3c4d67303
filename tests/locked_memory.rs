//! Locked memory, by an unprivileged user under the usual limit of 8 MiB: what runs out is told,
//! the pool goes on as a smaller one, nothing stays pinned when a runtime ends, and no page is
//! pinned twice or reached by a strange ring.
//!
//! `RINGHOLD_CYCLES` sets how often a runtime is opened and closed: 20 by default, 200 for the long
//! run.

mod common;

use std::io;
use std::time::{Duration, Instant};

use common::limits::Resource;
use common::{Isolated, isolated, proc};
use runtime::buffers::{self, Lease, LeaseErrorKind, PoolConfig};
use runtime::fs::File;
use runtime::{Builder, Runtime};

const MIB: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

fn under_eight_mib(name: &'static str) -> Isolated {
    isolated(name).unprivileged().limit(Resource::LockedMemory, 8 << 20)
}

fn pool(limit: usize, arena: usize) -> PoolConfig {
    PoolConfig::new().limit(limit).arena(arena)
}

fn start(shards: usize, pool: PoolConfig) -> Runtime {
    Builder::new_multi_thread().shards(shards).pool(pool).build().expect("it starts")
}

/// Leases of `length` bytes, for as long as there are any.
fn lease_all(length: usize) -> Vec<Lease> {
    std::iter::from_fn(|| buffers::try_lease(length).ok()).collect()
}

/// A lease that is filled with `byte`.
fn filled(length: usize, byte: u8) -> Lease {
    let mut lease = buffers::try_lease(length).expect("there is room");
    lease.resize(length, byte);
    lease
}

/// Reads zeros over all that a lease has.
async fn read_zeros(lease: Lease) -> io::Result<Lease> {
    let file = File::open("/dev/zero").await?;
    // A read of this device ends early when the thread has other work of the kernel's to do.
    let (count, lease) = file.read_exact_fixed(lease, 0).await?;
    assert_eq!(count, lease.capacity());
    assert!(lease.iter().all(|byte| *byte == 0));
    Ok(lease)
}

#[test]
fn exhausted_locked_memory_is_told_with_limit_use_and_cures_and_the_pool_goes_on() {
    let name = "exhausted_locked_memory_is_told_with_limit_use_and_cures_and_the_pool_goes_on";
    under_eight_mib(name).run(|| {
        start(1, pool(64 * MIB, 4 * MIB)).block_on(async {
            let error = buffers::lease(16 * MIB).await.expect_err("more than the limit");
            assert_eq!((error.kind(), error.asked()), (LeaseErrorKind::LockedMemory, 16 * MIB));
            assert_eq!(
                error.to_string(),
                "locked memory ran out: a lease of 16777216 bytes was asked for, this pool has \
                 pinned 0 bytes, and RLIMIT_MEMLOCK, which all rings and processes of the user \
                 share, is 8388608 bytes; raise the limit (`ulimit -l`), make the pool smaller, or \
                 grant CAP_IPC_LOCK"
            );
            let error = io::Error::from(error);
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);

            let leases = lease_all(MIB);
            // Two rings and the table take less than the eighth.
            assert_eq!(leases.len(), 7);
            let occupancy = buffers::occupancy();
            assert!(occupancy.shortages_total > 0, "{occupancy:?}");
            assert!(occupancy.mapped < 8 * MIB, "{occupancy:?}");
            assert_eq!(proc::pinned_bytes(), occupancy.mapped);
            let error = buffers::try_lease(MIB).expect_err("it is full");
            assert_eq!(error.kind(), LeaseErrorKind::Full);
            drop(leases);

            // As a smaller pool it goes round and round.
            for _ in 0..100 {
                let lease = buffers::lease(MIB).await.expect("seven are free");
                read_zeros(lease).await.expect("it is registered");
            }
        });
    });
}

#[test]
fn who_waits_for_what_can_not_grow_is_served_by_what_comes_back() {
    let name = "who_waits_for_what_can_not_grow_is_served_by_what_comes_back";
    under_eight_mib(name).run(|| {
        start(2, pool(64 * MIB, MIB)).block_on(async {
            let mut leases = lease_all(MIB);
            assert_eq!(leases.len(), 7);
            let waiting = runtime::spawn(buffers::lease(MIB));
            while buffers::occupancy().waiters == 0 {
                runtime::task::yield_now().await;
            }
            drop(leases.pop());
            let lease = waiting.await.expect("no panic").expect("one came back");
            assert_eq!(lease.capacity(), MIB);
            assert_eq!(proc::pinned_bytes(), buffers::occupancy().mapped);
        });
    });
}

#[test]
fn a_runtime_beside_one_that_holds_most_has_a_smaller_pool() {
    let name = "a_runtime_beside_one_that_holds_most_has_a_smaller_pool";
    under_eight_mib(name).run(|| {
        let first = start(1, pool(7 * MIB, 7 * MIB));
        let most = first.block_on(async { filled(7 * MIB, 7) });
        let second = start(1, pool(4 * MIB, MIB));
        second.block_on(async {
            let error = buffers::lease(2 * MIB).await.expect_err("less than one is left");
            assert_eq!(error.kind(), LeaseErrorKind::LockedMemory);
            let lease = buffers::lease(64 << 10).await.expect("so much is left");
            read_zeros(lease).await.expect("it is registered");
        });
        assert!(most.iter().all(|byte| *byte == 7));
        drop(most);
        drop(first);
        // What the first had is the second's to take.
        let lease = second.block_on(async { buffers::lease(2 * MIB).await });
        let lease = lease.expect("it is free again");
        assert_eq!(lease.capacity(), 2 * MIB);
    });
}

/// Opens a runtime, leases all of its 5 MiB, uses them on every shard, and closes it.
fn cycle(shards: usize, arena: usize) {
    let runtime = start(shards, pool(5 * MIB, arena));
    let leases = runtime.block_on(async {
        let mut leases = Vec::new();
        while leases.len() < 5 {
            leases.push(buffers::lease(MIB).await.expect("5 MiB fit under 8"));
        }
        let occupancy = buffers::occupancy();
        assert_eq!((occupancy.leased, occupancy.shortages_total), (5 * MIB, 0));
        leases
    });
    for (index, lease) in leases.into_iter().enumerate() {
        let done = runtime.handle().spawn_on(index % shards, move || read_zeros(lease));
        runtime.block_on(done).expect("no panic").expect("it is registered");
    }
}

#[test]
fn five_mib_are_leased_again_by_each_runtime_that_is_opened_after_another() {
    let name = "five_mib_are_leased_again_by_each_runtime_that_is_opened_after_another";
    let cycles = common::count("RINGHOLD_CYCLES", 20);
    let deadline = Duration::from_secs(20 + u64::from(cycles));
    under_eight_mib(name).deadline(deadline).run(|| {
        for number in 0..cycles {
            for (shards, arena) in [(1, 5 * MIB), (2, MIB)] {
                println!("cycle {number} with {shards} shards and arenas of {arena} bytes");
                cycle(shards, arena);
            }
        }
    });
}

#[test]
fn five_mib_leased_when_the_runtime_ends_are_there_for_the_next_one() {
    let name = "five_mib_leased_when_the_runtime_ends_are_there_for_the_next_one";
    under_eight_mib(name).run(|| {
        let mut kept = Vec::new();
        for number in 0..10u8 {
            let runtime = start(2, pool(5 * MIB, MIB));
            kept.extend(
                runtime.block_on(async { (0..5).map(|_| filled(MIB, number)).collect::<Vec<_>>() }),
            );
            drop(runtime);
            proc::becomes("pinned memory", 0, SECOND, proc::pinned_bytes);
        }
        for (index, lease) in kept.iter().enumerate() {
            assert!(lease.iter().all(|byte| usize::from(*byte) == index / 5), "lease {index}");
        }
    });
}

#[test]
fn nothing_is_pinned_after_the_end_though_leases_and_frozen_bytes_live_on() {
    let name = "nothing_is_pinned_after_the_end_though_leases_and_frozen_bytes_live_on";
    under_eight_mib(name).run(|| {
        assert_eq!(proc::pinned_bytes(), 0);
        let runtime = start(2, pool(4 * MIB, MIB));
        let (lease, frozen) = runtime.block_on(async {
            let read = runtime::spawn_on(1, || read_zeros(buffers::try_lease(MIB).expect("room")));
            let lease = read.await.expect("no panic").expect("it is registered");
            let frozen = read_zeros(buffers::try_lease(MIB).expect("room")).await.expect("it is");
            assert_eq!(proc::pinned_bytes(), buffers::occupancy().mapped);
            (lease, filled_over(frozen, 9).freeze().expect("half may be frozen"))
        });
        let bytes = frozen.clone();
        drop(runtime);
        proc::becomes("pinned memory", 0, SECOND, proc::pinned_bytes);
        assert_eq!((lease.len(), frozen.len()), (MIB, MIB));
        assert!(lease.iter().all(|byte| *byte == 0));
        assert!(bytes.iter().chain(frozen.iter()).all(|byte| *byte == 9));
        drop((bytes, frozen));
        assert_eq!(filled_over(lease, 3)[MIB - 1], 3);
    });
}

fn filled_over(mut lease: Lease, byte: u8) -> Lease {
    lease.fill(byte);
    lease
}

#[test]
fn nothing_is_pinned_after_an_end_in_the_middle_of_reads() {
    let name = "nothing_is_pinned_after_an_end_in_the_middle_of_reads";
    under_eight_mib(name).run(|| {
        for _ in 0..10 {
            let runtime = start(2, pool(4 * MIB, MIB));
            for shard in 0..2 {
                runtime.handle().spawn_on(shard, || async {
                    loop {
                        let lease = buffers::lease(256 << 10).await?;
                        drop(runtime::spawn(read_zeros(lease)));
                        runtime::task::yield_now().await;
                    }
                    #[allow(unreachable_code)] // It says what the block gives.
                    io::Result::Ok(())
                });
            }
            let begun = Instant::now();
            while runtime.handle().pool().occupancy().leases_total < 100 {
                assert!(begun.elapsed() < 5 * SECOND, "{:?}", runtime.handle().pool());
                std::thread::yield_now();
            }
            drop(runtime);
            proc::becomes("pinned memory", 0, SECOND, proc::pinned_bytes);
        }
    });
}

#[test]
fn pages_that_two_shards_use_are_pinned_once() {
    let name = "pages_that_two_shards_use_are_pinned_once";
    under_eight_mib(name).run(|| {
        start(2, pool(6 * MIB, MIB)).block_on(async {
            let leases: Vec<Lease> = (0..6).map(|_| filled(MIB, 1)).collect();
            assert_eq!(buffers::occupancy().mapped, 6 * MIB);
            assert_eq!(proc::pinned_bytes(), 6 * MIB);
            let mut both = Vec::new();
            for lease in leases {
                // Each lease is read into on both shards.
                let there = runtime::spawn_on(1, move || read_zeros(lease)).await;
                let here = there.expect("no panic").expect("it is registered");
                both.push(read_zeros(here).await.expect("it is registered here, too"));
            }
            assert_eq!(both.len(), 6);
            // Pinned twice it would be 12 MiB, and over the limit.
            assert_eq!(proc::pinned_bytes(), 6 * MIB);
        });
        proc::becomes("pinned memory", 0, SECOND, proc::pinned_bytes);
    });
}

/// Both operations refuse the lease, say why, and give it back as it was.
async fn is_refused(file: &File, lease: Lease) -> Lease {
    let reason = "the lease is from the pool of another runtime, or of one that has shut down";
    let failed = file.read_fixed(lease, 0).await.expect_err("it isn't registered here");
    let (error, lease) = failed.into_parts();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains(reason), "{error}");
    let failed = file.write_fixed(lease, 0).await.expect_err("it isn't registered here");
    let (error, lease) = failed.into_parts();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains(reason), "{error}");
    lease
}

#[test]
fn a_lease_of_another_runtime_is_refused_and_reaches_nobodys_memory() {
    let name = "a_lease_of_another_runtime_is_refused_and_reaches_nobodys_memory";
    under_eight_mib(name).run(|| {
        let theirs = start(1, pool(MIB, MIB));
        let strange = theirs.block_on(async { filled(4096, 0x77) });
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        std::fs::write(&path, [1; 4096]).expect("it is ours");
        start(1, pool(MIB, MIB)).block_on(async {
            let options = File::options().read(true).write(true).open(&path).await;
            let file = options.expect("it is ours");
            // Before this runtime has any registered memory, and then with its own in the same
            // slot.
            let strange = is_refused(&file, strange).await;
            let own = filled(4096, 0x55);
            assert_eq!(
                own.arena().map(|arena| arena.slot),
                strange.arena().map(|arena| arena.slot)
            );
            let (_, own) = file.write_all_fixed(own, 4096).await.expect("this one is registered");
            let strange = is_refused(&file, strange).await;
            assert_eq!((&own[..], &strange[..]), (&[0x55; 4096][..], &[0x77; 4096][..]));

            // It is refused when its runtime has ended, too.
            drop(theirs);
            let strange = is_refused(&file, strange).await;
            assert_eq!(strange[..], [0x77; 4096]);
            assert_eq!(&own[..], [0x55; 4096]);
        });
        let written = std::fs::read(&path).expect("it is there");
        assert_eq!(written, [[1; 4096], [0x55; 4096]].concat());
    });
}
