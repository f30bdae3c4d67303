//! Listeners that are made anew: what comes between two of them is told to the second.
//!
//! A signal concerns the whole process, so each test has one of its own, or a process of its own.

#![allow(unsafe_code)] // Raising signals.

mod common;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use common::{count, isolated};
use futures::poll;
use ringhold_sim::{Failure, Faults, HostConfig, Simulation, for_each_seed, seeds};
use runtime::signal::ctrl_c;
use runtime::signal::unix::{SignalKind, signal};
use runtime::sync::Barrier;
use runtime::task::spawn_on;
use runtime::time::{sleep, timeout};
use runtime::{Builder, Runtime};

/// How long is too long for a signal that was sent.
const PATIENCE: Duration = Duration::from_secs(20);

fn two_shards() -> Runtime {
    Builder::new_multi_thread().shards(2).pool_limit(64 * 1024).build().unwrap()
}

/// Sends the process a signal from a thread of its own. Its handler has run when this returns.
fn raise(kind: SignalKind) {
    let number = kind.as_raw_value();
    // SAFETY: the thread sends itself a signal, for which the process has a handler.
    thread::spawn(move || assert_eq!(unsafe { libc::raise(number) }, 0)).join().unwrap();
}

/// Goes round a loop that listens anew each time. The signal comes while its body runs, on this
/// thread or while it awaits something else.
async fn interrupts_of_a_loop(rounds: u32, awaits: bool, kind: SignalKind) -> u32 {
    let interrupted = || async move {
        match kind == SignalKind::interrupt() {
            true => ctrl_c().await.unwrap(),
            false => signal(kind).unwrap().recv().await.unwrap(),
        }
    };
    let mut noticed = 0;
    for _ in 0..rounds {
        runtime::select! {
            biased;
            () = interrupted() => panic!("nothing was sent yet"),
            () = sleep(Duration::from_millis(1)) => {}
        }
        raise(kind);
        if awaits {
            sleep(Duration::from_millis(2)).await;
        }
        runtime::select! {
            biased;
            () = interrupted() => noticed += 1,
            () = sleep(PATIENCE) => {}
        }
    }
    noticed
}

#[test]
fn a_loop_that_listens_anew_notices_what_came_during_its_body() {
    isolated("a_loop_that_listens_anew_notices_what_came_during_its_body").run(|| {
        for kind in [SignalKind::interrupt(), SignalKind::hangup()] {
            for awaits in [false, true] {
                let looping = move || interrupts_of_a_loop(20, awaits, kind);
                let rooted = Builder::new_current_thread().run(looping()).unwrap();
                assert_eq!(rooted, 20, "{kind:?} {awaits}");
                let runtime = two_shards();
                for shard in 0..2 {
                    let noticed = runtime.handle().spawn_on(shard, looping);
                    assert_eq!(runtime.block_on(noticed).unwrap(), 20, "{kind:?} {awaits}");
                }
                assert_eq!(runtime.block_on(looping()), 20, "{kind:?} {awaits}");
            }
        }
    });
}

/// Each of them has its own body while the signal comes, and all notice it once.
#[test]
fn loops_that_listen_anew_on_both_shards_all_notice_what_came_during_their_bodies() {
    let name = "loops_that_listen_anew_on_both_shards_all_notice_what_came_during_their_bodies";
    isolated(name).run(|| {
        const LOOPS: usize = 40;
        two_shards().block_on(async {
            let kind = SignalKind::interrupt();
            let ready = Arc::new(Barrier::new(LOOPS + 1));
            // One that never looks takes nothing from them.
            let _idle = spawn_on(0, move || async move { signal(kind).unwrap() }).await.unwrap();
            let looping = |number| {
                let ready = ready.clone();
                spawn_on(number % 2, move || async move {
                    for round in 0..20 {
                        let told = timeout(Duration::from_micros(10), ctrl_c()).await;
                        assert!(told.is_err(), "loop {number} is told twice, in round {round}");
                        // The body: the signal comes between the two.
                        ready.wait().await;
                        ready.wait().await;
                        if number % 3 == 0 {
                            sleep(Duration::from_micros(100)).await;
                        }
                        timeout(PATIENCE, ctrl_c()).await.unwrap().unwrap();
                    }
                })
            };
            let loops: Vec<_> = (0..LOOPS).map(looping).collect();
            for _ in 0..20 {
                ready.wait().await;
                raise(kind);
                ready.wait().await;
            }
            for looping in loops {
                looping.await.unwrap();
            }
        });
    });
}

#[test]
fn what_came_before_anything_listened_is_told_to_no_listener() {
    two_shards().block_on(async {
        // Ignored by default.
        let number = libc::SIGURG;
        // SAFETY: the thread sends itself a signal that is ignored.
        assert_eq!(unsafe { libc::raise(number) }, 0);
        let kind = SignalKind::from_raw(number);
        for shard in [0, 1, 0] {
            let heard = spawn_on(shard, move || async move {
                let mut listener = signal(kind).unwrap();
                poll!(pin!(listener.recv())).is_ready()
            });
            assert!(!heard.await.unwrap());
        }
    });
}

#[test]
fn what_came_while_nothing_listened_is_told_to_the_next_listener_and_to_no_other() {
    two_shards().block_on(async {
        let kind = SignalKind::from_raw(libc::SIGCONT);
        let is_told = |shard| {
            spawn_on(shard, move || async move {
                let mut listener = signal(kind).unwrap();
                poll!(pin!(listener.recv())).is_ready()
            })
        };
        assert!(!is_told(0).await.unwrap(), "the first to listen");
        raise(kind);
        assert!(is_told(1).await.unwrap(), "on another shard");
        assert!(!is_told(1).await.unwrap(), "it was told");
        raise(kind);
        raise(kind);
        assert!(is_told(1).await.unwrap(), "on the same shard");
        assert!(!is_told(1).await.unwrap(), "both were told");
    });
}

#[test]
fn a_loop_of_a_simulated_service_notices_what_came_during_its_body() {
    for_each_seed(seeds(count("RINGHOLD_SEEDS", 30).into()), |seed| -> Result<(), Failure> {
        let mut simulation = Simulation::new(seed);
        let config = HostConfig::new("store").shards(2).faults(Faults::harmless());
        let host = simulation.host(config.ring_entries(2, 4));
        let noticed = Arc::new(AtomicU32::new(0));
        let told = noticed.clone();
        simulation.start(host, move || {
            let told = told.clone();
            async move {
                for _ in 0..20 {
                    runtime::select! {
                        interrupted = ctrl_c() => {
                            interrupted.unwrap();
                            told.fetch_add(1, Ordering::Relaxed);
                        }
                        () = sleep(Duration::from_millis(1)) => {}
                    }
                    // The body.
                    sleep(Duration::from_secs(1)).await;
                }
            }
        });
        for second in 1..=20 {
            simulation.run_for(Duration::from_secs(1))?;
            if second % 2 == 0 {
                simulation.signal(host, libc::SIGINT);
            }
        }
        simulation.run()?;
        assert_eq!(noticed.load(Ordering::Relaxed), 10 - 1, "but the last, which came too late");
        Ok(())
    });
}
