//! What pools promise beside leases: they grow without holding up a shard, keep a reserve for
//! groups of tasks, have names, are there from the start if that is asked for, and make do with
//! what other runtimes of the same user leave.

mod common;

use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::limits::Resource;
use common::{Altered, AlteredSystem, count, isolated, proc};
use ringhold_runtime::{ArenaEntry, Donor, System};
use runtime::buffers::{self, LeaseErrorKind, PoolConfig};
use runtime::fs::File;
use runtime::task::TaskGroup;
use runtime::time::{sleep, timeout};
use runtime::{Builder, Runtime};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const LONG: Duration = Duration::from_secs(60);

/// Lets registering through, or not.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.closed.lock().unwrap();
        while *closed {
            closed = self.changed.wait(closed).unwrap();
        }
    }
}

/// Linux, whose donor registers when a gate opens.
struct Gated {
    linux: Arc<dyn System>,
    gate: Arc<Gate>,
}

impl Altered for Gated {
    fn linux(&self) -> &Arc<dyn System> {
        &self.linux
    }

    fn donor(&self) -> io::Result<Box<dyn Donor>> {
        let donor = self.linux.donor()?;
        Ok(Box::new(GatedDonor { donor, gate: self.gate.clone() }))
    }
}

struct GatedDonor {
    donor: Box<dyn Donor>,
    gate: Arc<Gate>,
}

impl Donor for GatedDonor {
    fn register(&self, arena: &ArenaEntry) -> io::Result<()> {
        self.gate.pass();
        self.donor.register(arena)
    }

    fn clear(&self, slot: u16) -> io::Result<()> {
        self.donor.clear(slot)
    }

    fn descriptor(&self) -> RawFd {
        self.donor.descriptor()
    }

    fn can_be_cloned(&self) -> bool {
        self.donor.can_be_cloned()
    }

    fn close(&self) {
        self.donor.close();
    }
}

#[test]
fn a_shard_goes_on_while_its_pool_grows() {
    let gate = Arc::new(Gate::default());
    let linux = Builder::default_system();
    let can_be_cloned = linux.donor().expect("there are descriptors").can_be_cloned();
    if !can_be_cloned {
        return common::skip("pools", "before Linux 6.13 a shard registers by itself");
    }
    let system = Arc::new(AlteredSystem(Gated { linux, gate: gate.clone() }));
    let runtime = Builder::new_multi_thread().system(system).shards(1).build().unwrap();
    gate.set(true);
    runtime.block_on(async {
        let leases: Vec<_> = (0..4).map(|_| runtime::spawn(buffers::lease(4096))).collect();
        while !buffers::occupancy().growing {
            runtime::task::yield_now().await;
        }
        // The shard's tasks and timers go on, and so do operations.
        let others = runtime::spawn(async {
            sleep(Duration::from_millis(1)).await;
            runtime::fs::read("/proc/self/comm").await
        });
        timeout(LONG, others).await.expect("the shard stands still").unwrap().unwrap();
        assert_eq!((buffers::occupancy().waiters, buffers::occupancy().mapped), (4, 0));
        assert!(leases.iter().all(|lease| !lease.is_finished()));
        gate.set(false);
        for lease in leases {
            let lease = timeout(LONG, lease).await.expect("it was not woken");
            assert_eq!(lease.unwrap().unwrap().capacity(), 4096);
        }
        assert_eq!(buffers::occupancy().grown_total, 1);
    });
}

#[test]
fn a_runtime_ends_while_its_pool_grows() {
    for round in 0..20_u64 {
        let gate = Arc::new(Gate::default());
        let system =
            Arc::new(AlteredSystem(Gated { linux: Builder::default_system(), gate: gate.clone() }));
        let runtime = Builder::new_multi_thread().system(system).shards(2).build().unwrap();
        runtime.block_on(async {
            let lease = runtime::spawn(buffers::lease(4096));
            sleep(Duration::from_micros(50 * round)).await;
            lease.abort();
        });
        drop(runtime);
    }
    // The tests beside this one pin some for a while, too.
    proc::becomes("the pinned memory", 0, LONG, || match proc::pinned_bytes() {
        pinned if pinned < 64 * MIB => 0,
        pinned => pinned,
    });
}

#[test]
fn a_group_with_a_latency_goal_leases_at_once_beside_one_that_takes_all_it_can() {
    Builder::new_current_thread()
        .pool(PoolConfig::new().limit(4 * MIB).arena(4 * MIB))
        .run(async {
            let goal = Duration::from_millis(1);
            let requests = TaskGroup::builder("requests").shares(900).latency_goal(goal).build();
            let compaction = TaskGroup::builder("compaction").shares(100).build();
            let merges = compaction.spawn(async {
                let mut held = Vec::new();
                while let Ok(lease) = buffers::try_lease(64 * KIB) {
                    held.push(lease);
                }
                held
            });
            let held = merges.await.unwrap();
            // A sixteenth of 4 MiB is the requests'.
            assert_eq!((held.len(), buffers::occupancy().reserved), (60, 256 * KIB));
            let waiting = compaction.spawn(buffers::lease(MIB));
            let own = requests.spawn(async {
                let first = futures::poll!(std::pin::pin!(buffers::lease(4096)));
                assert!(matches!(first, std::task::Poll::Ready(Ok(_))), "{first:?}");
                let mut own = Vec::new();
                while let Ok(lease) = buffers::try_lease(4096) {
                    own.push(lease);
                }
                own
            });
            // One was leased before.
            assert_eq!(own.await.unwrap().len(), 63);
            drop(held);
            assert_eq!(waiting.await.unwrap().unwrap().capacity(), MIB);
            // What a group may have is settable.
            let scan = TaskGroup::builder("scan").lease_reserve(MIB).build();
            assert_eq!(buffers::occupancy().reserved, MIB + 256 * KIB);
            drop(scan);
            assert_eq!(buffers::occupancy().reserved, 256 * KIB);
        })
        .unwrap();
}

#[test]
fn a_named_pool_is_there_whatever_becomes_of_the_runtime_s_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    std::fs::write(&path, [7; 8192]).unwrap();
    let log = PoolConfig::new().limit(128 * KIB).arena(64 * KIB);
    let mut builder = Builder::new_multi_thread();
    builder.shards(2).pool(PoolConfig::new().limit(64 * KIB).arena(64 * KIB));
    builder.named_pool("log", log.clone());
    builder
        .run(async move {
            let all = buffers::lease(64 * KIB).await.unwrap();
            assert_eq!(buffers::try_lease(1).unwrap_err().kind(), LeaseErrorKind::Full);
            let pool = buffers::named_pool("log").unwrap();
            let lease = pool.lease(8192).await.unwrap();
            assert_ne!(lease.arena().unwrap().slot, all.arena().unwrap().slot);
            // It is registered on every shard.
            let read = runtime::task::spawn_on(1, move || async move {
                let file = File::open(path).await?;
                let (_, lease) = file.read_exact_fixed(lease, 0).await?;
                io::Result::Ok(lease)
            });
            assert_eq!(read.await.unwrap().unwrap()[..], [7; 8192]);
            assert_eq!(pool.occupancy().limit, 128 * KIB);
            assert!(buffers::named_pool("other").is_none());
        })
        .unwrap();
    let error = builder.named_pool("log", log).build().unwrap_err();
    assert_eq!(error.to_string(), "two pools have the name \"log\"");
}

#[test]
fn a_pool_that_is_filled_at_the_start_does_not_grow() {
    let mut builder = Builder::new_multi_thread();
    builder.shards(1).pool(PoolConfig::new().limit(4 * MIB).arena(MIB)).pool_prefill(4 * MIB);
    builder
        .run(async {
            let grown = buffers::occupancy().grown_total;
            assert_eq!((grown, buffers::occupancy().free), (4, 4 * MIB));
            let first = futures::poll!(std::pin::pin!(buffers::lease(MIB)));
            assert!(matches!(first, std::task::Poll::Ready(Ok(_))), "{first:?}");
            buffers::pool().sweep();
            buffers::pool().sweep();
            assert_eq!(buffers::occupancy().mapped, 4 * MIB);
        })
        .unwrap();
}

#[test]
fn an_arena_under_the_usual_limit_is_one_huge_page() {
    isolated("an_arena_under_the_usual_limit_is_one_huge_page")
        .unprivileged()
        .limit(Resource::LockedMemory, 8 << 20)
        .run(|| {
            let worked = Builder::new_multi_thread().shards(1).run(async {
                let lease = buffers::lease(4096).await?;
                assert_eq!(lease.as_ptr().addr() % (2 * MIB), 0);
                let occupancy = buffers::occupancy();
                assert_eq!((occupancy.mapped, occupancy.limit), (2 * MIB, 4 * MIB));
                // Where the kernel has none to spare, or can't tell.
                assert!([0, 2 * MIB].contains(&occupancy.huge), "{occupancy:?}");
                let error = buffers::lease(5 * MIB).await.unwrap_err();
                assert_eq!(
                    error.to_string(),
                    "a lease of 5242880 bytes was asked for, but this pool can never give more \
                     than 4194304 bytes at once; it was made for half of RLIMIT_MEMLOCK, which is \
                     8388608 bytes: raise that limit (`ulimit -l`), or set the pool's \
                     (`Builder::pool_limit`)"
                );
                io::Result::Ok(())
            });
            worked.expect("it starts").expect("it works");
        });
}

/// Starts a runtime as a user of this crate does, and reads through a lease.
fn serve() {
    let runtime = Runtime::new().expect("it starts");
    let read = runtime.block_on(async {
        let file = File::open("/dev/zero").await?;
        let lease = buffers::lease(64 * KIB).await?;
        file.read_exact_fixed(lease, 0).await.map_err(io::Error::from)?;
        io::Result::Ok(())
    });
    read.unwrap_or_else(|error| panic!("{error}; {:?}", runtime.handle().pool()));
}

#[test]
fn runtimes_side_by_side_share_what_the_user_may_lock() {
    isolated("runtimes_side_by_side_share_what_the_user_may_lock")
        .unprivileged()
        .limit(Resource::LockedMemory, 8 << 20)
        .deadline(Duration::from_secs(120))
        .run(|| {
            let rounds = count("RINGHOLD_ROUNDS", 20);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(move || (0..rounds).for_each(|_| serve()));
                }
            });
            proc::becomes("the pinned memory", 0, LONG, proc::pinned_bytes);
        });
}
