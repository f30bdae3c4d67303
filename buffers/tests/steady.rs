//! What a pool does in time: it keeps what a load uses, and waits for memory that others give back
//! late.

mod fake;

use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use fake::{Fake, Waiting};
use ringhold_buffers::{
    ArenaId, Lease, LeaseErrorKind, PAGE, Pool, PoolConfig, Registrar, Retiring,
};

const KIB: usize = 1024;
const SECOND: Duration = Duration::from_secs(1);

type Work = Box<dyn FnOnce() + Send>;

/// The fake, with a clock that is set, and growing that is done when it is asked for.
struct Timed {
    fake: Arc<Fake>,
    now: Mutex<Instant>,
    /// What there is to pin after so many pauses.
    late: Mutex<Option<(u32, usize)>>,
    pauses: Mutex<Vec<Duration>>,
    waits_for_work: bool,
    work: Mutex<Vec<Work>>,
}

impl Timed {
    fn new(budget: usize) -> Timed {
        Timed {
            fake: Fake::new(budget),
            now: Mutex::new(Instant::now()),
            late: Mutex::new(None),
            pauses: Mutex::default(),
            waits_for_work: false,
            work: Mutex::default(),
        }
    }

    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    fn work(&self) {
        let work = std::mem::take(&mut *self.work.lock().unwrap());
        work.into_iter().for_each(|work| work());
    }
}

impl Registrar for Timed {
    fn register(&self, arena: ArenaId, address: NonNull<u8>, length: usize) -> io::Result<()> {
        self.fake.register(arena, address, length)
    }

    fn retire(&self, retiring: Retiring) {
        self.fake.retire(retiring);
    }

    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }

    fn start(&self, work: Work) {
        if self.waits_for_work { self.work.lock().unwrap().push(work) } else { work() }
    }

    fn pause(&self, length: Duration) -> bool {
        self.pauses.lock().unwrap().push(length);
        if let Some((left, budget)) = &mut *self.late.lock().unwrap() {
            *left -= 1;
            if *left == 0 {
                self.fake.set_budget(*budget);
            }
        }
        true
    }

    fn locked_memory_limit(&self) -> Option<u64> {
        Some(8 << 20)
    }
}

#[test]
fn what_a_load_used_stays_for_a_while_and_half_of_it_again() {
    let timed = Arc::new(Timed::new(usize::MAX));
    let config = PoolConfig::new().limit(1024 * KIB).arena(64 * KIB).keep(64 * KIB);
    let pool = Pool::new(config.linger(30 * SECOND), timed.clone());
    // A load that uses 512 KiB at once every ten seconds grows its pool once.
    for _ in 0..6 {
        let held: Vec<Lease> = (0..8).map(|_| pool.try_lease(64 * KIB).unwrap()).collect();
        drop(held);
        for _ in 0..5 {
            timed.pass(2 * SECOND);
            assert!(pool.sweep(), "what is kept for now is to be looked at again");
        }
    }
    assert_eq!((pool.occupancy().grown_total, pool.occupancy().given_back_total), (8, 0));
    // When it is over, half of it goes in half a minute, and in the end all that is not to be kept.
    let mut mapped = Vec::new();
    for _ in 0..4 {
        for _ in 0..15 {
            timed.pass(2 * SECOND);
            pool.sweep();
        }
        mapped.push(pool.occupancy().mapped / KIB);
    }
    assert_eq!(mapped, [256, 128, 64, 64]);
    assert!(!pool.sweep());
}

#[test]
fn locked_memory_that_others_give_back_late_is_waited_for() {
    let timed = Timed::new(0);
    *timed.late.lock().unwrap() = Some((3, 1 << 20));
    let timed = Arc::new(timed);
    let pool = Pool::new(PoolConfig::new().limit(256 * KIB).arena(64 * KIB), timed.clone());
    let Poll::Ready(Ok(lease)) = Waiting::new(pool.lease(PAGE)).poll() else {
        panic!("what came late was not waited for")
    };
    let milliseconds = [1, 2, 4].map(Duration::from_millis);
    assert_eq!(*timed.pauses.lock().unwrap(), milliseconds);
    drop(lease);
}

#[test]
fn locked_memory_that_does_not_come_is_told_after_a_second() {
    let timed = Arc::new(Timed::new(0));
    let pool = Pool::new(PoolConfig::new().limit(256 * KIB).arena(64 * KIB), timed.clone());
    let Poll::Ready(Err(error)) = Waiting::new(pool.lease(PAGE)).poll() else {
        panic!("there is nothing to be had")
    };
    assert_eq!(error.kind(), LeaseErrorKind::LockedMemory);
    assert!(error.to_string().contains("RLIMIT_MEMLOCK"), "{error}");
    assert!(error.to_string().contains("is 8388608 bytes"), "{error}");
    let waited: Duration = timed.pauses.lock().unwrap().iter().sum();
    assert_eq!(waited, Duration::from_millis(1023));
    // Who doesn't wait is told at once.
    timed.pauses.lock().unwrap().clear();
    assert_eq!(pool.try_lease(PAGE).unwrap_err().kind(), LeaseErrorKind::LockedMemory);
    assert!(timed.pauses.lock().unwrap().is_empty());
}

#[test]
fn all_who_wait_are_served_or_told_when_the_growing_beside_them_ends() {
    let mut timed = Timed::new(64 * KIB);
    timed.waits_for_work = true;
    let timed = Arc::new(timed);
    let pool = Pool::new(PoolConfig::new().limit(256 * KIB).arena(64 * KIB), timed.clone());
    let mut waiting: Vec<Waiting> =
        (0..3).map(|_| Waiting::new(pool.lease(16 * KIB)).waits()).collect();
    assert!(pool.occupancy().growing);
    assert_eq!(pool.try_lease(PAGE).unwrap_err().kind(), LeaseErrorKind::Full);
    timed.work();
    let held: Vec<Lease> = waiting.drain(..).map(|mut one| one.ready().unwrap()).collect();
    assert_eq!((held.len(), timed.fake.take_attempts()), (3, vec![64 * KIB]));
    // A refusal is told to whom it was for, and who is behind tries for itself.
    timed.fake.fail_with(Some(libc::EFAULT));
    let mut first = Waiting::new(pool.lease(32 * KIB)).waits();
    let second = Waiting::new(pool.lease(32 * KIB)).waits();
    timed.work();
    assert_eq!(first.ready().unwrap_err().kind(), LeaseErrorKind::NotRegistrable);
    assert!(second.is_woken());
    drop(second);
    // Who leaves meanwhile leaves nothing behind, and work that never runs holds up nobody.
    timed.fake.fail_with(None);
    timed.fake.set_budget(usize::MAX);
    drop(Waiting::new(pool.lease(32 * KIB)).waits());
    timed.work();
    assert_eq!((pool.occupancy().arenas, pool.occupancy().growing), (2, false));
    let mut third = Waiting::new(pool.lease(128 * KIB)).waits();
    timed.work.lock().unwrap().clear();
    assert!(third.is_woken() && !pool.occupancy().growing);
    assert!(third.poll().is_pending());
    timed.work();
    assert_eq!(third.ready().unwrap().capacity(), 128 * KIB);
    drop(held);
}
