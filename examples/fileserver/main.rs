//! A server of files by HTTP/1.1, on all shards: GET and HEAD, with ranges and conditions.
//!
//! Files are read past the page cache into leases of the registered pool, and sent from there
//! without a copy. `fileserver DIRECTORY` serves the directory; ctrl-c ends it.

mod arguments;
mod conditions;
mod connection;
mod outgoing;
mod ranges;
mod request;
mod response;
mod site;
mod target;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use clap::Parser;
use futures::future::try_join_all;
use runtime::net::{TcpListener, TcpSocket};
use runtime::signal::unix::{SignalKind, signal};
use runtime::sync::Semaphore;
use runtime::task::{JoinHandle, spawn_local, spawn_on};
use runtime::{Builder, Handle};

use arguments::Arguments;
use outgoing::{Limits, ZERO_COPY_UNIT};
use site::Site;

/// How many connections wait to be accepted on each shard.
const BACKLOG: u32 = 4096;

/// What each shard serves.
#[derive(Clone)]
struct Service {
    root: PathBuf,
    direct: bool,
    connections: Arc<Semaphore>,
    limits: Limits,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut builder = Builder::new_multi_thread();
    if let Some(shards) = arguments.shards {
        builder.shards(shards);
    }
    if let Some(pool) = arguments.pool {
        builder.pool_limit(pool << 20);
    }
    match builder.run(run(arguments)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("fileserver: {error}");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("fileserver: the runtime could not start: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> io::Result<()> {
    let shards = Handle::current().metrics().num_workers();
    let half_of_pool = runtime::buffers::occupancy().limit / 2;
    let zero_copy = if arguments.copy { 0 } else { half_of_pool / ZERO_COPY_UNIT };
    let service = Service {
        direct: !arguments.buffered,
        connections: Arc::new(Semaphore::new(arguments.connections)),
        limits: Limits {
            zero_copy: Arc::new(Semaphore::new(zero_copy)),
            head: arguments.head,
            idle: arguments.idle,
            stall: arguments.stall,
        },
        root: arguments.root,
    };
    // An error of the directory is seen before anything is served.
    Site::open(&service.root, service.direct).await?;
    // The first listener picks the port, if it is 0; the others join it there.
    let first = listen(arguments.listen)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..shards {
        listeners.push(listen(address)?);
    }
    // Before anybody is told that the server is there.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut ends = signal(SignalKind::terminate())?;
    println!("listening at {address} on {shards} shards");
    let serving = listeners.into_iter().enumerate().map(|(shard, listener)| {
        let service = service.clone();
        spawn_on(shard, move || serve(listener, service))
    });
    let serving: Vec<_> = serving.collect();
    runtime::select! {
        _ = interrupts.recv() => Ok(()),
        _ = ends.recv() => Ok(()),
        ended = join(serving) => ended,
    }
}

/// A listener beside others at the same address, among which the kernel spreads the connections.
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

/// Accepts for ever. What is in the way of accepting, such as a full file table, is waited out.
async fn serve(listener: TcpListener, service: Service) -> io::Result<()> {
    let site = Rc::new(Site::open(&service.root, service.direct).await?);
    let mut incoming = listener.into_incoming();
    loop {
        let Some(accepted) = incoming.next().await else { return Ok(()) };
        // Afterwards, since a shard that waits for a connection keeps none of the others from one.
        let permit = service.connections.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (site, limits) = (site.clone(), service.limits.clone());
        spawn_local(async move {
            connection::serve(accepted?, site, limits).await;
            drop(permit);
            io::Result::Ok(())
        });
    }
}

/// Waits for servers that never end, unless something is wrong with one.
async fn join(serving: Vec<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    let serving = serving.into_iter().map(|shard| async { shard.await.map_err(io::Error::other)? });
    try_join_all(serving).await.map(drop)
}
