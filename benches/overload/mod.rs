//! What is begun and given up again and again: the rate, its cost, and whether anything piles up.
//!
//! Each load runs once a round, in a fresh process. What the kernel has in flight is asked for
//! every ten milliseconds, and memory after a quarter of the time and at its end.

mod report;
mod trial;

use std::error::Error;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::args::Overload;
use crate::{publish, rounds};

pub use report::OverloadReport;
pub use trial::{Outcome, Trial};

/// What is begun and given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overloading {
    /// Waits of silent connections, each with a time limit of a millisecond.
    TimeLimits,
    /// A receive of datagrams that is selected beside a channel that is always ready.
    Select,
    /// Accepts on one listener, each with a time limit of a millisecond.
    Accepts,
}

pub const LOADS: [Overloading; 3] =
    [Overloading::TimeLimits, Overloading::Select, Overloading::Accepts];

impl Overloading {
    pub fn name(self) -> &'static str {
        match self {
            Overloading::TimeLimits => "time-limits",
            Overloading::Select => "select",
            Overloading::Accepts => "accepts",
        }
    }
}

/// The parent: every load once a round, another one first each time.
pub fn measure(overload: &Overload) -> Result<(), Box<dyn Error>> {
    let plan = overload.plan()?;
    let mut samples = Vec::new();
    for round in 0..overload.rounds() as usize {
        let mut of_round = vec![None; LOADS.len()];
        for index in rounds::order(LOADS.len(), round) {
            let load = LOADS[index];
            let trial = Trial { load, ..plan.clone() };
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["try-overload", "--trial", &serde_json::to_string(&trial)?]);
            of_round[index] = Some(rounds::line_of::<Outcome>(load.name(), &mut command)?);
        }
        samples.push(of_round.into_iter().flatten().collect());
        eprintln!("round {} of {}", round + 1, overload.rounds());
    }
    publish(&OverloadReport::of(&plan, &samples), overload.json.as_deref())
}

/// The child: one load, one line of JSON.
pub fn try_here(trial: &str) -> Result<(), Box<dyn Error>> {
    let outcome = trial::run(&serde_json::from_str(trial)?)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
