//! What stays behind: memory that some table may still reach, futures that have failed, and waiters
//! of a pool that closes.

mod fake;

use std::task::Poll;

use fake::{Fake, Waiting};
use ringhold_buffers::{LeaseErrorKind, PAGE, Pool, PoolConfig};

/// Whether the process has something at an address.
fn is_mapped(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("a process sees its own maps");
    maps.lines().any(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let (start, end) = range.expect("a line begins with a range");
        let [start, end] = [start, end].map(|it| usize::from_str_radix(it, 16).expect("hex"));
        (start..end).contains(&address)
    })
}

#[test]
fn memory_stays_mapped_where_some_table_may_reach_it() {
    let fake = Fake::new(usize::MAX);
    fake.hold_retiring();
    let config = PoolConfig::new().limit(16 * PAGE).arena(16 * PAGE).keep(0);
    let pool = Pool::new(config, fake.clone());
    let lease = pool.try_lease(1).unwrap();
    let address = lease.as_ptr().addr();
    drop(lease);
    pool.sweep();
    pool.sweep();
    let retiring = fake.take_retiring();
    assert_eq!(retiring.len(), 1);
    assert!(is_mapped(address), "the tables have not been told yet");
    drop(retiring);
    assert!(is_mapped(address), "nobody knows whether a table still reaches it");
}

#[test]
fn a_future_that_failed_is_in_nobodys_way_though_it_is_kept() {
    let fake = Fake::new(usize::MAX);
    let pool = Pool::new(PoolConfig::new().limit(4 * PAGE), fake.clone());
    fake.fail_with(Some(libc::EFAULT));
    let mut failed = Waiting::new(pool.lease(PAGE));
    let Poll::Ready(Err(error)) = failed.poll() else { panic!("there is nothing to wait for") };
    assert_eq!(error.kind(), LeaseErrorKind::NotRegistrable);
    fake.fail_with(None);
    assert_eq!(pool.occupancy().waiters, 0);
    let Poll::Ready(lease) = Waiting::new(pool.lease(PAGE)).poll() else { panic!("it waits") };
    assert_eq!(lease.unwrap().capacity(), PAGE);
    drop(failed);
}

#[test]
fn a_future_that_found_no_memory_is_in_nobodys_way_though_it_is_kept() {
    let fake = Fake::new(2 * PAGE);
    let pool = Pool::new(PoolConfig::new().limit(4 * PAGE).arena(2 * PAGE).keep(0), fake.clone());
    let held = pool.try_lease(2 * PAGE).unwrap();
    let mut failed = Waiting::new(pool.lease(3 * PAGE)).waits();
    drop(held);
    let Poll::Ready(Err(error)) = failed.poll() else { panic!("there is nothing to wait for") };
    assert_eq!(error.kind(), LeaseErrorKind::LockedMemory);
    assert_eq!(pool.occupancy().waiters, 0);
    fake.set_budget(usize::MAX);
    let Poll::Ready(lease) = Waiting::new(pool.lease(PAGE)).poll() else { panic!("it waits") };
    assert_eq!(lease.unwrap().capacity(), PAGE);
    drop(failed);
}

#[test]
fn who_waits_is_told_when_the_pool_closes() {
    let pool = Pool::new(PoolConfig::new().limit(PAGE), Fake::new(usize::MAX));
    let held = pool.try_lease(PAGE).unwrap();
    let mut waiting = [(); 3].map(|()| Waiting::new(pool.lease(PAGE)).waits());
    pool.close();
    for waiting in &mut waiting {
        assert!(waiting.is_woken());
        assert_eq!(waiting.ready().unwrap_err().kind(), LeaseErrorKind::Closed);
    }
    drop(held);
}

#[test]
fn what_is_left_of_a_lease_that_was_cut_off_whole_pins_its_arena() {
    let config = PoolConfig::new().limit(16 * PAGE).arena(16 * PAGE).keep(0);
    let pool = Pool::new(config, Fake::new(usize::MAX));
    let mut lease = pool.try_lease(2 * PAGE).unwrap();
    lease.extend_from_slice(&[1; 8]);
    let mut front = lease.split_to(2 * PAGE);
    front.as_mut()[0] = 2;
    assert_eq!(front.as_ref(), [2, 1, 1, 1, 1, 1, 1, 1]);
    let mut part = front.slice(2..4);
    part[1] = 3;
    assert_eq!(&part.into_inner()[..], [2, 1, 1, 3, 1, 1, 1, 1]);
    for _ in 0..3 {
        pool.sweep();
    }
    assert_eq!((lease.capacity(), pool.occupancy().arenas), (0, 1));
    drop(lease);
    for _ in 0..3 {
        pool.sweep();
    }
    assert_eq!(pool.occupancy().arenas, 0);
}

#[test]
fn runs_that_join_when_what_is_between_them_comes_back_are_found() {
    let config = PoolConfig::new().limit(7 * PAGE).arena(7 * PAGE);
    let pool = Pool::new(config, Fake::new(usize::MAX));
    let mut pages = [(); 7].map(|()| Some(pool.try_lease(PAGE).unwrap()));
    pages[0] = None;
    pages[2] = None;
    assert_eq!(pool.try_lease(2 * PAGE).unwrap_err().kind(), LeaseErrorKind::Full);
    pages[1] = None;
    assert_eq!(pool.try_lease(3 * PAGE).unwrap().capacity(), 3 * PAGE);
}
