//! The command line, and the plan of a run that follows from it.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::contender::Contender;
use crate::files::{self, Caller, Row};
use crate::groups::{Setting, Trial};
use crate::load::{PAGE_BYTES, Workload};
use crate::overload;

/// Ringhold beside a hand-written ring loop and beside its peers.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Random reads of 4 KiB from a file in the page cache, a number of tasks in flight.
    Read(Measure),
    /// Spawning empty tasks and joining them, in batches of --tasks.
    Spawn(Measure),
    /// Tasks that wake themselves and give way to each other.
    Yield(Measure),
    /// A TCP server that sends back what it gets, driven from another CPU.
    Echo(Echo),
    /// Reads beside a compaction on one shard: how much of their tail groups of tasks keep.
    Groups(Groups),
    /// Whole calls of `fs`: `read`, `metadata`, `File::open`, `write` and `read_dir`.
    Files(Files),
    /// Runs one trial of `files` in this process.
    #[command(hide = true)]
    TryFiles {
        /// The trial, as JSON.
        #[arg(long)]
        trial: String,
    },
    /// Runs one setting of `groups` in this process.
    #[command(hide = true)]
    TryGroups {
        /// The setting and its sizes, as JSON.
        #[arg(long)]
        trial: String,
    },
    /// Waits that are given up again and again: what they cost, and whether anything piles up.
    Overload(Overload),
    /// Runs one load of `overload` in this process.
    #[command(hide = true)]
    TryOverload {
        /// The load and its sizes, as JSON.
        #[arg(long)]
        trial: String,
    },
    /// Runs one contender in this process: what the other commands start, once a contender and
    /// round.
    #[command(hide = true)]
    Contend(Contend),
}

#[derive(Debug, Parser)]
pub struct Contend {
    #[arg(long)]
    pub contender: Contender,
    /// The load, as JSON.
    #[arg(long)]
    pub load: String,
    #[arg(long)]
    pub cpu: usize,
}

/// Which read of Ringhold's is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Api {
    /// `read_fixed` into a lease of the registered pool.
    Fixed,
    /// `read_at` into a `Vec<u8>`.
    At,
    /// Both, as two contenders.
    Both,
}

/// Which of Ringhold's ways to read and write a stream is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StreamApi {
    /// tokio's `AsyncReadExt` and `AsyncWriteExt`.
    Poll,
    /// `read_owned` and `write_all_owned`.
    Owned,
    /// Both, as two contenders.
    Both,
}

#[derive(Debug, Parser)]
pub struct Echo {
    /// Connections, with one message of 64 bytes on its way each.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub connections: u32,
    /// End a connection after so many messages, and make another: then accepting is measured, too.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// The contenders beside ringhold.
    #[arg(long, value_delimiter = ',', default_value = "raw")]
    pub vs: Vec<Contender>,
    /// Leave ringhold out.
    #[arg(long)]
    pub without_ringhold: bool,
    /// Which of ringhold's ways to read and write.
    #[arg(long, default_value = "both")]
    pub api: StreamApi,
    /// Rounds; each runs every contender once, in turn, each in a fresh process.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Measured messages a contender and round.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub ops: u64,
    /// The server's CPU. Default: the last one allowed.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Drive it from its own CPU, instead of the first one allowed.
    #[arg(long)]
    pub one_cpu: bool,
    /// One round of 2000 messages: shows that everything runs, measures nothing.
    #[arg(long, conflicts_with_all = ["rounds", "ops"])]
    pub miniature: bool,
    /// Write the results to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Parser)]
pub struct Groups {
    /// Rounds; each runs every setting once, in turn, each in a fresh process.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Measured reads a setting and round.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub ops: u64,
    /// The CPU time that a read takes beside the runtime and the kernel, in microseconds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub service: u64,
    /// The part of its core that the reads take, in percent.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=90))]
    pub load: u64,
    /// The latency goal of the reads' group, in microseconds.
    #[arg(long, default_value_t = 1000)]
    pub goal: u64,
    /// The shard's CPU. Default: the last one allowed.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// One round of 2000 reads: shows that everything runs, measures nothing.
    #[arg(long, conflicts_with_all = ["rounds", "ops"])]
    pub miniature: bool,
    /// Write the results to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Parser)]
pub struct Files {
    /// The callers beside ringhold. tokio needs `--features peers`.
    #[arg(long, value_delimiter = ',', default_value = "std")]
    pub vs: Vec<Caller>,
    /// Which calls. Default: all.
    #[arg(long, value_delimiter = ',')]
    pub rows: Vec<Row>,
    /// How many tasks call at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    pub tasks: Vec<usize>,
    /// On how many cores: one, the last allowed, or two, which are all that are allowed.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    pub cores: Vec<usize>,
    /// Rounds; each runs every trial once, in turn, each in a fresh process.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How long each trial is measured, in milliseconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub millis: u64,
    /// One round of 5 ms each: shows that everything runs, measures nothing.
    #[arg(long, conflicts_with_all = ["rounds", "millis"])]
    pub miniature: bool,
    /// Write the results to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Parser)]
pub struct Measure {
    /// Tasks in flight (read, yield), or tasks a batch (spawn). Default: 32, for spawn and yield
    /// 1000.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub tasks: Option<u32>,
    /// The contenders beside ringhold.
    #[arg(long, value_delimiter = ',', default_value = "raw")]
    pub vs: Vec<Contender>,
    /// Leave ringhold out.
    #[arg(long)]
    pub without_ringhold: bool,
    /// Which read of ringhold's.
    #[arg(long, default_value = "fixed")]
    pub api: Api,
    /// Rounds; each runs every contender once, in turn, each in a fresh process.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Measured operations a contender and round. Default: 400000 (read), 1000000 (spawn),
    /// 10000000 (yield).
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub ops: Option<u64>,
    /// Size of the file to read from, in MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    pub size: u64,
    /// Where the file is made. Default: $TMPDIR, or else /var/tmp.
    #[arg(long)]
    pub directory: Option<PathBuf>,
    /// The CPU that every contender is pinned to. Default: the last one allowed.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Clock every operation, too; this costs each contender two readings of the clock an
    /// operation.
    #[arg(long)]
    pub latency: bool,
    /// Count user instructions an operation under callgrind instead of measuring time.
    #[arg(long, conflicts_with_all = ["rounds", "ops", "miniature"])]
    pub instructions: bool,
    /// One round of 2000 operations on a file of 1 MiB: shows that everything runs, measures
    /// nothing.
    #[arg(long, conflicts_with_all = ["rounds", "ops", "size"])]
    pub miniature: bool,
    /// Write the results to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What a run does, with every default filled in.
#[derive(Clone, Debug)]
pub struct Plan {
    pub workload: Workload,
    pub contenders: Vec<Contender>,
    pub tasks: u32,
    pub rounds: u32,
    pub ops: u64,
    pub pages: u64,
    pub cpu: usize,
    /// The CPU that the load comes from, where that is another process.
    pub driver: Option<usize>,
    /// After how many messages a connection ends, if it does.
    pub messages: Option<u64>,
    pub latency: bool,
}

const MINIATURE_OPS: u64 = 2_000;

impl Measure {
    /// The plan for `workload`.
    pub fn plan(&self, workload: Workload) -> Result<Plan, String> {
        let (default_tasks, default_ops) = match workload {
            Workload::Read => (32, 400_000),
            Workload::Spawn => (1_000, 1_000_000),
            Workload::Yield => (1_000, 10_000_000),
            Workload::Echo => return Err("an echo has a plan of its own".to_owned()),
        };
        let (rounds, ops, size_mib) = if self.miniature {
            (1, MINIATURE_OPS, 1)
        } else {
            (self.rounds, self.ops.unwrap_or(default_ops), self.size)
        };
        Ok(Plan {
            workload,
            contenders: self.contenders(workload)?,
            tasks: self.tasks.unwrap_or(default_tasks),
            rounds,
            ops,
            pages: size_mib * 1024 * 1024 / PAGE_BYTES as u64,
            cpu: cpu_or_last(self.cpu)?,
            driver: None,
            messages: None,
            latency: self.latency,
        })
    }

    fn contenders(&self, workload: Workload) -> Result<Vec<Contender>, String> {
        let own: &[Contender] = match (workload, self.api) {
            _ if self.without_ringhold => &[],
            (Workload::Read, Api::At) => &[Contender::RingholdAt],
            (Workload::Read, Api::Both) => &[Contender::Ringhold, Contender::RingholdAt],
            _ => &[Contender::Ringhold],
        };
        beside(own, &self.vs)
    }
}

impl Echo {
    /// The plan.
    pub fn plan(&self) -> Result<Plan, String> {
        let own: &[Contender] = match self.api {
            _ if self.without_ringhold => &[],
            StreamApi::Poll => &[Contender::Ringhold],
            StreamApi::Owned => &[Contender::RingholdOwned],
            StreamApi::Both => &[Contender::Ringhold, Contender::RingholdOwned],
        };
        let cpu = cpu_or_last(self.cpu)?;
        let driver = match self.one_cpu {
            true => cpu,
            false => crate::rounds::first_allowed_cpu().map_err(|error| error.to_string())?,
        };
        let (rounds, ops) =
            if self.miniature { (1, MINIATURE_OPS) } else { (self.rounds, self.ops) };
        if self.messages.is_none() && self.vs.contains(&Contender::RawPolls) {
            return Err(format!("{} needs --messages: it accepts", Contender::RawPolls));
        }
        Ok(Plan {
            workload: Workload::Echo,
            contenders: beside(own, &self.vs)?,
            tasks: self.connections,
            rounds,
            ops,
            pages: 0,
            cpu,
            driver: Some(driver),
            messages: self.messages,
            latency: true,
        })
    }
}

impl Files {
    pub fn rounds(&self) -> u32 {
        if self.miniature { 1 } else { self.rounds }
    }

    /// What each child does: the callers of one row after each other.
    pub fn trials(&self, place: &Path) -> Result<Vec<files::Trial>, String> {
        if self.vs.contains(&Caller::Tokio) {
            Contender::Tokio.available()?;
        }
        let cpu = cpu_or_last(None)?;
        let rows = if self.rows.is_empty() { Row::value_variants() } else { &self.rows };
        let mut callers = vec![Caller::Ringhold];
        callers.extend(self.vs.iter().filter(|&&caller| caller != Caller::Ringhold));
        let mut trials = Vec::new();
        for &row in rows {
            for (&tasks, &cores) in self
                .tasks
                .iter()
                .flat_map(|tasks| self.cores.iter().map(move |cores| (tasks, cores)))
            {
                trials.extend(callers.iter().map(|&caller| files::Trial {
                    row,
                    caller,
                    tasks,
                    cores,
                    cpu,
                    millis: if self.miniature { 5 } else { self.millis },
                    directory: place.to_path_buf(),
                }));
            }
        }
        Ok(trials)
    }
}

impl Groups {
    pub fn rounds(&self) -> u32 {
        if self.miniature { 1 } else { self.rounds }
    }

    /// What each child does, but for its setting.
    pub fn plan(&self) -> Result<Trial, String> {
        let driver = crate::rounds::first_allowed_cpu().map_err(|error| error.to_string())?;
        Ok(Trial {
            setting: Setting::Alone,
            reads: if self.miniature { MINIATURE_OPS } else { self.ops },
            service_us: self.service,
            load: self.load,
            goal_us: self.goal,
            file: PathBuf::new(),
            cpu: cpu_or_last(self.cpu)?,
            driver,
        })
    }
}

#[derive(Debug, Parser)]
pub struct Overload {
    /// Rounds; each runs every load once, in turn, each in a fresh process.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Tasks that wait at a time.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub tasks: u64,
    /// How long each load lasts, in milliseconds.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(50..))]
    pub millis: u64,
    /// The shard's CPU. Default: the last one allowed.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// One round of 300 ms and 200 tasks: shows that everything runs, measures nothing.
    #[arg(long, conflicts_with_all = ["rounds", "tasks", "millis"])]
    pub miniature: bool,
    /// Write the results to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl Overload {
    pub fn rounds(&self) -> u32 {
        if self.miniature { 1 } else { self.rounds }
    }

    /// What each child does, but for its load.
    pub fn plan(&self) -> Result<overload::Trial, String> {
        let (tasks, millis) = if self.miniature { (200, 300) } else { (self.tasks, self.millis) };
        let load = overload::Overloading::TimeLimits;
        Ok(overload::Trial { load, tasks, millis, cpu: cpu_or_last(self.cpu)? })
    }
}

/// Where files are made: never a directory of the build's, so that the file system under it is the
/// same whoever builds.
pub fn directory(asked: Option<&Path>) -> PathBuf {
    asked
        .map(Path::to_path_buf)
        .or_else(|| std::env::var_os("TMPDIR").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

/// The contenders: our own, and then the others, each once.
fn beside(own: &[Contender], others: &[Contender]) -> Result<Vec<Contender>, String> {
    let mut contenders = own.to_vec();
    for contender in others {
        contender.available()?;
        if !contenders.contains(contender) {
            contenders.push(*contender);
        }
    }
    Ok(contenders)
}

fn cpu_or_last(cpu: Option<usize>) -> Result<usize, String> {
    match cpu {
        Some(cpu) => Ok(cpu),
        None => crate::rounds::last_allowed_cpu().map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(line: &str) -> Result<Plan, String> {
        let parsed = Args::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        match parsed.command {
            Command::Read(measure) => measure.plan(Workload::Read),
            Command::Spawn(measure) => measure.plan(Workload::Spawn),
            other => panic!("not a measure of these tests: {other:?}"),
        }
    }

    #[test]
    fn a_read_without_options_is_ringhold_and_raw_at_32() {
        let plan = plan_of("bench read").unwrap();
        assert_eq!(plan.contenders, [Contender::Ringhold, Contender::Raw]);
        assert_eq!((plan.tasks, plan.rounds, plan.ops, plan.pages), (32, 7, 400_000, 16_384));
    }

    #[test]
    fn both_reads_are_two_contenders_and_a_name_twice_is_one() {
        let plan = plan_of("bench read --api both --vs raw,raw").unwrap();
        assert_eq!(plan.contenders, [Contender::Ringhold, Contender::RingholdAt, Contender::Raw]);
    }

    #[test]
    fn a_miniature_is_one_round_of_2000() {
        let plan = plan_of("bench spawn --miniature").unwrap();
        assert_eq!((plan.tasks, plan.rounds, plan.ops), (1_000, 1, 2_000));
    }

    #[test]
    fn an_echo_has_both_ways_and_is_driven_from_the_first_cpu_or_its_own() {
        let args = |line: &str| match Args::try_parse_from(line.split(' ')).unwrap().command {
            Command::Echo(echo) => echo.plan().unwrap(),
            other => panic!("no echo: {other:?}"),
        };
        let plan = args("bench echo --connections 3 --vs raw");
        let own = [Contender::Ringhold, Contender::RingholdOwned, Contender::Raw];
        assert_eq!((plan.tasks, &plan.contenders[..]), (3, &own[..]));
        let one = args("bench echo --one-cpu --api poll");
        assert_eq!((one.driver, one.contenders[0]), (Some(one.cpu), Contender::Ringhold));
    }

    #[test]
    fn a_miniature_refuses_its_own_rounds() {
        assert!(plan_of("bench read --miniature --rounds 3").is_err());
    }
}
