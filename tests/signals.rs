//! Signals: told to every listener, once for what came since it looked, and lost by no future that
//! is dropped.
//!
//! A signal concerns the whole process, so each test has one of its own, or a process of its own.

#![allow(unsafe_code)] // Raising signals.

mod common;
mod dice;

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use common::{count, isolated, proc};
use dice::Dice;
use futures::poll;
use ringhold_sim::{Failure, Faults, HostConfig, HostId, Simulation, for_each_seed, seeds};
use runtime::signal::ctrl_c;
use runtime::signal::unix::{SignalKind, signal};
use runtime::sync::{Barrier, mpsc, oneshot};
use runtime::task::{spawn, spawn_local, spawn_on};
use runtime::time::{sleep, timeout};
use runtime::{Builder, Runtime};
use rustix::process::{Signal, getpid, kill_process};

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

/// Sends the process a signal as others do: Linux gives it to the main thread, which is the
/// harness's.
///
/// ThreadSanitizer runs a handler at once where the thread has raised the signal itself or waits in
/// a function that the sanitizer intercepts, and else before the thread's next call of one or its
/// next instrumented atomic. The harness waits in std, by a bare `syscall(SYS_futex)`, until the
/// test is over, so there the signal is raised.
fn send(kind: SignalKind) {
    if cfg!(sanitized) {
        return raise(kind);
    }
    let signal = Signal::from_named_raw(kind.as_raw_value()).unwrap();
    thread::spawn(move || kill_process(getpid(), signal)).join().unwrap().unwrap();
}

#[test]
fn each_signal_is_told_to_every_listener_on_every_shard() {
    two_shards().block_on(async {
        let ready = Arc::new(Barrier::new(9));
        let listeners: Vec<_> = (0..8)
            .map(|number| {
                let ready = ready.clone();
                spawn_on(number % 2, move || async move {
                    let mut hangups = signal(SignalKind::hangup()).unwrap();
                    for _ in 0..3 {
                        ready.wait().await;
                        assert_eq!(timeout(PATIENCE, hangups.recv()).await, Ok(Some(())));
                        // Nobody is told twice.
                        assert!(poll!(pin!(hangups.recv())).is_pending());
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            ready.wait().await;
            send(SignalKind::hangup());
        }
        for listener in listeners {
            listener.await.unwrap();
        }
    });
}

#[test]
fn signals_that_come_before_a_listener_looks_are_told_once() {
    two_shards().block_on(async {
        let mut alarms = signal(SignalKind::alarm()).unwrap();
        for _ in 0..1000 {
            raise(SignalKind::alarm());
        }
        assert_eq!(timeout(PATIENCE, alarms.recv()).await, Ok(Some(())));
        assert!(poll!(pin!(alarms.recv())).is_pending());
        raise(SignalKind::alarm());
        assert_eq!(timeout(PATIENCE, alarms.recv()).await, Ok(Some(())));
    });
}

#[test]
fn no_signal_is_lost_by_waits_that_are_dropped() {
    let mut dice = Dice::from_environment();
    let task = async move {
        let kind = SignalKind::user_defined1();
        let mut signals = signal(kind).unwrap();
        let (mut dropped, mut told) = (0, 0);
        let rounds = count("RINGHOLD_SIGNALS", 2_000);
        for round in 0..rounds {
            // Waits are dropped before the signal comes, while it does, and after it came.
            assert!(poll!(pin!(signals.recv())).is_pending(), "round {round}");
            let number = kind.as_raw_value();
            let dawdle = Duration::from_nanos(dice.below(100_000));
            let raising = thread::spawn(move || {
                thread::sleep(dawdle);
                // SAFETY: as above.
                assert_eq!(unsafe { libc::raise(number) }, 0);
            });
            loop {
                let patience = Duration::from_micros(dice.below(50));
                match timeout(patience, signals.recv()).await {
                    Ok(Some(())) => break told += 1,
                    Ok(None) => panic!("the runtime runs"),
                    Err(_) => dropped += 1,
                }
            }
            raising.join().unwrap();
        }
        assert_eq!(told, rounds);
        assert!(dropped > rounds / 10, "only {dropped} waits were dropped in {rounds} rounds");
    };
    two_shards().block_on(async { spawn(task).await.unwrap() });
}

#[test]
fn listeners_that_come_and_go_while_signals_come_leave_nothing_behind() {
    isolated("listeners_that_come_and_go_while_signals_come_leave_nothing_behind").run(|| {
        let runtime = two_shards();
        let kind = SignalKind::user_defined2();
        let stays = runtime.block_on(async { signal(kind).unwrap() });
        let before = proc::open_descriptors();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    kill_process(getpid(), Signal::USR2).unwrap();
                }
            });
            runtime.block_on(async {
                let come_and_go = |shard| {
                    spawn_on(shard, move || async move {
                        for round in 0..count("RINGHOLD_LISTENERS", 2_000) {
                            let mut listener = signal(kind).unwrap();
                            match round % 3 {
                                0 => drop(listener),
                                1 => drop(poll!(pin!(listener.recv()))),
                                _ => {
                                    let told = timeout(PATIENCE, listener.recv()).await;
                                    assert_eq!(told, Ok(Some(())));
                                }
                            }
                        }
                    })
                };
                let both = [come_and_go(0), come_and_go(1)];
                for task in both {
                    task.await.unwrap();
                }
            });
            stop.store(true, Ordering::Relaxed);
        });
        // What waits on a listener's event holds it until its cancel has come.
        let bound = Duration::from_secs(5);
        proc::becomes("the count of descriptors", before, bound, proc::open_descriptors);
        let mut stays = stays;
        runtime.block_on(async {
            assert_eq!(timeout(PATIENCE, stays.recv()).await, Ok(Some(())));
        });
    });
}

#[test]
fn a_thousand_listeners_of_a_shard_share_a_descriptor_and_are_all_told() {
    isolated("a_thousand_listeners_of_a_shard_share_a_descriptor_and_are_all_told").run(|| {
        let runtime = two_shards();
        let before = proc::open_descriptors();
        runtime.block_on(async {
            let ready = Arc::new(Barrier::new(1001));
            let listen = |shard| {
                let ready = ready.clone();
                spawn_on(shard, move || async move {
                    let mut hangups = signal(SignalKind::hangup()).unwrap();
                    ready.wait().await;
                    assert_eq!(timeout(PATIENCE, hangups.recv()).await, Ok(Some(())));
                    // One that comes now is told of what comes now.
                    let mut late = signal(SignalKind::hangup()).unwrap();
                    assert!(poll!(pin!(late.recv())).is_pending());
                    ready.wait().await;
                    assert_eq!(timeout(PATIENCE, late.recv()).await, Ok(Some(())));
                    assert_eq!(timeout(PATIENCE, hangups.recv()).await, Ok(Some(())));
                    // The last of them goes with what waits for all in flight.
                    assert!(poll!(pin!(hangups.recv())).is_pending());
                })
            };
            let listeners: Vec<_> = (0..1000).map(|number| listen(number % 2)).collect();
            for round in 0..2 {
                ready.wait().await;
                assert_eq!(proc::open_descriptors(), before + 2, "one of each shard, {round}");
                raise(SignalKind::hangup());
            }
            for listener in listeners {
                listener.await.unwrap();
            }
        });
        let bound = Duration::from_secs(5);
        proc::becomes("the count of descriptors", before, bound, proc::open_descriptors);
    });
}

#[test]
fn a_listener_that_moved_is_told_when_the_runtime_that_it_came_from_has_ended() {
    let kind = SignalKind::pipe();
    let first = two_shards();
    let listen = || async move { signal(SignalKind::pipe()).unwrap() };
    let mut stays = first.block_on(async { spawn_on(0, listen).await.unwrap() });
    let mut moves = first.block_on(async { spawn_on(0, listen).await.unwrap() });
    // The operation that waits for both is of the first runtime.
    first.block_on(async {
        spawn(async move { assert!(poll!(pin!(stays.recv())).is_pending()) }).await.unwrap();
    });
    let (waits, mut is_waiting) = mpsc::unbounded_channel();
    let second = thread::spawn(move || {
        two_shards().block_on(async move {
            let mut told = pin!(moves.recv());
            assert!(poll!(&mut told).is_pending());
            waits.send(()).unwrap();
            timeout(PATIENCE, told).await
        })
    });
    is_waiting.blocking_recv().unwrap();
    drop(first);
    raise(kind);
    assert_eq!(second.join().unwrap(), Ok(Some(())));
}

#[test]
fn two_runtimes_are_told_of_one_signal() {
    let (ready, mut all_ready) = mpsc::unbounded_channel();
    let listen = |ready: mpsc::UnboundedSender<()>| {
        move || {
            Builder::new_current_thread().build().unwrap().block_on(async {
                let mut changes = signal(SignalKind::window_change()).unwrap();
                assert!(poll!(pin!(changes.recv())).is_pending());
                ready.send(()).unwrap();
                timeout(PATIENCE, changes.recv()).await
            })
        }
    };
    let listening = [(); 2].map(|()| thread::spawn(listen(ready.clone())));
    for _ in &listening {
        all_ready.blocking_recv().unwrap();
    }
    raise(SignalKind::window_change());
    for told in listening {
        assert_eq!(told.join().unwrap(), Ok(Some(())));
    }
}

#[test]
fn a_listener_outlives_the_runtime_that_it_waited_in() {
    let kind = SignalKind::io();
    let mut listener = two_shards().block_on(async {
        let mut listener = signal(kind).unwrap();
        assert!(poll!(pin!(listener.recv())).is_pending());
        listener
    });
    raise(kind);
    two_shards().block_on(async {
        assert_eq!(timeout(PATIENCE, listener.recv()).await, Ok(Some(())));
        assert!(poll!(pin!(listener.recv())).is_pending());
        raise(kind);
        assert_eq!(timeout(PATIENCE, listener.recv()).await, Ok(Some(())));
    });
}

#[test]
fn a_listener_is_let_go_when_its_runtime_has_ended() {
    let runtime = two_shards();
    let handle = runtime.handle().clone();
    let mut listener = runtime.block_on(async {
        let mut listener = signal(SignalKind::child()).unwrap();
        assert!(poll!(pin!(listener.recv())).is_pending());
        listener
    });
    drop(runtime);
    let (told, was_told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for _ in 0..2 {
            told.send(handle.block_on(listener.recv())).unwrap();
        }
    });
    for _ in 0..2 {
        assert_eq!(was_told.recv_timeout(PATIENCE), Ok(None));
    }
}

#[test]
fn ctrl_c_is_told_and_never_again_ends_the_process() {
    isolated("ctrl_c_is_told_and_never_again_ends_the_process").run(|| {
        two_shards().block_on(async {
            for _ in 0..3 {
                let mut interrupted = pin!(ctrl_c());
                assert!(poll!(&mut interrupted).is_pending());
                send(SignalKind::interrupt());
                timeout(PATIENCE, interrupted).await.unwrap().unwrap();
            }
            // Nobody listens here, and the default action doesn't come back.
            raise(SignalKind::interrupt());
        });
    });
}

#[test]
fn ctrl_c_ends_a_select_around_a_server() {
    isolated("ctrl_c_ends_a_select_around_a_server").run(|| {
        two_shards().block_on(async {
            let (serving, served) = oneshot::channel();
            let server = spawn(async move {
                let mut serving = Some(serving);
                let mut requests = 0;
                let mut interrupted = pin!(ctrl_c());
                loop {
                    runtime::select! {
                        outcome = &mut interrupted => return outcome.map(|()| requests),
                        () = sleep(Duration::from_micros(100)) => requests += 1,
                    }
                    if requests == 10 {
                        serving.take().unwrap().send(()).unwrap();
                    }
                }
            });
            served.await.unwrap();
            raise(SignalKind::interrupt());
            assert!(timeout(PATIENCE, server).await.unwrap().unwrap().unwrap() >= 10);
        });
    });
}

#[test]
fn what_nobody_can_listen_for_is_refused_in_words() {
    two_shards().block_on(async {
        let forbidden = [libc::SIGKILL, libc::SIGSTOP, libc::SIGILL, libc::SIGFPE, libc::SIGSEGV];
        for number in forbidden.into_iter().chain([0, -1, 65, 1000]) {
            let error = signal(SignalKind::from_raw(number)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}");
        }
        let error = signal(SignalKind::from_raw(libc::SIGKILL)).unwrap_err();
        assert_eq!(error.to_string(), "nobody can listen for SIGKILL: no handler may catch it");
        let error = signal(SignalKind::from_raw(-1)).unwrap_err();
        assert_eq!(error.to_string(), "-1 is not the number of a signal");
    });
}

#[test]
fn no_thread_blocks_a_signal() {
    isolated("no_thread_blocks_a_signal").run(|| {
        let runtime = two_shards();
        runtime.block_on(async {
            let _listener = signal(SignalKind::quit()).unwrap();
            runtime::task::spawn_blocking(|| {}).await.unwrap();
            // A thread that starts or ends another, or itself ends, blocks signals for a moment.
            proc::becomes("threads that block signals", 0, Duration::from_secs(5), || {
                let tasks = fs::read_dir("/proc/self/task").unwrap();
                let status = |path: PathBuf| fs::read_to_string(path.join("status"));
                let all = tasks.filter_map(|task| status(task.unwrap().path()).ok());
                let all: Vec<String> = all.collect();
                assert!(all.len() > 3, "two shards, this thread, and one that blocks");
                all.iter().filter(|it| !it.contains("\nSigBlk:\t0000000000000000\n")).count()
            });
        });
    });
}

fn simulated(seed: u64, shards: usize) -> (Simulation, HostId) {
    let mut simulation = Simulation::new(seed);
    let config = HostConfig::new("store").shards(shards).faults(Faults::harmless());
    let host = simulation.host(config.ring_entries(2, 4));
    (simulation, host)
}

#[test]
fn no_signal_of_a_simulated_host_is_lost_by_waits_that_are_dropped() {
    const SIGNALS: u32 = 50;
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let seeds = seeds(count("RINGHOLD_SEEDS", 30).into());
    let runs = seeds.end - seeds.start;
    for_each_seed(seeds, |seed| -> Result<(), Failure> {
        let (mut simulation, host) = simulated(seed, 2);
        let told = Arc::new(AtomicU32::new(0));
        let heard = told.clone();
        simulation.start(host, move || {
            let heard = heard.clone();
            async move {
                let listen = |shard, heard: Arc<AtomicU32>| {
                    spawn_on(shard, move || async move {
                        let mut listener = signal(SignalKind::hangup()).unwrap();
                        let mut own = 0;
                        while own < SIGNALS {
                            let patience = Duration::from_micros(1 + u64::from(own * 37 % 200));
                            if timeout(patience, listener.recv()).await == Ok(Some(())) {
                                own += 1;
                                heard.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    })
                };
                let both = [listen(0, heard.clone()), listen(1, heard)];
                for task in both {
                    task.await.unwrap();
                }
            }
        });
        simulation.run_for(Duration::from_millis(1))?;
        for sent in 1..=SIGNALS {
            simulation.signal(host, libc::SIGHUP);
            let both = |_: &mut Simulation| told.load(Ordering::Relaxed) == 2 * sent;
            simulation.run_until(both)?;
        }
        TOLD.fetch_add(told.load(Ordering::Relaxed), Ordering::Relaxed);
        simulation.run()
    });
    assert_eq!(u64::from(TOLD.load(Ordering::Relaxed)), runs * u64::from(2 * SIGNALS));
}

#[test]
fn a_signal_does_to_a_simulated_service_what_it_does_by_default() {
    let (mut simulation, host) = simulated(1, 1);
    let second = Duration::from_secs(1);
    simulation.start(host, || async { sleep(Duration::from_secs(3600)).await });
    simulation.run_for(second).unwrap();
    for ignored in [libc::SIGCHLD, libc::SIGWINCH, libc::SIGCONT, libc::SIGPIPE] {
        simulation.signal(host, ignored);
        assert!(simulation.is_running(host), "signal {ignored} is ignored");
    }
    simulation.signal(host, libc::SIGTERM);
    assert!(!simulation.is_running(host));
    // Nobody is there to get it.
    simulation.signal(host, libc::SIGTERM);

    simulation.start(host, || async { sleep(Duration::from_secs(5)).await });
    simulation.run_for(second).unwrap();
    simulation.signal(host, libc::SIGSTOP);
    simulation.run_for(Duration::from_secs(60)).unwrap();
    assert!(simulation.is_running(host));
    simulation.signal(host, libc::SIGCONT);
    simulation.run_for(second).unwrap();
    assert!(!simulation.is_running(host));
}

#[test]
fn a_simulated_service_that_listened_is_not_ended_by_the_signal() {
    let (mut simulation, host) = simulated(1, 1);
    simulation.start(host, || async {
        let mut terminations = signal(SignalKind::terminate())?;
        terminations.recv().await;
        drop(terminations);
        sleep(Duration::from_secs(5)).await;
        let refused = signal(SignalKind::from_raw(65)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        // One that is dropped as the service ends is left behind by nothing.
        let left = signal(SignalKind::interrupt())?;
        drop(spawn_local(async move {
            let mut left = left;
            left.recv().await
        }));
        std::io::Result::Ok(())
    });
    simulation.run_for(Duration::from_secs(1)).unwrap();
    simulation.signal(host, libc::SIGTERM);
    simulation.run_for(Duration::from_secs(1)).unwrap();
    simulation.signal(host, libc::SIGTERM);
    assert!(simulation.is_running(host));
    simulation.run().unwrap();
    assert_eq!(simulation.elapsed().as_secs(), 6);
    simulation.start(host, || async { sleep(Duration::from_secs(5)).await });
    // Another start of the service has not listened.
    simulation.signal(host, libc::SIGTERM);
    assert!(!simulation.is_running(host));
}
