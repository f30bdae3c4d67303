//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Runs a random workload of every operation, with random drops, aborts and panics, and proves at
/// the end that nothing was lost.
///
/// It prints what was submitted, delivered, reclaimed and leaked. It ends with 0 if everything
/// balances, with 1 if anything differs, with 2 if it was called wrongly or could not start, and
/// with 3 if nothing advanced for half a minute.
///
/// The draws follow from the seed, operation by operation; the order in which things happen does
/// not.
#[derive(Parser, Clone, Debug)]
#[command(name = "torture")]
pub struct Arguments {
    /// How long new operations are begun.
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "operations")]
    pub seconds: u64,

    /// How many operations are begun, instead of how long.
    #[arg(long, value_name = "N")]
    pub operations: Option<u64>,

    /// What the draws follow from; without it, a seed is made up and printed.
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,

    /// How many shards there are, each with a thread; the default is one for each core.
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,

    /// How many tasks begin operations.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse_tasks)]
    pub tasks: usize,

    /// The entries of each shard's submission queue and of its completion queue: powers of two, the
    /// second at least twice the first.
    #[arg(long, value_name = "SUBMISSIONS,COMPLETIONS", default_value = "256,512",
          value_parser = parse_ring)]
    pub ring: (u32, u32),

    /// The most bytes of registered buffers, with an optional suffix K, M or G.
    #[arg(long, value_name = "BYTES", default_value = "2M", value_parser = parse_bytes)]
    pub pool: usize,

    /// Where files are made, in a directory of its own that is removed; the default is the system's
    /// directory of temporary files.
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,

    /// The most futures that are forgotten (`mem::forget`). What they hold is leaked, and counted.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub forget: u64,
}

fn parse_tasks(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("somebody has to begin operations".into()),
        Ok(tasks) => Ok(tasks),
        Err(error) => Err(format!("{error}")),
    }
}

fn parse_ring(text: &str) -> Result<(u32, u32), String> {
    let (submissions, completions) = text.split_once(',').ok_or("two numbers, with a comma")?;
    let number = |text: &str| text.trim().parse().map_err(|error| format!("{error}"));
    Ok((number(submissions)?, number(completions)?))
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = number.parse().map_err(|error| format!("{error}"))?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if bytes >= 4096 => Ok(bytes),
        Some(_) => Err("a pool has at least a page of 4096 bytes".into()),
        None => Err("that is more than can be addressed".into()),
    }
}
