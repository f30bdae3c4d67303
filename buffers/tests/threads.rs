//! Leases that are asked for, filled and returned on different threads at once.

mod fake;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use fake::{Fake, Random, seed};
use ringhold_buffers::sync::Queue;
use ringhold_buffers::{Lease, PAGE, Pool, PoolConfig};

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Says that nothing comes any more, also where that is because of a panic.
struct Done(Arc<AtomicBool>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Leases, some of which are dropped as futures, and sends them to the next thread.
fn produce(pool: &Pool, sent: &Queue<(Lease, u8)>, mut random: Random) {
    for round in 0..5_000 {
        let length = match random.below(10) {
            0 => 1 + random.below(12 * PAGE),
            _ => 1 + random.below(2 * PAGE),
        };
        if random.below(8) == 0 {
            let mut future = pin!(pool.lease(length));
            let poll = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            drop(poll);
            continue;
        }
        let mut lease = block_on(pool.lease(length)).unwrap();
        let mark = (round % 251) as u8;
        lease.resize(length, mark);
        sent.push((lease, mark));
    }
}

#[test]
fn leases_cross_threads_while_the_pool_grows_and_gives_back() {
    let seed = seed();
    // Less may be pinned than the limit says: growing fails all the time.
    let fake = Fake::new(24 * PAGE);
    let config = PoolConfig::new().limit(32 * PAGE).arena(8 * PAGE).keep(0);
    let pool = Pool::new(config, fake.clone());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for number in 0..3 {
            let (sent, done) = (Arc::new(Queue::new()), Arc::new(AtomicBool::new(false)));
            let (received, ended) = (sent.clone(), done.clone());
            let pool = &pool;
            let random = Random::with_seed(seed ^ number);
            workers.push(scope.spawn(move || {
                let _done = Done(done);
                produce(pool, &sent, random);
            }));
            workers.push(scope.spawn(move || {
                loop {
                    let over = ended.load(Ordering::Acquire);
                    match received.pop() {
                        Some((lease, mark)) => {
                            assert!(lease.iter().all(|&byte| byte == mark), "a lease was changed");
                        }
                        None if over => break,
                        None => thread::yield_now(),
                    }
                }
            }));
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                pool.sweep();
                thread::yield_now();
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        over.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    let occupancy = pool.occupancy();
    assert_eq!((occupancy.leased, occupancy.waiters), (0, 0), "{occupancy:?}");
    drop(pool);
    assert_eq!(fake.pinned(), 0);
}
