//! Random numbers that follow from the seed and the number of an operation.

/// The draws of one operation: the same for the same seed and number, whoever makes them.
#[derive(Clone, Debug)]
pub struct Draws(u64);

/// Scatters the bits of a number.
pub fn scatter(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

impl Draws {
    /// The draws of operation number `number`.
    pub fn of(seed: u64, number: u64) -> Draws {
        Draws(scatter(seed) ^ scatter(number.wrapping_add(0x9E37_79B9_7F4A_7C15)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        scatter(self.0)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A number from 1 to `most`.
    pub fn up_to(&mut self, most: usize) -> usize {
        1 + self.below(most)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Draws for something within the operation.
    pub fn fork(&mut self) -> Draws {
        Draws(self.next())
    }
}
