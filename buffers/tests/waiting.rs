//! Who waits for a lease, and in which order they are served.

mod fake;

use std::future::Future;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use fake::{Fake, Waiting};
use ringhold_buffers::{LeaseErrorKind, Occupancy, PAGE, Pool, PoolConfig};

fn pool_of(pages: usize) -> Pool {
    Pool::unregistered(PoolConfig::new().limit(pages * PAGE).arena(pages * PAGE))
}

#[test]
fn a_full_pool_makes_wait_and_a_returned_lease_serves() {
    let pool = pool_of(2);
    let held = pool.try_lease(2 * PAGE).unwrap();
    assert_eq!(pool.try_lease(1).unwrap_err().kind(), LeaseErrorKind::Full);
    let mut waiting = Waiting::new(pool.lease(100)).waits();
    assert_eq!(pool.occupancy().waiters, 1);
    assert!(!waiting.is_woken());
    drop(held);
    assert_eq!(waiting.ready().unwrap().capacity(), 100);
    let occupancy = pool.occupancy();
    assert_eq!((occupancy.waiters, occupancy.waits_total, occupancy.leases_total), (0, 1, 2));
    assert!(occupancy.wait_time_total.as_nanos() > 0);
}

#[test]
fn nobody_overtakes_one_that_wants_as_much() {
    let pool = pool_of(16);
    let mut held: Vec<_> = (0..16).map(|_| pool.try_lease(PAGE).unwrap()).collect();
    let mut first = Waiting::new(pool.lease(4 * PAGE)).waits();
    let mut second = Waiting::new(pool.lease(3 * PAGE)).waits();
    // Three in a row are free: they would do for the second, and are kept for the first.
    held.truncate(13);
    assert!(!first.is_woken() && !second.is_woken());
    assert_eq!(pool.try_lease(3 * PAGE).unwrap_err().kind(), LeaseErrorKind::Full);
    held.truncate(12);
    let first = first.ready().unwrap();
    assert!(!second.is_woken());
    drop(first);
    assert_eq!(second.ready().unwrap().capacity(), 3 * PAGE);
}

#[test]
fn a_dropped_waiter_leaves_the_queue_and_passes_on() {
    let pool = pool_of(2);
    let first = pool.try_lease(PAGE).unwrap();
    let _second = pool.try_lease(PAGE).unwrap();
    let head = Waiting::new(pool.lease(2 * PAGE)).waits();
    let middle = Waiting::new(pool.lease(PAGE)).waits();
    let mut last = Waiting::new(pool.lease(PAGE)).waits();
    drop(middle);
    drop(first);
    assert_eq!(pool.occupancy().waiters, 2);
    assert!(!last.is_woken());
    drop(head);
    last.ready().unwrap();
    assert_eq!(pool.occupancy().waiters, 0);
}

#[test]
fn what_a_dropped_waiter_was_granted_passes_on() {
    let pool = pool_of(1);
    let held = pool.try_lease(PAGE).unwrap();
    let first = Waiting::new(pool.lease(PAGE)).waits();
    let mut second = Waiting::new(pool.lease(PAGE)).waits();
    drop(held);
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    second.ready().unwrap();
    assert_eq!(pool.occupancy().leased, 0);
}

#[test]
fn a_future_never_polled_is_not_in_the_queue() {
    let pool = pool_of(1);
    let _future = pool.lease(PAGE);
    assert_eq!(pool.occupancy().waiters, 0);
    pool.try_lease(PAGE).unwrap();
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let pool = pool_of(1);
    let held = pool.try_lease(1).unwrap();
    let mut future = pool.lease(1);
    let (old, new) = (Waiting::new(pool.lease(1)), Waiting::new(pool.lease(1)));
    // Only their wakers are used here.
    for waiting in [&old, &new] {
        assert!(waiting.poll_other(&mut future).is_pending());
    }
    drop(held);
    assert!(!old.is_woken() && new.is_woken());
}

#[test]
fn closing_answers_all_waiters_and_leaves_leases_good() {
    let pool = pool_of(1);
    let mut held = pool.try_lease(10).unwrap();
    held.extend_from_slice(b"kept");
    let mut waiting = Waiting::new(pool.lease(7)).waits();
    pool.close();
    let error = waiting.ready().unwrap_err();
    assert_eq!((error.kind(), error.asked()), (LeaseErrorKind::Closed, 7));
    assert_eq!(pool.try_lease(1).unwrap_err().kind(), LeaseErrorKind::Closed);
    drop(pool);
    assert_eq!(&held[..], b"kept");
}

#[test]
fn the_memory_of_a_closed_pool_goes_with_the_last_lease() {
    let fake = Fake::new(1 << 20);
    let pool = Pool::new(PoolConfig::new().limit(65536).arena(65536), fake.clone());
    let held = pool.try_lease(1).unwrap();
    pool.close();
    drop(pool);
    assert_eq!(fake.pinned(), 65536);
    drop(held);
    assert_eq!(fake.pinned(), 0);
}

#[test]
fn a_leaked_pool_unmaps_nothing() {
    let fake = Fake::new(1 << 20);
    let pool = Pool::new(PoolConfig::new().limit(65536).arena(65536), fake.clone());
    let mut lease = pool.try_lease(16).unwrap();
    lease.extend_from_slice(b"still here");
    let address = lease.as_ptr() as usize;
    pool.leak();
    drop(pool);
    drop(lease);
    assert_eq!(fake.pinned(), 65536);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let covers = maps.lines().any(|line| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let parse = |text| usize::from_str_radix(text, 16).unwrap();
        (parse(start)..parse(end)).contains(&address)
    });
    assert!(covers, "{address:#x} was unmapped");
}

#[test]
fn impossible_requests_are_errors_at_once() {
    let pool = pool_of(4);
    assert_eq!(pool.try_lease(0).unwrap_err().kind(), LeaseErrorKind::Invalid);
    let error = pool.try_lease(4 * PAGE + 1).unwrap_err();
    assert_eq!(error.kind(), LeaseErrorKind::TooLarge);
    assert_eq!(
        error.to_string(),
        "a lease of 16385 bytes was asked for, but this pool can never give more than 16384 bytes \
         at once"
    );
    let mut future = Waiting::new(pool.lease(1 << 40));
    let Poll::Ready(Err(error)) = future.poll() else { panic!("it waits") };
    assert_eq!(error.kind(), LeaseErrorKind::TooLarge);
    let huge = Pool::unregistered(PoolConfig::new().limit(8 << 30));
    assert_eq!(huge.try_lease((1 << 30) + 1).unwrap_err().kind(), LeaseErrorKind::TooLarge);
    assert_eq!(pool.occupancy().mapped, 0);
}

/// Panics when it is woken, and when its last copy is dropped.
struct Grump(Arc<AtomicUsize>);

impl Wake for Grump {
    fn wake(self: Arc<Grump>) {
        self.0.fetch_add(1, SeqCst);
        panic_any("expected");
    }
}

impl Drop for Grump {
    fn drop(&mut self) {
        panic_any("expected");
    }
}

#[test]
fn a_waiter_whose_waker_panics_costs_neither_the_others_their_turn_nor_the_caller() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&"expected") {
            loud(info);
        }
    }));
    // All of them are woken at once: by a lease that comes back, and by the end of the pool.
    for closes in [false, true] {
        let pool = pool_of(8);
        let held = pool.try_lease(8 * PAGE).unwrap();
        let woken = Arc::new(AtomicUsize::new(0));
        let (mut grumps, mut others) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let mut future = Box::pin(pool.lease(PAGE));
            let waker = Waker::from(Arc::new(Grump(woken.clone())));
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            grumps.push(future);
            others.push(Waiting::new(pool.lease(PAGE)).waits());
        }
        // Who gives the lease back, or closes the pool, is none of those who panic.
        if closes {
            pool.close();
        }
        drop(held);
        assert_eq!(woken.load(SeqCst), 4);
        assert!(others.iter().all(Waiting::is_woken), "a wake-up was lost");
        let leases: Vec<_> = others.iter_mut().map(Waiting::ready).collect();
        assert!(leases.iter().all(|lease| lease.is_ok() != closes));
        // What the others were granted passes on with them.
        drop((grumps, leases));
        let Occupancy { leased, waiters, .. } = pool.occupancy();
        assert_eq!((leased, waiters), (0, 0));
    }
}

#[test]
fn a_waiter_whose_waker_panics_when_it_is_replaced_keeps_its_place() {
    let pool = pool_of(1);
    let held = pool.try_lease(PAGE).unwrap();
    let mut future = Box::pin(pool.lease(PAGE));
    let waker = Waker::from(Arc::new(Grump(Arc::default())));
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(held);
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Ok(_))));
}
