//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Serves the files below a directory by HTTP/1.1.
#[derive(Parser, Debug)]
#[command(name = "fileserver")]
pub struct Arguments {
    /// The directory. What is outside of it is never served, symbolic links included.
    pub root: PathBuf,

    /// The address to listen at; port 0 is one that the kernel picks.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// How many shards there are, each with a thread; the default is one for each core.
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,

    /// How many bytes of leased buffers there may be, in MiB.
    #[arg(long, value_name = "MIB")]
    pub pool: Option<usize>,

    /// Reads files through the page cache, not past it.
    #[arg(long)]
    pub buffered: bool,

    /// Copies what is sent, instead of sending it from where it was read to.
    #[arg(long)]
    pub copy: bool,

    /// How many connections are served at once; of more, one a shard waits, and the others wait to
    /// be accepted.
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub connections: usize,

    /// How many seconds a client has to send the head of a request.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub head: Duration,

    /// How many seconds a connection waits for another request.
    #[arg(long, value_name = "SECONDS", default_value = "75", value_parser = seconds)]
    pub idle: Duration,

    /// How many seconds a client may take nothing of what it asked for, or less than is in the
    /// network for it.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub stall: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no count of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
