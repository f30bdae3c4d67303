//! Many connections at once, of which most wait: none starves another, and none leaves anything
//! behind. `RINGHOLD_CONNECTIONS` sets how many.

mod common;
mod dice;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream as Std};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::limits::Resource;
use common::{count, isolated, proc};
use dice::Dice;
use runtime::buffers;
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{TcpListener, TcpStream};
use runtime::task::{JoinHandle, spawn_local};
use runtime::time::timeout;
use runtime::{Builder, Handle};

/// How long an answer may take that nothing holds up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers every byte with the next one.
async fn answer(mut stream: TcpStream) -> io::Result<u64> {
    let mut answered = 0;
    let mut byte = [0];
    while stream.read(&mut byte).await? > 0 {
        byte[0] = byte[0].wrapping_add(1);
        stream.write_all(&byte).await?;
        answered += 1;
    }
    Ok(answered)
}

async fn ask(client: &mut TcpStream, byte: u8) -> io::Result<u8> {
    client.write_all(&[byte]).await?;
    client.read_u8().await
}

#[test]
fn who_waits_for_a_peer_takes_no_room_from_others() {
    // Rings so small that the waits of eight connections fill them.
    let mut builder = Builder::new_current_thread();
    builder.ring_entries(2, 4);
    let run = builder.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut clients = Vec::new();
        let mut servers = Vec::new();
        for _ in 0..8 {
            clients.push(TcpStream::connect(listener.local_addr()?).await?);
            servers.push(spawn_local(answer(listener.accept().await?.0)));
        }
        for (number, client) in clients.iter_mut().enumerate().rev() {
            let answer = timeout(PATIENCE, ask(client, number as u8)).await;
            assert_eq!(answer.expect("it is not held up")?, number as u8 + 1);
        }
        // Files go on as well.
        let read = timeout(PATIENCE, runtime::fs::read("/proc/self/stat"));
        assert!(!read.await.expect("it is not held up")?.is_empty());
        drop(clients);
        for server in servers {
            assert_eq!(server.await.map_err(io::Error::other)??, 1);
        }
        io::Result::Ok(())
    });
    run.unwrap().unwrap();
}

/// In a process that may open one end of that many connections.
fn with_connections(name: &'static str, body: impl FnOnce(usize)) {
    let connections = count("RINGHOLD_CONNECTIONS", 500);
    let descriptors = u64::from(connections) + 100;
    let deadline = Duration::from_secs(60 + u64::from(connections) / 100);
    isolated(name).limit(Resource::OpenFiles, descriptors).deadline(deadline).run(|| {
        let before = proc::open_descriptors();
        body(connections as usize);
        proc::becomes("the count of descriptors", before, PATIENCE, proc::open_descriptors);
    });
}

/// Tells a process which other end of which connections it is.
const OTHER_END: &str = "RINGHOLD_OTHER_END";

/// Begins the other end of the connections, in a process of its own: one alone may not have so many
/// descriptors.
fn other_end(kind: &str, address: SocketAddr, connections: usize) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["--exact", "the_other_end", "--ignored", "--nocapture"])
        .env(OTHER_END, format!("{kind} {address} {connections}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
}

#[test]
#[ignore = "it is the other end of the connections of other tests"]
fn the_other_end() {
    // Where all ignored tests are run nobody has begun it.
    let Ok(told) = std::env::var(OTHER_END) else { return };
    let told: Vec<_> = told.split(' ').collect();
    let (address, connections) = (told[1].parse().unwrap(), told[2].parse().unwrap());
    match told[0] {
        "idle" => be_idle_and_ask(address, connections).unwrap(),
        "busy" => ask_all_at_once(address, connections).unwrap(),
        other => panic!("there is no other end called {other}"),
    }
}

/// Connects, waits until its input ends, and asks once by each connection, in any order.
fn be_idle_and_ask(address: SocketAddr, connections: usize) -> io::Result<()> {
    let mut dice = Dice::from_environment();
    let clients = (0..connections).map(|_| Std::connect(address));
    let mut clients = clients.collect::<io::Result<Vec<_>>>()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    while !clients.is_empty() {
        let chosen = dice.below(clients.len() as u64) as usize;
        let mut client = clients.swap_remove(chosen);
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(&[7])?;
        let mut answer = [0];
        client.read_exact(&mut answer)?;
        assert_eq!(answer, [8]);
    }
    Ok(())
}

/// Asks ten times by each of all connections at once.
fn ask_all_at_once(address: SocketAddr, connections: usize) -> io::Result<()> {
    let asked = Builder::new_current_thread().run(async move {
        let client = |number: usize| async move {
            let mut client = TcpStream::connect(address).await?;
            for round in 0..10 {
                let asked = (number + round) as u8;
                assert_eq!(ask(&mut client, asked).await?, asked.wrapping_add(1));
            }
            io::Result::Ok(())
        };
        let clients: Vec<_> = (0..connections).map(|number| spawn_local(client(number))).collect();
        for client in clients {
            client.await.map_err(io::Error::other)??;
        }
        Ok(())
    });
    asked.map_err(io::Error::other)?
}

type Servers = Vec<JoinHandle<io::Result<u64>>>;

async fn accept(listener: &TcpListener, connections: usize) -> io::Result<Servers> {
    let mut servers = Vec::new();
    for _ in 0..connections {
        servers.push(spawn_local(answer(listener.accept().await?.0)));
    }
    Ok(servers)
}

/// Waits until all have ended, and gives how much they have answered.
async fn answered(servers: Servers) -> io::Result<u64> {
    let mut answered = 0;
    for server in servers {
        answered += server.await.map_err(io::Error::other)??;
    }
    Ok(answered)
}

#[test]
fn idle_connections_are_answered_in_any_order_and_go_without_a_trace() {
    let name = "idle_connections_are_answered_in_any_order_and_go_without_a_trace";
    with_connections(name, |connections| {
        let run = Builder::new_current_thread().run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            // What is made once is made.
            drop(Std::connect(listener.local_addr()?)?);
            answered(accept(&listener, 1).await?).await?;
            let before = proc::resident_bytes();
            let mut asking = other_end("idle", listener.local_addr()?, connections)?;
            let servers = accept(&listener, connections).await?;
            runtime::task::yield_now().await;
            let each = (proc::resident_bytes() - before) / connections;
            println!("{connections} idle connections: {each} bytes of memory each");
            drop(asking.stdin.take().expect("it is a pipe"));
            assert_eq!(answered(servers).await?, connections as u64);
            assert!(asking.wait()?.success());
            io::Result::Ok(())
        });
        run.unwrap().unwrap();
    });
}

#[test]
fn busy_connections_are_all_served_at_once() {
    with_connections("busy_connections_are_all_served_at_once", |connections| {
        let run = Builder::new_current_thread().run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let mut asking = other_end("busy", listener.local_addr()?, connections)?;
            let servers = accept(&listener, connections).await?;
            assert_eq!(answered(servers).await?, connections as u64 * 10);
            assert!(asking.wait()?.success());
            io::Result::Ok(())
        });
        run.unwrap().unwrap();
    });
}

/// Sends leases until the peer has had `bytes`, or is gone.
async fn send(stream: TcpStream, bytes: usize) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes {
        let mut lease = buffers::lease(16 * 1024).await.map_err(io::Error::other)?;
        lease.resize(16 * 1024, 7);
        sent += stream.write_all_owned(lease).await?.0;
    }
    Ok(sent)
}

/// Reads slowly to the end, or resets the connection in the middle, or goes without reading.
async fn receive(address: SocketAddr, bytes: usize, mut dice: Dice) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let manner = dice.below(3);
    let (mut seen, wanted) = (0, if manner == 0 { bytes } else { dice.below(200_000) as usize });
    let mut buffer = vec![0; 10_000];
    while seen < wanted {
        seen += stream.read(&mut buffer).await?;
        runtime::time::sleep(Duration::from_micros(dice.below(3000))).await;
    }
    if manner == 1 {
        stream.set_zero_linger()?;
    }
    Ok(manner == 0)
}

#[test]
fn slow_readers_and_those_that_reset_in_the_middle_leave_nothing_behind() {
    let name = "slow_readers_and_those_that_reset_in_the_middle_leave_nothing_behind";
    with_connections(name, |connections| {
        const BYTES: usize = 512 * 1024;
        let mut dice = Dice::from_environment();
        let run = Builder::new_current_thread().run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let (mut clients, mut servers) = (Vec::new(), Vec::new());
            for _ in 0..connections / 5 {
                clients.push(spawn_local(receive(address, BYTES, dice.split())));
                servers.push(spawn_local(send(listener.accept().await?.0, BYTES)));
            }
            let (mut whole, mut sent) = (0, 0);
            for client in clients {
                whole += usize::from(client.await.map_err(io::Error::other)??);
            }
            for server in servers {
                match server.await.map_err(io::Error::other)? {
                    Ok(BYTES) => sent += 1,
                    Ok(other) => panic!("{other} bytes are neither all nor an error"),
                    Err(error) => assert!(
                        matches!(
                            error.kind(),
                            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                        ),
                        "{error:?}"
                    ),
                }
            }
            // The last bytes for one that goes may be in the socket already.
            assert!(whole > 0 && sent >= whole, "{sent} were sent all, and {whole} received all");
            assert_eq!(buffers::occupancy().leased, 0);
            // This one.
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
            io::Result::Ok(())
        });
        run.unwrap().unwrap();
    });
}
