//! The result of all rounds, as a table and as JSON.

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

use super::trial::{Outcome, Trial};
use super::{Caller, Row};
use crate::report::{Spread, in_words, utc_date};

#[derive(Debug, Serialize)]
pub struct FilesReport {
    pub workload: &'static str,
    pub parameters: Parameters,
    pub results: Vec<OfTrial>,
}

#[derive(Debug, Serialize)]
pub struct Parameters {
    pub rounds: usize,
    pub millis: u64,
    pub kernel: String,
    /// UTC.
    pub date: String,
}

#[derive(Debug, Serialize)]
pub struct OfTrial {
    pub row: Row,
    pub caller: Caller,
    pub tasks: usize,
    pub cores: usize,
    pub calls_per_s: Spread,
    pub cpu_us_per_call: Spread,
    /// Calls a second over tokio's and std's of the same round, where they ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_to_tokio: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_to_std: Option<Spread>,
}

impl FilesReport {
    /// `samples[round][trial]`.
    pub fn of(trials: &[Trial], samples: &[Vec<Outcome>]) -> FilesReport {
        let parameters = Parameters {
            rounds: samples.len(),
            millis: trials.first().map_or(0, |trial| trial.millis),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            date: utc_date(SystemTime::now()),
        };
        let results = (0..trials.len()).map(|index| of_trial(trials, samples, index)).collect();
        FilesReport { workload: "files", parameters, results }
    }
}

fn of_trial(trials: &[Trial], samples: &[Vec<Outcome>], index: usize) -> OfTrial {
    let trial = &trials[index];
    let spread = |value: &dyn Fn(&[Outcome]) -> f64| {
        Spread::of(samples.iter().map(|round| value(round))).expect("there is a round")
    };
    let to = |caller: Caller| {
        let same = |other: &&Trial| {
            other.caller == caller
                && (other.row, other.tasks, other.cores) == (trial.row, trial.tasks, trial.cores)
        };
        let other = trials.iter().position(|other| same(&other))?;
        (other != index).then(|| spread(&|round| round[index].rate() / round[other].rate()))
    };
    OfTrial {
        row: trial.row,
        caller: trial.caller,
        tasks: trial.tasks,
        cores: trial.cores,
        calls_per_s: spread(&|round| round[index].rate()),
        cpu_us_per_call: spread(&|round| {
            // The warm-up lasts a quarter of what is measured.
            round[index].cpu_seconds / 1.25 * 1e6 / round[index].calls.max(1) as f64
        }),
        rate_to_tokio: to(Caller::Tokio),
        rate_to_std: to(Caller::Std),
    }
}

impl fmt::Display for FilesReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters { rounds, millis, kernel, date } = &self.parameters;
        writeln!(formatter, "files: whole calls of fs; kernel {kernel}, {date}")?;
        writeln!(
            formatter,
            "{rounds} rounds of {millis} ms; microseconds a call, medians, (least..greatest)"
        )?;
        writeln!(
            formatter,
            "{:<10} {:<9} {:>5} {:>5} {:>9} {:>9} {:>20} {:>20}",
            "row", "caller", "tasks", "cores", "µs", "CPU µs", "rate to tokio", "rate to std"
        )?;
        for result in &self.results {
            let row = format!("{:?}", result.row).to_lowercase();
            let caller = format!("{:?}", result.caller).to_lowercase();
            writeln!(
                formatter,
                "{row:<10} {caller:<9} {:>5} {:>5} {:>9.1} {:>9.1} {:>20} {:>20}",
                result.tasks,
                result.cores,
                1e6 / result.calls_per_s.median,
                result.cpu_us_per_call.median,
                in_words(result.rate_to_tokio, 2),
                in_words(result.rate_to_std, 2),
            )?;
        }
        Ok(())
    }
}
