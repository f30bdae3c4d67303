//! The result of all rounds, as a table and as JSON.

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

use super::{LOADS, Outcome, Trial};
use crate::report::{Spread, utc_date};

#[derive(Debug, Serialize)]
pub struct OverloadReport {
    pub workload: &'static str,
    pub parameters: Parameters,
    pub results: Vec<OfLoad>,
}

#[derive(Debug, Serialize)]
pub struct Parameters {
    pub rounds: usize,
    pub tasks: u64,
    pub millis: u64,
    pub cpu: usize,
    pub kernel: String,
    /// UTC.
    pub date: String,
}

#[derive(Debug, Serialize)]
pub struct OfLoad {
    pub load: &'static str,
    pub rounds_per_s: Spread,
    pub cpu_ns_per_round: Spread,
    pub in_flight_most: Spread,
    pub grown_bytes: Spread,
}

impl OverloadReport {
    /// `samples[round][load]`, the loads in their order.
    pub fn of(trial: &Trial, samples: &[Vec<Outcome>]) -> OverloadReport {
        let parameters = Parameters {
            rounds: samples.len(),
            tasks: trial.tasks,
            millis: trial.millis,
            cpu: trial.cpu,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            date: utc_date(SystemTime::now()),
        };
        let results = (0..LOADS.len()).map(|index| of_load(samples, index)).collect();
        OverloadReport { workload: "overload", parameters, results }
    }
}

fn of_load(samples: &[Vec<Outcome>], index: usize) -> OfLoad {
    let spread = |value: &dyn Fn(&Outcome) -> f64| {
        Spread::of(samples.iter().map(|round| value(&round[index]))).expect("there is a round")
    };
    OfLoad {
        load: LOADS[index].name(),
        rounds_per_s: spread(&|outcome| outcome.rounds_per_s),
        cpu_ns_per_round: spread(&|outcome| outcome.cpu_ns_per_round),
        in_flight_most: spread(&|outcome| outcome.in_flight_most as f64),
        grown_bytes: spread(&|outcome| outcome.grown_bytes as f64),
    }
}

impl fmt::Display for OverloadReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters { rounds, tasks, millis, cpu, kernel, date } = &self.parameters;
        writeln!(
            formatter,
            "overload: {tasks} tasks; kernel {kernel}, CPU {cpu}, {date}\n{rounds} rounds of \
             {millis} ms; medians"
        )?;
        writeln!(
            formatter,
            "{:<12} {:>12} {:>15} {:>10} {:>10}",
            "load", "given up/s", "CPU ns of each", "in flight", "MiB more"
        )?;
        for result in &self.results {
            writeln!(
                formatter,
                "{:<12} {:>12.0} {:>15.0} {:>10.0} {:>10.1}",
                result.load,
                result.rounds_per_s.median,
                result.cpu_ns_per_round.median,
                result.in_flight_most.median,
                result.grown_bytes.median / f64::from(1 << 20),
            )?;
        }
        Ok(())
    }
}
