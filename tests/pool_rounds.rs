//! The pool grows, gives back and grows again while one shard is parked and leases cross shards: no
//! read is lost, and none lands in old pages.
//!
//! A shard that kept an old buffer table would read into pages that are no longer the lease's, and
//! report success. So every lease is filled before it is read into, and the file's blocks are all
//! different. `RINGHOLD_ROUNDS` sets how many rounds there are; the promise is 1,000,000.

mod common;
mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{count, proc};
use runtime::buffers::{self, Lease, PoolConfig};
use runtime::fs::File;
use runtime::sync::{mpsc, oneshot};
use runtime::task::{spawn_on, yield_now};
use runtime::{Builder, Runtime};
use watched::{Random, watchdog};

const PAGE: usize = 4096;

/// The file's blocks are a page each, and a lease has up to four.
const BLOCKS: usize = 61;
const LEASE_PAGES: usize = 4;

/// What a lease holds before it is read into: the byte of no block.
const STALE: u8 = 0xCC;

fn block_byte(block: usize) -> u8 {
    1 + block as u8
}

/// An arena for each lease, or for two, and none that is kept.
fn pool() -> PoolConfig {
    PoolConfig::new().limit(24 * PAGE).arena(LEASE_PAGES * PAGE).keep(0)
}

/// Reads blocks from `first` on, into all of the lease, and looks whether they are there.
async fn read_and_check(file: &File, mut lease: Lease, first: usize) -> Lease {
    let length = lease.capacity();
    lease.resize(length, STALE);
    let (count, lease) = file.read_fixed(lease, (first * PAGE) as u64).await.unwrap();
    assert_eq!(count, length);
    for (page, bytes) in lease.chunks(PAGE).enumerate() {
        let wrong = bytes.iter().find(|byte| **byte != block_byte(first + page));
        let arena = lease.arena();
        assert_eq!(wrong, None, "block {} did not land in the lease of {arena:?}", first + page);
    }
    lease
}

/// A lease that is to be read into on another shard, from this block on, and the way back.
type Errand = (Lease, usize, oneshot::Sender<Lease>);

/// A shard's task that reads into leases that come from others.
fn serve(runtime: &Runtime, shard: usize, file: &Arc<File>) -> mpsc::Sender<Errand> {
    let (errands, mut received) = mpsc::channel::<Errand>(4);
    let file = file.clone();
    runtime.handle().spawn_on(shard, move || async move {
        while let Some((lease, first, back)) = received.recv().await {
            let lease = read_and_check(&file, lease, first).await;
            back.send(lease).expect("somebody waits for the lease");
        }
    });
    errands
}

async fn send(to: &mpsc::Sender<Errand>, lease: Lease, first: usize) -> Lease {
    let (back, returned) = oneshot::channel();
    assert!(to.send((lease, first, back)).await.is_ok(), "a shard's task has ended");
    returned.await.expect("the read on the other shard succeeds")
}

/// Rounds on one shard: lease, read here, read on the other shard, give back, and give the arena
/// back.
async fn rounds(file: Arc<File>, other: mpsc::Sender<Errand>, parked: Parked, rounds: u64) {
    let mut random = parked.random;
    for round in 0..rounds {
        let pages = 1 + random.below(LEASE_PAGES);
        let lease = buffers::lease(pages * PAGE).await.unwrap();
        let first = random.below(BLOCKS - LEASE_PAGES);
        let lease = read_and_check(&file, lease, first).await;
        let first = random.below(BLOCKS - LEASE_PAGES);
        let lease = send(&other, lease, first).await;
        if round.is_multiple_of(64) {
            let first = random.below(BLOCKS - LEASE_PAGES);
            drop(send(&parked.errands, lease, first).await);
            parked.served.fetch_add(1, Ordering::Relaxed);
        } else {
            drop(lease);
        }
        match random.below(4) {
            // Nothing is given back, or only by the next sweep.
            0 => {}
            1 => {
                buffers::pool().sweep();
            }
            _ => {
                buffers::pool().sweep();
                buffers::pool().sweep();
            }
        }
        if round.is_multiple_of(32) {
            yield_now().await;
        }
    }
}

/// The shard that is parked but for one lease in many.
struct Parked {
    errands: mpsc::Sender<Errand>,
    served: Arc<AtomicU64>,
    random: Random,
}

fn run(rings: (u32, u32), total: u64, random: &mut Random) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blocks");
    let bytes: Vec<u8> = (0..BLOCKS).flat_map(|block| [block_byte(block); PAGE]).collect();
    std::fs::write(&path, bytes).unwrap();
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.shards(3).ring_entries(rings.0, rings.1).pool(pool()).build().unwrap();
    let pool = runtime.handle().pool().clone();
    let served = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let file = Arc::new(File::open(&path).await.unwrap());
        let servers: Vec<_> = (0..3).map(|shard| serve(&runtime, shard, &file)).collect();
        let tasks: Vec<_> = (0..2)
            .map(|shard| {
                let parked = Parked {
                    errands: servers[2].clone(),
                    served: served.clone(),
                    random: random.fork(),
                };
                let (file, other) = (file.clone(), servers[1 - shard].clone());
                spawn_on(shard, move || rounds(file, other, parked, total / 2))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let occupancy = pool.occupancy();
    println!("{total} rounds with rings of {rings:?}: {occupancy:?}");
    assert!(occupancy.given_back_total > total / 8, "the pool gave hardly anything back");
    assert!(occupancy.grown_total >= occupancy.given_back_total);
    assert_eq!((occupancy.leased, occupancy.leaked), (0, 0));
    assert!(served.load(Ordering::Relaxed) >= total / 64);
    // With nothing leased all arenas go, for which the parked shard is woken, too.
    pool.sweep();
    pool.sweep();
    let mapped = || pool.occupancy().mapped;
    proc::becomes("the mapped memory", 0, std::time::Duration::from_secs(5), mapped);
}

#[test]
fn no_read_is_lost_or_lands_in_old_pages_while_the_pool_grows_and_gives_back() {
    let total = u64::from(count("RINGHOLD_ROUNDS", 20_000));
    let _watchdog = watchdog("rounds of the pool", 60 + total / 500);
    let mut random = Random::from_environment();
    for rings in watched::RINGS {
        run(rings, total / 2, &mut random);
    }
}
