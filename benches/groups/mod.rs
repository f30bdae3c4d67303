//! What a group of tasks that burns CPU leaves of another's tail.
//!
//! Reads arrive at random times from another CPU and take a part of their core, each some CPU time.
//! Beside them a compaction burns what is left, in polls of at most 100 µs. Each setting runs once
//! a round, in a fresh process; ratios to the reads' tail alone are taken within a round. The shard
//! never sleeps, so that the tail alone is not that of a virtual CPU that is woken.

mod report;
mod sender;
mod trial;
mod watch;

use std::error::Error;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::args::Groups;
use crate::cached_file::CachedFile;
use crate::rounds;
use crate::{args, publish};

pub use report::GroupsReport;
pub use trial::{Outcome, Trial};

/// The shares of the reads' group and of the compaction's: 90 % and 10 %.
pub const READS_SHARES: u32 = 900;
pub const COMPACTION_SHARES: u32 = 100;

/// Pages of the file: 1 MiB.
const PAGES: u64 = 256;

/// Who runs beside whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// The reads' group, and nothing else.
    Alone,
    /// Beside the compaction's group; the reads' has a latency goal.
    Goal,
    /// Beside the compaction's group; no goal.
    SharesOnly,
    /// The same tasks, in no group.
    NoGroups,
}

pub const SETTINGS: [Setting; 4] =
    [Setting::Alone, Setting::Goal, Setting::SharesOnly, Setting::NoGroups];

impl Setting {
    pub fn name(self) -> &'static str {
        match self {
            Setting::Alone => "alone",
            Setting::Goal => "goal",
            Setting::SharesOnly => "shares-only",
            Setting::NoGroups => "no-groups",
        }
    }
}

/// The parent: every setting once a round, another one first each time.
pub fn measure(groups: &Groups) -> Result<(), Box<dyn Error>> {
    let plan = groups.plan()?;
    let file = CachedFile::create(args::directory(None), PAGES)?;
    let mut samples = Vec::new();
    for round in 0..groups.rounds() as usize {
        let mut of_round = vec![None; SETTINGS.len()];
        for index in rounds::order(SETTINGS.len(), round) {
            let setting = SETTINGS[index];
            let trial = Trial { setting, file: file.path().to_path_buf(), ..plan.clone() };
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["try-groups", "--trial", &serde_json::to_string(&trial)?]);
            of_round[index] = Some(rounds::line_of::<Outcome>(setting.name(), &mut command)?);
        }
        samples.push(of_round.into_iter().flatten().collect());
        eprintln!("round {} of {}", round + 1, groups.rounds());
    }
    publish(&GroupsReport::of(&plan, &samples), groups.json.as_deref())
}

/// The child: one setting, and one line of JSON.
pub fn try_here(trial: &str) -> Result<(), Box<dyn Error>> {
    let outcome = trial::run(&serde_json::from_str(trial)?)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
