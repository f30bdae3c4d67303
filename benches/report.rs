//! The results of a run: medians and ratios, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::args::Plan;
use crate::contender::Contender;
use crate::load::{PAGE_BYTES, Workload};
use crate::meter::Sample;

/// Middle, least and greatest of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// The spread of `values`; `None` of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, min, max })
    }

    /// The same of other values that keep their order.
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        let Self { median, min, max } = self;
        Self { median: change(median), min: change(min), max: change(max) }
    }
}

/// tokio's name among the contenders: what a task costs is usually told as a part of what it costs
/// there.
const TOKIO: &str = "tokio";

/// The limit's name among the contenders.
const RAW: &str = "raw";

#[derive(Debug, Serialize)]
pub struct Report {
    pub workload: Workload,
    pub parameters: Parameters,
    pub results: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
pub struct Parameters {
    pub tasks: u32,
    pub rounds: u32,
    /// Measured operations a contender and round.
    pub ops: u64,
    /// Of the file, in bytes; `read` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// Whether every operation was clocked, which costs each contender two readings of the clock an
    /// operation.
    pub clocked: bool,
    pub cpu: usize,
    /// The CPU that the load comes from, where that is another process; `echo` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<usize>,
    /// After how many messages a connection of an echo ends, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    pub kernel: String,
    /// UTC.
    pub date: String,
}

#[derive(Debug, Serialize)]
pub struct Outcome {
    pub contender: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops_per_s: Option<Spread>,
    /// Operations a second over raw's, of the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_raw: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ns_per_op: Option<Spread>,
    /// Operations a second over those of each other contender, of the same round.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rate_to: BTreeMap<String, Spread>,
    /// The slowest percent's latency over that of each other contender, of the same round.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub p99_to: BTreeMap<String, Spread>,
    /// CPU time an operation over that of each other contender, of the same round: below 1 is
    /// cheaper.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cost_to: BTreeMap<String, Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p50_ns: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p99_ns: Option<Spread>,
    /// User instructions an operation, counted by callgrind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions_per_op: Option<f64>,
}

impl Report {
    /// `samples[round][contender]`, the contenders in the plan's order.
    pub fn of_samples(plan: &Plan, samples: &[Vec<Sample>]) -> Self {
        let results = (0..plan.contenders.len()).map(|index| outcome(plan, samples, index));
        Self {
            workload: plan.workload,
            parameters: Parameters::of(plan),
            results: results.collect(),
        }
    }

    pub fn of_instructions(plan: &Plan, counted: Vec<(Contender, f64)>) -> Self {
        let outcomes = counted.into_iter().map(|(contender, instructions)| Outcome {
            contender: contender.to_string(),
            ops_per_s: None,
            ratio_to_raw: None,
            cpu_ns_per_op: None,
            rate_to: BTreeMap::new(),
            p99_to: BTreeMap::new(),
            cost_to: BTreeMap::new(),
            latency_p50_ns: None,
            latency_p99_ns: None,
            instructions_per_op: Some(instructions),
        });
        Self {
            workload: plan.workload,
            parameters: Parameters::of(plan),
            results: outcomes.collect(),
        }
    }
}

fn outcome(plan: &Plan, samples: &[Vec<Sample>], index: usize) -> Outcome {
    let per_round = |value: &dyn Fn(&[Sample]) -> Option<f64>| {
        Spread::of(samples.iter().filter_map(|round| value(round)))
    };
    let raw = plan.contenders.iter().position(|contender| *contender == Contender::Raw);
    let to_others = |value: &dyn Fn(&Sample) -> Option<f64>| -> BTreeMap<String, Spread> {
        let others = plan.contenders.iter().enumerate().filter(|(other, _)| *other != index);
        let ratios = others.filter_map(|(other, contender)| {
            let ratio = |round: &[Sample]| Some(value(&round[index])? / value(&round[other])?);
            Some((contender.to_string(), per_round(&ratio)?))
        });
        ratios.collect()
    };
    Outcome {
        contender: plan.contenders[index].to_string(),
        ops_per_s: per_round(&|round| Some(round[index].ops_per_s())),
        ratio_to_raw: per_round(&|round| Some(round[index].ops_per_s() / round[raw?].ops_per_s())),
        cpu_ns_per_op: per_round(&|round| Some(round[index].cpu_ns_per_op())),
        rate_to: to_others(&|sample| Some(sample.ops_per_s())),
        p99_to: to_others(&|sample| Some(sample.latency_ns?.p99 as f64)),
        cost_to: to_others(&|sample| Some(sample.cpu_ns_per_op())),
        latency_p50_ns: per_round(&|round| Some(round[index].latency_ns?.p50 as f64)),
        latency_p99_ns: per_round(&|round| Some(round[index].latency_ns?.p99 as f64)),
        instructions_per_op: None,
    }
}

impl Parameters {
    fn of(plan: &Plan) -> Self {
        let read = plan.workload == Workload::Read;
        Self {
            tasks: plan.tasks,
            rounds: plan.rounds,
            ops: plan.ops,
            file_bytes: read.then_some(plan.pages * PAGE_BYTES as u64),
            clocked: plan.latency,
            cpu: plan.cpu,
            driver: plan.driver,
            messages: plan.messages,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            date: utc_date(SystemTime::now()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters { tasks, rounds, ops, kernel, cpu, date, .. } = &self.parameters;
        match self.workload {
            Workload::Read => {
                write!(formatter, "read: random cached reads of 4 KiB, {tasks} tasks")?
            }
            Workload::Spawn => {
                write!(formatter, "spawn: empty tasks, joined in batches of {tasks}")?
            }
            Workload::Yield => {
                write!(formatter, "yield: {tasks} tasks that give way to each other")?
            }
            Workload::Echo => {
                let from = self.parameters.driver.unwrap_or(*cpu);
                write!(formatter, "echo: {tasks} connections")?;
                if let Some(messages) = self.parameters.messages {
                    write!(formatter, " at once, of {messages} messages each")?;
                }
                write!(formatter, ", driven from CPU {from}")?
            }
        }
        writeln!(formatter, "; kernel {kernel}, CPU {cpu}, {date}")?;
        if self.results.iter().any(|outcome| outcome.instructions_per_op.is_some()) {
            return self.table_of_instructions(formatter);
        }
        writeln!(formatter, "{rounds} rounds of {ops} operations; medians, (least..greatest)")?;
        self.table_of_times(formatter)
    }
}

impl Report {
    fn table_of_instructions(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:<12} {:>20}", "contender", "user instructions/op")?;
        for outcome in &self.results {
            let instructions = outcome.instructions_per_op.unwrap_or(f64::NAN);
            writeln!(formatter, "{:<12} {instructions:>20.1}", outcome.contender)?;
        }
        Ok(())
    }

    fn table_of_times(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ("contender", "ops/s", "ratio to raw", "CPU ns/op", "CPU to raw's");
        write!(formatter, "{:<14} {:>9} {:>21}", heads.0, heads.1, heads.2)?;
        write!(formatter, " {:>26} {:>21}", heads.3, heads.4)?;
        let beside_tokio = self.results.iter().any(|outcome| outcome.cost_to.contains_key(TOKIO));
        if beside_tokio {
            write!(formatter, " {:>21}", "CPU to tokio's")?;
        }
        let clocked = self.parameters.clocked;
        writeln!(formatter, "{}", if clocked { "   p50 ns   p99 ns" } else { "" })?;
        for outcome in &self.results {
            let rate = outcome.ops_per_s.map_or(f64::NAN, |spread| spread.median);
            let ratio = in_words(outcome.ratio_to_raw, 3);
            let cost = in_words(outcome.cpu_ns_per_op, 1);
            let to_raw = in_words(outcome.cost_to.get(RAW).copied(), 3);
            write!(formatter, "{:<14} {rate:>9.0} {ratio:>21}", outcome.contender)?;
            write!(formatter, " {cost:>26} {to_raw:>21}")?;
            if beside_tokio {
                write!(formatter, " {:>21}", in_words(outcome.cost_to.get(TOKIO).copied(), 3))?;
            }
            for latency in [outcome.latency_p50_ns, outcome.latency_p99_ns].into_iter().flatten() {
                write!(formatter, " {:>8.0}", latency.median)?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }
}

pub fn in_words(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        Some(Spread { median, min, max }) => {
            format!("{median:.digits$} ({min:.digits$}..{max:.digits$})")
        }
        None => "-".to_owned(),
    }
}

/// `2026-11-22T20:38:00Z`; the days are turned into a date by counting from 0000-03-01, when leap
/// days come last.
pub fn utc_date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(wall_ns: u64, cpu_ns: u64) -> Sample {
        Sample { ops: 1_000, wall_ns, cpu_ns, latency_ns: None }
    }

    fn plan(contenders: &[Contender]) -> Plan {
        Plan {
            workload: Workload::Read,
            contenders: contenders.to_vec(),
            tasks: 32,
            rounds: 3,
            ops: 1_000,
            pages: 256,
            cpu: 0,
            driver: None,
            messages: None,
            latency: false,
        }
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let odd = Spread { median: 2.0, min: 1.0, max: 9.0 };
        assert_eq!(Spread::of([9.0, 1.0, 2.0]), Some(odd));
        let even = Spread { median: 3.0, min: 1.0, max: 9.0 };
        assert_eq!(Spread::of([4.0, 9.0, 1.0, 2.0]), Some(even));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_only_then_the_median() {
        // raw doubles its speed from round to round and the peer keeps half of it: the ratio is 0.5
        // in each round.
        let samples = [
            vec![sample(8_000, 800), sample(4_000, 400)],
            vec![sample(4_000, 400), sample(2_000, 200)],
            vec![sample(2_000, 200), sample(1_000, 100)],
        ];
        let report = Report::of_samples(&plan(&[Contender::Compio, Contender::Raw]), &samples);
        let compio = &report.results[0];
        assert_eq!(compio.ratio_to_raw, Some(Spread { median: 0.5, min: 0.5, max: 0.5 }));
        assert_eq!(compio.cost_to["raw"], Spread { median: 2.0, min: 2.0, max: 2.0 });
        let ops_per_s = Spread { median: 250e6, min: 125e6, max: 500e6 };
        assert_eq!(compio.ops_per_s, Some(ops_per_s));
    }

    #[test]
    fn without_raw_there_is_no_ratio_to_it() {
        let report = Report::of_samples(&plan(&[Contender::Tokio]), &[vec![sample(8_000, 800)]]);
        assert_eq!(report.results[0].ratio_to_raw, None);
    }

    #[test]
    fn the_json_has_the_fields_that_readers_look_for() {
        let samples = [vec![sample(1_000, 500)]];
        let report = Report::of_samples(&plan(&[Contender::Raw]), &samples);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["workload"], "read");
        assert_eq!(json["parameters"]["file_bytes"], 1_048_576);
        let raw = &json["results"][0];
        assert_eq!(raw["contender"], "raw");
        assert_eq!(raw["ops_per_s"]["median"], 1e9);
        assert_eq!(raw["ratio_to_raw"]["min"], 1.0);
        assert_eq!(raw["cpu_ns_per_op"]["max"], 0.5);
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc_date(UNIX_EPOCH + Duration::from_secs(seconds)), date);
        }
    }
}
