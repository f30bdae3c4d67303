//! Runs a random workload of every operation, with random drops, aborts and panics, and proves at
//! the end that nothing was lost: what was submitted was delivered, reclaimed, or leaked by who
//! forgot it.
//!
//! Each operation has a kind, a fate and arguments that follow from the seed and its number. So the
//! draws are the same for the same seed; the order in which things happen is not.

mod arguments;
mod draws;
mod fates;
mod foreign;
mod forgotten;
mod ledger;
mod operations;
mod report;
mod steady;
mod tally;
mod watchdog;
mod workload;
mod world;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use runtime::buffers::PoolConfig;
use runtime::{Builder, Handle};
use rustix::process::{Resource, getrlimit, setrlimit};

use arguments::Arguments;
use draws::Draws;
use ledger::{Books, Line};
use report::{Board, complain};
use watchdog::Watchdog;

/// How long the kernel may take to give back what a runtime had, once it has ended.
const END_PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match torture(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            complain(format_args!("{error}"));
            ExitCode::from(2)
        }
    }
}

/// Does all of it, and tells whether everything balances.
///
/// # Errors
///
/// What keeps the workload from starting, or from going on.
fn torture(arguments: &Arguments) -> io::Result<bool> {
    raise_open_files_limit();
    tally::quiet_panics();
    let seed = arguments.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
    let mut directory = tempfile::Builder::new();
    directory.prefix("ringhold-torture-");
    let directory = match &arguments.directory {
        Some(parent) => directory.tempdir_in(parent)?,
        None => directory.tempdir()?,
    };
    let before = ledger::open_descriptors()?;
    let board = Arc::new(Board::new(arguments.tasks));
    let watchdog = Watchdog::start(&board, directory.path().into());
    let begun = Instant::now();
    let books = run(arguments, seed, directory.path(), &board)?;
    let handle = board.handle().expect("the runtime has run");
    let (shards, alive) = (handle.shards(), handle.metrics().num_alive_tasks());
    // A handle outlives the runtime as well.
    drop(handle);
    board.set_handle(None);
    let after_end = when_ended(&board, before, shards, alive)?;
    drop(watchdog);
    Ok(report::ending(&board, &books, &after_end, begun.elapsed()))
}

fn run(
    arguments: &Arguments,
    seed: u64,
    directory: &Path,
    board: &Arc<Board>,
) -> io::Result<Books> {
    let mut builder = Builder::new_multi_thread();
    if let Some(shards) = arguments.shards {
        builder.shards(shards);
    }
    // How much of the pool stays when it is idle is drawn as well.
    let keep = Draws::of(seed, u64::MAX).pick(&[0, arguments.pool / 2, arguments.pool]);
    let pool = PoolConfig::new().limit(arguments.pool).arena(arguments.pool / 8).keep(keep);
    builder.ring_entries(arguments.ring.0, arguments.ring.1).pool(pool);
    // What waits for a thread may hold a lock.
    builder.max_blocking_threads(arguments.tasks + 64);
    builder.run(async {
        let handle = Handle::current();
        report::beginning(arguments, seed, handle.shards());
        board.set_handle(Some(handle));
        workload::run(arguments, seed, directory, board).await
    })?
}

/// Waits until what the runtime had is given back, for as long as that may take.
fn when_ended(board: &Board, before: u64, shards: usize, alive: usize) -> io::Result<Vec<Line>> {
    let patience = Instant::now() + END_PATIENCE;
    loop {
        let lines = ledger::lines_after_end(&board.tally, before, shards, alive)?;
        let balances = lines.iter().all(|line| line.difference() == 0);
        if balances || Instant::now() > patience {
            return Ok(lines);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Many tasks have files open at once.
fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
