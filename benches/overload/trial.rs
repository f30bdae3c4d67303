//! One load, and what is looked at while it runs.

use std::cell::Cell;
use std::fs;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use runtime::net::{TcpListener, UdpSocket, UnixStream};
use runtime::sync::mpsc;
use runtime::task::spawn_local;
use runtime::time::{sleep, timeout};
use runtime::{Builder, Handle, select};
use serde::{Deserialize, Serialize};

use super::Overloading;
use crate::meter::Meter;
use crate::rounds::pin_to;

const LIMIT: Duration = Duration::from_millis(1);
const LOOK: Duration = Duration::from_millis(10);

/// What the child is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    pub load: Overloading,
    /// Tasks that wait at a time, but for `select`, which has one.
    pub tasks: u64,
    /// How long the load lasts; a fifth of that comes before what is measured.
    pub millis: u64,
    pub cpu: usize,
}

/// What the child prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Waits that were given up in a second.
    pub rounds_per_s: f64,
    /// The process's CPU time for each of them.
    pub cpu_ns_per_round: f64,
    /// The most operations that were in the kernel at once.
    pub in_flight_most: u64,
    /// The bytes of memory that came to be resident in the last three quarters of the time.
    pub grown_bytes: u64,
}

pub fn run(trial: &Trial) -> io::Result<Outcome> {
    pin_to(trial.cpu)?;
    Builder::new_current_thread().run(overload(trial))?
}

async fn overload(trial: &Trial) -> io::Result<Outcome> {
    let rounds = Rc::new(Cell::new(0));
    // What is at the other end of what waits, for as long as it does.
    let _peers = begin(trial, &rounds).await?;
    let duration = Duration::from_millis(trial.millis);
    sleep(duration / 5).await;
    rounds.set(0);
    let (meter, begun) = (Meter::start(), Instant::now());
    let (mut most, mut resident) = (0, None);
    while begun.elapsed() < duration {
        sleep(LOOK).await;
        let counts = Handle::current().metrics().driver_counts(0);
        most = most.max(counts.submitted - counts.completed);
        if resident.is_none() && begun.elapsed() > duration / 4 {
            resident = Some(resident_bytes()?);
        }
    }
    let sample = meter.stop(rounds.get(), None);
    let grown = resident_bytes()?.saturating_sub(resident.unwrap_or_default());
    Ok(Outcome {
        rounds_per_s: sample.ops_per_s(),
        cpu_ns_per_round: sample.cpu_ns_per_op(),
        in_flight_most: most,
        grown_bytes: grown,
    })
}

async fn begin(trial: &Trial, rounds: &Rc<Cell<u64>>) -> io::Result<Vec<UnixStream>> {
    let mut peers = Vec::new();
    match trial.load {
        Overloading::TimeLimits => {
            for _ in 0..trial.tasks {
                let (stream, peer) = UnixStream::pair()?;
                peers.push(peer);
                let rounds = rounds.clone();
                drop(spawn_local(async move {
                    while timeout(LIMIT, stream.readable()).await.is_err() {
                        rounds.set(rounds.get() + 1);
                    }
                }));
            }
        }
        Overloading::Accepts => {
            let listener = Rc::new(TcpListener::bind("127.0.0.1:0").await?);
            for _ in 0..trial.tasks {
                let (rounds, listener) = (rounds.clone(), listener.clone());
                drop(spawn_local(async move {
                    while timeout(LIMIT, listener.accept()).await.is_err() {
                        rounds.set(rounds.get() + 1);
                    }
                }));
            }
        }
        Overloading::Select => {
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            let (sender, mut receiver) = mpsc::channel(16);
            drop(spawn_local(async move { while sender.send(()).await.is_ok() {} }));
            let rounds = rounds.clone();
            drop(spawn_local(async move {
                let mut bytes = [0; 16];
                loop {
                    select! {
                        _ = socket.recv_from(&mut bytes) => return,
                        _ = receiver.recv() => rounds.set(rounds.get() + 1),
                    }
                }
            }));
        }
    }
    Ok(peers)
}

fn resident_bytes() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.map(|pages| pages * 4096).ok_or_else(|| io::Error::other("statm has no resident pages"))
}
