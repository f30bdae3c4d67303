//! Mixed sizes asked for by groups: whatever the sequence of calls, a reserve is there for its
//! group alone, who wants as much is served in order, and everybody is served in the end.

mod fake;

use std::sync::Arc;
use std::task::Poll;

use fake::{Random, Waiting};
use ringhold_buffers::{Lease, LeaseGroup, PAGE, Pool, PoolConfig, Reserve};

const PAGES: usize = 32;
const RESERVED: usize = 4;

/// The group with the reserve; the others are one without, and those who are of none.
const READS: usize = 0;

struct Held {
    lease: Lease,
    group: usize,
    pages: usize,
    mark: u8,
}

struct Queued {
    group: usize,
    pages: usize,
    waiting: Waiting,
}

struct Model {
    pool: Pool,
    groups: [Option<Arc<LeaseGroup>>; 3],
    held: Vec<Held>,
    /// In the order in which they came.
    queued: Vec<Queued>,
    mark: u8,
}

impl Model {
    fn new() -> Model {
        let config = PoolConfig::new().limit(PAGES * PAGE).arena(PAGES / 2 * PAGE);
        let pool = Pool::unregistered(config);
        let reads = LeaseGroup::new(900, Reserve::Bytes(RESERVED * PAGE));
        pool.welcome(&reads);
        let merges = LeaseGroup::new(100, Reserve::Nothing);
        let groups = [Some(reads), Some(merges), None];
        Model { pool, groups, held: Vec::new(), queued: Vec::new(), mark: 0 }
    }

    fn hold(&mut self, mut lease: Lease, group: usize, pages: usize) {
        self.mark = self.mark.wrapping_add(1);
        lease.resize(pages * PAGE, self.mark);
        self.held.push(Held { lease, group, pages, mark: self.mark });
    }

    fn ask(&mut self, group: usize, pages: usize) {
        let future = match &self.groups[group] {
            Some(of) => self.pool.lease_in(of, pages * PAGE),
            None => self.pool.lease(pages * PAGE),
        };
        let mut waiting = Waiting::new(future);
        match waiting.poll() {
            Poll::Ready(lease) => {
                self.check_order(group, pages, self.queued.len());
                self.hold(lease.unwrap(), group, pages);
            }
            Poll::Pending => self.queued.push(Queued { group, pages, waiting }),
        }
        self.settle();
    }

    fn give_back(&mut self, index: usize) {
        let held = self.held.swap_remove(index);
        assert!(held.lease.iter().all(|&byte| byte == held.mark), "a lease was changed");
        drop(held);
        self.settle();
    }

    /// Nobody before `index` is of the same group and wants about as much.
    fn check_order(&self, group: usize, pages: usize, index: usize) {
        let class = pages.next_power_of_two();
        let before = self.queued[..index]
            .iter()
            .find(|one| one.group == group && one.pages.next_power_of_two() == class);
        assert!(before.is_none(), "{pages} pages overtook {:?}", before.map(|one| one.pages));
    }

    fn settle(&mut self) {
        let mut index = 0;
        while index < self.queued.len() {
            let one = &mut self.queued[index];
            let polled = one.waiting.is_woken().then(|| one.waiting.poll());
            let Some(Poll::Ready(lease)) = polled else {
                index += 1;
                continue;
            };
            let (group, pages) = (one.group, one.pages);
            self.check_order(group, pages, index);
            self.queued.remove(index);
            self.hold(lease.unwrap(), group, pages);
            index = 0;
        }
        let of = |which: fn(usize) -> bool| -> usize {
            self.held.iter().filter(|held| which(held.group)).map(|held| held.pages).sum()
        };
        let (reads, others) = (of(|group| group == READS), of(|group| group != READS));
        assert!(others + reads.max(RESERVED) <= PAGES, "others took of a reserve");
        assert_eq!(self.pool.occupancy().leased, (reads + others) * PAGE);
        assert_eq!(self.pool.occupancy().waiters, self.queued.len());
        // A page within the reserve is there at any time.
        let waits = self.queued.iter().any(|one| one.group == READS && one.pages == 1);
        if reads < RESERVED && !waits {
            let own = self.groups[READS].as_ref().unwrap();
            assert!(self.pool.try_lease_in(own, PAGE).is_ok(), "the reserve is not there");
        }
    }
}

#[test]
fn mixed_sizes_of_groups_keep_reserves_and_order_and_are_all_served() {
    let mut random = Random::new();
    let calls = match std::env::var("RINGHOLD_LEASES") {
        Ok(text) => text.parse().expect("a number of leases"),
        Err(_) => 100_000,
    };
    let mut model = Model::new();
    for _ in 0..calls {
        match random.below(5) {
            0 | 1 if model.queued.len() < 64 => {
                let pages = match random.below(8) {
                    0 => 1 + random.below(PAGES / 2),
                    _ => 1 + random.below(4),
                };
                model.ask(random.below(3), pages);
            }
            2 if !model.queued.is_empty() => {
                model.queued.remove(random.below(model.queued.len()));
                model.settle();
            }
            _ if !model.held.is_empty() => model.give_back(random.below(model.held.len())),
            _ => {}
        }
    }
    while !model.held.is_empty() {
        model.give_back(0);
    }
    assert_eq!(model.queued.len(), 0, "{:?}", model.pool);
}

#[test]
fn a_reserve_leaves_half_of_the_pool_to_others_however_large_it_is() {
    let pool = Pool::unregistered(PoolConfig::new().limit(8 * PAGE).arena(8 * PAGE));
    let greedy = LeaseGroup::new(500, Reserve::Bytes(8 * PAGE));
    pool.welcome(&greedy);
    let others = pool.try_lease(4 * PAGE).expect("half of it is everybody's");
    assert!(pool.try_lease(PAGE).is_err(), "the other half is reserved");
    drop(pool.try_lease_in(&greedy, 4 * PAGE).expect("it is for this group"));
    drop(others);
}

#[test]
fn a_sixteenth_of_a_small_pool_is_a_page() {
    let pool = Pool::unregistered(PoolConfig::new().limit(8 * PAGE).arena(8 * PAGE));
    let small = LeaseGroup::new(500, Reserve::Sixteenth);
    pool.welcome(&small);
    let others = pool.try_lease(7 * PAGE).expect("the rest is everybody's");
    assert!(pool.try_lease(PAGE).is_err(), "the last page is reserved");
    drop(pool.try_lease_in(&small, PAGE).expect("it is for this group"));
    drop(others);
}

#[test]
fn a_reserve_is_mapped_for_its_group_although_a_request_of_others_waits_for_more() {
    let pool = Pool::unregistered(PoolConfig::new().limit(8 * PAGE).arena(PAGE));
    let reads = LeaseGroup::new(900, Reserve::Bytes(2 * PAGE));
    pool.welcome(&reads);
    let others = pool.try_lease(6 * PAGE).expect("all that is not reserved");
    // There is room for two more pages, and this waits for three.
    let mut large = Waiting::new(pool.lease(3 * PAGE));
    assert!(large.poll().is_pending());
    let first = pool.try_lease_in(&reads, PAGE).expect("the reserve is there");
    let Poll::Ready(second) = Waiting::new(pool.lease_in(&reads, PAGE)).poll() else {
        panic!("the reserve is there for who may wait, too")
    };
    drop((first, second.unwrap(), others));
    assert!(large.is_woken() && large.poll().is_ready());
}
