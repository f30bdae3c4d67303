//! Connections as a stream: each comes once, to one of those who accept, and a full table of
//! descriptors is waited out.

mod common;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::isolated;
use common::limits::Resource;
use futures::StreamExt;
use ringhold_sim::{Faults, HostConfig, Simulation, for_each_seed, seeds};
use runtime::Builder;
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{Incoming, TcpListener, TcpStream, UnixListener, UnixStream};
use runtime::task::{spawn_local, spawn_on};
use runtime::time::{Instant, sleep, timeout};

#[runtime::test]
async fn connections_come_in_order_whatever_is_dropped_in_between() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut incoming = listener.into_incoming();
    for number in 0..100_u8 {
        assert!(timeout(Duration::from_micros(50), incoming.next()).await.is_err());
        let client = UnixStream::connect(&path).await.unwrap();
        client.write_all_owned(vec![number]).await.unwrap();
        let server = StreamExt::next(&mut incoming).await.unwrap().unwrap();
        assert_eq!(server.read_owned(Vec::with_capacity(1)).await.unwrap(), (1, vec![number]));
    }
}

/// Connects `count` times while tasks on `shards` shards accept from one listener. Each connection
/// comes to one of them.
async fn served_by_all(shards: usize, count: usize) -> io::Result<Vec<usize>> {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await?);
    let address = listener.local_addr()?;
    let servers: Vec<_> = (0..shards)
        .map(|shard| {
            let mut incoming = Incoming::new(listener.clone());
            spawn_on(shard, move || async move {
                let mut served = 0;
                while let Some(stream) = incoming.next().await {
                    let mut stream = stream?;
                    let Ok(number) = stream.read_u64().await else { break };
                    stream.write_u64(number).await?;
                    served += 1;
                }
                io::Result::Ok(served)
            })
        })
        .collect();
    let mut answers = HashSet::new();
    for number in 0..count as u64 {
        let mut client = TcpStream::connect(address).await?;
        client.write_u64(number).await?;
        assert!(answers.insert(client.read_u64().await?), "{number} was answered twice");
    }
    assert_eq!(answers.len(), count);
    // Each server ends with the first connection that says nothing.
    for _ in 0..shards {
        drop(TcpStream::connect(address).await?);
    }
    let mut served = Vec::new();
    for server in servers {
        served.push(server.await.map_err(io::Error::other)??);
    }
    Ok(served)
}

#[test]
fn one_listener_is_served_from_all_shards() {
    let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
    let served = runtime.block_on(served_by_all(2, 2000)).unwrap();
    assert_eq!(served.iter().sum::<usize>(), 2000);
    println!("{served:?} connections by each shard");
}

#[test]
fn one_listener_is_served_from_all_shards_of_a_simulated_host() {
    for_each_seed(seeds(common::count("RINGHOLD_SEEDS", 100).into()), |seed| {
        let mut simulation = Simulation::new(seed);
        let config = HostConfig::new("host").shards(3).faults(Faults::harmless());
        let host = simulation.host(config);
        simulation.start(host, || async {
            let served = served_by_all(3, 50).await?;
            assert_eq!(served.iter().sum::<usize>(), 50);
            // One may be too slow to get any, among few that come one after the other.
            assert!(served.iter().filter(|&&count| count > 0).count() >= 2, "{served:?}");
            io::Result::Ok(())
        });
        simulation.run()
    });
}

#[test]
fn a_full_table_of_descriptors_is_said_a_few_times_and_waited_out() {
    let name = "a_full_table_of_descriptors_is_said_a_few_times_and_waited_out";
    isolated(name).limit(Resource::OpenFiles, 64).run(|| {
        let run = Builder::new_current_thread().run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let client = TcpStream::connect(listener.local_addr()?).await?;
            let mut held = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                held.push(file);
            }
            let freeing = spawn_local(async move {
                sleep(Duration::from_millis(300)).await;
                drop(held);
            });
            let begin = Instant::now();
            let mut incoming = listener.incoming();
            let mut failures = 0;
            let server = loop {
                match incoming.next().await.expect("it ends with the runtime") {
                    Ok(server) => break server,
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                        failures += 1;
                    }
                }
            };
            // 5, 10, 20, … ms apart: seven of them make more than 600 ms.
            assert!((1..=8).contains(&failures), "{failures} in {:?}", begin.elapsed());
            server.write_all_owned("served").await?;
            let (_, bytes) = client.read_owned(Vec::with_capacity(6)).await?;
            assert_eq!(bytes, b"served");
            freeing.await.map_err(io::Error::other)
        });
        run.unwrap().unwrap();
    });
}
