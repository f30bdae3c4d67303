//! The benchmark binary: the contenders side by side, in one run, as ratios to the least the
//! machine asks.

mod args;
mod cached_file;
mod contender;
mod echo;
mod files;
mod groups;
mod instructions;
mod least;
mod load;
mod meter;
mod overload;
mod raw;
mod report;
mod ringhold;
mod rounds;

#[cfg(feature = "peers")]
mod compio;
#[cfg(feature = "peers")]
mod monoio;
#[cfg(feature = "peers")]
mod tokio;
#[cfg(feature = "peers")]
mod tokio_uring;

use std::error::Error;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use args::{Command, Contend, Echo, Measure};
use load::Workload;

fn main() -> ExitCode {
    let done = match args::Args::parse().command {
        Command::Contend(contend) => contend_here(&contend),
        Command::Read(measure) => measure_all(Workload::Read, &measure),
        Command::Spawn(measure) => measure_all(Workload::Spawn, &measure),
        Command::Yield(measure) => measure_all(Workload::Yield, &measure),
        Command::Echo(echo) => measure_echo(&echo),
        Command::Groups(groups) => groups::measure(&groups),
        Command::Files(files) => files::measure(&files),
        Command::TryFiles { trial } => files::try_here(&trial),
        Command::TryGroups { trial } => groups::try_here(&trial),
        Command::Overload(overload) => overload::measure(&overload),
        Command::TryOverload { trial } => overload::try_here(&trial),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringhold-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The parent: prepares the file, runs the contenders as processes of their own, and reports.
fn measure_all(workload: Workload, measure: &Measure) -> Result<(), Box<dyn Error>> {
    let plan = measure.plan(workload)?;
    let file = match workload {
        Workload::Read => Some(cached_file::CachedFile::create(
            args::directory(measure.directory.as_deref()),
            plan.pages,
        )?),
        Workload::Spawn | Workload::Yield | Workload::Echo => None,
    };
    let path = file.as_ref().map(|file| file.path().to_path_buf()).unwrap_or_default();
    let report = if measure.instructions {
        let counted = instructions::count(&plan, &path)?;
        report::Report::of_instructions(&plan, counted)
    } else {
        let samples = rounds::run(&plan, &path)?;
        report::Report::of_samples(&plan, &samples)
    };
    publish(&report, measure.json.as_deref())
}

/// The parent of an echo drives the servers itself.
fn measure_echo(echo: &Echo) -> Result<(), Box<dyn Error>> {
    let plan = echo.plan()?;
    let polling = echo::Haltpoll::set();
    let samples = rounds::run(&plan, Path::new(""))?;
    drop(polling);
    publish(&report::Report::of_samples(&plan, &samples), echo.json.as_deref())
}

fn publish(report: &(impl Serialize + Display), json: Option<&Path>) -> Result<(), Box<dyn Error>> {
    print!("{report}");
    if let Some(target) = json {
        std::fs::write(target, serde_json::to_string_pretty(report)? + "\n")
            .map_err(|error| format!("{}: {error}", target.display()))?;
    }
    Ok(())
}

/// The child: pins itself before any runtime starts a thread, runs one contender, and prints one
/// line of JSON.
fn contend_here(contend: &Contend) -> Result<(), Box<dyn Error>> {
    rounds::pin_to(contend.cpu)?;
    let load: load::Load = serde_json::from_str(&contend.load)?;
    if load.workload == Workload::Echo {
        return Ok(echo::serve(contend.contender, &load)?);
    }
    let sample = contend.contender.run(&load)?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}
