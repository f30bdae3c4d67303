//! Prints what `sha256sum` prints for every regular file below the given paths, or checks such a
//! list.
//!
//! Many files are read at once, each through a short queue of reads into leases of the registered
//! pool. All memory for their bytes is the pool's, and everything else that grows with the tree is
//! bounded: the queue of files, and what the walk has open.

mod arguments;
mod check;
mod hash;
mod lines;
mod progress;
mod report;
mod walk;
mod workers;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use runtime::sync::mpsc;
use rustix::process::{Resource, getrlimit, setrlimit};

use arguments::Arguments;
use hash::Plan;
use report::Report;

/// The most files that are found and not yet being read.
const QUEUE_FILES: usize = 1024;

/// What a shell shows for a program that a broken pipe ended.
const BROKEN_PIPE: u8 = 128 + 13;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    raise_open_files_limit();
    let mut builder = runtime::Builder::new_multi_thread();
    if let Some(shards) = arguments.shards {
        builder.shards(shards);
    }
    if let Some(bytes) = arguments.pool {
        builder.pool_limit(bytes);
    }
    match builder.run(digest(arguments)) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::from(1),
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(BROKEN_PIPE),
        Ok(Err(error)) => {
            report::complain(format_args!("{error}"));
            ExitCode::from(2)
        }
        Err(error) => {
            report::complain(format_args!("the runtime could not start: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Does all of the work, and tells whether everything was read and matched.
///
/// # Errors
///
/// What makes it senseless to go on: standard output that takes no more, a pool that can't give a
/// single page.
async fn digest(arguments: Arguments) -> io::Result<bool> {
    let started = Instant::now();
    let shards = runtime::Handle::current().metrics().num_workers();
    let report = Arc::new(Report::new(arguments.check.is_some()));
    let plan = Arc::new(Plan::new(shards, arguments.direct));
    let drawing = progress::draw(&report);

    let (jobs, queue) = mpsc::channel(QUEUE_FILES);
    let workers = workers::start(shards, &plan, &report, queue);
    let source = runtime::spawn({
        let report = report.clone();
        async move {
            match arguments.check {
                Some(list) => check::read_list(&list, jobs, &report).await,
                None => walk::all(arguments.paths, jobs, report).await,
            }
        }
    });
    runtime::try_join!(async { source.await? }, workers)?;

    if let Some(drawing) = drawing {
        drawing.abort();
    }
    report.finish(started.elapsed())
}

/// A deep tree keeps a directory open for each level, and many shards many files. What can't be
/// opened is reported, so that nothing is lost where the limit stays as it is.
fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
