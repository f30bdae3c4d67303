//! Where locked memory, descriptors, threads, address space or cores are limited, a runtime says by
//! type and in words what is short and what helps, or makes do with it: no panic, no hang. Each
//! environment is a process of its own.

mod common;

use std::fs;
use std::io;
use std::path::Path;

use common::limits::{self, Resource};
use common::start::{
    SECOND, read_a_page, read_a_page_patiently, refusal, refusal_without_descriptors, says,
    start_error, take_descriptors, two_shards,
};
use common::{isolated, proc};
use runtime::buffers::{self, LeaseError, LeaseErrorKind, PoolConfig};
use runtime::runtime::{OperationError, StartError};
use runtime::{Builder, fs as files};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The one kernel that is known to charge rings to the limit of locked memory; others may or may
/// not.
fn rings_are_charged() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("it is readable");
    release.starts_with("6.18.")
}

#[test]
fn a_limit_of_no_locked_memory_is_told_with_its_cures() {
    let name = "a_limit_of_no_locked_memory_is_told_with_its_cures";
    isolated(name).unprivileged().limit(Resource::LockedMemory, 0).run(|| {
        let started = Builder::new_multi_thread().shards(1).run(async {
            // Where rings are free, leases are not.
            let error = buffers::lease(4096).await.expect_err("nothing may be pinned");
            assert_eq!(error.kind(), LeaseErrorKind::LockedMemory);
            says(&error, &["a lease of 4096 bytes", "is 0 bytes", "`ulimit -l`"]);
        });
        if started.is_ok() {
            return assert!(!rings_are_charged(), "6.18 charges them");
        }
        let (kind, error) = refusal(two_shards);
        let StartError::LockedMemory { limit: Some(0), needed: 28672 } = error else {
            panic!("{error:?}");
        };
        assert_eq!(kind, io::ErrorKind::OutOfMemory);
        says(&error, &["(0 bytes for this user", "about 28672 bytes", "RLIMIT_MEMLOCK"]);
        says(&error, &["`ulimit -l`", "fewer shards or smaller rings", "CAP_IPC_LOCK"]);
    });
}

#[test]
fn sixty_four_kib_of_locked_memory_are_enough_for_a_shard_and_a_lease() {
    isolated("sixty_four_kib_of_locked_memory_are_enough_for_a_shard_and_a_lease")
        .unprivileged()
        .limit(Resource::LockedMemory, 64 * KIB)
        .run(|| {
            for round in 0..5 {
                let worked = Builder::new_multi_thread().shards(1).run(read_a_page_patiently());
                let worked = worked.unwrap_or_else(|error| panic!("round {round}: {error}"));
                worked.unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
        });
}

#[test]
fn more_shards_than_sixty_four_kib_allow_are_refused_and_leave_nothing() {
    isolated("more_shards_than_sixty_four_kib_allow_are_refused_and_leave_nothing")
        .unprivileged()
        .limit(Resource::LockedMemory, 64 * KIB)
        .run(|| {
            let threads = proc::threads();
            if Builder::new_multi_thread().shards(8).run(async {}).is_ok() {
                return assert!(!rings_are_charged(), "6.18 charges eight rings 224 KiB");
            }
            // The threads of the shards that had booted end on their own.
            proc::becomes("the count of threads", threads, SECOND, proc::threads);
            let (_, error) = refusal(|builder| _ = builder.shards(8));
            let StartError::LockedMemory { limit: Some(65536), .. } = error else {
                panic!("{error:?}");
            };
            proc::becomes("the count of threads", threads, SECOND, proc::threads);
            // What the refused ones had locked is there again.
            let worked = Builder::new_multi_thread().shards(1).run(read_a_page_patiently());
            worked.expect("it starts").expect("it works");
        });
}

#[test]
fn the_usual_eight_mib_of_locked_memory_are_enough_for_the_defaults() {
    isolated("the_usual_eight_mib_of_locked_memory_are_enough_for_the_defaults")
        .unprivileged()
        .limit(Resource::LockedMemory, 8 * MIB)
        .run(|| {
            let worked = Builder::new_multi_thread().run(async {
                assert_eq!(buffers::occupancy().limit, 4 << 20);
                let leases: Vec<_> = (0..4).map(|_| buffers::try_lease(1 << 20)).collect();
                assert!(leases.iter().all(Result::is_ok), "{leases:?}");
                drop(leases);
                read_a_page().await
            });
            worked.expect("it starts").expect("it works");
        });
}

#[test]
fn sixteen_descriptors_are_enough_for_two_shards() {
    isolated("sixteen_descriptors_are_enough_for_two_shards").limit(Resource::OpenFiles, 16).run(
        || {
            let worked = Builder::new_multi_thread().shards(2).run(read_a_page());
            worked.expect("it starts").expect("it works");
        },
    );
}

#[test]
fn a_full_table_of_descriptors_is_told_with_its_limit() {
    isolated("a_full_table_of_descriptors_is_told_with_its_limit")
        .limit(Resource::OpenFiles, 16)
        .run(|| {
            let before = proc::open_descriptors();
            // A shard takes its ring, and an event where the kernel has no message that wakes a
            // ring; the pool takes one more. With fewer than that it fails half-way.
            let running = Builder::new_multi_thread().shards(2).build().expect("it starts");
            let of_two = proc::open_descriptors() - before;
            drop(running);
            assert!([3, 5].contains(&of_two), "two shards take {of_two} descriptors");
            for left in 0..of_two {
                let taken = take_descriptors(left);
                let (kind, error) = refusal_without_descriptors(two_shards);
                let StartError::TooManyOpenFiles { limit: 16 } = error else { panic!("{error:?}") };
                assert_eq!(kind, io::ErrorKind::QuotaExceeded);
                says(&error, &["too many open files (EMFILE; the limit is 16)", "RLIMIT_NOFILE"]);
                drop(taken);
                proc::becomes("the count of descriptors", before, SECOND, proc::open_descriptors);
            }
            let worked = Builder::new_multi_thread().shards(2).run(read_a_page());
            worked.expect("it starts").expect("it works");
        });
}

#[test]
fn descriptors_that_run_out_after_the_start_fail_what_needs_one_and_nothing_else() {
    isolated("descriptors_that_run_out_after_the_start_fail_what_needs_one_and_nothing_else")
        .limit(Resource::OpenFiles, 16)
        .run(|| {
            let worked = Builder::new_multi_thread().shards(2).run(async {
                let taken = take_descriptors(0);
                let error = files::File::open("/dev/zero").await.expect_err("no descriptor");
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                // The table of registered buffers was made at the start: neither the first lease
                // nor the growing of the pool needs one.
                // A user who may lock 8 MiB has a pool of 4.
                let large = buffers::occupancy().limit.min(16 << 20) / 2;
                let leases = [buffers::lease(4096).await?, buffers::lease(large).await?];
                assert_eq!(buffers::occupancy().arenas, 2);
                drop((taken, leases));
                read_a_page().await
            });
            worked.expect("it starts").expect("it works again");
        });
}

#[test]
fn a_start_short_of_descriptors_is_no_reason_to_pin_pages_twice_later() {
    isolated("a_start_short_of_descriptors_is_no_reason_to_pin_pages_twice_later")
        .limit(Resource::OpenFiles, 16)
        .run(|| {
            // Two rings and the table, and none for finding out whether shards can share it.
            let taken = take_descriptors(3);
            let (_, error) = refusal_without_descriptors(two_shards);
            drop(taken);
            assert!(matches!(error, StartError::TooManyOpenFiles { limit: 16 }), "{error:?}");
            let worked = Builder::new_multi_thread().shards(2).run(async {
                read_a_page().await?;
                let handle = runtime::Handle::current();
                handle.spawn_on(1, read_a_page).await.map_err(io::Error::other)??;
                assert_eq!(proc::pinned_bytes(), buffers::occupancy().mapped);
                io::Result::Ok(())
            });
            worked.expect("it starts").expect("it works");
        });
}

#[test]
fn shards_beside_which_no_lease_fits_are_refused_with_limit_need_and_cures() {
    let name = "shards_beside_which_no_lease_fits_are_refused_with_limit_need_and_cures";
    isolated(name).unprivileged().limit(Resource::LockedMemory, 64 * KIB).run(|| {
        let started = Builder::new_multi_thread().shards(2).run(read_a_page_patiently());
        let Err(error) = started else {
            return assert!(!rings_are_charged(), "6.18 charges two rings and the table 64 KiB");
        };
        let (kind, error) = start_error(error);
        let StartError::NoRoomForLeases { limit: 65536, needed: 73728 } = error else {
            panic!("{error:?}");
        };
        assert_eq!(kind, io::ErrorKind::OutOfMemory);
        says(&error, &["65536 bytes for this user", "about 73728 bytes", "RLIMIT_MEMLOCK"]);
        says(&error, &["`ulimit -l`", "fewer shards or smaller rings", "CAP_IPC_LOCK"]);
        let worked = Builder::new_multi_thread().shards(1).run(read_a_page_patiently());
        worked.expect("it starts").expect("it works");
    });
}

#[test]
fn a_shard_whose_thread_can_not_be_started_is_told() {
    isolated("a_shard_whose_thread_can_not_be_started_is_told")
        .unprivileged()
        .limit(Resource::Processes, 1)
        .run(|| {
            let (kind, error) = refusal(two_shards);
            assert!(matches!(error, StartError::Thread(_)), "{error:?}");
            assert_eq!(kind, io::ErrorKind::WouldBlock);
            says(&error, &["a thread of the runtime could not be started", "`ulimit -u`"]);
            says(&error, &["pids.max", "fewer shards"]);
        });
}

#[test]
fn where_no_thread_can_be_started_one_shard_works_and_blocking_closures_are_cancelled() {
    isolated("where_no_thread_can_be_started_one_shard_works_and_blocking_closures_are_cancelled")
        .unprivileged()
        .limit(Resource::Processes, 1)
        .run(|| {
            let worked = Builder::new_current_thread().run(async {
                read_a_page().await?;
                let error = runtime::spawn_blocking(|| 7).await.expect_err("no thread");
                assert!(error.is_cancelled(), "{error:?}");
                read_a_page().await
            });
            worked.expect("it starts").expect("it works");
        });
}

#[test]
fn an_operation_that_gets_no_worker_of_the_kernel_says_so_and_others_go_on() {
    isolated("an_operation_that_gets_no_worker_of_the_kernel_says_so_and_others_go_on")
        .unprivileged()
        .limit(Resource::Processes, 1)
        .run(|| {
            let worked = Builder::new_current_thread().run(async {
                // The kernel has a worker wait for each sync.
                let error = files::File::from_std(tempfile::tempfile()?).sync_all().await;
                let error = error.expect_err("there is no worker");
                assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
                let text = "the kernel could start no worker thread for the operation (ECANCELED): \
                            raise the limit of processes (`ulimit -u`, RLIMIT_NPROC), or that of \
                            the control group (pids.max)";
                assert_eq!(error.to_string(), text);
                assert_eq!(format!("{:?}", error.get_ref().unwrap()), text);
                let cause = error.downcast::<OperationError>().expect("it is typed");
                assert_eq!(cause, OperationError::NoWorker);
                read_a_page().await
            });
            worked.expect("it starts").expect("it works");
        });
}

#[test]
fn without_threads_cold_calls_are_made_by_the_shard() {
    isolated("without_threads_cold_calls_are_made_by_the_shard")
        .unprivileged()
        .limit(Resource::Processes, 1)
        .run(|| {
            let worked = Builder::new_current_thread().run(async {
                // It runs on the shard's own thread, for want of another.
                let path = files::canonicalize("/dev/../dev/null").await?;
                assert_eq!(path, Path::new("/dev/null"));
                read_a_page().await
            });
            worked.expect("it starts").expect("it works");
        });
}

#[test]
fn a_process_that_may_run_on_one_core_has_one_shard() {
    isolated("a_process_that_may_run_on_one_core_has_one_shard").run(|| {
        limits::run_on_one_core();
        let runtime = Builder::new_multi_thread().build().expect("it starts");
        assert_eq!(runtime.metrics().num_workers(), 1);
    });
}

/// A control group as std's reader of it wants it, which allows one core's worth of time.
fn quota_of_one_core(group: &Path, itself: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.controllers"), "cpu\n")?;
    fs::write(group.join("cpu.max"), "100000 100000\n")?;
    fs::write(itself, "0::/\n")?;
    limits::own_mounts()?;
    limits::cover("/proc/self/cgroup", itself)?;
    limits::cover("/sys/fs/cgroup", group)
}

#[test]
fn a_control_group_that_allows_one_core_gives_one_shard() {
    let name = "a_control_group_that_allows_one_core_gives_one_shard";
    isolated(name).run(|| {
        let group = tempfile::tempdir().expect("a temporary directory");
        let itself = tempfile::NamedTempFile::new().expect("a temporary file");
        if let Err(error) = quota_of_one_core(group.path(), itself.path()) {
            return common::skip(name, &format!("mounts need root and control groups: {error}"));
        }
        let runtime = Builder::new_multi_thread().build().expect("it starts");
        assert_eq!(runtime.metrics().num_workers(), 1);
    });
}

#[test]
fn address_space_that_runs_out_is_told_by_the_lease_and_smaller_ones_go_on() {
    isolated("address_space_that_runs_out_is_told_by_the_lease_and_smaller_ones_go_on")
        .limit(Resource::AddressSpace, 512 * MIB)
        .run(|| {
            let pool = PoolConfig::new().limit(1 << 30).arena(1 << 20);
            let worked = Builder::new_multi_thread().shards(1).pool(pool).run(async {
                let error = buffers::try_lease(1 << 30).expect_err("there is not so much");
                assert_eq!(error.kind(), LeaseErrorKind::OutOfMemory);
                says(&error, &["a lease of 1073741824 bytes", "Cannot allocate memory"]);
                let error: LeaseError = buffers::lease(1 << 30).await.expect_err("nor now");
                assert_eq!(error.kind(), LeaseErrorKind::OutOfMemory);
                read_a_page().await
            });
            worked.expect("it starts").expect("it works");
        });
}
