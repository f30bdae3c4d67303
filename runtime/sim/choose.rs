//! Where the simulator's choices come from: a seed, or every sequence there is.

/// Who decides what the simulated kernel leaves open.
pub trait Choose {
    /// One of `alternatives`, from 0. Nobody asks where there is no alternative (0 or 1).
    fn pick(&mut self, alternatives: usize) -> usize;

    /// Whether something happens that has this probability, from 0.0 to 1.0.
    fn chance(&mut self, probability: f64) -> bool;
}

/// Always the first alternative, and nothing that has a chance happens.
#[derive(Clone, Copy, Debug, Default)]
pub struct First;

impl Choose for First {
    fn pick(&mut self, _alternatives: usize) -> usize {
        0
    }

    fn chance(&mut self, _probability: f64) -> bool {
        false
    }
}

/// Walks through every sequence of picks, like an odometer whose number of wheels, and of digits on
/// each, depends on the digits before.
///
/// ```
/// use ringhold_sim::choose::{Choose, Enumerate};
///
/// let mut every = Enumerate::new();
/// let mut seen = Vec::new();
/// while every.next_run() {
///     let first = every.pick(2);
///     let second = if first == 1 { every.pick(3) } else { 0 };
///     seen.push((first, second));
/// }
/// assert_eq!(seen, [(0, 0), (1, 0), (1, 1), (1, 2)]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Enumerate {
    /// The digit and the number of alternatives of each pick of this run.
    wheels: Vec<(usize, usize)>,
    /// How many picks this run has made.
    made: usize,
    runs: u64,
}

impl Enumerate {
    /// Before the first run.
    pub fn new() -> Enumerate {
        Enumerate::default()
    }

    /// Begins the next run; `false` when every sequence had its own.
    pub fn next_run(&mut self) -> bool {
        if self.runs > 0 {
            self.wheels.truncate(self.made);
            loop {
                match self.wheels.last_mut() {
                    None => return false,
                    Some((digit, alternatives)) if *digit + 1 < *alternatives => {
                        *digit += 1;
                        break;
                    }
                    Some(_) => self.wheels.pop(),
                };
            }
        }
        self.made = 0;
        self.runs += 1;
        true
    }

    /// The runs begun so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }
}

impl Choose for Enumerate {
    /// # Panics
    ///
    /// Where the same digits before led to another number of alternatives: then what is enumerated
    /// depends on more than its picks.
    fn pick(&mut self, alternatives: usize) -> usize {
        if alternatives <= 1 {
            return 0;
        }
        if self.made == self.wheels.len() {
            self.wheels.push((0, alternatives));
        }
        let (digit, expected) = self.wheels[self.made];
        assert_eq!(alternatives, expected, "pick {} depends on more than the picks", self.made);
        self.made += 1;
        digit
    }

    fn chance(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            return false;
        }
        probability >= 1.0 || self.pick(2) == 1
    }
}
