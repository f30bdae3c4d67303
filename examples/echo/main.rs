//! A TCP server that sends back whatever it gets, on all shards.
//!
//! Each shard has a listener of its own at the same address, among which the kernel spreads the
//! connections; a connection stays on its shard. Bytes go through a buffer that a connection has
//! as long as it lives, and are sent before the next ones are read, so a peer that doesn't read is
//! not read from. Ctrl-c ends it.

mod arguments;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use runtime::net::{TcpListener, TcpSocket, TcpStream};
use runtime::signal::unix::{SignalKind, signal};
use runtime::task::{JoinHandle, spawn_local, spawn_on};
use runtime::time::sleep;
use runtime::{Builder, Handle};

use arguments::Arguments;

/// How many bytes of a connection are in memory at most.
const BUFFER_BYTES: usize = 16 * 1024;

/// How many connections wait to be accepted on each shard.
const BACKLOG: u32 = 1024;

/// How long accepting pauses when there is no descriptor or no memory left. The connections wait in
/// the kernel meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// A listener beside others at the same address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Sends back what comes until the peer ends the connection.
async fn echo(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        buffer.clear();
        let (count, filled) = stream.read_owned(buffer).await?;
        if count == 0 {
            return Ok(());
        }
        (_, buffer) = stream.write_all_owned(filled).await?;
    }
}

/// Whether an error is about one connection that is gone, and not about this host.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// Accepts for ever.
async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            // What goes wrong with one connection is its peer's matter.
            Ok((stream, _)) => drop(spawn_local(echo(stream))),
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                eprintln!("echo: accepting pauses: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Waits for servers that never end, unless one panics.
async fn join(serving: Vec<JoinHandle<()>>) -> io::Result<()> {
    for shard in serving {
        shard.await.map_err(io::Error::other)?;
    }
    Ok(())
}

async fn run(address: SocketAddr) -> io::Result<()> {
    let shards = Handle::current().metrics().num_workers();
    // The first picks the port, if it is 0; the others join it there.
    let first = listen(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..shards {
        listeners.push(listen(address)?);
    }
    // Before anybody is told that the server is there.
    let mut interrupts = signal(SignalKind::interrupt())?;
    println!("listening at {address} on {shards} shards");
    let serving = listeners.into_iter().enumerate();
    let serving: Vec<_> =
        serving.map(|(shard, listener)| spawn_on(shard, move || serve(listener))).collect();
    runtime::select! {
        _ = interrupts.recv() => Ok(()),
        ended = join(serving) => ended,
    }
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut builder = Builder::new_multi_thread();
    if let Some(shards) = arguments.shards {
        builder.shards(shards);
    }
    builder.run(run(arguments.listen))?
}
