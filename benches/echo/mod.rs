//! `echo`: a server that sends back what it gets, and the load that drives it from another process.
//!
//! The child is the server, and prints its address; the parent connects, keeps one message of each
//! connection on its way, and clocks every answer. It reads the child's CPU time, too, since it
//! knows when the measured part begins and ends.

mod drive;
mod haltpoll;
mod raw;
mod raw_short;
mod ringhold;
mod server;

#[cfg(feature = "peers")]
mod compio;
#[cfg(feature = "peers")]
mod monoio;
#[cfg(feature = "peers")]
mod tokio;
#[cfg(feature = "peers")]
mod tokio_uring;

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::contender::Contender;
use crate::load::Load;
use crate::meter::Sample;

pub use haltpoll::Haltpoll;
pub use server::serve;

/// The length of a message, in bytes: a small request of a key-value store.
pub const MESSAGE_BYTES: usize = 64;

/// What a server reads at most at once.
pub const BUFFER_BYTES: usize = 4096;

/// Starts a server, drives it from `cpu`, and ends it.
pub fn sample_of(
    contender: Contender,
    command: &mut Command,
    load: &Load,
    cpu: usize,
) -> io::Result<Sample> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let driven = drive(&mut child, load, cpu);
    child.kill()?;
    child.wait()?;
    driven.map_err(|error| io::Error::new(error.kind(), format!("{contender}: {error}")))
}

fn drive(child: &mut Child, load: &Load, cpu: usize) -> io::Result<Sample> {
    let output = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let address = line.trim().parse();
    let address = address.map_err(|_| io::Error::other(format!("no address: {line:?}")))?;
    drive::run(address, child.id(), load, cpu)
}
