//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// SHA-256 of every regular file below the paths, in sha256sum's lines; the order of the lines is
/// free.
#[derive(Parser, Debug)]
#[command(name = "digest")]
pub struct Arguments {
    /// Files, and directories to be searched for files; links found there are not followed.
    #[arg(required_unless_present = "check", conflicts_with = "check")]
    pub paths: Vec<PathBuf>,

    /// Verify the files of a list that `digest` or `sha256sum` printed.
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,

    /// How many shards there are, each with a thread; the default is one for each core.
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,

    /// The most bytes of registered buffers, with an optional suffix K, M or G; the default follows
    /// from the limit of locked memory.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub pool: Option<usize>,

    /// Read past the page cache (O_DIRECT). Files of a file system that can't do that are reported
    /// and skipped.
    #[arg(long)]
    pub direct: bool,
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
        Some(0) => Err("a pool has at least one byte".into()),
        Some(bytes) => Ok(bytes),
        None => Err("that is more than can be addressed".into()),
    }
}
