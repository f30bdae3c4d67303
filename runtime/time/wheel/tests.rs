//! The wheel beside a sorted map, and the edges of its arithmetic.

use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes its number down when it is woken.
struct Tag {
    number: u64,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Tag {
    fn wake(self: Arc<Self>) {
        self.woken.lock().expect("no test panics with the lock").push(self.number);
    }
}

/// Makes tagged wakers and tells which of a list are whose.
#[derive(Default)]
struct Tags {
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Tags {
    fn tag(&self, number: u64) -> Arc<Tag> {
        Arc::new(Tag { number, woken: Arc::clone(&self.woken) })
    }

    fn waker(&self, number: u64) -> ForeignWaker {
        Waker::from(self.tag(number)).into()
    }

    fn numbers(&self, wakers: impl IntoIterator<Item = ForeignWaker>) -> Vec<u64> {
        wakers.into_iter().for_each(ForeignWaker::wake);
        std::mem::take(&mut *self.woken.lock().expect("no test panics with the lock"))
    }

    fn expire(&self, wheel: &mut Wheel, now: u64) -> Vec<u64> {
        let mut wakers = Vec::new();
        wheel.expire(now, usize::MAX, &mut wakers);
        self.numbers(wakers)
    }
}

struct Random(u64);

impl Random {
    /// A generator with a seed of its own in each run, which the failing test's output shows.
    fn seeded() -> Random {
        static CALLS: AtomicU64 = AtomicU64::new(1);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let seed = (time.as_nanos() as u64).wrapping_mul(2 * call + 1) | 1;
        println!("seed: {seed}");
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[test]
fn an_entry_takes_at_most_48_bytes() {
    assert_eq!(size_of::<Entry>(), 40);
    assert_eq!(size_of::<TimerKey>(), 8);
    assert_eq!(LEVELS, 11);
}

#[test]
fn a_lone_timer_is_announced_exactly_and_fires_at_its_tick() {
    for tick in [0, 1, 63, 64, 65, 4095, 4096, 1 << 40, (1 << 60) - 1, 1 << 60, u64::MAX] {
        let (tags, mut wheel) = (Tags::default(), Wheel::new());
        wheel.insert(tick, tags.waker(7));
        assert_eq!((wheel.next(), wheel.len), (Some(tick), 1));
        assert!(!wheel.is_empty());
        if tick > 0 {
            assert_eq!(tags.expire(&mut wheel, tick - 1), []);
            assert_eq!(wheel.next(), Some(tick));
        }
        assert_eq!(tags.expire(&mut wheel, tick), [7]);
        assert_eq!((wheel.next(), wheel.is_empty()), (None, true));
    }
}

#[test]
fn timers_fire_in_the_order_of_ticks_and_then_of_insertion() {
    let (tags, mut wheel) = (Tags::default(), Wheel::new());
    for (number, tick) in [(1, 5000), (2, 70), (3, 5000), (4, 3), (5, 70), (6, u64::MAX)] {
        wheel.insert(tick, tags.waker(number));
    }
    assert_eq!(tags.expire(&mut wheel, 4990), [4, 2, 5]);
    wheel.insert(5000, tags.waker(7));
    wheel.insert(4999, tags.waker(8));
    assert_eq!(tags.expire(&mut wheel, u64::MAX - 1), [8, 1, 3, 7]);
    assert_eq!(tags.expire(&mut wheel, u64::MAX), [6]);
}

#[test]
fn a_timer_in_the_past_fires_at_the_next_call() {
    let (tags, mut wheel) = (Tags::default(), Wheel::new());
    assert_eq!(tags.expire(&mut wheel, 1000), []);
    wheel.insert(10, tags.waker(1));
    wheel.insert(1000, tags.waker(2));
    assert_eq!(wheel.next(), Some(1000));
    assert_eq!(tags.expire(&mut wheel, 999), []);
    assert_eq!(tags.expire(&mut wheel, 1000), [1, 2]);
}

#[test]
fn a_stale_key_finds_nothing_even_when_its_place_is_used_again() {
    let (tags, mut wheel) = (Tags::default(), Wheel::new());
    let fired = wheel.insert(1, tags.waker(1));
    assert_eq!(tags.expire(&mut wheel, 1), [1]);
    let removed = wheel.insert(2, tags.waker(2));
    assert_eq!(tags.numbers(wheel.remove(removed)), [2]);
    let live = wheel.insert(3, tags.waker(3));
    assert_eq!([fired.index, removed.index, live.index], [0, 0, 0]);
    for stale in [fired, removed] {
        assert!(wheel.waker(stale).is_none());
        assert!(wheel.remove(stale).is_none());
        let back = wheel.set_waker(stale, tags.waker(4)).expect_err("the key is stale");
        assert_eq!(tags.numbers([back]), [4]);
    }
    let old = wheel.set_waker(live, tags.waker(5)).expect("the key is live");
    assert_eq!(tags.numbers([old]), [3]);
    assert_eq!(tags.expire(&mut wheel, 3), [5]);
}

#[test]
fn a_place_is_retired_when_its_generations_are_used_up() {
    let (tags, mut wheel) = (Tags::default(), Wheel::new());
    let first = wheel.insert(1, tags.waker(1));
    assert_eq!(tags.numbers(wheel.remove(first)), [1]);
    wheel.entries[0].generation = u32::MAX;
    let last = wheel.insert(1, tags.waker(2));
    assert_eq!((last.index, last.generation), (0, u32::MAX));
    assert_eq!(tags.numbers(wheel.remove(last)), [2]);
    let elsewhere = wheel.insert(1, tags.waker(3));
    assert_eq!((elsewhere.index, elsewhere.generation), (1, 0));
    assert!(wheel.remove(last).is_none());
}

#[test]
fn wakers_are_neither_cloned_nor_dropped_before_the_wheel_is() {
    let (tags, mut wheel) = (Tags::default(), Wheel::new());
    let [kept, moved] = [tags.tag(1), tags.tag(2)];
    wheel.insert(1 << 50, Waker::from(Arc::clone(&kept)).into());
    wheel.insert(5000, Waker::from(Arc::clone(&moved)).into());
    let mut wakers = Vec::new();
    for now in [63, 64, 4096, 4999, 5000] {
        wheel.expire(now, usize::MAX, &mut wakers);
        assert_eq!([Arc::strong_count(&kept), Arc::strong_count(&moved)], [2, 2]);
    }
    assert_eq!(wakers.len(), 1);
    drop(wheel);
    assert_eq!([Arc::strong_count(&kept), Arc::strong_count(&moved)], [1, 2]);
}

#[test]
fn the_slab_does_not_grow_while_there_are_free_places() {
    let (tags, mut wheel) = (Tags::default(), Wheel::new());
    for round in 0..100 {
        let keys: Vec<_> = (0..100).map(|n| wheel.insert(round + n, tags.waker(n))).collect();
        for key in keys.into_iter().step_by(2) {
            assert!(wheel.remove(key).is_some());
        }
        assert_eq!(tags.expire(&mut wheel, round + 100).len(), 50);
    }
    assert_eq!(wheel.entries.len(), 100);
}

#[test]
fn no_call_is_in_vain_while_no_timer_is_removed() {
    let (mut random, mut wheel) = (Random::seeded(), Wheel::new());
    for _ in 0..100_000 {
        wheel.insert(random.next() >> random.below(40), ForeignWaker::noop());
    }
    let (mut fired, mut wakers) = (0, Vec::new());
    while let Some(next) = wheel.next() {
        wheel.expire(next, usize::MAX, &mut wakers);
        assert!(!wakers.is_empty(), "nothing was due at {next}");
        fired += wakers.drain(..).count();
    }
    assert_eq!(fired, 100_000);
}

/// What the wheel should hold: the timers in the order in which they have to fire.
#[derive(Default)]
struct Model {
    now: u64,
    timers: BTreeMap<(u64, u64), TimerKey>,
    stale: Vec<TimerKey>,
}

impl Model {
    /// A tick in one of the ways that matter: near, far, on the edges of slots, equal, past.
    fn draw_tick(&self, random: &mut Random) -> u64 {
        match random.below(8) {
            0 => u64::MAX - random.below(2),
            1 => self.now.saturating_sub(random.below(100)),
            2 => self.now,
            3 => self.now | ((1u64 << random.below(64)) - 1),
            4 => self.timers.keys().next_back().map_or(5, |(tick, _)| *tick),
            5 => self.now.saturating_add(random.below(64)),
            _ => self.now.saturating_add(random.next() >> random.below(64)),
        }
    }

    fn draw_timer(&self, random: &mut Random) -> Option<((u64, u64), TimerKey)> {
        let nth = random.below(self.timers.len().max(1) as u64) as usize;
        self.timers.iter().nth(nth).map(|(place, key)| (*place, *key))
    }

    /// The time of the next call: mostly what the wheel asks for, else somewhere near or far.
    fn draw_now(&self, random: &mut Random, next: Option<u64>) -> u64 {
        match random.below(6) {
            0 => self.now,
            1 => self.now.saturating_add(random.below(5000)),
            2 => self.now.saturating_add(random.next() >> (4 + random.below(60))),
            _ => next.unwrap_or(self.now),
        }
    }

    fn take_due(&mut self) -> Vec<u64> {
        let mut due = Vec::new();
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > self.now {
                break;
            }
            due.push(first.key().1);
            self.stale.push(first.remove());
        }
        due
    }
}

fn step(random: &mut Random, tags: &Tags, wheel: &mut Wheel, model: &mut Model, number: u64) {
    match random.below(10) {
        0..=3 => {
            let tick = model.draw_tick(random);
            let key = wheel.insert(tick, tags.waker(number));
            assert!(model.timers.insert((tick.max(model.now), number), key).is_none());
        }
        4 | 5 => {
            if let Some((place, key)) = model.draw_timer(random) {
                assert_eq!(tags.numbers(wheel.remove(key)), [place.1]);
                model.timers.remove(&place);
                model.stale.push(key);
            }
        }
        6 => {
            if let Some((place, key)) = model.draw_timer(random) {
                let old = wheel.set_waker(key, tags.waker(place.1)).expect("the key is live");
                assert_eq!(tags.numbers([old]), [place.1]);
            }
        }
        7 => {
            for key in model.stale.drain(..) {
                assert!(wheel.waker(key).is_none() && wheel.remove(key).is_none());
                assert!(wheel.set_waker(key, ForeignWaker::noop()).is_err());
            }
        }
        _ => {
            let early = random.below(model.now.max(1));
            if early < model.now {
                assert_eq!(tags.expire(wheel, early), []);
            }
            model.now = model.draw_now(random, wheel.next());
            assert_eq!(tags.expire(wheel, model.now), model.take_due());
        }
    }
}

#[test]
fn the_wheel_does_what_a_sorted_map_does() {
    let mut random = Random::seeded();
    for round in 0..300 {
        let (tags, mut wheel, mut model) = (Tags::default(), Wheel::new(), Model::default());
        for number in 0..500 {
            step(&mut random, &tags, &mut wheel, &mut model, number);
            let earliest = model.timers.keys().next().map(|(tick, _)| *tick);
            assert_eq!(wheel.len, model.timers.len(), "round {round}, step {number}");
            match (wheel.next(), earliest) {
                (None, None) => {}
                (Some(next), Some(earliest)) => assert!(model.now <= next && next <= earliest),
                other => panic!("round {round}, step {number}: {other:?}"),
            }
        }
        let mut calls = 0;
        while let Some(next) = wheel.next() {
            model.now = next;
            assert_eq!(tags.expire(&mut wheel, next), model.take_due());
            calls += 1;
            assert!(calls <= 500 * LEVELS, "round {round}: the wheel makes no progress");
        }
        assert!(model.timers.is_empty());
    }
}
