//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A write-ahead log of the lines of standard input.
///
/// A line that was appended is on the disk when the program ends with 0, whatever happens then.
#[derive(Parser, Debug)]
#[command(name = "wal")]
pub struct Arguments {
    /// The log's directory.
    pub directory: PathBuf,

    /// How long a segment gets before the next one is begun.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub segment_bytes: u64,

    /// What to do with the log.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with a log.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Append the lines of standard input, each as a record.
    Append,
    /// Print each record behind its number.
    Replay,
    /// Read everything and tell what there is; ends with 1 if anything is damaged.
    Verify,
    /// Let a text stand for all records before a number, and remove what is no longer needed.
    Checkpoint {
        /// The number of the first record that stays.
        next: u64,
        /// The text.
        state: String,
    },
}
