//! How the pool grows, makes do with less, and gives back.

mod fake;

use fake::{Fake, Waiting};
use ringhold_buffers::{
    ArenaId, Lease, LeaseErrorKind, PAGE, POOL_SLOTS, Pool, PoolConfig, Registrar,
};

const KIB: usize = 1024;

fn pool(fake: &std::sync::Arc<Fake>, limit: usize, arena: usize) -> Pool {
    Pool::new(PoolConfig::new().limit(limit).arena(arena).keep(0), fake.clone())
}

#[test]
fn arenas_are_mapped_when_needed_and_up_to_the_limit() {
    let fake = Fake::new(usize::MAX);
    let pool = pool(&fake, 256 * KIB, 64 * KIB);
    assert_eq!((fake.pinned(), pool.occupancy().arenas), (0, 0));
    let held: Vec<Lease> = (0..4).map(|_| pool.try_lease(64 * KIB).unwrap()).collect();
    assert_eq!((fake.pinned(), pool.occupancy().arenas), (256 * KIB, 4));
    assert!(held.iter().all(|lease| fake.reaches(lease, 64 * KIB)));
    assert_eq!(pool.try_lease(1).unwrap_err().kind(), LeaseErrorKind::Full);
    assert_eq!(fake.take_attempts(), [64 * KIB; 4]);
}

#[test]
fn a_request_larger_than_an_arena_gets_one_of_its_own_size() {
    let fake = Fake::new(usize::MAX);
    let pool = pool(&fake, 1024 * KIB, 64 * KIB);
    let lease = pool.try_lease(300 * KIB + 1).unwrap();
    assert_eq!((lease.capacity(), fake.pinned()), (300 * KIB + 1, 304 * KIB));
}

#[test]
fn an_arena_of_huge_pages_is_aligned_to_them() {
    let fake = Fake::new(usize::MAX);
    let pool = pool(&fake, 16 << 20, 4 << 20);
    for _ in 0..2 {
        let lease = pool.try_lease(4 << 20).unwrap();
        assert_eq!(lease.as_ptr() as usize % (2 << 20), 0);
    }
}

#[test]
fn a_fragmented_pool_grows_for_the_head() {
    let fake = Fake::new(usize::MAX);
    let pool = pool(&fake, 128 * KIB, 64 * KIB);
    let mut held: Vec<Option<Lease>> = (0..16).map(|_| pool.try_lease(PAGE).ok()).collect();
    held.iter_mut().step_by(2).for_each(|lease| drop(lease.take()));
    let lease = pool.try_lease(2 * PAGE).unwrap();
    assert_eq!(lease.arena().unwrap().slot, 1);
}

#[test]
fn a_pool_that_cannot_grow_is_a_smaller_pool() {
    let fake = Fake::new(160 * KIB);
    let pool = pool(&fake, 1024 * KIB, 256 * KIB);
    let first = pool.try_lease(PAGE).unwrap();
    // 256 KiB were too much, the half of it was not.
    assert_eq!(fake.take_attempts(), [256 * KIB, 128 * KIB]);
    let _second = pool.try_lease(127 * KIB).unwrap_err();
    drop(first);
    let held = pool.try_lease(128 * KIB).unwrap();
    fake.take_attempts();
    // Locked memory is short, but what is out will come back: full, not failed.
    let mut waiting = Waiting::new(pool.lease(100 * KIB)).waits();
    drop(held);
    assert_eq!(waiting.ready().unwrap().capacity(), 100 * KIB);
    assert_eq!(pool.occupancy().mapped, 128 * KIB);
}

#[test]
fn a_shortage_is_not_tried_again_in_a_hot_loop() {
    let fake = Fake::new(64 * KIB);
    let pool = pool(&fake, 1024 * KIB, 64 * KIB);
    let held: Vec<Lease> = (0..16).map(|_| pool.try_lease(PAGE).unwrap()).collect();
    fake.take_attempts();
    for _ in 0..1000 {
        assert_eq!(pool.try_lease(PAGE).unwrap_err().kind(), LeaseErrorKind::Full);
    }
    assert_eq!(fake.take_attempts(), [64 * KIB, PAGE]);
    assert_eq!(pool.occupancy().shortages_total, 1);
    // Locked memory comes free elsewhere: the sweep makes the pool try again.
    fake.set_budget(128 * KIB);
    let mut waiting = Waiting::new(pool.lease(PAGE)).waits();
    pool.sweep();
    assert_eq!(waiting.ready().unwrap().arena().unwrap().slot, 1);
    drop(held);
}

#[test]
fn locked_memory_that_ran_out_is_an_error_that_names_the_cures() {
    let fake = Fake::new(0);
    let pool = pool(&fake, 1024 * KIB, 128 * KIB);
    for _ in 0..2 {
        let error = pool.try_lease(8 * KIB).unwrap_err();
        assert_eq!(error.kind(), LeaseErrorKind::LockedMemory);
        let text = error.to_string();
        for part in ["8192 bytes", "pinned 0 bytes", "RLIMIT_MEMLOCK", "ulimit -l", "CAP_IPC_LOCK"]
        {
            assert!(text.contains(part), "{part:?} is missing in {text:?}");
        }
        let error = std::io::Error::from(error);
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
    }
    assert_eq!(fake.take_attempts(), [128 * KIB, 64 * KIB, 8 * KIB, 64 * KIB, 8 * KIB]);
    let mut waiting = Waiting::new(pool.lease(PAGE));
    let std::task::Poll::Ready(Err(error)) = waiting.poll() else { panic!("it waits for nothing") };
    assert_eq!(error.kind(), LeaseErrorKind::LockedMemory);
    assert_eq!((pool.occupancy().waiters, pool.occupancy().mapped), (0, 0));
    fake.set_budget(usize::MAX);
    pool.try_lease(PAGE).unwrap();
}

#[test]
fn memory_of_the_wrong_kind_is_not_registrable() {
    let fake = Fake::new(usize::MAX);
    let pool = pool(&fake, 64 * KIB, 64 * KIB);
    for errno in [libc::EFAULT, libc::EOPNOTSUPP] {
        fake.fail_with(Some(errno));
        assert_eq!(pool.try_lease(1).unwrap_err().kind(), LeaseErrorKind::NotRegistrable);
        let mut waiting = Waiting::new(pool.lease(1));
        let std::task::Poll::Ready(Err(error)) = waiting.poll() else { panic!("it waits") };
        assert_eq!(error.kind(), LeaseErrorKind::NotRegistrable);
    }
    assert_eq!((pool.occupancy().waiters, pool.occupancy().mapped), (0, 0));
    fake.fail_with(None);
    pool.try_lease(1).unwrap();
}

#[test]
fn a_slot_is_used_again_with_a_later_generation() {
    let fake = Fake::new(usize::MAX);
    let pool = pool(&fake, 64 * KIB, 64 * KIB);
    let mut last = 0;
    for _ in 0..3 {
        let lease = pool.try_lease(1).unwrap();
        let arena = lease.arena().unwrap();
        assert_eq!(arena.slot, 0);
        assert!(arena.generation > last, "{arena:?} after generation {last}");
        last = arena.generation;
        assert!(fake.reaches(&lease, PAGE));
        drop(lease);
        assert!(pool.sweep());
        assert!(!pool.sweep());
        assert_eq!((fake.pinned(), pool.occupancy().mapped), (0, 0));
    }
    assert_eq!(pool.occupancy().given_back_total, 3);
}

#[test]
fn a_sweep_keeps_what_is_leased_what_was_used_and_what_is_to_be_kept() {
    let fake = Fake::new(usize::MAX);
    let config = PoolConfig::new().limit(256 * KIB).arena(64 * KIB).keep(64 * KIB);
    let pool = Pool::new(config, fake.clone());
    let mut held: Vec<Lease> = (0..4).map(|_| pool.try_lease(64 * KIB).unwrap()).collect();
    assert!(!pool.sweep());
    held.truncate(1);
    assert!(pool.sweep());
    assert_eq!(fake.pinned(), 256 * KIB);
    drop(pool.try_lease(64 * KIB).unwrap());
    // Arena 1 was used since, arena 0 is leased: 2 and 3 go.
    assert!(pool.sweep());
    assert_eq!(fake.pinned(), 128 * KIB);
    drop(held);
    pool.sweep();
    assert!(!pool.sweep());
    assert_eq!(fake.pinned(), 64 * KIB);
}

#[test]
fn a_retiring_arena_is_not_used_until_it_is_out_of_every_table() {
    let fake = Fake::new(usize::MAX);
    fake.hold_retiring();
    let pool = pool(&fake, 64 * KIB, 64 * KIB);
    drop(pool.try_lease(1).unwrap());
    pool.sweep();
    pool.sweep();
    assert_eq!(pool.occupancy().retiring, 64 * KIB);
    let mut waiting = Waiting::new(pool.lease(1)).waits();
    let mut first = 0;
    for retiring in fake.take_retiring() {
        first = retiring.arena().generation;
        assert_eq!(retiring.length(), 64 * KIB);
        retiring.complete();
    }
    assert!(waiting.ready().unwrap().arena().unwrap().generation > first);
}

#[test]
fn an_abandoned_arena_is_leaked_and_its_slot_never_used_again() {
    let fake = Fake::new(usize::MAX);
    fake.hold_retiring();
    let pool = pool(&fake, 128 * KIB, 64 * KIB);
    drop(pool.try_lease(1).unwrap());
    pool.sweep();
    pool.sweep();
    drop(fake.take_retiring());
    assert_eq!(pool.occupancy().leaked, 64 * KIB);
    assert_eq!(pool.try_lease(65 * KIB).unwrap_err().kind(), LeaseErrorKind::TooLarge);
    let lease = pool.try_lease(64 * KIB).unwrap();
    assert_eq!(lease.arena().unwrap().slot, 1);
}

#[test]
fn small_idle_arenas_make_room_for_a_large_request() {
    let fake = Fake::new(usize::MAX);
    let pool = pool(&fake, 256 * KIB, 64 * KIB);
    let mut held: Vec<Lease> = (0..4).map(|_| pool.try_lease(64 * KIB).unwrap()).collect();
    let mut waiting = Waiting::new(pool.lease(256 * KIB)).waits();
    while let Some(lease) = held.pop() {
        assert_eq!(pool.occupancy().waiters, 1);
        drop(lease);
        if waiting.is_woken()
            && let std::task::Poll::Ready(lease) = waiting.poll()
        {
            assert!(held.is_empty());
            assert_eq!(lease.unwrap().capacity(), 256 * KIB);
            assert_eq!(pool.occupancy().given_back_total, 4);
            return;
        }
    }
    panic!("the large request was never served");
}

#[test]
fn small_arenas_make_room_under_a_shortage_of_locked_memory_too() {
    let fake = Fake::new(128 * KIB);
    let pool = pool(&fake, 1024 * KIB, 64 * KIB);
    drop((pool.try_lease(64 * KIB).unwrap(), pool.try_lease(64 * KIB).unwrap()));
    let lease = pool.try_lease(128 * KIB).unwrap();
    assert!(fake.reaches(&lease, 128 * KIB));
    assert_eq!((fake.pinned(), pool.occupancy().given_back_total), (128 * KIB, 2));
}

#[test]
fn the_table_is_never_full_before_the_limit_is_reached() {
    let fake = Fake::new(usize::MAX);
    let pool = pool(&fake, 130 * PAGE, PAGE);
    let held: Vec<Lease> = (0..130).map(|_| pool.try_lease(PAGE).unwrap()).collect();
    assert!(pool.occupancy().arenas <= POOL_SLOTS);
    assert_eq!((pool.occupancy().leased, fake.pinned()), (130 * PAGE, 130 * PAGE));
    drop(held);
}

#[test]
fn a_pool_closed_while_it_grows_leaks_nothing() {
    /// Closes the pool in the middle of registering.
    struct Closer(std::sync::Arc<Fake>, std::sync::Mutex<Option<Pool>>);
    impl Registrar for Closer {
        fn register(
            &self,
            arena: ArenaId,
            address: std::ptr::NonNull<u8>,
            length: usize,
        ) -> std::io::Result<()> {
            self.1.lock().unwrap().take().expect("one growth").close();
            self.0.register(arena, address, length)
        }
        fn retire(&self, retiring: ringhold_buffers::Retiring) {
            self.0.retire(retiring);
        }
    }
    let fake = Fake::new(usize::MAX);
    let closer = std::sync::Arc::new(Closer(fake.clone(), std::sync::Mutex::new(None)));
    let pool = Pool::new(PoolConfig::new(), closer.clone());
    *closer.1.lock().unwrap() = Some(pool.clone());
    let mut waiting = Waiting::new(pool.lease(1));
    let std::task::Poll::Ready(Err(error)) = waiting.poll() else { panic!("it was not closed") };
    assert_eq!(error.kind(), LeaseErrorKind::Closed);
    assert_eq!((fake.pinned(), pool.occupancy().mapped), (0, 0));
    assert_eq!(fake.take_attempts().len(), 1);
}

#[test]
fn a_registrar_that_panics_leaves_a_pool_that_can_grow() {
    /// Panics when it is asked first.
    struct Panics(std::sync::Arc<Fake>, std::sync::atomic::AtomicBool);
    impl Registrar for Panics {
        fn register(
            &self,
            arena: ArenaId,
            address: std::ptr::NonNull<u8>,
            length: usize,
        ) -> std::io::Result<()> {
            let before = self.1.swap(true, std::sync::atomic::Ordering::Relaxed);
            assert!(before, "the first time");
            self.0.register(arena, address, length)
        }
        fn retire(&self, retiring: ringhold_buffers::Retiring) {
            self.0.retire(retiring);
        }
    }
    let fake = Fake::new(usize::MAX);
    let pool = Pool::new(PoolConfig::new(), std::sync::Arc::new(Panics(fake, false.into())));
    let mut waiting = Waiting::new(pool.lease(1));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waiting.poll())).unwrap_err();
    drop(waiting);
    assert_eq!((pool.occupancy().waiters, pool.occupancy().mapped), (0, 0));
    assert_eq!(pool.try_lease(1).unwrap().arena().unwrap().slot, 0);
}

#[test]
fn an_arena_that_is_made_for_large_leases_holds_hardly_more_than_they_take() {
    let fits = |length: usize| {
        let pool = Pool::unregistered(PoolConfig::new().limit(4096 * KIB).arena(1024 * KIB));
        std::iter::from_fn(|| pool.try_lease(length).ok()).collect::<Vec<_>>().len()
    };
    // Of 1024 pages; arenas of 256 would hold three of 65, one of 129 and one of 192.
    assert_eq!((fits(65 * PAGE), fits(129 * PAGE), fits(192 * PAGE)), (15, 7, 5));
    assert_eq!((fits(PAGE), fits(64 * PAGE), fits(66 * PAGE)), (1024, 16, 15));
}
