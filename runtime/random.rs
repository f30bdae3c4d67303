//! The generators of random numbers that make choices fair: one a shard, and one for threads that
//! are no shard. They begin with what the system says, so that a simulated run repeats itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use ringhold_kernel::sync::OnceLock;

use crate::builder::Builder;
use crate::context;

/// The odd number nearest to 2^64 divided by the golden ratio: with steps of this length the states
/// are as far from each other as they can be, and all of them are passed before one returns.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A generator that one thread uses. Every seed is as good as any other.
#[derive(Debug)]
pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Cell::new(seed))
    }

    /// A number below `bound`, each as likely as the next one; 0 if there is none.
    #[inline]
    pub(crate) fn below(&self, bound: u32) -> u32 {
        let state = self.0.get().wrapping_add(STEP);
        self.0.set(state);
        scale(mix(state), bound)
    }
}

/// A generator that threads share. They get the numbers that [`Random`] gives, in the order in
/// which they ask.
#[derive(Debug)]
pub(crate) struct SharedRandom(AtomicU64);

impl SharedRandom {
    pub(crate) fn new(seed: u64) -> SharedRandom {
        SharedRandom(AtomicU64::new(seed))
    }

    /// As [`Random::below`].
    pub(crate) fn below(&self, bound: u32) -> u32 {
        let before = self.0.fetch_add(STEP, Ordering::Relaxed);
        scale(mix(before.wrapping_add(STEP)), bound)
    }
}

/// SplitMix64's finalizer: bits that look random from states that only count.
fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// A multiplication instead of a division; a number's chance is off by less than 2^-32.
fn scale(bits: u64, bound: u32) -> u32 {
    (((bits >> 32) * u64::from(bound)) >> 32) as u32
}

/// A number below `bound` from the running shard's generator; where none runs, from the one that
/// the entered runtime keeps for other threads, and without a runtime from the process's own.
#[doc(hidden)]
#[inline]
pub fn random_below(bound: u32) -> u32 {
    context::with_shard(|shard| match shard {
        Some(shard) => shard.random().below(bound),
        None => random_below_elsewhere(bound),
    })
}

fn random_below_elsewhere(bound: u32) -> u32 {
    static NOWHERE: OnceLock<SharedRandom> = OnceLock::new();
    match context::handle() {
        Some(handle) => handle.random().below(bound),
        None => {
            NOWHERE.get_or_init(|| SharedRandom::new(Builder::default_system().seed())).below(bound)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generators_give_the_same_numbers_for_the_same_seed() {
        for seed in [0, 1, u64::MAX] {
            let (own, shared) = (Random::new(seed), SharedRandom::new(seed));
            let own: Vec<u32> = (0..100).map(|_| own.below(1000)).collect();
            let shared: Vec<u32> = (0..100).map(|_| shared.below(1000)).collect();
            assert_eq!(own, shared);
        }
    }

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        // The published outputs for the seed 0.
        let outputs = [1, 2, 3].map(|n| mix(STEP.wrapping_mul(n)));
        assert_eq!(outputs, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        let random = Random::new(0);
        assert_eq!([random.below(256), random.below(256), random.below(256)], [0xe2, 0x6e, 0x06]);
    }

    #[test]
    fn numbers_are_below_their_bound_and_reach_all_of_it() {
        let random = Random::new(7);
        for bound in 1..=64 {
            let mut seen = vec![0u32; bound as usize];
            for _ in 0..bound * 200 {
                seen[random.below(bound) as usize] += 1;
            }
            assert!(seen.iter().all(|&count| (100..300).contains(&count)), "{bound}: {seen:?}");
        }
        assert_eq!(random.below(0), 0);
    }
}
