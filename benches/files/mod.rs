//! What whole calls of `fs` cost: beside tokio, whose calls go to a pool of blocking threads, and
//! beside std, which calls the kernel where it stands.
//!
//! Each row, with one task and with several, on one core and on two, runs once a round for each
//! contender, as a process of its own; ratios are taken within a round.

mod contenders;
mod report;
mod trial;

use std::error::Error;
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::args::{Files, directory};
use crate::{publish, rounds};

use report::FilesReport;
use trial::{Outcome, Place};

pub use trial::Trial;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// `read` of 4 KiB in the page cache.
    Read4k,
    /// `read` of 64 KiB in the page cache.
    Read64k,
    /// `read` of 1 MiB in the page cache.
    Read1m,
    /// `metadata`.
    Metadata,
    /// `File::open`, and the drop.
    Open,
    /// `write` of 4 KiB over a file of that length.
    Write4k,
    /// `read_dir` of 11 entries, to the end.
    ReadDir,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    Ringhold,
    /// Needs the feature `peers`.
    Tokio,
    /// A thread for each task.
    Std,
}

/// The parent.
pub fn measure(files: &Files) -> Result<(), Box<dyn Error>> {
    let place = Place::create(&directory(None))?;
    let trials = files.trials(place.path())?;
    let mut samples = Vec::new();
    for round in 0..files.rounds() as usize {
        let mut of_round = vec![None; trials.len()];
        for index in rounds::order(trials.len(), round) {
            let trial = &trials[index];
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["try-files", "--trial", &serde_json::to_string(trial)?]);
            of_round[index] = Some(rounds::line_of::<Outcome>(&trial.name(), &mut command)?);
        }
        samples.push(of_round.into_iter().flatten().collect());
        eprintln!("round {} of {}", round + 1, files.rounds());
    }
    publish(&FilesReport::of(&trials, &samples), files.json.as_deref())
}

/// The child: one trial, and one line of JSON.
pub fn try_here(trial: &str) -> Result<(), Box<dyn Error>> {
    let outcome = trial::run(&serde_json::from_str(trial)?)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
