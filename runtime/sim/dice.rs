//! The simulation's generators, all from its seed.

use crate::Choose;

/// One generator. Each part of the simulation has its own, so that a draw more in one of them
/// doesn't change what the others draw.
#[derive(Clone, Debug)]
pub(crate) struct Dice(fastrand::Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(fastrand::Rng::with_seed(seed))
    }

    /// Another generator, whose numbers follow from this one's seed.
    pub(crate) fn split(&mut self) -> Dice {
        Dice(self.0.fork())
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.u64(..bound)
    }
}

impl Choose for Dice {
    fn pick(&mut self, alternatives: usize) -> usize {
        self.0.usize(..alternatives)
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.0.f64() < probability
    }
}
