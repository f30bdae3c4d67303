//! Arenas at the pool's end, and when no slot is left for another.

mod fake;

use std::sync::Arc;

use fake::Fake;
use ringhold_buffers::{LeaseErrorKind, PAGE, POOL_SLOTS, Pool, PoolConfig, Registrar};

fn pool(fake: &Arc<Fake>) -> Pool {
    let config = PoolConfig::new().limit(POOL_SLOTS * PAGE).arena(PAGE).keep(0);
    Pool::new(config, fake.clone())
}

/// Leases once, and lets sweeps find what is idle.
fn retire_one(pool: &Pool) {
    drop(pool.try_lease(1).expect("a slot is left"));
    pool.sweep();
    pool.sweep();
}

#[test]
fn a_pool_all_of_whose_slots_are_leaked_says_so() {
    let fake = Fake::new(usize::MAX);
    fake.hold_retiring();
    let pool = pool(&fake);
    for leaked in 1..=POOL_SLOTS {
        retire_one(&pool);
        // Dropped and not completed: nobody knows whether a table still reaches them.
        drop(fake.take_retiring());
        assert_eq!(pool.occupancy().leaked, leaked * PAGE);
    }
    let error = pool.try_lease(1).expect_err("there is no slot for an arena");
    assert_eq!(error.kind(), LeaseErrorKind::TooLarge);
    // It is still there, and nobody gets it.
    assert_eq!((pool.occupancy().mapped, pool.occupancy().free), (POOL_SLOTS * PAGE, 0));
}

#[test]
fn a_pool_without_a_slot_says_so_although_its_limit_is_not_reached() {
    // One page can be pinned at a time, so that each arena is half of what it should be.
    let fake = Fake::new(PAGE);
    fake.hold_retiring();
    let config = PoolConfig::new().limit(POOL_SLOTS * 2 * PAGE).arena(2 * PAGE).keep(0);
    let pool = Pool::new(config, fake.clone());
    for leaked in 1..=POOL_SLOTS {
        retire_one(&pool);
        drop(fake.take_retiring());
        assert_eq!(pool.occupancy().leaked, leaked * PAGE);
    }
    let error = pool.try_lease(1).expect_err("there is no slot for an arena");
    // To wait would be for ever.
    assert_eq!(error.kind(), LeaseErrorKind::TooLarge);
}

#[test]
fn an_arena_that_is_detached_after_its_pool_was_leaked_stays_mapped() {
    let fake = Fake::new(usize::MAX);
    fake.hold_retiring();
    let pool = pool(&fake);
    retire_one(&pool);
    let mut retiring = fake.take_retiring();
    let one = retiring.pop().expect("it was idle");
    let text = format!("{one:?}");
    assert!(text.starts_with("Retiring { arena: ArenaId {"), "{text}");
    assert!(text.ends_with("length: 4096, .. }"), "{text}");
    pool.leak();
    one.complete();
    assert_eq!((pool.occupancy().given_back_total, pool.occupancy().leaked), (0, PAGE));
}

#[test]
fn a_pool_that_is_closed_is_not_swept() {
    let fake = Fake::new(usize::MAX);
    let pool = pool(&fake);
    let held = pool.try_lease(1).expect("there is room");
    pool.close();
    assert!(!pool.sweep());
    assert_eq!(pool.occupancy().arenas, 1);
    drop(held);
    let registrar: &dyn Registrar = &*fake;
    assert_eq!(format!("{registrar:?}"), "Registrar");
}
