//! `Signal::recv` is cancel safe: a signal that came is told to the next wait.

use std::sync::mpsc::sync_channel;
use std::thread;

use rustix::process::{self, Signal};

use super::drops::{Drops, run};
use super::numbers;
use super::rt::signal::unix::{SignalKind, signal};
use crate::common;

/// The test's whole name, as the harness knows it.
fn name(row: &str) -> &'static str {
    let (_, module) = module_path!().split_once("::").unwrap();
    format!("{module}::{row}").leak()
}

#[test]
fn recv() {
    common::isolated(name("recv")).run(|| {
        let mut drops = Drops::from_environment();
        run(async {
            let mut signals = signal(SignalKind::user_defined1()).unwrap();
            // Signals that nobody has seen yet are one. So each is seen before the next is sent.
            let (seen, next) = sync_channel(1);
            let sending = thread::spawn(move || {
                for _ in 0..numbers::count() {
                    process::kill_process(process::getpid(), Signal::USR1).unwrap();
                    next.recv().unwrap();
                }
            });
            for _ in 0..numbers::count() {
                while drops.poll(signals.recv()).await.is_none() {}
                seen.send(()).unwrap();
            }
            sending.join().unwrap();
        });
        drops.were_many();
    });
}
