//! Which requests pass one that waits for a range, and under which bounds: a quarter of the pool at
//! most is out to them, and nobody passes once only they stand in its way.

mod fake;

use std::collections::VecDeque;
use std::task::Poll;

use fake::{Random, Waiting};
use ringhold_buffers::{Lease, LeaseErrorKind, LeaseGroup, PAGE, Pool, PoolConfig, Reserve};

fn pool_of(pages: usize) -> Pool {
    Pool::unregistered(PoolConfig::new().limit(pages * PAGE).arena(pages * PAGE))
}

/// All of a pool of `pages`, a page each.
fn all_of(pool: &Pool, pages: usize) -> Vec<Option<Lease>> {
    (0..pages).map(|_| Some(pool.try_lease(PAGE).unwrap())).collect()
}

#[test]
fn small_requests_pass_a_large_one_up_to_a_quarter_of_the_pool() {
    let pool = pool_of(64);
    let mut held = all_of(&pool, 64);
    // 60 of 64 pages are free, and no 16 of them in one piece.
    for (page, lease) in held.iter_mut().enumerate() {
        if page % 16 != 8 {
            drop(lease.take());
        }
    }
    let mut large = Waiting::new(pool.lease(16 * PAGE)).waits();
    let mut small: Vec<Lease> = (0..16).map(|_| pool.try_lease(PAGE).unwrap()).collect();
    let error = pool.try_lease(PAGE).unwrap_err();
    assert_eq!(error.kind(), LeaseErrorKind::Full);
    assert!(error.to_string().starts_with("others come first: a lease of 4096 bytes"), "{error}");
    assert!(!large.is_woken());
    // What comes back lets another one pass.
    let mut waiting = Waiting::new(pool.lease(PAGE)).waits();
    small.pop();
    let passed = waiting.ready().unwrap();
    assert_eq!(pool.occupancy().passed_total, 17);
    // One range is kept: what passed stands elsewhere, so the page that was in its way is enough.
    let mut served = false;
    for lease in &mut held {
        if lease.take().is_some() && large.is_woken() {
            served = true;
            break;
        }
    }
    assert!(served, "the large request was not served before all came back");
    assert_eq!(large.ready().unwrap().capacity(), 16 * PAGE);
    drop(passed);
}

#[test]
fn nobody_passes_when_only_those_who_passed_are_in_the_way() {
    let pool = pool_of(8);
    let mut held = all_of(&pool, 8);
    let mut large = Waiting::new(pool.lease(8 * PAGE)).waits();
    // It wants everything, so whoever passes stands in its way. A quarter is two pages.
    drop(held[3].take());
    let first = pool.try_lease(PAGE).unwrap();
    drop(held[5].take());
    let second = pool.try_lease(PAGE).unwrap();
    drop(held[6].take());
    assert_eq!(pool.try_lease(PAGE).unwrap_err().kind(), LeaseErrorKind::Full);
    held.clear();
    // Nothing that was there before is out any more: a page of the quarter is, and not for them.
    drop(first);
    assert_eq!(pool.try_lease(PAGE).unwrap_err().kind(), LeaseErrorKind::Full);
    assert!(!large.is_woken());
    drop(second);
    assert_eq!(large.ready().unwrap().capacity(), 8 * PAGE);
}

#[test]
fn a_large_request_is_not_starved_by_small_ones() {
    let pool = pool_of(8);
    let mut held: VecDeque<Lease> = (0..8).map(|_| pool.try_lease(PAGE).unwrap()).collect();
    let mut large = Waiting::new(pool.lease(8 * PAGE)).waits();
    let mut small: VecDeque<Waiting> = VecDeque::new();
    let mut rounds = 0;
    // Small requests never stop coming, and each is kept for three rounds.
    let mut out: VecDeque<(Lease, usize)> = VecDeque::new();
    while !large.is_woken() {
        rounds += 1;
        assert!(rounds <= 11, "it waits for more than what was out and what passed");
        small.push_back(Waiting::new(pool.lease(PAGE)));
        assert!(small.back_mut().unwrap().poll().is_pending(), "one of its size waits");
        drop(held.pop_front());
        while out.front().is_some_and(|(_, since)| since + 3 <= rounds) {
            out.pop_front();
        }
        while small.front().is_some_and(Waiting::is_woken) {
            out.push_back((small.pop_front().unwrap().ready().unwrap(), rounds));
            assert!(out.len() <= 2, "more than a quarter passed");
        }
    }
    drop(large.ready().unwrap());
    for mut waiting in small {
        waiting.ready().unwrap();
    }
}

/// What is out in the overload: what it is, and whether it was handed out since the turn began.
struct Out {
    _lease: Lease,
    pages: usize,
    passed: u64,
}

#[test]
fn an_overload_of_all_sizes_with_holders_that_never_give_back_keeps_the_bounds() {
    const PAGES: usize = 1024;
    let total = match std::env::var("RINGHOLD_LEASES") {
        Ok(text) => text.parse().expect("a number of leases"),
        Err(_) => 100_000,
    };
    let mut random = Random::new();
    let config = PoolConfig::new().limit(PAGES * PAGE).arena(PAGES / 4 * PAGE);
    let pool = Pool::unregistered(config);
    // A holder that never gives back in each sixteenth of the pool.
    let mut held: Vec<Option<Lease>> = (0..PAGES).map(|_| pool.try_lease(PAGE).ok()).collect();
    for (page, lease) in held.iter_mut().enumerate() {
        if page % 64 != 32 {
            drop(lease.take());
        }
    }
    let mut waiting: VecDeque<(u64, usize, Waiting)> = VecDeque::new();
    let mut out: VecDeque<Out> = VecDeque::new();
    let (mut leases, mut numbers, mut longest) = (0, 0, 0);
    let mut turn = (0, 0);
    while leases < total {
        // No more than fits between two of those holders.
        let pages = 1 << random.below(6);
        numbers += 1;
        let mut next = Waiting::new(pool.lease(pages * PAGE));
        let head = waiting.front().map_or(0, |(number, ..)| *number);
        match next.poll() {
            Poll::Pending => waiting.push_back((numbers, pages, next)),
            Poll::Ready(lease) => {
                out.push_back(Out { _lease: lease.unwrap(), pages, passed: head });
                leases += 1;
            }
        }
        // Three quarters are out on average.
        while waiting.len() > 64 || random.below(4) == 0 {
            let Some(_) = out.remove(random.below(out.len().max(1))) else { break };
            let mut index = 0;
            while index < waiting.len() {
                if waiting[index].2.is_woken()
                    && let Poll::Ready(lease) = waiting[index].2.poll()
                {
                    let passed = if index > 0 { waiting[0].0 } else { 0 };
                    let (_, pages, _) = waiting.remove(index).unwrap();
                    out.push_back(Out { _lease: lease.unwrap(), pages, passed });
                    leases += 1;
                    index = 0;
                } else {
                    index += 1;
                }
            }
        }
        let head = waiting.front().map_or(0, |(number, ..)| *number);
        let passed = out.iter().filter(|one| head > 0 && one.passed == head);
        let passed: usize = passed.map(|one| one.pages).sum();
        assert!(passed <= PAGES / 4, "{passed} pages passed one request");
        // How many leases were handed out in a turn.
        turn = if head == turn.0 { turn } else { (head, leases) };
        longest = longest.max(if head > 0 { leases - turn.1 } else { 0 });
    }
    println!("{longest} leases were handed out in the longest turn, {:?}", pool.occupancy());
    end(waiting, out);
    let occupancy = pool.occupancy();
    assert_eq!((occupancy.waiters, occupancy.leased), (0, 16 * PAGE));
}

/// What is out comes back until everybody is served.
fn end(mut waiting: VecDeque<(u64, usize, Waiting)>, mut out: VecDeque<Out>) {
    while !out.is_empty() || !waiting.is_empty() {
        assert!(out.pop_front().is_some(), "{} wait for ever", waiting.len());
        waiting.retain_mut(|(_, pages, one)| {
            let ready = one.is_woken().then(|| one.poll());
            let Some(Poll::Ready(lease)) = ready else { return true };
            out.push_back(Out { _lease: lease.unwrap(), pages: *pages, passed: 0 });
            false
        });
    }
}

#[test]
fn a_reserve_is_there_for_its_group_and_for_nobody_else() {
    let pool = pool_of(16);
    let reads = LeaseGroup::new(900, Reserve::Bytes(2 * PAGE));
    let merges = LeaseGroup::new(100, Reserve::Nothing);
    pool.welcome(&reads);
    let most: Vec<Lease> = std::iter::from_fn(|| pool.try_lease_in(&merges, PAGE).ok()).collect();
    assert_eq!((most.len(), pool.occupancy().reserved), (14, 2 * PAGE));
    let mut merge = Waiting::new(pool.lease_in(&merges, 4 * PAGE)).waits();
    let mut common = Waiting::new(pool.lease(PAGE)).waits();
    let mut read = Waiting::new(pool.lease_in(&reads, 2 * PAGE));
    let Poll::Ready(Ok(read)) = read.poll() else { panic!("its reserve is taken") };
    // Beyond its reserve it waits like others.
    let mut more = Waiting::new(pool.lease_in(&reads, PAGE)).waits();
    drop(read);
    assert!(more.ready().is_ok(), "it was given back to its reserve");
    assert!(!merge.is_woken() && !common.is_woken());
    drop(most);
    assert!(merge.ready().is_ok() && common.ready().is_ok());
    // A group that is gone has no reserve.
    drop(reads);
    assert_eq!(pool.occupancy().reserved, 0);
    assert!(pool.try_lease(16 * PAGE).is_ok());
}

#[test]
fn groups_that_wait_are_served_by_their_shares() {
    let pool = pool_of(10);
    let reads = LeaseGroup::new(900, Reserve::Nothing);
    let merges = LeaseGroup::new(100, Reserve::Nothing);
    let mut out: VecDeque<Lease> = (0..10).map(|_| pool.try_lease(PAGE).unwrap()).collect();
    let mut waiting: Vec<(bool, Waiting)> = Vec::new();
    for number in 0..2000 {
        let is_read = number % 2 == 0;
        let group = if is_read { &reads } else { &merges };
        waiting.push((is_read, Waiting::new(pool.lease_in(group, PAGE)).waits()));
    }
    let mut served = (0, 0);
    while served.0 + served.1 < 1000 {
        out.pop_front();
        waiting.retain_mut(|(is_read, one)| {
            if !one.is_woken() {
                return true;
            }
            out.push_back(one.ready().unwrap());
            if *is_read {
                served.0 += 1
            } else {
                served.1 += 1
            }
            false
        });
    }
    assert_eq!(served, (900, 100));
}

#[test]
fn who_holds_all_and_waits_for_more_shows_in_the_occupancy() {
    let pool = pool_of(8);
    let _first = pool.try_lease(4 * PAGE).unwrap();
    let _second = pool.try_lease(4 * PAGE).unwrap();
    let waiting: Vec<Waiting> =
        (0..2).map(|_| Waiting::new(pool.lease(4 * PAGE)).waits()).collect();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let occupancy = pool.occupancy();
    assert!(occupancy.wait_time_total.as_millis() >= 40, "{occupancy:?}");
    assert!(occupancy.oldest_wait.as_millis() >= 20, "{occupancy:?}");
    assert_eq!((occupancy.oldest_wait_bytes, occupancy.largest_free), (4 * PAGE, 0));
    drop(waiting);
    let occupancy = pool.occupancy();
    assert_eq!((occupancy.oldest_wait.as_nanos(), occupancy.oldest_wait_bytes), (0, 0));
    assert!(occupancy.wait_time_total.as_millis() >= 40, "{occupancy:?}");
}
