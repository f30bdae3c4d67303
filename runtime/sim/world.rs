//! The simulated world: its time, what is going to happen, and its hosts' machines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Choose;
use crate::dice::Dice;
use crate::machine::Machine;
use crate::trace::{Trace, What};

/// Something that is going to happen: an operation takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Coming {
    /// When, in nanoseconds of the simulation.
    pub(crate) at: u64,
    /// Of those at the same time, the one that was planned first comes first.
    order: u64,
    pub(crate) host: usize,
    /// The host's kernels are of one start of it; what was planned for an earlier one is void.
    pub(crate) incarnation: u32,
    pub(crate) ring: usize,
    /// The operation's number in its ring.
    pub(crate) number: u64,
}

/// Everything that kernels share.
#[derive(Debug)]
pub(crate) struct World {
    /// Nanoseconds since the simulation began.
    pub(crate) now: u64,
    /// What the simulation's beginning is for code that asks for an `Instant`.
    base: Instant,
    coming: BinaryHeap<Reverse<Coming>>,
    planned: u64,
    pub(crate) machines: Vec<Machine>,
    pub(crate) dice: Dice,
    /// What the generators of shards begin with.
    pub(crate) seeds: Dice,
    pub(crate) trace: Trace,
    /// What the runtime did to its kernel that it must never do.
    pub(crate) violations: Vec<String>,
}

/// The world, as everything that lives in it has it.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn new(mut dice: Dice) -> Shared {
        let seeds = dice.split();
        Shared(Arc::new(Mutex::new(World {
            now: 0,
            base: Instant::now(),
            coming: BinaryHeap::new(),
            planned: 0,
            machines: Vec::new(),
            dice,
            seeds,
            trace: Trace::new(),
            violations: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// A host's time as an `Instant`.
    pub(crate) fn instant(&self, host: usize) -> Instant {
        self.base + Duration::from_nanos(self.machines[host].clock.read(self.now))
    }

    pub(crate) fn record(&mut self, host: usize, what: What) {
        self.trace.record(self.now, host, what);
    }

    pub(crate) fn plan(&mut self, after: u64, host: usize, ring: usize, number: u64) {
        self.planned += 1;
        let incarnation = self.machines[host].incarnation;
        let at = self.now.saturating_add(after);
        let order = self.planned;
        self.coming.push(Reverse(Coming { at, order, host, incarnation, ring, number }));
    }

    /// When the next thing happens.
    pub(crate) fn next(&self) -> Option<u64> {
        self.coming.peek().map(|Reverse(coming)| coming.at)
    }

    /// Lets everything happen whose time has come.
    pub(crate) fn happen(&mut self) {
        while let Some(Reverse(coming)) = self.coming.peek()
            && coming.at <= self.now
        {
            let coming = *coming;
            self.coming.pop();
            if self.machines[coming.host].incarnation == coming.incarnation {
                self.take_effect(coming.host, coming.ring, coming.number);
            }
        }
    }

    /// How long an operation takes, in nanoseconds: 0 if it is done as it is submitted.
    pub(crate) fn draw_latency(&mut self, host: usize, slow: bool) -> u64 {
        let latency = &self.machines[host].latency;
        let (inline, mean) = (latency.inline, latency.mean_nanos);
        if !slow && self.dice.chance(inline) {
            return 0;
        }
        // Short ones are common and long ones are rare: each doubling halves the odds.
        let number = self.dice.number();
        let doublings = number.trailing_zeros().min(6);
        let nanos = (number >> 32) % mean.max(1) + (mean << doublings) / 4 + 1;
        if slow { nanos * 1000 } else { nanos }
    }
}
