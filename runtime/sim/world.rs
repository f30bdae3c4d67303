//! The simulated world: its time, what is going to happen, and its hosts' machines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Choose;
use crate::dice::Dice;
use crate::machine::Machine;
use crate::net::{Due, Network};
use crate::trace::{Trace, What};

/// Something that is going to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Coming {
    /// When, in nanoseconds of the simulation.
    at: u64,
    /// Of those at the same time, the one that was planned first comes first.
    order: u64,
    event: Happening,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// An operation takes effect.
    Effect {
        host: usize,
        /// The host's kernels are of one start of it; what was planned for an earlier one is void.
        incarnation: u32,
        ring: usize,
        /// The operation's number in its ring.
        number: u64,
    },
    /// The network is reminded of something.
    Network(Due),
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
    pub(crate) network: Network,
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
    pub(crate) fn new(mut dice: Dice, of_network: Dice) -> Shared {
        let seeds = dice.split();
        Shared(Arc::new(Mutex::new(World {
            now: 0,
            base: Instant::now(),
            coming: BinaryHeap::new(),
            planned: 0,
            machines: Vec::new(),
            network: Network::new(of_network),
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
        let incarnation = self.machines[host].incarnation;
        self.plan_event(after, Happening::Effect { host, incarnation, ring, number });
    }

    fn plan_event(&mut self, after: u64, event: Happening) {
        self.planned += 1;
        let at = self.now.saturating_add(after);
        self.coming.push(Reverse(Coming { at, order: self.planned, event }));
    }

    /// Plans what the network wants to be reminded of.
    pub(crate) fn plan_network(&mut self) {
        for (after, due) in self.network.take_due() {
            self.plan_event(after, Happening::Network(due));
        }
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
            let event = coming.event;
            self.coming.pop();
            match event {
                Happening::Effect { host, incarnation, ring, number } => {
                    if self.machines[host].incarnation == incarnation {
                        self.take_effect(host, ring, number);
                    }
                }
                Happening::Network(due) => self.remind(due),
            }
            self.go_on();
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
