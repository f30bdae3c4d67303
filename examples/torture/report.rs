//! What is printed: the line of the beginning, the ledger, the verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runtime::Handle;

use crate::arguments::Arguments;
use crate::ledger::{Books, Line};
use crate::tally::Tally;

/// What a worker is at: the number of an operation, its kind, its fate.
type Desk = Option<(u64, &'static str, &'static str)>;

/// What is known from outside of the workload while it runs.
#[derive(Debug)]
pub struct Board {
    /// The counts.
    pub tally: Arc<Tally>,
    /// The number of the next operation.
    pub next: AtomicU64,
    handle: Mutex<Option<Handle>>,
    desks: Vec<Mutex<Desk>>,
    kinds: Mutex<BTreeMap<&'static str, u64>>,
    fates: Mutex<BTreeMap<&'static str, u64>>,
}

impl Board {
    /// For so many workers.
    pub fn new(workers: usize) -> Board {
        Board {
            tally: Arc::default(),
            next: AtomicU64::new(0),
            handle: Mutex::default(),
            desks: (0..workers).map(|_| Mutex::new(None)).collect(),
            kinds: Mutex::default(),
            fates: Mutex::default(),
        }
    }

    /// The runtime, if it runs.
    pub fn handle(&self) -> Option<Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The runtime runs, or has ended: a handle keeps some descriptors open.
    pub fn set_handle(&self, handle: Option<Handle>) {
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    /// A worker is at this operation now.
    pub fn begin(&self, worker: usize, number: u64, kind: &'static str, fate: &'static str) {
        *self.desks[worker].lock().unwrap_or_else(PoisonError::into_inner) =
            Some((number, kind, fate));
        for (counts, name) in [(&self.kinds, kind), (&self.fates, fate)] {
            *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        }
    }

    /// It is done with it.
    pub fn end(&self, worker: usize) {
        *self.desks[worker].lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.tally.steps.increment();
    }

    /// What the workers are at, one a line.
    pub fn desks(&self) -> String {
        let mut text = String::new();
        for (worker, desk) in self.desks.iter().enumerate() {
            let desk = *desk.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((number, kind, fate)) = desk {
                let _ = writeln!(text, "worker {worker}: operation {number}, {kind}, {fate}");
            }
        }
        text
    }
}

/// The line that says how to have the same draws again.
pub fn beginning(arguments: &Arguments, seed: u64, shards: usize) {
    let Arguments { tasks, ring: (submissions, completions), pool, .. } = arguments;
    let shards = if shards == 1 { "1 shard".into() } else { format!("{shards} shards") };
    print(format_args!(
        "torture: seed {seed}, {shards}, rings of {submissions} and {completions}, \
         {tasks} tasks, a pool of {pool} bytes"
    ));
}

/// Prints the books, and whether they balance.
pub fn ending(board: &Board, books: &Books, after_end: &[Line], elapsed: Duration) -> bool {
    let tally = &board.tally;
    for (name, counts) in [("kinds", &board.kinds), ("fates", &board.fates)] {
        let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        print(format_args!("{name}: {}", counts.join(", ")));
    }
    let operations = board.next.load(Ordering::SeqCst);
    print(format_args!(
        "{operations} operations in {:.1} s, {:.0} a second; {} refusals that may be, {} bytes \
         verified",
        elapsed.as_secs_f64(),
        operations as f64 / elapsed.as_secs_f64().max(1e-9),
        tally.refused.get(),
        tally.verified_bytes.get(),
    ));
    let driver = books.driver;
    print(format_args!(
        "kernel entered {} times; {} operations waited for room; completions overflew {} times",
        driver.enters, driver.delayed, driver.overflows
    ));
    print(format_args!("while it ran:"));
    for line in books.lines() {
        print(format_args!("  {line}"));
    }
    print(format_args!("after its end:"));
    for line in after_end {
        print(format_args!("  {line}"));
    }
    for complaint in tally.first_complaints() {
        print(format_args!("{complaint}"));
    }
    let balances = books.balance() && after_end.iter().all(|line| line.difference() == 0);
    print(format_args!(
        "{}",
        match balances {
            true => "everything balances",
            false => "NOT everything balances",
        }
    ));
    balances
}

/// Prints a line. Nobody is left to be told if that fails.
fn print(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a line on standard error.
pub fn complain(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "torture: {line}");
}
