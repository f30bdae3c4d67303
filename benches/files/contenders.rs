//! The same calls, by each caller.

use std::io;
use std::path::Path;
use std::thread;

use super::trial::{Clock, Trial};
use super::{Caller, Row};

/// Makes the calls, and says how many counted.
pub fn run(trial: &Trial) -> io::Result<u64> {
    match trial.caller {
        Caller::Ringhold => ringhold(trial),
        #[cfg(feature = "peers")]
        Caller::Tokio => tokio(trial),
        #[cfg(not(feature = "peers"))]
        Caller::Tokio => Err(io::Error::other("tokio is a peer: build with `--features peers`")),
        Caller::Std => std(trial),
    }
}

/// One call, in the words of a crate whose `fs` has tokio's shape.
macro_rules! call {
    ($fs:path, $row:expr, $path:expr) => {{
        use $fs as fs;
        let path: &Path = $path;
        match $row {
            Row::Read4k | Row::Read64k | Row::Read1m => fs::read(path).await?.len(),
            Row::Metadata => fs::metadata(path).await?.len() as usize,
            Row::Open => {
                drop(fs::File::open(path).await?);
                $row.bytes()
            }
            Row::Write4k => {
                fs::write(path, [7; 4096]).await?;
                $row.bytes()
            }
            Row::ReadDir => {
                let mut entries = fs::read_dir(path).await?;
                let mut count = 0;
                while entries.next_entry().await?.is_some() {
                    count += 1;
                }
                count
            }
        }
    }};
}

/// Tasks that call until the time is over.
macro_rules! tasks {
    ($spawn:path, $fs:path, $trial:expr) => {{
        let trial: &Trial = $trial;
        let clock = trial.clock();
        let tasks: Vec<_> = (0..trial.tasks)
            .map(|task| {
                let (row, path) = (trial.row, trial.path(task));
                $spawn(async move {
                    let mut calls = 0;
                    loop {
                        let moved = call!($fs, row, &path);
                        check(row, moved)?;
                        if !clock.goes_on(&mut calls) {
                            return io::Result::Ok(calls);
                        }
                    }
                })
            })
            .collect();
        let mut calls = 0;
        for task in tasks {
            calls += task.await.map_err(io::Error::other)??;
        }
        io::Result::Ok(calls)
    }};
}

fn check(row: Row, moved: usize) -> io::Result<()> {
    if moved == row.bytes() {
        return Ok(());
    }
    Err(io::Error::other(format!("{row:?} had {moved} and not {}", row.bytes())))
}

fn ringhold(trial: &Trial) -> io::Result<u64> {
    let mut builder = match trial.cores {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    builder.run(async { tasks!(runtime::spawn, runtime::fs, trial) })?
}

#[cfg(feature = "peers")]
fn tokio(trial: &Trial) -> io::Result<u64> {
    let mut builder = match trial.cores {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.build()?.block_on(async { tasks!(tokio::spawn, tokio::fs, trial) })
}

fn std(trial: &Trial) -> io::Result<u64> {
    let clock = trial.clock();
    let call_all = |task: usize| {
        let path = trial.path(task);
        let mut calls = 0;
        loop {
            check(trial.row, call_std(trial.row, &path)?)?;
            if !Clock::goes_on(clock, &mut calls) {
                return io::Result::Ok(calls);
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..trial.tasks).map(|task| scope.spawn(move || call_all(task))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("no call panics"));
        joined.sum()
    })
}

fn call_std(row: Row, path: &Path) -> io::Result<usize> {
    use std::fs;
    Ok(match row {
        Row::Read4k | Row::Read64k | Row::Read1m => fs::read(path)?.len(),
        Row::Metadata => fs::metadata(path)?.len() as usize,
        Row::Open => {
            drop(fs::File::open(path)?);
            row.bytes()
        }
        Row::Write4k => {
            fs::write(path, [7; 4096])?;
            row.bytes()
        }
        Row::ReadDir => fs::read_dir(path)?.map(|entry| entry.map(|_| 1)).sum::<io::Result<_>>()?,
    })
}
