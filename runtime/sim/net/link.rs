//! What lies between hosts: how long it takes, what it loses, and where it is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::Choose;
use crate::dice::Dice;

/// After what a segment of a stream that was lost is sent again, in nanoseconds.
const RETRANSMISSION_NANOS: u64 = 200_000_000;

/// How much longer than others a late datagram takes.
const LATE: u64 = 16;

/// The way from one host to another, in one direction.
///
/// ```
/// use std::time::Duration;
/// use ringhold_sim::{HostConfig, Link, Simulation};
///
/// let mut simulation = Simulation::new(1);
/// let [a, b] = ["a", "b"].map(|name| simulation.host(HostConfig::new(name)));
/// simulation.set_link(a, b, Link::new(Duration::from_millis(40)).loss(0.01));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    mean_nanos: u64,
    loss: f64,
    late: f64,
}

impl Default for Link {
    /// A network of one building: about a tenth of a millisecond, and nothing is lost.
    fn default() -> Link {
        Link::new(Duration::from_micros(100))
    }
}

impl Link {
    /// What goes this way takes about `latency`, some of it several times as long.
    pub fn new(latency: Duration) -> Link {
        let mean_nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX >> 16).max(1);
        Link { mean_nanos, loss: 0.0, late: 0.0 }
    }

    /// This share, from 0 to 1, is lost: datagrams for good, and what belongs to a stream until it
    /// is sent again.
    #[must_use]
    pub fn loss(mut self, share: f64) -> Link {
        assert!((0.0..=1.0).contains(&share), "{share} is no share");
        self.loss = share;
        self
    }

    /// This share of datagrams, from 0 to 1, takes so long that others overtake it.
    #[must_use]
    pub fn late(mut self, share: f64) -> Link {
        assert!((0.0..=1.0).contains(&share), "{share} is no share");
        self.late = share;
        self
    }

    fn draw(&self, dice: &mut Dice) -> u64 {
        // Half of it is the way, the rest differs; a few take several times as long.
        let doublings = dice.number().trailing_zeros().min(4);
        self.mean_nanos / 2
            + dice.below(self.mean_nanos.max(2))
            + ((self.mean_nanos << doublings) >> 3)
    }

    /// How long a part of a stream takes.
    fn draw_segment(&self, dice: &mut Dice) -> u64 {
        let mut nanos = self.draw(dice);
        let mut again = RETRANSMISSION_NANOS;
        // A way that loses everything is cut, which is another matter.
        while self.loss > 0.0 && again < u64::MAX >> 8 && dice.chance(self.loss.min(0.9)) {
            nanos += again;
            again *= 2;
        }
        nanos
    }

    /// How long a datagram takes; `None` if it is lost.
    fn draw_datagram(&self, dice: &mut Dice) -> Option<u64> {
        if self.loss > 0.0 && dice.chance(self.loss) {
            return None;
        }
        let nanos = self.draw(dice);
        let is_late = self.late > 0.0 && dice.chance(self.late);
        Some(if is_late { nanos * LATE } else { nanos })
    }
}

/// All ways, and which of them are cut.
#[derive(Debug, Default)]
pub(crate) struct Links {
    differing: BTreeMap<(usize, usize), Link>,
    cut: BTreeSet<(usize, usize)>,
    /// Hosts without power.
    down: BTreeSet<usize>,
}

/// Within a host nothing is lost, and hardly any time passes.
const LOCAL: Link = Link { mean_nanos: 4_000, loss: 0.0, late: 0.0 };

impl Links {
    fn of(&self, from: usize, to: usize) -> Link {
        if from == to {
            return LOCAL;
        }
        self.differing.get(&(from, to)).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, from: usize, to: usize, link: Link) {
        self.differing.insert((from, to), link);
    }

    /// Nothing arrives at `to` any more that comes from `from`.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(crate) fn mend(&mut self, from: usize, to: usize) {
        self.cut.remove(&(from, to));
    }

    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn set_power(&mut self, host: usize, on: bool) {
        if on {
            self.down.remove(&host);
        } else {
            self.down.insert(host);
        }
    }

    /// Whether what arrives now gets there.
    pub(super) fn is_open(&self, from: usize, to: usize) -> bool {
        from == to || (!self.cut.contains(&(from, to)) && !self.down.contains(&to))
    }

    pub(super) fn draw_segment(&self, from: usize, to: usize, dice: &mut Dice) -> u64 {
        self.of(from, to).draw_segment(dice)
    }

    pub(super) fn draw_datagram(&self, from: usize, to: usize, dice: &mut Dice) -> Option<u64> {
        self.of(from, to).draw_datagram(dice)
    }
}
