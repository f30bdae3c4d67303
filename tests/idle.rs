//! A runtime with nothing to do costs nothing, and looks like it.
//!
//! `RINGHOLD_IDLE_SECONDS` sets how long it is watched.

mod common;
mod watched;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use common::{count, isolated, skip};
use runtime::{Builder, task, time};
use watched::{Pipe, pipe, poll_once};

/// What the kernel says of one thread.
struct Thread {
    state: char,
    /// How often it gave up a core or lost it.
    switches: u64,
    /// How long it has run.
    ran: Duration,
}

/// All threads of this process but the one that asks, with what they are called.
fn others() -> Vec<(String, Thread)> {
    let me = fs::read_link("/proc/thread-self").unwrap();
    let me = me.file_name().unwrap().to_owned();
    let entries = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap());
    let paths = entries.filter(|entry| entry.file_name() != me).map(|entry| entry.path());
    let read = |path: std::path::PathBuf| {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let field = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap()
        };
        let number = |text: &str| text.parse::<u64>().unwrap();
        let switches = number(field("voluntary_ctxt_switches"));
        let switches = switches + number(field("nonvoluntary_ctxt_switches"));
        let statistics = fs::read_to_string(path.join("schedstat")).ok()?;
        let ran = Duration::from_nanos(number(statistics.split(' ').next().unwrap()));
        let state = field("State:").chars().next().unwrap();
        Some((field("Name:").to_owned(), Thread { state, switches, ran }))
    };
    paths.filter_map(read).collect()
}

fn total(threads: &[(String, Thread)]) -> (Duration, u64) {
    let ran = threads.iter().map(|(_, thread)| thread.ran).sum();
    (ran, threads.iter().map(|(_, thread)| thread.switches).sum())
}

/// Watches the runtime's threads from the one that asks, which is none of them.
fn watch_idle(what: &str, seconds: u64) {
    // What was started before ends first.
    thread::sleep(Duration::from_millis(200));
    let before = others();
    let begun = Instant::now();
    thread::sleep(Duration::from_secs(seconds));
    let after = others();
    let elapsed = begun.elapsed();
    assert!(before.len() >= 2, "there are no shards to watch");
    assert_eq!(before.len(), after.len());
    let ran = total(&after).0 - total(&before).0;
    let switches = total(&after).1 - total(&before).1;
    println!("{what}: in {elapsed:?} they ran {ran:?} and were switched {switches} times");
    assert!(ran < Duration::from_millis(10), "{what}: {ran:?} in {elapsed:?}");
    assert!(switches as f64 / elapsed.as_secs_f64() < 20.0, "{what}: {switches} in {elapsed:?}");
    for sample in 0..100 {
        for (name, thread) in others() {
            assert_eq!(thread.state, 'S', "{what}: {name} in sample {sample}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn idle(name: &'static str, timer: Duration, reads: bool) {
    let seconds = u64::from(count("RINGHOLD_IDLE_SECONDS", 2));
    let deadline = Duration::from_secs(20 + 4 * seconds);
    isolated(name).deadline(deadline).run(|| {
        if fs::metadata("/proc/thread-self/schedstat").is_err() {
            return skip(name, "this kernel has no schedstat");
        }
        for rings in [(256, 512), (2, 4)] {
            let mut builder = Builder::new_multi_thread();
            builder.shards(2).ring_entries(rings.0, rings.1);
            let runtime = builder.build().unwrap();
            let started = runtime.spawn(async move {
                drop(task::spawn(async move {
                    let mut ticks = time::interval(timer);
                    loop {
                        ticks.tick().await;
                    }
                }));
                let pipe: Option<Pipe> = reads.then(pipe);
                let read = |pipe: &Pipe| pipe.reader.read_at(vec![0; 8], 0);
                let mut reads: Vec<_> =
                    pipe.iter().flat_map(|pipe| (0..8).map(move |_| read(pipe))).collect();
                assert!(reads.iter_mut().all(|read| poll_once(read).is_pending()));
                (pipe, reads)
            });
            let held = runtime.block_on(started).unwrap();
            watch_idle(&format!("{rings:?}"), seconds);
            drop(held);
        }
    });
}

#[test]
fn a_runtime_with_a_timer_costs_nothing_while_it_waits() {
    let name = "a_runtime_with_a_timer_costs_nothing_while_it_waits";
    idle(name, Duration::from_secs(1), false);
}

#[test]
fn a_runtime_that_waits_for_reads_costs_nothing_either() {
    let name = "a_runtime_that_waits_for_reads_costs_nothing_either";
    idle(name, Duration::from_secs(3600), true);
}
