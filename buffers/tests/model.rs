//! The pool against a naive model of it: any sequence of calls, every waiter polled only when
//! woken, and the bounds under which a request may pass one that waits longer.

mod fake;

use std::{cell::Cell, rc::Rc, sync::Arc, task::Poll};

use fake::{Fake, Random, Waiting, seed};
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};
use ringhold_buffers::{Frozen, Lease, LeaseErrorKind, PAGE, Pool, PoolConfig};

const LIMIT: usize = 24 * PAGE;

#[derive(Clone, Debug)]
enum Call {
    Try(usize),
    Wait(usize),
    Return(usize),
    Split(usize, usize),
    Freeze(usize),
    Thaw(usize),
    Leave(usize),
    Sweep,
    Detach,
    Budget(usize),
}

fn call() -> impl Strategy<Value = Call> {
    let length = prop_oneof![4 => 1..=3 * PAGE, 1 => 1..=LIMIT, 1 => Just(PAGE)];
    prop_oneof![
        4 => length.clone().prop_map(Call::Try),
        4 => length.prop_map(Call::Wait),
        6 => any::<usize>().prop_map(Call::Return),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(which, at)| Call::Split(which, at)),
        1 => any::<usize>().prop_map(Call::Freeze),
        1 => any::<usize>().prop_map(Call::Thaw),
        1 => any::<usize>().prop_map(Call::Leave),
        1 => Just(Call::Sweep),
        1 => Just(Call::Detach),
        1 => (8..=24usize).prop_map(|pages| Call::Budget(pages * PAGE)),
    ]
}

/// Pages that go back together.
struct Pages {
    count: usize,
    shared: Cell<bool>,
}

impl Pages {
    fn new(count: usize) -> Rc<Pages> {
        Rc::new(Pages { count, shared: Cell::new(false) })
    }
}

/// A lease and what the model knows of it: the byte it is filled with, and its pages.
struct Held<T> {
    lease: T,
    mark: u8,
    pages: Rc<Pages>,
    /// Which waiter it passed, by its number.
    passed: Option<u64>,
}

/// A request that waits.
struct Queued {
    number: u64,
    length: usize,
    waiting: Waiting,
}

struct Model {
    fake: Arc<Fake>,
    pool: Pool,
    held: Vec<Held<Lease>>,
    frozen: Vec<Held<Frozen>>,
    waiting: Vec<Queued>,
    numbers: u64,
    /// Who had the turn when the call began.
    turn: Option<u64>,
    marks: u8,
}

impl Model {
    fn new() -> Model {
        let fake = Fake::new(LIMIT);
        fake.hold_retiring();
        let config = PoolConfig::new().limit(LIMIT).arena(8 * PAGE).keep(0).frozen_percent(50);
        let pool = Pool::new(config, fake.clone());
        let (held, frozen, waiting) = (Vec::new(), Vec::new(), Vec::new());
        Model { fake, pool, held, frozen, waiting, numbers: 0, turn: None, marks: 0 }
    }

    fn apply(&mut self, call: Call) {
        self.turn = self.waiting.first().map(|queued| queued.number);
        match call {
            Call::Try(length) => match self.pool.try_lease(length) {
                Ok(lease) => self.hold(lease, length, self.waiting.len()),
                Err(error) => self.check_refusal(error.kind()),
            },
            Call::Wait(length) => {
                let mut waiting = Waiting::new(self.pool.lease(length));
                match waiting.poll() {
                    Poll::Pending => {
                        self.numbers += 1;
                        self.waiting.push(Queued { number: self.numbers, length, waiting });
                    }
                    Poll::Ready(Ok(lease)) => self.hold(lease, length, self.waiting.len()),
                    Poll::Ready(Err(error)) => self.check_refusal(error.kind()),
                }
            }
            Call::Return(which) if !self.held.is_empty() => {
                let held = self.held.swap_remove(which % self.held.len());
                assert!(held.lease.iter().all(|&byte| byte == held.mark), "a lease was changed");
            }
            Call::Split(which, at) if !self.held.is_empty() => {
                let index = which % self.held.len();
                self.split(index, at);
            }
            Call::Freeze(which) if !self.held.is_empty() => {
                let held = self.held.swap_remove(which % self.held.len());
                match held.lease.freeze() {
                    Ok(lease) => {
                        let Held { mark, pages, passed, .. } = held;
                        self.frozen.push(Held { lease, mark, pages, passed });
                    }
                    Err(error) => self.held.push(Held { lease: error.lease, ..held }),
                }
            }
            Call::Thaw(which) if !self.frozen.is_empty() => {
                let held = self.frozen.swap_remove(which % self.frozen.len());
                assert!(held.lease.iter().all(|&byte| byte == held.mark), "frozen bytes changed");
            }
            Call::Leave(which) if !self.waiting.is_empty() => {
                self.waiting.remove(which % self.waiting.len());
            }
            Call::Sweep => drop(self.pool.sweep()),
            Call::Detach => {
                self.fake.take_retiring().into_iter().for_each(|retiring| retiring.complete());
            }
            Call::Budget(bytes) => self.fake.set_budget(bytes),
            _ => {}
        }
        self.poll_woken();
        self.check();
    }

    /// Takes a lease that was given while `ahead` requests waited longer.
    fn hold(&mut self, mut lease: Lease, length: usize, ahead: usize) {
        self.check_order(length, ahead);
        // Where the turn has gone on in this call, it may have passed an earlier one.
        let turn = (ahead > 0).then(|| self.waiting[0].number);
        let turn = turn.filter(|_| turn == self.turn);
        if turn.is_some() {
            self.check_passing(length, turn);
        }
        assert_eq!((lease.capacity(), lease.len()), (length, 0));
        assert!(self.fake.reaches(&lease, length), "the table has other memory under this id");
        self.marks = self.marks.wrapping_add(1);
        lease.resize(length, self.marks);
        let pages = Pages::new(length.div_ceil(PAGE));
        self.held.push(Held { lease, mark: self.marks, pages, passed: turn });
    }

    /// What is out, and whom it passed: each set of pages once.
    fn out(&self) -> Vec<(&Rc<Pages>, Option<u64>)> {
        let held = self.held.iter().map(|held| (&held.pages, held.passed));
        let frozen = self.frozen.iter().map(|held| (&held.pages, held.passed));
        let mut out: Vec<(&Rc<Pages>, Option<u64>)> = Vec::new();
        for (pages, passed) in held.chain(frozen) {
            if !out.iter().any(|(known, _)| Rc::ptr_eq(known, pages)) {
                out.push((pages, passed));
            }
        }
        out
    }

    /// Nobody who wants about as much is ahead of one that is served.
    fn check_order(&self, length: usize, ahead: usize) {
        let class = |length: usize| length.div_ceil(PAGE).next_power_of_two();
        let same = self.waiting[..ahead].iter().find(|one| class(one.length) == class(length));
        assert!(same.is_none(), "{length} bytes overtook one that wants as much");
    }

    /// The bounds under which the request that waits longest is passed.
    fn check_passing(&self, length: usize, turn: Option<u64>) {
        let out = self.out();
        let passed = out.iter().filter(|(_, passed)| *passed == turn);
        let passed: usize = passed.map(|(pages, _)| pages.count).sum();
        let total = passed + length.div_ceil(PAGE);
        assert!(total <= LIMIT / PAGE / 4, "{total} pages are out to who passed one that waits");
        let before = out.iter().any(|(_, passed)| *passed != turn);
        assert!(before, "{length} bytes passed one that waits only for those who passed it");
    }

    fn split(&mut self, index: usize, at: usize) {
        let held = &mut self.held[index];
        let mut at = at % (held.lease.capacity() + 1);
        let alone = !held.pages.shared.get();
        if alone && at.is_multiple_of(2) {
            at = at / PAGE * PAGE;
        }
        let pages = held.pages.count;
        let cut = alone && at > 0 && at.is_multiple_of(PAGE) && at / PAGE < pages;
        let front = held.lease.split_to(at);
        let pages = if cut {
            held.pages = Pages::new(pages - at / PAGE);
            Pages::new(at / PAGE)
        } else {
            held.pages.shared.set(true);
            held.pages.clone()
        };
        let (mark, passed) = (held.mark, held.passed);
        self.held.push(Held { lease: front, mark, pages, passed });
    }

    fn check_refusal(&self, kind: LeaseErrorKind) {
        let out = self.pool.occupancy();
        match kind {
            LeaseErrorKind::Full => assert!(
                !self.waiting.is_empty() || out.leased + out.retiring > 0,
                "full, but nothing is out: {out:?}"
            ),
            LeaseErrorKind::LockedMemory => {
                assert_eq!((out.mapped, out.leased), (0, 0), "it had only to wait");
            }
            other => panic!("{other:?}: {out:?}"),
        }
    }

    /// Polls who was woken. Whoever is served first, or may pass who is before.
    fn poll_woken(&mut self) {
        let mut index = 0;
        while index < self.waiting.len() {
            let queued = &mut self.waiting[index];
            if !queued.waiting.is_woken() {
                index += 1;
                continue;
            }
            match queued.waiting.poll() {
                Poll::Pending => index += 1,
                Poll::Ready(result) => {
                    let Queued { length, .. } = self.waiting.remove(index);
                    match result {
                        Ok(lease) => self.hold(lease, length, index),
                        Err(error) => self.check_refusal(error.kind()),
                    }
                    // Whoever went may have passed on something to one before it.
                    index = 0;
                }
            }
        }
    }

    fn check(&self) {
        let occupancy = self.pool.occupancy();
        assert_eq!(occupancy.waiters, self.waiting.len());
        assert!(occupancy.mapped <= LIMIT && occupancy.frozen <= LIMIT / 2, "{occupancy:?}");
        let parts = occupancy.leased + occupancy.free + occupancy.retiring + occupancy.leaked;
        assert_eq!(occupancy.mapped, parts, "{occupancy:?}");
        let leased: usize = self.out().iter().map(|(pages, _)| pages.count * PAGE).sum();
        assert_eq!(occupancy.leased, leased, "{occupancy:?}");
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        ranges.extend(self.held.iter().map(|held| range(&held.lease)));
        ranges.extend(self.frozen.iter().map(|held| range(&held.lease)));
        ranges.retain(|&(start, end)| start < end);
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "two leases overlap: {pair:x?}");
        }
    }

    /// Everything goes back, and everybody who waits is served by it.
    fn finish(mut self) {
        loop {
            self.fake.set_budget(LIMIT);
            self.apply(Call::Detach);
            match (self.held.is_empty(), self.frozen.is_empty()) {
                (false, _) => self.apply(Call::Return(0)),
                (true, false) => self.apply(Call::Thaw(0)),
                (true, true) if self.pool.occupancy().retiring == 0 => break,
                _ => {}
            }
        }
        assert_eq!(self.waiting.len(), 0, "{:?}", self.pool);
        self.pool.sweep();
        self.pool.sweep();
        self.apply(Call::Detach);
        let occupancy = self.pool.occupancy();
        assert_eq!((occupancy.mapped, occupancy.frozen, self.fake.pinned()), (0, 0, 0));
    }
}

fn range(bytes: &[u8]) -> (usize, usize) {
    let start = bytes.as_ptr() as usize;
    (start, start + bytes.len())
}

/// How many sequences to try: `PROPTEST_CASES`, or a few hundred.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(400, |text| text.parse().expect("a number of cases"))
}

#[test]
fn any_sequence_of_calls_keeps_leases_apart_and_loses_nothing() {
    let config = ProptestConfig {
        cases: cases(),
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let calls = proptest::collection::vec(call(), 1..200);
    TestRunner::new(config)
        .run(&calls, |calls| {
            let mut model = Model::new();
            calls.into_iter().for_each(|call| model.apply(call));
            model.finish();
            Ok(())
        })
        .unwrap();
}

#[test]
fn leased_pages_are_counted_exactly() {
    let mut random = Random::new();
    let pool = Pool::unregistered(PoolConfig::new().limit(LIMIT).arena(LIMIT));
    let mut held: Vec<(Lease, usize)> = Vec::new();
    for _ in 0..20_000 {
        if random.below(2) == 0 {
            let pages = 1 + random.below(4);
            let length = pages * PAGE - random.below(PAGE);
            if let Ok(lease) = pool.try_lease(length) {
                held.push((lease, pages));
            }
        } else if !held.is_empty() {
            held.swap_remove(random.below(held.len()));
        }
        let expected: usize = held.iter().map(|(_, pages)| pages * PAGE).sum();
        assert_eq!(pool.occupancy().leased, expected);
    }
}
