//! A call that takes long, or for ever, holds up no other.
//!
//! They need `/dev/fuse` and the right to mount: root.

mod common;
mod fuse;

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{isolated, skip};
use fuse::{Fuse, LATE, TEXT};
use runtime::fs::{self, File};
use runtime::task::JoinHandle;
use runtime::{Builder, spawn, time};

/// What a call that waits for nobody takes at the most, on a machine that does much else.
const SOON: Duration = Duration::from_secs(5);

/// More than a mount may take of the threads, in each kind of call.
const HUNG: usize = 300;

/// A mounted server; `None` where none is to be had, which is said.
fn server(test: &str) -> Option<Fuse> {
    match Fuse::mount() {
        Ok(fuse) => Some(fuse),
        Err(error) => {
            skip(test, &format!("a FUSE file system can't be mounted here: {error}"));
            None
        }
    }
}

async fn soon<T>(what: &str, call: impl Future<Output = io::Result<T>>) -> T {
    match time::timeout(SOON, call).await {
        Ok(outcome) => outcome.unwrap_or_else(|error| panic!("{what}: {error}")),
        Err(_) => panic!("{what} was held up for {SOON:?}"),
    }
}

/// Each call of `fs` once, about files that answer.
async fn call_all(directory: &Path) {
    let (one, two) = (directory.join("one"), directory.join("two"));
    soon("write", fs::write(&one, "contents")).await;
    soon("metadata", fs::metadata(&one)).await;
    soon("metadata of what is new", fs::symlink_metadata("/proc/self/status")).await;
    assert_eq!(soon("read", fs::read(&one)).await, b"contents");
    soon("read of what is in no cache", fs::read("/proc/self/status")).await;
    let file = soon("open", File::options().read(true).write(true).open(&one)).await;
    soon("write_at", async { Ok(file.write_all_at("CON", 0).await?) }).await;
    soon("read_at", async { Ok(file.read_at(vec![0; 8], 0).await?) }).await;
    soon("sync", file.sync_all()).await;
    soon("copy", fs::copy(&one, &two)).await;
    soon("rename", fs::rename(&two, directory.join("three"))).await;
    soon("create_dir", fs::create_dir(directory.join("four"))).await;
    let mut entries = soon("read_dir", fs::read_dir(directory)).await;
    while soon("next_entry", entries.next_entry()).await.is_some() {}
    soon("remove_dir", fs::remove_dir(directory.join("four"))).await;
    soon("remove_file", fs::remove_file(directory.join("three"))).await;
    soon("canonicalize", fs::canonicalize(directory)).await;
}

/// Starts so many calls of each kind that have no end.
async fn hang(fuse: &Fuse, count: usize) -> Vec<JoinHandle<()>> {
    let never = fuse.file("never");
    let mut tasks = Vec::new();
    for number in 0..count {
        let (lost, closed, never) =
            (fuse.file(&format!("lost-{number}")), fuse.file("closed"), never.clone());
        let of_lost = lost.clone();
        tasks.push(spawn(async move { drop(fs::metadata(of_lost).await) }));
        tasks.push(spawn(async move { drop(fs::read(&lost).await) }));
        tasks.push(spawn(async move { drop(File::open(closed).await) }));
        let of_never = never.clone();
        tasks.push(spawn(async move { drop(fs::read(of_never).await) }));
        tasks.push(spawn(async move { drop(fs::copy(never, "/dev/null").await) }));
    }
    // They are at it.
    time::sleep(Duration::from_millis(300)).await;
    tasks
}

#[test]
fn calls_that_have_no_end_hold_up_no_others() {
    isolated("calls_that_have_no_end_hold_up_no_others").deadline(SOON * 12).run(|| {
        let Some(fuse) = server("calls_that_have_no_end_hold_up_no_others") else { return };
        let directory = tempfile::tempdir().unwrap();
        let run = Builder::new_current_thread().run(async {
            let hung = hang(&fuse, HUNG).await;
            for _ in 0..10 {
                call_all(directory.path()).await;
            }
            assert!(hung.iter().all(|task| !task.is_finished()), "nothing hung");
            // The threads are the whole process's, and another runtime's as well.
            let path = directory.path().to_owned();
            let other = std::thread::spawn(move || {
                Builder::new_current_thread().run(async { call_all(&path).await }).unwrap();
            });
            while !other.is_finished() {
                time::sleep(Duration::from_millis(5)).await;
            }
            other.join().unwrap();
            drop(fuse);
        });
        run.unwrap();
    });
}

#[test]
fn reads_writes_and_opens_of_a_server_that_is_gone_hold_up_no_timer() {
    const NAME: &str = "reads_writes_and_opens_of_a_server_that_is_gone_hold_up_no_timer";
    isolated(NAME).deadline(SOON * 4).run(|| {
        let Some(fuse) = server(NAME) else { return };
        let run = Builder::new_current_thread().run(async {
            let path = fuse.file("never");
            let never = soon("open", File::options().read(true).write(true).open(&path)).await;
            let closed = fuse.file("closed");
            // The name is known from now on, so opening it asks the server at once.
            soon("metadata", fs::metadata(&closed)).await;
            let hung = async {
                let opening = File::open(&closed);
                let (read, written) = (never.read_at(vec![0; 8], 0), never.write_at("text", 0));
                drop(tokio::join!(opening, read, written, never.sync_all()));
            };
            let late = Instant::now();
            let timer = time::timeout(Duration::from_millis(50), hung).await;
            assert!(timer.is_err(), "they ended");
            assert!(late.elapsed() < SOON, "the timer was {:?} late", late.elapsed());
            drop(fuse);
        });
        run.unwrap();
    });
}

#[test]
fn closing_what_a_server_has_that_is_gone_asks_it_nothing() {
    const NAME: &str = "closing_what_a_server_has_that_is_gone_asks_it_nothing";
    isolated(NAME).deadline(SOON * 4).run(|| {
        let Some(fuse) = server(NAME) else { return };
        let run = Builder::new_current_thread().run(async {
            let path = fuse.file("ready");
            let opened = soon("open", File::open(&path)).await;
            let adopted = File::from_std(std::fs::File::open(&path).unwrap());
            let mut read = soon("read_dir", fs::read_dir(fuse.path())).await;
            assert!(soon("next_entry", read.next_entry()).await.is_none());
            let begun = Instant::now();
            drop((opened, adopted, read));
            assert!(begun.elapsed() < SOON, "the drops took {:?}", begun.elapsed());
            drop(fuse);
        });
        run.unwrap();
    });
}

#[test]
fn a_runtime_with_calls_that_have_no_end_ends_by_its_deadline() {
    const NAME: &str = "a_runtime_with_calls_that_have_no_end_ends_by_its_deadline";
    isolated(NAME).deadline(SOON * 4).run(|| {
        let Some(fuse) = server(NAME) else { return };
        let mut builder = Builder::new_current_thread();
        let deadline = Duration::from_millis(200);
        let run = builder.drain_deadline(deadline).run(async {
            drop(hang(&fuse, 20).await);
            Instant::now()
        });
        let took = run.unwrap().elapsed();
        assert!(took < deadline + SOON, "the end took {took:?}");
        drop(fuse);
    });
}

#[test]
fn an_answer_that_comes_late_is_whole() {
    const NAME: &str = "an_answer_that_comes_late_is_whole";
    isolated(NAME).deadline(SOON * 4).run(|| {
        let Some(fuse) = server(NAME) else { return };
        let run = Builder::new_current_thread().run(async {
            let begun = Instant::now();
            assert_eq!(soon("read", fs::read(fuse.file("late"))).await, TEXT);
            assert!(begun.elapsed() >= LATE);
            assert_eq!(soon("read", fs::read(fuse.file("ready"))).await, TEXT);
            let file = soon("open", File::open(fuse.file("late"))).await;
            let (count, bytes) = file.read_at(vec![0; 64], 5).await.unwrap();
            assert_eq!((count, &bytes[..count]), (7, &b"at last"[..]));
            let error = File::open(fuse.file("absent")).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            drop(file);
            drop(fuse);
        });
        run.unwrap();
    });
}
