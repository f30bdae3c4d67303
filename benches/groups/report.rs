//! The result of all rounds, as a table and as JSON.

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

use super::{Outcome, SETTINGS, Setting, Trial};
use crate::report::{Spread, in_words, utc_date};

#[derive(Debug, Serialize)]
pub struct GroupsReport {
    pub workload: &'static str,
    pub parameters: Parameters,
    pub results: Vec<OfSetting>,
}

#[derive(Debug, Serialize)]
pub struct Parameters {
    pub rounds: usize,
    pub reads: u64,
    pub service_us: u64,
    pub load_percent: u64,
    pub goal_us: u64,
    pub cpu: usize,
    pub driver: usize,
    pub kernel: String,
    /// UTC.
    pub date: String,
}

#[derive(Debug, Serialize)]
pub struct OfSetting {
    pub setting: Setting,
    /// Of the reads while no CPU was away; nothing if there was no such time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p50_ns: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p99_ns: Option<Spread>,
    /// The same of all reads, also of those while a CPU was away.
    pub all_p99_ns: Spread,
    /// The part of the reads that the others leave out.
    pub left_out: Spread,
    /// The slowest percent's latency over that of the reads alone, of the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_to_alone: Option<Spread>,
    /// The parts of the core that the polls of each group took; without groups nobody counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_busy: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction_busy: Option<Spread>,
}

impl GroupsReport {
    /// `samples[round][setting]`, the settings in their order.
    pub fn of(trial: &Trial, samples: &[Vec<Outcome>]) -> GroupsReport {
        let results = (0..SETTINGS.len()).map(|index| of_setting(samples, index)).collect();
        let parameters = Parameters {
            rounds: samples.len(),
            reads: trial.reads,
            service_us: trial.service_us,
            load_percent: trial.load,
            goal_us: trial.goal_us,
            cpu: trial.cpu,
            driver: trial.driver,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            date: utc_date(SystemTime::now()),
        };
        GroupsReport { workload: "groups", parameters, results }
    }
}

fn of_setting(samples: &[Vec<Outcome>], index: usize) -> OfSetting {
    let per_round = |value: &dyn Fn(&[Outcome]) -> Option<f64>| {
        Spread::of(samples.iter().filter_map(|round| value(round)))
    };
    let certain = |value: &dyn Fn(&[Outcome]) -> f64| {
        per_round(&|round| Some(value(round))).expect("there is a round")
    };
    let p99 = |outcome: &Outcome| Some(outcome.latency_ns?.p99 as f64);
    OfSetting {
        setting: SETTINGS[index],
        latency_p50_ns: per_round(&|round| Some(round[index].latency_ns?.p50 as f64)),
        latency_p99_ns: per_round(&|round| p99(&round[index])),
        all_p99_ns: certain(&|round| round[index].all_ns.p99 as f64),
        left_out: certain(&|round| round[index].left_out),
        p99_to_alone: per_round(&|round| Some(p99(&round[index])? / p99(&round[0])?)),
        reads_busy: per_round(&|round| round[index].reads_busy),
        compaction_busy: per_round(&|round| round[index].compaction_busy),
    }
}

impl fmt::Display for GroupsReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters { rounds, reads, service_us, load_percent, cpu, driver, .. } =
            &self.parameters;
        writeln!(
            formatter,
            "groups: reads of {service_us} µs at {load_percent} % load, from CPU {driver}; kernel \
             {}, CPU {cpu}, {}",
            self.parameters.kernel, self.parameters.date
        )?;
        writeln!(formatter, "{rounds} rounds of {reads} reads; medians, (least..greatest)")?;
        writeln!(
            formatter,
            "{:<12} {:>8} {:>20} {:>20} {:>6} {:>11} {:>9} {:>11}",
            "setting",
            "p50 µs",
            "p99 µs",
            "p99 to alone",
            "reads",
            "compaction",
            "left out",
            "p99 of all"
        )?;
        for result in &self.results {
            let thousandth = |spread: Spread| spread.map(|nanos| nanos / 1000.0);
            let percent = |spread: Option<Spread>| match spread {
                Some(spread) => format!("{:.0} %", spread.median * 100.0),
                None => "-".to_owned(),
            };
            writeln!(
                formatter,
                "{:<12} {:>8.0} {:>20} {:>20} {:>6} {:>11} {:>9} {:>11.0}",
                result.setting.name(),
                result.latency_p50_ns.map_or(f64::NAN, |spread| spread.median / 1000.0),
                in_words(result.latency_p99_ns.map(thousandth), 0),
                in_words(result.p99_to_alone, 2),
                percent(result.reads_busy),
                percent(result.compaction_busy),
                percent(Some(result.left_out)),
                result.all_p99_ns.median / 1000.0,
            )?;
        }
        Ok(())
    }
}
