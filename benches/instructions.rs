//! User instructions an operation: callgrind's counts of 20,000 and of 40,000 operations, and the
//! difference a piece.
//!
//! What a run does besides its operations (start, warm-up, shutdown) is the same in both counts and
//! so cancels.

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::args::Plan;
use crate::contender::Contender;
use crate::rounds;

const FEWER_OPS: u64 = 20_000;
const MORE_OPS: u64 = 40_000;

/// Counts for every contender of the plan.
pub fn count(plan: &Plan, file: &Path) -> Result<Vec<(Contender, f64)>, Box<dyn Error>> {
    let plan = &Plan { ops: FEWER_OPS, ..plan.clone() };
    let mut counted = Vec::new();
    for contender in &plan.contenders {
        let fewer = count_run(plan, *contender, file, FEWER_OPS)?;
        let more = count_run(plan, *contender, file, MORE_OPS)?;
        let difference = more as f64 - fewer as f64;
        counted.push((*contender, difference / (MORE_OPS - FEWER_OPS) as f64));
    }
    Ok(counted)
}

/// All user instructions of one child with `ops` operations.
fn count_run(
    plan: &Plan,
    contender: Contender,
    file: &Path,
    ops: u64,
) -> Result<u64, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let counts = directory.path().join("callgrind.out");
    let load = rounds::load_of(plan, file, ops);
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg("--quiet")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(std::env::current_exe()?)
        .args(rounds::arguments_of(contender, &load, plan.cpu)?)
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::other("--instructions needs valgrind: apt-get install valgrind")
        }
        _ => error,
    })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{contender} failed under valgrind: {}\n{words}", output.status).into());
    }
    let total = total_of(&std::fs::read_to_string(&counts)?);
    total.ok_or_else(|| format!("no totals in callgrind's output for {contender}").into())
}

/// The number behind `totals:` (all threads together), or behind `summary:` where there is no such
/// line.
fn total_of(counts: &str) -> Option<u64> {
    let line_of = |head: &str| {
        counts
            .lines()
            .find_map(|line| line.strip_prefix(head))
            .and_then(|line| line.trim().parse().ok())
    };
    line_of("totals:").or_else(|| line_of("summary:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_callgrinds_lines() {
        assert_eq!(total_of("events: Ir\nsummary: 41\nfn=(1)\n0 7\n\ntotals: 42\n"), Some(42));
        assert_eq!(total_of("events: Ir\nsummary: 41\n"), Some(41));
        assert_eq!(total_of("events: Ir\n"), None);
    }
}
