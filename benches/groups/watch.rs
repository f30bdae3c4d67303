//! Finds out when a CPU was taken away, by a hypervisor or by another program.
//!
//! Whoever spins on a CPU reads the clock all the time; when much time has passed between two
//! readings, the CPU did something else. What arrives around such a moment says nothing about the
//! runtime, and is told apart.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Between two readings there are at most a turn of the shard and its system calls.
const GAP: Duration = Duration::from_micros(150);

/// A disturbed window and the one after it, in which what has piled up is worked off, are left out.
const WINDOW: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub struct Watch {
    begin: Instant,
    last: Cell<Duration>,
    disturbed: RefCell<Disturbed>,
}

/// The numbers of the windows in which a CPU was away.
#[derive(Clone, Debug, Default)]
pub struct Disturbed(BTreeSet<u128>);

impl Watch {
    pub fn new(begin: Instant) -> Watch {
        Watch { begin, last: Cell::new(begin.elapsed()), disturbed: RefCell::default() }
    }

    /// Reads the clock: the time since the beginning.
    #[inline]
    pub fn look(&self) -> Duration {
        let now = self.begin.elapsed();
        let last = self.last.replace(now);
        if now - last > GAP {
            self.disturbed.borrow_mut().note(last, now);
        }
        now
    }

    /// Spins for a time.
    pub fn spin(&self, time: Duration) {
        let end = self.look() + time;
        while self.look() < end {
            std::hint::spin_loop();
        }
    }

    pub fn disturbed(&self) -> Disturbed {
        self.disturbed.borrow().clone()
    }
}

impl Disturbed {
    fn note(&mut self, from: Duration, to: Duration) {
        self.0.extend(window(from)..=window(to) + 1);
    }

    pub fn join(&mut self, other: Disturbed) {
        self.0.extend(other.0);
    }

    /// Whether a CPU was away at a time from the one to the other.
    pub fn has(&self, from: Duration, to: Duration) -> bool {
        self.0.range(window(from)..=window(to)).next().is_some()
    }
}

fn window(at: Duration) -> u128 {
    at.as_nanos() / WINDOW.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_disturbs_its_windows_and_the_next() {
        let ms = Duration::from_millis;
        let mut disturbed = Disturbed::default();
        disturbed.note(ms(60), ms(80));
        assert!(!disturbed.has(ms(0), ms(49)));
        assert!(disturbed.has(ms(40), ms(51)));
        assert!(disturbed.has(ms(110), ms(111)));
        assert!(!disturbed.has(ms(125), ms(300)));
    }
}
