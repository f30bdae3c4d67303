//! The command line.

use std::net::SocketAddr;

use clap::Parser;

/// A TCP server that sends back whatever it gets.
#[derive(Parser, Debug)]
#[command(name = "echo")]
pub struct Arguments {
    /// The address to listen at; port 0 is one that the kernel picks.
    #[arg(default_value = "127.0.0.1:7007")]
    pub listen: SocketAddr,

    /// How many shards there are, each with a thread; the default is one for each core.
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
}
