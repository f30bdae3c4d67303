//! Leases that cross threads: what comes back goes to who waits longest, whoever goes away
//! meanwhile.

use std::sync::Arc;
use std::task::Waker;

use ringhold_buffers::{LeaseErrorKind, PAGE, Pool, PoolConfig};
use ringhold_kernel::sync::model;

use super::{Machine, poll, start};

fn pool(pages: usize) -> Pool {
    Pool::unregistered(PoolConfig::new().limit(pages * PAGE).arena(pages * PAGE).keep(0))
}

/// Fails by deadlock where `release` doesn't serve who waits, and where an answer doesn't wake.
#[test]
fn a_lease_that_is_dropped_elsewhere_goes_to_who_waits() {
    model(|| {
        let machine = Machine::new();
        let pool = pool(1);
        let held = pool.try_lease(PAGE).expect("the pool is empty");
        let dropper = start(move || drop(held));
        let lease = machine.handle.block_on(pool.lease(PAGE)).expect("the page came back");
        dropper.join().expect("the dropper ends");
        drop(lease);
        assert_eq!(pool.occupancy().leased, 0);
        machine.shut_down();
    });
}

/// Fails by deadlock where a waiter that goes doesn't pass on what it was granted.
#[test]
fn a_grant_to_a_waiter_that_goes_passes_on_to_the_next() {
    model(|| {
        let machine = Machine::new();
        let pool = pool(1);
        let held = pool.try_lease(PAGE).expect("the pool is empty");
        let mut first = pool.lease(PAGE);
        assert!(poll(&mut first, Waker::noop()).is_pending());
        let mut second = pool.lease(PAGE);
        assert!(poll(&mut second, Waker::noop()).is_pending());
        let dropper = start(move || drop(held));
        let leaver = start(move || drop(first));
        let lease = machine.handle.block_on(second).expect("the page came to the second");
        dropper.join().expect("the dropper ends");
        leaver.join().expect("the leaver ends");
        drop(lease);
        assert_eq!((pool.occupancy().leased, pool.occupancy().waiters), (0, 0));
        machine.shut_down();
    });
}

/// Fails by deadlock where the end of growing doesn't serve, and by an assertion of the pool's
/// where two grow at once.
#[test]
fn two_who_come_at_once_are_served_by_one_growth() {
    model(|| {
        let machine = Machine::new();
        let pool = pool(2);
        let other = pool.clone();
        let kept = Arc::new(std::sync::Mutex::new(None));
        let keeper = kept.clone();
        let other = start(move || match other.try_lease(PAGE) {
            Ok(lease) => *keeper.lock().expect("no holder panics") = Some(lease),
            Err(error) => assert_eq!(error.kind(), LeaseErrorKind::Full),
        });
        let lease = machine.handle.block_on(pool.lease(PAGE)).expect("there is room for two");
        drop(lease);
        other.join().expect("the other thread ends");
        drop(kept.lock().expect("no holder panics").take());
        assert_eq!((pool.occupancy().leased, pool.occupancy().grown_total), (0, 1));
        machine.shut_down();
    });
}

/// Fails by its assertions where a sweep takes an arena that was leased since the one before.
#[test]
fn a_lease_and_a_sweep_at_once_leave_every_page_accounted_for() {
    model(|| {
        let pool = pool(1);
        drop(pool.try_lease(PAGE).expect("the pool is empty"));
        assert!(pool.sweep());
        let other = pool.clone();
        let sweeper = start(move || {
            other.sweep();
        });
        let lease = pool.try_lease(PAGE);
        let full = lease.is_err();
        drop(lease);
        sweeper.join().expect("the sweeper ends");
        let occupancy = pool.occupancy();
        assert_eq!((occupancy.leased, occupancy.retiring, occupancy.leaked), (0, 0, 0));
        // The arena was on its way out for as long as the lease was asked for.
        assert!(!full || occupancy.mapped == 0);
    });
}

/// Fails by its assertions where each part counts as frozen, and where each part thaws.
#[test]
fn the_last_frozen_part_of_a_page_gives_it_back() {
    model(|| {
        let machine = Machine::new();
        let pool = pool(2);
        let mut lease = pool.try_lease(PAGE).expect("the pool is empty");
        lease.extend_from_slice(b"two parts");
        let part = lease.split_to(3).freeze().expect("one page may be frozen");
        let rest = lease.freeze().expect("the page counts as frozen already");
        let dropper = start(move || {
            assert_eq!(&part[..], b"two");
            drop(part);
        });
        assert_eq!(&rest[..], b" parts");
        drop(rest);
        let lease = machine.handle.block_on(pool.lease(2 * PAGE)).expect("the page came back");
        dropper.join().expect("the dropper ends");
        assert_eq!((pool.occupancy().leased, pool.occupancy().frozen), (2 * PAGE, 0));
        drop(lease);
        machine.shut_down();
    });
}
