//! The rounds: each contender once a round, in turn, each time as a fresh process pinned to one
//! CPU.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::de::DeserializeOwned;

use crate::args::Plan;
use crate::contender::Contender;
use crate::echo;
use crate::load::Load;
use crate::meter::Sample;

/// A child that takes longer hangs; a thousand times what a round takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the plan; the result is `samples[round][contender]`, the contenders in the plan's order.
pub fn run(plan: &Plan, file: &Path) -> io::Result<Vec<Vec<Sample>>> {
    let load = load_of(plan, file, plan.ops);
    let mut samples = Vec::new();
    for round in 0..plan.rounds as usize {
        let mut of_round = vec![None; plan.contenders.len()];
        for index in order(plan.contenders.len(), round) {
            let contender = plan.contenders[index];
            let mut command = command_of(contender, &load, plan.cpu)?;
            of_round[index] = Some(match plan.driver {
                None => sample_of(contender, &mut command)?,
                Some(cpu) => echo::sample_of(contender, &mut command, &load, cpu)?,
            });
        }
        samples.push(of_round.into_iter().flatten().collect());
        eprintln!("round {} of {}", round + 1, plan.rounds);
    }
    Ok(samples)
}

/// Who runs when: another one begins each round, so that none always follows the same.
pub fn order(contenders: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..contenders).map(move |turn| (turn + round) % contenders)
}

/// The load of one child: a tenth of the operations as warm-up, and at least enough for each task
/// to have had some.
pub fn load_of(plan: &Plan, file: &Path, ops: u64) -> Load {
    Load {
        workload: plan.workload,
        tasks: plan.tasks as usize,
        ops,
        warm_up_ops: (plan.ops / 10).max(u64::from(plan.tasks) * 2),
        file: file.to_path_buf(),
        pages: plan.pages,
        latency: plan.latency,
        messages: plan.messages,
    }
}

/// This very program, to be run as one contender.
pub fn command_of(contender: Contender, load: &Load, cpu: usize) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments_of(contender, load, cpu)?);
    Ok(command)
}

/// What the child is told.
pub fn arguments_of(contender: Contender, load: &Load, cpu: usize) -> io::Result<[String; 7]> {
    Ok([
        "contend".to_owned(),
        "--contender".to_owned(),
        contender.to_string(),
        "--load".to_owned(),
        serde_json::to_string(load)?,
        "--cpu".to_owned(),
        cpu.to_string(),
    ])
}

/// Runs the child and reads its line.
pub fn sample_of(contender: Contender, command: &mut Command) -> io::Result<Sample> {
    line_of(&contender.to_string(), command)
}

/// As [`sample_of`], for a child of any name and any answer.
pub fn line_of<T: DeserializeOwned>(name: &str, command: &mut Command) -> io::Result<T> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = wait_for(child, name)?;
    serde_json::from_slice(&output)
        .map_err(|error| io::Error::other(format!("{name} printed no sample: {error}")))
}

/// The child's output; its one line fits into the pipe, so nothing has to read along.
fn wait_for(mut child: Child, name: &str) -> io::Result<Vec<u8>> {
    let started = Instant::now();
    while child.try_wait()?.is_none() {
        if started.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            let seconds = PATIENCE.as_secs();
            return Err(io::Error::other(format!("{name} hung: nothing for {seconds} s")));
        }
        thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{name} failed: {}", output.status)));
    }
    Ok(output.stdout)
}

/// Pins the calling thread, and every thread that it starts from now on.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!("there is no CPU {cpu}")));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| io::Error::other(format!("CPU {cpu}: {error}")))
}

/// The highest CPU this process may use: the lowest ones serve more interrupts.
pub fn last_allowed_cpu() -> io::Result<usize> {
    let last = allowed_cpus()?.pop();
    last.ok_or_else(|| io::Error::other("no CPU is allowed"))
}

/// The lowest CPU this process may use.
pub fn first_allowed_cpu() -> io::Result<usize> {
    let first = allowed_cpus()?.first().copied();
    first.ok_or_else(|| io::Error::other("no CPU is allowed"))
}

fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_runs_every_contender_and_begins_with_the_next() {
        let orders: Vec<Vec<usize>> = (0..4).map(|round| order(3, round).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[test]
    fn a_child_that_fails_is_an_error_that_names_the_contender() {
        let error = sample_of(Contender::Raw, &mut Command::new("false")).unwrap_err();
        assert_eq!(error.to_string(), "raw failed: exit status: 1");
    }
}
