//! Zero-copy sends: what arrives is what was sent, and a lease comes back when the network is done
//! with it, and not before. `RINGHOLD_SENDS` and `RINGHOLD_SEEDS` set how many.

mod common;
mod dice;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::count;
use dice::Dice;
use ringhold_sim::{Faults, HostConfig, Simulation, for_each_seed, seeds};
use runtime::buffers::{self, Lease, PoolConfig};
use runtime::io::AsyncReadExt;
use runtime::net::{TcpListener, TcpStream};
use runtime::task::{JoinSet, spawn_local, yield_now};
use runtime::time::{Instant, sleep, timeout};
use runtime::{Builder, Handle};

const LEASE_BYTES: usize = 8 * 1024;

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?.0))
}

/// A lease whose bytes say where in the stream they belong.
async fn filled(offset: usize, length: usize) -> io::Result<Lease> {
    let mut lease = buffers::lease(length).await?;
    let bytes: Vec<u8> = (offset..offset + length).map(|place| (place % 251) as u8).collect();
    lease.extend_from_slice(&bytes);
    Ok(lease)
}

/// Reads to the end, and checks that every byte belongs where it is. Returns how many it were.
async fn receive(mut stream: TcpStream) -> io::Result<usize> {
    let mut seen = 0;
    let mut bytes = vec![0; 6000];
    loop {
        let count = match stream.read(&mut bytes).await {
            Ok(0) => return Ok(seen),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(seen),
            Err(error) => return Err(error),
        };
        for byte in &bytes[..count] {
            assert_eq!(*byte, (seen % 251) as u8, "byte {seen}");
            seen += 1;
        }
    }
}

/// Leases all there is, again and again, and overwrites it: what a sender gave up too early would
/// be seen by its peer.
async fn poison() -> io::Result<()> {
    loop {
        let mut poisoned = Vec::new();
        while let Ok(mut lease) = buffers::try_lease(LEASE_BYTES) {
            lease.extend_from_slice(&[0xFF; LEASE_BYTES]);
            poisoned.push(lease);
        }
        drop(poisoned);
        sleep(Duration::from_micros(50)).await;
    }
}

/// Sends that are awaited, given up once they are queued, and at last one that is dropped in
/// flight.
async fn send_in_all_ways(sends: u64, mut dice: Dice) -> io::Result<()> {
    let (sender, receiver) = pair().await?;
    let receiving = spawn_local(receive(receiver));
    let poisoning = spawn_local(poison());
    let mut offset = 0;
    let mut on_their_way = Vec::new();
    for _ in 0..sends {
        let length = 1 + dice.below(LEASE_BYTES as u64) as usize;
        let lease = filled(offset, length).await?;
        let (count, sending) = sender.send_zero_copy(lease).await?;
        assert_eq!(count, length);
        offset += count;
        match dice.below(3) {
            0 => drop(sending),
            1 => assert_eq!(sending.await.len(), length),
            _ => on_their_way.push(sending),
        }
        if on_their_way.len() > 3 {
            for sending in on_their_way.drain(..) {
                sending.await;
            }
        }
        if dice.below(8) == 0 {
            let more = filled(offset, 100).await?;
            offset += sender.write_all_fixed(more).await?.0;
        }
    }
    // Whether this one is sent, or a part of it, is unknown.
    let last = filled(offset, LEASE_BYTES).await?;
    let is_sent = timeout(Duration::from_micros(dice.below(50)), sender.send_zero_copy(last)).await;
    drop((is_sent, on_their_way, sender));
    let seen = receiving.await.map_err(io::Error::other)??;
    assert!((offset..=offset + LEASE_BYTES).contains(&seen), "{seen} of {offset}");
    poisoning.abort();
    assert!(poisoning.await.unwrap_err().is_cancelled());
    all_leases_come_back().await;
    Ok(())
}

async fn all_leases_come_back() {
    let begin = Instant::now();
    while buffers::occupancy().leased > 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", buffers::occupancy());
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn what_arrives_is_what_was_sent_and_every_lease_comes_back() {
    let dice = Dice::from_environment();
    let sends = count("RINGHOLD_SENDS", 2_000).into();
    let mut builder = Builder::new_current_thread();
    builder.pool(PoolConfig::new().limit(256 << 10));
    builder.run(send_in_all_ways(sends, dice)).unwrap().unwrap();
}

#[test]
fn what_arrives_between_simulated_peers_is_what_was_sent() {
    for_each_seed(seeds(count("RINGHOLD_SEEDS", 60).into()), |seed| {
        let mut simulation = Simulation::new(seed);
        let rings = if seed % 2 == 0 { (2, 4) } else { (64, 128) };
        let config = HostConfig::new("host").faults(Faults::harmless());
        let host = simulation.host(config.ring_entries(rings.0, rings.1).pool_limit(128 << 10));
        simulation.start(host, move || send_in_all_ways(30, Dice::of(seed)));
        simulation.run()
    });
}

#[test]
fn one_frozen_lease_is_sent_to_many_at_once() {
    let run = Builder::new_current_thread().run(async {
        let frozen = filled(0, 100_000).await?.freeze().expect("there is room for frozen bytes");
        let mut receivers = JoinSet::new();
        let mut senders = JoinSet::new();
        for _ in 0..20 {
            let (sender, receiver) = pair().await?;
            receivers.spawn_local(receive(receiver));
            let frozen = frozen.clone();
            senders.spawn_local(async move {
                let (count, sending) = sender.send_zero_copy(frozen).await?;
                drop(sending);
                io::Result::Ok(count)
            });
        }
        drop(frozen);
        while let Some(sent) = senders.join_next().await {
            assert_eq!(sent.unwrap()?, 100_000);
        }
        while let Some(received) = receivers.join_next().await {
            assert_eq!(received.unwrap()?, 100_000);
        }
        all_leases_come_back().await;
        io::Result::Ok(())
    });
    run.unwrap().unwrap();
}

#[test]
fn a_peer_that_is_gone_is_an_error_that_gives_the_lease_back() {
    let run = Builder::new_current_thread().run(async {
        let (sender, receiver) = pair().await?;
        receiver.set_zero_linger()?;
        drop(receiver);
        let failed = loop {
            match sender.send_zero_copy(filled(0, 4000).await?).await {
                Ok((_, sending)) => drop(sending),
                Err(failed) => break failed,
            }
            yield_now().await;
        };
        assert_eq!(failed.error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!((failed.buffer.len(), failed.buffer[1]), (4000, 1));
        drop(failed);
        let empty = buffers::lease(100).await?;
        let failed = sender.send_zero_copy(empty).await.unwrap_err();
        assert_eq!(failed.error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(failed.buffer.capacity(), 100);
        drop(failed);
        all_leases_come_back().await;
        io::Result::Ok(())
    });
    run.unwrap().unwrap();
}

#[test]
fn a_send_may_be_begun_and_awaited_on_any_thread() {
    let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
    let (sender, receiver) = runtime.block_on(pair()).unwrap();
    let sender = Arc::new(sender);
    let receiving = runtime.spawn(receive(receiver));
    let handle: Handle = runtime.handle().clone();
    // Begun and awaited off all shards.
    let begun = {
        let sender = sender.clone();
        std::thread::spawn(move || {
            handle.block_on(async move {
                let (count, sending) = sender.send_zero_copy(filled(0, 5000).await?).await?;
                assert_eq!(count, 5000);
                assert_eq!(sending.await.len(), 5000);
                sender.send_zero_copy(filled(5000, 3000).await?).await.map_err(io::Error::from)
            })
        })
    };
    let (_, sending) = begun.join().unwrap().unwrap();
    // Awaited on one, and another dropped on the other, whoever began them.
    let awaited = runtime.spawn(async move { sending.await.len() });
    assert_eq!(runtime.block_on(awaited).unwrap(), 3000);
    let (_, sending) = runtime
        .block_on(async {
            sender.send_zero_copy(filled(8000, 100).await?).await.map_err(io::Error::from)
        })
        .unwrap();
    std::thread::spawn(move || drop(sending)).join().unwrap();
    drop(sender);
    assert_eq!(runtime.block_on(receiving).unwrap().unwrap(), 8100);
    runtime.block_on(all_leases_come_back());
}

#[test]
fn a_send_that_waits_for_a_slow_peer_is_cancelled_when_it_is_dropped() {
    let run = Builder::new_current_thread().run(async {
        let (sender, mut receiver) = pair().await?;
        let mut sent = 0;
        // The peer reads nothing, until its window and the socket's buffer are full.
        loop {
            let lease = filled(sent, 256 * 1024).await?;
            let send = sender.send_zero_copy(lease);
            match timeout(Duration::from_millis(50), send).await {
                Ok(begun) => sent += begun?.0,
                Err(_) => break,
            }
        }
        let early = timeout(Duration::from_millis(50), sender.writable()).await;
        assert!(early.is_err(), "there is no room before the peer reads");
        let mut seen = 0;
        let mut bytes = vec![0; 1 << 20];
        while seen < sent {
            let count = receiver.read(&mut bytes).await?;
            for byte in &bytes[..count] {
                assert_eq!(*byte, (seen % 251) as u8, "byte {seen}");
                seen += 1;
            }
        }
        sender.writable().await?;
        drop((sender, receiver));
        all_leases_come_back().await;
        io::Result::Ok(())
    });
    run.unwrap().unwrap();
}

/// A peer that reads nothing has leases of the sender, until the sender resets the connection.
async fn reset_a_peer_that_reads_nothing() -> io::Result<()> {
    let (sender, mut receiver) = pair().await?;
    let mut on_their_way = Vec::new();
    let sending = async {
        let mut offset = 0;
        loop {
            let (count, sending) = sender.send_zero_copy(filled(offset, 60_000).await?).await?;
            on_their_way.push(sending);
            offset += count;
        }
    };
    // What is in the network fills up at last.
    let sent: Result<io::Result<()>, _> = timeout(Duration::from_millis(200), sending).await;
    assert!(sent.is_err(), "{sent:?}");
    assert!(buffers::occupancy().leased > 0);
    sender.reset()?;
    for sending in on_their_way {
        assert_eq!(sending.await.len(), 60_000);
    }
    all_leases_come_back().await;
    let error = loop {
        match receiver.read(&mut [0; 60_000]).await {
            Ok(0) => panic!("the peer saw an end"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    // Once more does nothing.
    sender.reset()
}

#[test]
fn a_reset_gives_back_what_a_peer_never_reads() {
    let run = Builder::new_current_thread().run(reset_a_peer_that_reads_nothing());
    run.unwrap().unwrap();
}

#[test]
fn a_reset_gives_back_what_a_simulated_peer_never_reads() {
    for_each_seed(seeds(5), |seed| {
        let mut simulation = Simulation::new(seed);
        let host = simulation.host(HostConfig::new("host"));
        simulation.start(host, reset_a_peer_that_reads_nothing);
        simulation.run()
    });
}
