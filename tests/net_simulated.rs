//! Sockets on simulated hosts: the same types over the same operations, with the kernel's answers,
//! delays and short transfers drawn from a seed. `RINGHOLD_SEEDS` sets how many.

mod common;

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::count;
use ringhold_sim::{Failure, Faults, HostConfig, HostId, Simulation, for_each_seed, seeds};
use runtime::buffers;
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram};
use runtime::task::spawn_local;
use runtime::time::{sleep, timeout};

const PORT: u16 = 7000;
const RECORDS: u64 = 2_000;
const CONNECTS: u64 = 50;

fn two_hosts(seed: u64) -> (Simulation, HostId, HostId) {
    let mut simulation = Simulation::new(seed);
    let config = |name| HostConfig::new(name).faults(Faults::harmless()).ring_entries(2, 4);
    let [server, client] = ["server", "client"].map(|name| simulation.host(config(name)));
    (simulation, server, client)
}

/// Connects as soon as the server listens.
async fn connect() -> io::Result<TcpStream> {
    loop {
        match TcpStream::connect(("server", PORT)).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                sleep(Duration::from_millis(1)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn send_records() -> io::Result<()> {
    let mut stream = connect().await?;
    for first in (0..RECORDS).step_by(50) {
        let bytes: Vec<u8> = (first..first + 50).flat_map(u64::to_be_bytes).collect();
        sleep(Duration::from_micros(first * 7 % 1_000)).await;
        match first / 50 % 3 {
            0 => stream.write_all(&bytes).await?,
            1 => drop(stream.write_all_owned(bytes).await?),
            _ => {
                let mut lease = buffers::lease(bytes.len()).await?;
                lease.extend_from_slice(&bytes);
                stream.write_all_fixed(lease).await?;
            }
        }
    }
    stream.shutdown().await?;
    assert_eq!(stream.read(&mut [0; 1]).await?, 0);
    Ok(())
}

async fn read(stream: &mut TcpStream, kind: u32) -> io::Result<Vec<u8>> {
    let most = 100 + kind as usize % 400;
    match kind % 3 {
        0 => {
            let mut bytes = Vec::with_capacity(most);
            stream.read_buf(&mut bytes).await?;
            Ok(bytes)
        }
        1 => Ok(stream.read_owned(Vec::with_capacity(most)).await?.1),
        _ => Ok(stream.read_fixed(buffers::lease(most).await?).await?.1.to_vec()),
    }
}

/// Reads that were dropped, over all seeds.
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// Drops reads after up to 0.4 milliseconds, and checks that no byte is lost.
async fn receive_records() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let (mut stream, _) = listener.accept().await?;
    let (mut received, mut dropped) = (Vec::new(), 0u32);
    loop {
        let round = dropped + received.len() as u32;
        let pause = Duration::from_micros(u64::from(round) * 37 % 400);
        match timeout(pause, read(&mut stream, round)).await {
            Ok(bytes) if bytes.as_ref().is_ok_and(Vec::is_empty) => break,
            Ok(bytes) => received.extend_from_slice(&bytes?),
            Err(_) => dropped += 1,
        }
    }
    let sent: Vec<u8> = (0..RECORDS).flat_map(u64::to_be_bytes).collect();
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    DROPPED.fetch_add(dropped, Ordering::Relaxed);
    Ok(())
}

#[test]
fn no_byte_is_lost_between_hosts_by_reads_that_are_dropped() {
    let seeds = seeds(count("RINGHOLD_SEEDS", 30).into());
    let runs = (seeds.end - seeds.start) as u32;
    for_each_seed(seeds, |seed| {
        let (mut simulation, server, client) = two_hosts(seed);
        simulation.start(server, receive_records);
        simulation.start(client, send_records);
        simulation.run()
    });
    let dropped = DROPPED.load(Ordering::Relaxed);
    assert!(dropped > runs, "{dropped} reads were dropped in {runs} runs");
}

/// As many connections as are made, although accepts are dropped.
async fn accept_all() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let mut serving = Vec::new();
    while (serving.len() as u64) < CONNECTS {
        let pause = Duration::from_micros(1 + serving.len() as u64 * 13 % 200);
        let Ok(accepted) = timeout(pause, listener.accept()).await else { continue };
        let (mut stream, _) = accepted?;
        serving.push(spawn_local(async move {
            let mut record = [0; 8];
            stream.read_exact(&mut record).await?;
            stream.write_all(&record).await
        }));
    }
    for served in serving {
        served.await.expect("no server panics")?;
    }
    Ok(())
}

async fn connect_often() -> io::Result<()> {
    for number in 0..CONNECTS {
        let mut stream = connect().await?;
        stream.write_all(&number.to_be_bytes()).await?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await?;
        assert_eq!(u64::from_be_bytes(answer), number);
    }
    Ok(())
}

#[test]
fn no_connection_is_lost_between_hosts_by_accepts_that_are_dropped() {
    let seeds = seeds(count("RINGHOLD_SEEDS", 30).into());
    for_each_seed(seeds, |seed| -> Result<(), Failure> {
        let (mut simulation, server, client) = two_hosts(seed);
        simulation.start(server, accept_all);
        simulation.start(client, connect_often);
        simulation.run()
    });
}

#[test]
fn datagrams_reach_the_other_host_and_the_own() {
    let (mut simulation, server, client) = two_hosts(1);
    simulation.start(server, || async {
        let socket = UdpSocket::bind(("0.0.0.0", PORT)).await?;
        let mut bytes = [0; 16];
        let (count, from) = socket.recv_from(&mut bytes).await?;
        socket.send_to(&bytes[..count], from).await?;

        let (left, right) = UnixDatagram::pair()?;
        left.send(b"near").await?;
        assert_eq!(right.recv(&mut bytes).await?, 4);
        let named = UnixDatagram::bind("/socket")?;
        left.connect("/socket")?;
        left.send(b"by name").await?;
        assert_eq!(named.recv(&mut bytes).await?, 7);
        io::Result::Ok(())
    });
    simulation.start(client, || async {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
        socket.connect(("server", PORT)).await?;
        let mut bytes = [0; 16];
        loop {
            // Until the server is there, nobody takes it.
            let asked = async {
                socket.send(b"far").await?;
                socket.recv(&mut bytes).await
            };
            match timeout(Duration::from_millis(10), asked).await {
                Ok(Ok(count)) => {
                    assert_eq!(&bytes[..count], b"far");
                    return io::Result::Ok(());
                }
                Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
                Err(_) => {}
            }
        }
    });
    simulation.run().unwrap();
}
