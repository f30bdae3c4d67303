//! What is done with the operations of a class, and what has to be as it was afterwards.

#![allow(dead_code)] // Each test file is a program of its own and uses a part of this.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime::buffers::{self, Lease, PoolConfig};
use runtime::task::yield_now;

use crate::common::{count, proc};
use crate::watched::{
    Dropped, Flag, RINGS, Random, WHENS, Watch, When, nop, settle, start_and_drop, watched,
};

pub const PAGE: usize = 4096;
pub const PAGES: usize = 64;

/// What the operations of a class work on.
pub trait Ground {
    /// One of them.
    fn operation(&self, number: usize) -> Dropped;

    /// Whether they come to an end by themselves.
    fn ends(&self) -> bool;

    /// The opcode that a good part of them has to come to, lest a test see nothing.
    fn opcode(&self) -> Option<u8> {
        None
    }
}

/// A pool of one arena that is kept.
pub fn one_arena() -> PoolConfig {
    PoolConfig::new().limit(PAGES * PAGE).arena(PAGES * PAGE).keep(PAGES * PAGE)
}

/// A lease of a page, with so many bytes in it.
pub fn lease(filled: usize) -> Lease {
    let mut lease = buffers::try_lease(PAGE).unwrap();
    lease.resize(filled, 0x5A);
    lease
}

pub fn pinned<T>(future: impl Future<Output = T> + 'static) -> Dropped {
    Box::pin(async move {
        future.await;
    })
}

async fn churn<G: Ground>(
    make: impl AsyncFn(PathBuf) -> G,
    watch: &Watch,
    random: &mut Random,
    operations: usize,
) {
    let directory = tempfile::tempdir().unwrap();
    let ground = make(directory.path().to_owned()).await;
    let base = (proc::open_descriptors(), proc::pinned_bytes(), buffers::occupancy().mapped);
    let (mut done, mut groups) = (0, 0_u32);
    while done < operations {
        groups += 1;
        if groups.is_multiple_of(4) {
            settle(watch).await;
        }
        let size = (1 + random.below(8)).min(operations - done);
        let mut group: Vec<_> = (done..done + size).map(|it| ground.operation(it)).collect();
        done += size;
        let when = match random.below(5) {
            4 => None,
            choice => Some(WHENS[choice]),
        };
        let when = match when {
            None | Some(When::Arrived) if !ground.ends() => Some(When::InFlight),
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
    // Whoever acts for a peer has acted.
    for _ in 0..8 {
        yield_now().await;
    }
    settle(watch).await;
    let occupancy = buffers::occupancy();
    let now = (proc::open_descriptors(), proc::pinned_bytes(), occupancy.mapped);
    assert_eq!(now, base, "descriptors, pinned bytes, mapped bytes");
    assert_eq!((occupancy.leased, occupancy.waiters), (0, 0));
    assert_eq!(occupancy.free, occupancy.mapped);
    if let Some(opcode) = ground.opcode() {
        let taken = watch.taken_of(opcode);
        println!("{taken} of {operations} came to opcode {opcode}");
        assert!(taken >= operations as u64 / 16, "{taken} came to opcode {opcode}");
    }
}

/// Awaits and drops the operations of a class, and looks whether anything was lost.
pub fn conserve<G: Ground>(make: impl AsyncFn(PathBuf) -> G) {
    let operations = count("RINGHOLD_OPERATIONS", 2_000) as usize;
    let mut random = Random::from_environment();
    let before = proc::open_descriptors();
    for rings in RINGS {
        let watch = Watch::new();
        watched(&watch, rings)
            .pool(one_arena())
            .run(churn(&make, &watch, &mut random, operations / RINGS.len()))
            .unwrap();
        watch.balance();
        watch.all_have_unregistered();
        let second = Duration::from_secs(1);
        proc::becomes("the count of descriptors", before, second, proc::open_descriptors);
        proc::becomes("the pinned memory", 0, second, proc::pinned_bytes);
    }
}

pub fn patience() -> Duration {
    Duration::from_secs(60)
        + Duration::from_millis(u64::from(count("RINGHOLD_OPERATIONS", 2_000)) * 5)
}

/// A test, in a process of its own, for each class.
macro_rules! classes {
    ($ground:ident: $($test:ident: $class:ident,)*) => {$(
        #[test]
        fn $test() {
            crate::common::isolated(stringify!($test))
                .deadline(conserved::patience())
                .run(|| conserved::conserve(async |directory| {
                    $ground::new(Class::$class, directory).await
                }));
        }
    )*};
}

pub(crate) use classes;

/// A file of a page in the directory.
pub fn page(directory: &Path) -> PathBuf {
    let path = directory.join("file");
    std::fs::write(&path, [0x5A; PAGE]).unwrap();
    path
}
