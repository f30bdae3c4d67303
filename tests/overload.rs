//! Sustained overload: whatever is begun and given up, what is in flight follows what is alive, and
//! memory stays.
//!
//! `RINGHOLD_OVERLOAD_SECONDS` sets how long each load lasts.

mod common;
mod held;
mod watched;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::limits::Resource;
use common::{count, isolated, proc};
use futures::future::join_all;
use held::Account;
use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use ringhold_sim::{Fault, Faults, HostConfig, Simulation, for_each_seed, seeds};
use runtime::net::{TcpListener, UdpSocket, UnixStream};
use runtime::sync::mpsc;
use runtime::time::{sleep, timeout};
use runtime::{Builder, Handle, select, task};
use watched::watchdog;

/// As many tasks as are polled before the kernel is entered: each may have given up one operation
/// that the kernel has not even seen.
const POLLS_AN_ENTER: u64 = 256;

/// How much more memory may be resident after the first part of a load: what an allocator does,
/// and nothing that grows.
const SLACK_BYTES: usize = 4 << 20;

fn load_seconds() -> f64 {
    match count("RINGHOLD_OVERLOAD_SECONDS", 0) {
        0 => 0.8,
        seconds => f64::from(seconds),
    }
}

/// Operations that the kernels of this runtime have.
fn in_flight() -> u64 {
    let metrics = Handle::current().metrics();
    let counts = (0..metrics.num_workers()).map(|shard| metrics.driver_counts(shard));
    counts.map(|counts| counts.submitted - counts.completed).sum()
}

/// Watches a load of `alive` operations at a time, which counts how often it has gone round.
async fn watch(alive: u64, rounds: &AtomicU64) {
    let bound = 4 * alive.max(POLLS_AN_ENTER);
    let seconds = load_seconds();
    let begun = Instant::now();
    let mut resident = None;
    let mut most = 0;
    while begun.elapsed().as_secs_f64() < seconds {
        sleep(Duration::from_millis(10)).await;
        most = most.max(in_flight());
        assert!(most <= bound, "{most} operations are in flight, of {alive} that are alive");
        if resident.is_none() && begun.elapsed().as_secs_f64() > seconds / 4.0 {
            resident = Some(proc::resident_bytes());
        }
    }
    let (before, after) = (resident.expect("a quarter has passed"), proc::resident_bytes());
    assert!(after <= before + SLACK_BYTES, "{before} bytes have become {after}");
    let rounds = rounds.load(Ordering::Relaxed);
    assert!(rounds > alive, "the load stood still: {rounds} rounds");
}

/// Connections to which nothing comes, each waited for with a time limit again and again.
async fn time_limits(connections: u64) {
    let rounds = Arc::new(AtomicU64::new(0));
    let mut peers = Vec::new();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (stream, peer) = UnixStream::pair().unwrap();
            peers.push(peer);
            let rounds = rounds.clone();
            task::spawn(async move {
                loop {
                    assert!(timeout(Duration::from_millis(1), stream.readable()).await.is_err());
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    watch(connections, &rounds).await;
    tasks.iter().for_each(|task| task.abort());
}

fn deadline() -> Duration {
    Duration::from_secs_f64(60.0 + load_seconds())
}

#[test]
fn time_limits_that_pass_leave_no_more_in_flight_than_waits() {
    let name = "time_limits_that_pass_leave_no_more_in_flight_than_waits";
    isolated(name).limit(Resource::OpenFiles, 10_000).deadline(2 * deadline()).run(|| {
        for connections in [1_000, 4_000] {
            Builder::new_current_thread().run(time_limits(connections)).unwrap();
        }
    });
}

#[test]
fn a_datagram_that_is_selected_beside_a_busy_channel_leaves_nothing_behind() {
    let _watchdog = watchdog("selecting", deadline().as_secs());
    let selected = Builder::new_current_thread().run(async {
        let rounds = Arc::new(AtomicU64::new(0));
        let counted = rounds.clone();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (sender, mut receiver) = mpsc::channel(16);
        drop(task::spawn(async move { while sender.send(()).await.is_ok() {} }));
        drop(task::spawn(async move {
            let mut bytes = [0; 16];
            loop {
                select! {
                    received = socket.recv_from(&mut bytes) => panic!("{received:?}"),
                    _ = receiver.recv() => counted.fetch_add(1, Ordering::Relaxed),
                };
            }
        }));
        watch(2, &rounds).await;
    });
    selected.unwrap();
}

#[test]
fn accepts_of_two_shards_that_are_given_up_leave_nothing_behind() {
    const LOOPS: u64 = 250;
    let _watchdog = watchdog("accepting", deadline().as_secs());
    let accepted = Builder::new_multi_thread().shards(2).run(async {
        let rounds = Arc::new(AtomicU64::new(0));
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        for number in 0..2 * LOOPS {
            let (rounds, listener) = (rounds.clone(), listener.clone());
            let loops = move || async move {
                loop {
                    let accepted = timeout(Duration::from_millis(1), listener.accept()).await;
                    assert!(accepted.is_err());
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            };
            drop(Handle::current().spawn_on(number as usize % 2, loops));
        }
        watch(2 * LOOPS, &rounds).await;
    });
    accepted.unwrap();
}

/// Counts itself when it is dropped.
struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn tasks_that_are_aborted_let_the_others_go_first() {
    const TASKS: u64 = 20_000;
    let _watchdog = watchdog("aborting", 60);
    let most = Builder::new_current_thread().run(async {
        let dropped = Arc::new(AtomicU64::new(0));
        let (stream, _peer) = UnixStream::pair().unwrap();
        let stream = Arc::new(stream);
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (stream, counted) = (stream.clone(), Counted(dropped.clone()));
                task::spawn(async move {
                    let _counted = counted;
                    drop(stream.readable().await);
                })
            })
            .collect();
        sleep(Duration::from_millis(1)).await;
        tasks.iter().for_each(|task| task.abort());
        // Timers find the shard busy with the aborted, and come in between.
        let (mut most, mut before) = (0, 0);
        while before < TASKS {
            sleep(Duration::from_micros(1)).await;
            let now = dropped.load(Ordering::Relaxed);
            most = most.max(now - before);
            before = now;
        }
        most
    });
    let most = most.unwrap();
    assert!(most <= 8 * POLLS_AN_ENTER, "{most} went before a timer");
}

#[test]
fn a_kernel_that_is_late_with_completions_is_given_no_more_than_is_alive() {
    let _watchdog = watchdog("a late kernel", 3 * deadline().as_secs());
    for completions_an_enter in [1, 4, 20] {
        let account = Account::new();
        account.completions_an_enter.store(completions_an_enter, Ordering::SeqCst);
        account.builder(1, (256, 512)).run(time_limits(200)).unwrap();
        account.balances();
    }
}

#[test]
fn what_the_kernel_keeps_back_is_asked_for_before_tasks_go_on() {
    let _watchdog = watchdog("laps", 60);
    let account = Account::new();
    account.completions_an_enter.store(20, Ordering::SeqCst);
    let turns = account.builder(1, (256, 512)).run(async {
        let done = Arc::new(AtomicBool::new(false));
        let set = done.clone();
        drop(task::spawn(async move {
            join_all((0..240).map(|_| Op::new(Nop))).await;
            set.store(true, Ordering::Relaxed);
        }));
        let mut turns = 0;
        while !done.load(Ordering::Relaxed) {
            task::yield_now().await;
            turns += 1;
        }
        turns
    });
    // Twelve enters let them arrive; without a lap each of them would be a turn.
    let turns = turns.unwrap();
    assert!(turns < 8, "it took {turns} turns");
}

#[test]
fn a_simulated_kernel_that_is_late_is_given_no_more_than_is_alive() {
    const CONNECTIONS: u64 = 100;
    for_each_seed(seeds(5), |seed| {
        let mut simulation = Simulation::new(seed);
        let faults = Faults::harmless().with(Fault::CompletionsHeldBack, 0.9);
        let host = HostConfig::new("host").shards(1).faults(faults).ring_entries(64, 128);
        let host = simulation.host(host);
        let most = Arc::new(AtomicU64::new(0));
        let seen = most.clone();
        simulation.start(host, move || {
            let seen = seen.clone();
            async move {
                let mut peers = Vec::new();
                for _ in 0..CONNECTIONS {
                    let (stream, peer) = UnixStream::pair()?;
                    peers.push(peer);
                    drop(task::spawn_local(async move {
                        while timeout(Duration::from_millis(1), stream.readable()).await.is_err() {}
                    }));
                }
                for _ in 0..100 {
                    sleep(Duration::from_millis(1)).await;
                    seen.fetch_max(in_flight(), Ordering::Relaxed);
                }
                io::Result::Ok(())
            }
        });
        simulation.run()?;
        let most = most.load(Ordering::Relaxed);
        assert!((CONNECTIONS..=4 * POLLS_AN_ENTER).contains(&most), "{most} of seed {seed}");
        Ok(())
    });
}
