//! Leases that cross shards: what one shard receives, another writes to a file from where it lies;
//! and what one shard leases, another gives back.
//!
//! `RINGHOLD_LEASES` sets how many leases are given back on another shard; the promise (P2) is
//! 1,000,000.

mod common;
mod dice;
mod held;
mod watched;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use common::count;
use dice::Dice;
use held::Account;
use ringhold_sim::{Faults, HostConfig, Simulation, for_each_seed, seeds};
use runtime::Builder;
use runtime::buffers::{self, Lease, PoolConfig};
use runtime::fs::{self, File};
use runtime::io::AsyncWriteExt;
use runtime::net::{TcpListener, TcpStream};
use runtime::sync::mpsc;
use runtime::task::{spawn_local, spawn_on, yield_now};
use watched::{RINGS, watchdog};

const PAGE: usize = 4096;

/// Bytes that are sent, in pieces of a page at the most.
const BYTES: usize = 64 * PAGE + 17;

/// How what arrives comes into leases.
#[derive(Clone, Copy, Debug)]
enum Way {
    ReadFixed,
    Leases,
}

const WAYS: [Way; 2] = [Way::ReadFixed, Way::Leases];

/// One arena of a few pages, which is kept.
fn pool(pages: usize) -> PoolConfig {
    PoolConfig::new().limit(pages * PAGE).arena(pages * PAGE).keep(pages * PAGE)
}

fn sent() -> Vec<u8> {
    (0..BYTES).map(|at| (at % 251) as u8).collect()
}

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?.0))
}

/// A lease, and where it was on the shard that filled it.
type Piece = (Lease, usize);

fn address(lease: &Lease) -> usize {
    lease.as_ptr().addr()
}

/// Receives everything into leases, and sends them on as they are.
async fn receive(way: Way, pieces: mpsc::Sender<Piece>) -> io::Result<()> {
    let (mut client, mut server) = pair().await?;
    let sending = spawn_local(async move { client.write_all(&sent()).await });
    let pass = async |lease: Lease| {
        let filled_at = address(&lease);
        pieces.send((lease, filled_at)).await.map_err(io::Error::other)
    };
    match way {
        Way::ReadFixed => loop {
            let (count, lease) = server.read_fixed(buffers::lease(PAGE).await?).await?;
            if count == 0 {
                break;
            }
            pass(lease).await?;
        },
        Way::Leases => {
            let mut leases = server.leases(PAGE);
            while let Some(lease) = leases.next().await {
                pass(lease?).await?;
            }
        }
    }
    sending.await.map_err(io::Error::other)?
}

/// Writes the pieces behind each other, and gives the addresses that they had here and there.
async fn write(path: PathBuf, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Vec<usize>> {
    let (file, mut offset) = (File::create(path).await?, 0);
    let mut addresses = Vec::new();
    while let Some((lease, filled_at)) = pieces.recv().await {
        assert_eq!(address(&lease), filled_at);
        addresses.push(filled_at);
        let (count, lease) = file.write_all_fixed(lease, offset).await?;
        assert_eq!(address(&lease), filled_at);
        offset += count as u64;
    }
    Ok(addresses)
}

/// Receives on the first shard, writes on the second, and gives the addresses.
async fn carry(way: Way, path: &Path) -> io::Result<Vec<usize>> {
    let (pieces, taken) = mpsc::channel(4);
    let written_to = path.to_owned();
    let writing = spawn_on(1, move || write(written_to, taken));
    let receiving = spawn_on(0, move || receive(way, pieces));
    receiving.await.map_err(io::Error::other)??;
    let addresses = writing.await.map_err(io::Error::other)??;
    assert!(fs::read(path).await? == sent(), "the file is not what was sent");
    let occupancy = buffers::occupancy();
    assert_eq!((occupancy.leased, occupancy.waiters), (0, 0));
    Ok(addresses)
}

#[test]
fn what_one_shard_receives_another_writes_from_where_it_lies() {
    let _watchdog = watchdog("leases that are written on another shard", 60);
    for rings in RINGS {
        for way in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let account = Account::new();
            let mut builder = account.builder(2, rings);
            let runtime = builder.pool(pool(16)).build().unwrap();
            let addresses = runtime.block_on(carry(way, &directory.path().join("file"))).unwrap();
            // What the kernels were handed: the same addresses, by one shard and by the other.
            let (reads, writes) = (account.fixed_reads(), account.fixed_writes());
            let of = |fixed: &[(usize, usize)]| -> (BTreeSet<usize>, BTreeSet<usize>) {
                fixed.iter().copied().unzip()
            };
            let ((readers, read_to), (writers, written_from)) = (of(&reads), of(&writes));
            assert_eq!(written_from, addresses.iter().copied().collect());
            assert_eq!(writers.len(), 1, "one shard writes");
            // One arena was pinned, and each shard that uses fixed opcodes took the table over
            // once.
            let attached = match way {
                Way::ReadFixed => {
                    assert!(read_to.is_superset(&written_from), "{read_to:x?}, {written_from:x?}");
                    assert_eq!(readers.len(), 1, "one shard reads");
                    assert!(readers.is_disjoint(&writers), "another shard writes");
                    2
                }
                // The kernel picks the leases, for which no table of arenas is needed.
                Way::Leases => {
                    assert_eq!(read_to, BTreeSet::new());
                    1
                }
            };
            assert_eq!(account.registered.load(Ordering::SeqCst), 1, "{way:?}");
            assert_eq!(account.attached.load(Ordering::SeqCst), attached, "{way:?}");
            drop(runtime);
            account.balances();
        }
    }
}

#[test]
fn what_one_simulated_shard_receives_another_writes_from_where_it_lies() {
    for_each_seed(seeds(count("RINGHOLD_SEEDS", 50).into()), |seed| {
        let mut simulation = Simulation::new(seed);
        let rings = RINGS[seed as usize % 2];
        let config = HostConfig::new("host").shards(2).faults(Faults::harmless());
        let config = config.ring_entries(rings.0, rings.1).pool_limit(16 * PAGE);
        let host = simulation.host(config);
        let way = WAYS[seed as usize / 2 % 2];
        simulation.start(host, move || async move {
            carry(way, Path::new("file")).await?;
            io::Result::Ok(())
        });
        simulation.run()
    });
}

/// Pages of the pool that the leases below are of, and of the largest of them.
const PAGES: usize = 16;
const LEASE_PAGES: u64 = 4;

/// Leases one by one, each marked by its number, and sends them to where they are given back.
async fn lease_and_send(leases: u64, to: mpsc::UnboundedSender<Lease>, mut dice: Dice) {
    for number in 0..leases {
        let pages = 1 + dice.below(LEASE_PAGES) as usize;
        let mut lease = buffers::lease(pages * PAGE).await.unwrap();
        lease.extend_from_slice(&number.to_ne_bytes());
        to.send(lease).unwrap();
    }
}

/// Gives back what comes, a few at once and the last ones first, and counts it.
async fn give_back(mut leases: mpsc::UnboundedReceiver<Lease>, mut dice: Dice) -> u64 {
    let (mut number, mut held) = (0_u64, Vec::new());
    while let Some(mut lease) = leases.recv().await {
        let few = 1 + dice.below(5) as usize;
        loop {
            assert_eq!(&lease[..], number.to_ne_bytes());
            number += 1;
            held.push(lease);
            match leases.try_recv() {
                Ok(next) if held.len() < few => lease = next,
                Ok(next) => {
                    assert_eq!(&next[..], number.to_ne_bytes());
                    number += 1;
                    break;
                }
                // Nothing is held while nothing comes: who leases may be waiting for it.
                Err(_) => break,
            }
        }
        while held.pop().is_some() {}
        if dice.below(16) == 0 {
            yield_now().await;
        }
    }
    number
}

#[test]
fn every_lease_that_is_given_back_on_another_shard_can_be_leased_again() {
    let leases = u64::from(count("RINGHOLD_LEASES", 20_000));
    let _watchdog = watchdog("leases that are given back elsewhere", 60 + leases / 1_000);
    let mut dice = Dice::from_environment();
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.shards(2).pool(pool(PAGES)).build().unwrap();
    let pool = runtime.handle().pool().clone();
    let begun = Instant::now();
    // Both ways at once, so that each shard waits for what the other gives back.
    let counted = runtime.block_on(async {
        let mut tasks = Vec::new();
        for shard in 0..2 {
            let (to, received) = mpsc::unbounded_channel();
            let (here, there) = (dice.split(), dice.split());
            spawn_on(shard, move || lease_and_send(leases / 2, to, here));
            tasks.push(spawn_on(1 - shard, move || give_back(received, there)));
        }
        let mut counted = Vec::new();
        for task in tasks {
            counted.push(task.await.unwrap());
        }
        counted
    });
    assert_eq!(counted, [leases / 2; 2]);
    let occupancy = pool.occupancy();
    println!("{leases} leases in {:?}: {occupancy:?}", begun.elapsed());
    assert_eq!((occupancy.leased, occupancy.waiters), (0, 0));
    assert_eq!((occupancy.mapped, occupancy.free), (65_536, 65_536));
    assert_eq!(occupancy.leases_total, leases / 2 * 2);
    assert!(occupancy.waits_total > leases / 100, "nobody waited for what was given back");
    // Also in one piece.
    let whole = runtime.block_on(async { buffers::lease(PAGES * PAGE).await.unwrap() });
    assert_eq!(whole.capacity(), 65_536);
}
