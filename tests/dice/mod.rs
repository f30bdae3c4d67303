//! Numbers from a seed that is printed, for tests that roll on several threads.

#![allow(dead_code)] // Each test file is a program of its own and uses a part of this.

use std::time::SystemTime;

/// A generator of its own for whoever rolls.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From `RINGHOLD_SEED`, or from the time of day.
    pub fn from_environment() -> Dice {
        let seed = match std::env::var("RINGHOLD_SEED") {
            Ok(text) => text.parse().expect("RINGHOLD_SEED is a number"),
            Err(_) => SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970").as_nanos() as u64,
        };
        println!("RINGHOLD_SEED={seed}");
        Dice(seed | 1)
    }

    /// From a seed that something else prints.
    pub fn of(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    /// Another generator, whose numbers follow from this one's seed.
    pub fn split(&mut self) -> Dice {
        Dice(self.below(u64::MAX) | 1)
    }

    /// Wastes up to a few microseconds, so that two threads meet at ever other moments.
    pub fn dawdle(&mut self) {
        for _ in 0..self.below(300) {
            std::hint::spin_loop();
        }
    }
}
