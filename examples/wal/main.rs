//! A write-ahead log on real files: appends the lines of standard input as records, prints what is
//! there, verifies it, and sets checkpoints.

mod arguments;
mod log;

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use runtime::fs::{self, File};
use runtime::sync::mpsc;

use arguments::{Arguments, Command};
use log::{Appending, Error, Log};

/// How many records are on their way at once, so that a sync serves many.
const APPENDS: usize = 128;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match runtime::Builder::new_current_thread().run(run(arguments)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("wal: {error}");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("wal: the runtime could not start: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Outcome {
    let Arguments { directory, segment_bytes, command } = arguments;
    match command {
        Command::Append => append(&directory, segment_bytes).await,
        Command::Replay => {
            let mut output = io::BufWriter::new(io::stdout().lock());
            let mut printed = Ok(());
            let found = log::replay(&directory, |number, record| {
                if printed.is_ok() {
                    printed = writeln!(output, "{number}\t{}", String::from_utf8_lossy(record));
                }
            });
            found.await?;
            printed?;
            Ok(output.flush()?)
        }
        Command::Verify => {
            let mut bytes = 0;
            let found = log::replay(&directory, |_, record| bytes += record.len()).await?;
            let begin = found.checkpoint.as_ref().map_or(1, |checkpoint| checkpoint.next);
            let (records, segments, torn) = (found.next - begin, found.segments, found.cut_bytes);
            println!(
                "{records} records of {bytes} bytes in {segments} segments, {torn} bytes torn"
            );
            Ok(())
        }
        Command::Checkpoint { next, state } => {
            let (log, _) = Log::open(&directory, segment_bytes, |_, _| {}).await?;
            log.checkpoint(next, state.into_bytes()).await?;
            Ok(log.close().await?)
        }
    }
}

async fn append(directory: &Path, segment_bytes: u64) -> Outcome {
    create_durably(directory).await?;
    let (log, _) = Log::open(directory, segment_bytes, |_, _| {}).await?;
    let (lines, mut read) = mpsc::channel(APPENDS);
    // Standard input may keep its reader waiting, which must not be a shard.
    let reader = runtime::spawn_blocking(move || {
        let mut input = io::stdin().lock().split(b'\n');
        input.try_for_each(|line| lines.blocking_send(line?).map_err(io::Error::other))
    });
    let (placed, mut appending) = mpsc::channel::<Appending>(APPENDS);
    let place = async {
        while let Some(line) = read.recv().await {
            let _ = placed.send(log.append(line).await?).await;
        }
        drop(placed);
        Result::<_, Error>::Ok(())
    };
    let count = async {
        let (mut count, mut last) = (0, None);
        while let Some(appending) = appending.recv().await {
            last = Some(appending.acknowledged().await?);
            count += 1;
        }
        Ok((count, last))
    };
    let ((), (count, last)) = runtime::try_join!(place, count)?;
    reader.await??;
    match last {
        Some(last) => println!("{count} records appended, the last has number {last}"),
        None => println!("nothing appended"),
    }
    Ok(log.close().await?)
}

/// Makes the directory, if it isn't there. Where its name can't be made durable it is taken back:
/// the next call would find it, and believe in it.
async fn create_durably(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        created => created?,
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = async { File::open(parent).await?.sync_all().await };
    if let Err(error) = synced.await {
        fs::remove_dir(directory).await?;
        return Err(error);
    }
    Ok(())
}
