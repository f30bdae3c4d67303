//! Registered buffers where one ring's table can't be cloned over another's (Linux before 6.13):
//! each shard registers every arena on its own ring.

mod common;

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Altered, AlteredSystem, isolated, proc};
use ringhold_runtime::{ArenaEntry, Donor, System};
use runtime::buffers::{self, Lease, PoolConfig};
use runtime::fs::File;
use runtime::{Builder, Runtime, spawn_on};

const ARENA: usize = 256 << 10;
const SOON: Duration = Duration::from_secs(10);

/// Linux, whose donor says that it can't be cloned, or fails to clear a slot.
struct Old {
    linux: Arc<dyn System>,
    can_be_cloned: bool,
    keeps_slots: Arc<AtomicBool>,
}

impl Altered for Old {
    fn linux(&self) -> &Arc<dyn System> {
        &self.linux
    }

    fn donor(&self) -> io::Result<Box<dyn Donor>> {
        let donor = self.linux.donor()?;
        let keeps_slots = self.keeps_slots.clone();
        Ok(Box::new(OldDonor { donor, can_be_cloned: self.can_be_cloned, keeps_slots }))
    }
}

struct OldDonor {
    donor: Box<dyn Donor>,
    can_be_cloned: bool,
    keeps_slots: Arc<AtomicBool>,
}

impl Donor for OldDonor {
    fn register(&self, arena: &ArenaEntry) -> io::Result<()> {
        self.donor.register(arena)
    }

    fn clear(&self, slot: u16) -> io::Result<()> {
        if self.keeps_slots.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.donor.clear(slot)
    }

    fn descriptor(&self) -> RawFd {
        self.donor.descriptor()
    }

    fn can_be_cloned(&self) -> bool {
        self.can_be_cloned
    }

    fn close(&self) {
        self.donor.close();
    }
}

fn start(can_be_cloned: bool, keeps_slots: &Arc<AtomicBool>) -> Runtime {
    let linux = Builder::default_system();
    let keeps_slots = keeps_slots.clone();
    Builder::new_multi_thread()
        .system(Arc::new(AlteredSystem(Old { linux, can_be_cloned, keeps_slots })))
        .shards(2)
        .pool(PoolConfig::new().limit(4 * ARENA).arena(ARENA).keep(0))
        .build()
        .unwrap()
}

async fn read_on(shard: usize, lease: Lease) -> Lease {
    let read = spawn_on(shard, move || async move {
        let zeros = File::open("/dev/zero").await?;
        let (count, lease) = zeros.read_fixed(lease, 0).await?;
        assert_eq!(count, 4096);
        io::Result::Ok(lease)
    });
    read.await.unwrap().unwrap()
}

async fn filled() -> Lease {
    let mut lease = buffers::lease(4096).await.unwrap();
    lease.resize(4096, 0x77);
    lease
}

#[test]
fn the_shard_that_asks_for_a_lease_has_it_pinned_before_it_is_used() {
    let test = isolated("the_shard_that_asks_for_a_lease_has_it_pinned_before_it_is_used");
    test.run(|| {
        let runtime = start(false, &Arc::default());
        runtime.block_on(async {
            let leased = spawn_on(1, || async { buffers::lease(4096).await.unwrap() });
            let lease = leased.await.unwrap();
            assert_eq!(proc::pinned_bytes(), ARENA);
            // The other shard registers it by itself, when it uses it.
            read_on(0, read_on(1, lease).await).await;
            assert_eq!(proc::pinned_bytes(), 2 * ARENA);
        });
    });
}

#[test]
fn leases_are_good_on_every_shard_while_the_pool_grows_and_gives_back() {
    let runtime = start(false, &Arc::default());
    runtime.block_on(async {
        for _ in 0..2 {
            let mut leases = Vec::new();
            for _ in 0..3 {
                // Each fills an arena but for a page.
                let most = buffers::lease(ARENA - 4096).await.unwrap();
                leases.push((most, filled().await));
            }
            assert_eq!(buffers::occupancy().mapped, 3 * ARENA);
            for (_, lease) in leases {
                let lease = read_on(1, read_on(0, lease).await).await;
                assert_eq!(lease[..], [0; 4096]);
            }
            let end = Instant::now() + SOON;
            while buffers::occupancy().mapped > 0 {
                assert!(Instant::now() < end, "{:?}", buffers::occupancy());
                runtime::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    drop(runtime);
    // The other test's runtime pins some, too, until it ends.
    proc::becomes("pinned memory", 0, SOON, proc::pinned_bytes);
}

#[test]
fn an_arena_whose_slot_can_not_be_cleared_is_leaked_and_the_others_are_used() {
    let keeps_slots = Arc::new(AtomicBool::new(false));
    let runtime = start(true, &keeps_slots);
    runtime.block_on(async {
        let lease = read_on(0, filled().await).await;
        let before = lease.arena().unwrap();
        keeps_slots.store(true, Ordering::SeqCst);
        drop(lease);
        // Nothing is leased until a sweep has found it idle.
        let end = Instant::now() + SOON;
        while buffers::occupancy().leaked == 0 {
            assert!(Instant::now() < end, "{:?}", buffers::occupancy());
            runtime::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(buffers::occupancy().leaked, ARENA);
        let lease = read_on(1, filled().await).await;
        assert_eq!(lease[..], [0; 4096]);
        let after = lease.arena().unwrap();
        assert_ne!(after.slot, before.slot, "a slot that the table has was used again");
    });
}
