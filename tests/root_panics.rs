//! Panics of the future that a shard's own thread runs, and of the driver: the first come after the
//! shutdown, the second end the process.

mod bombs;
mod common;
mod held;
mod watched;

use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bombs::{Bomb, EXPECTED, expected, quiet, text, well};
use held::Account;
use runtime::{Builder, task, time};
use watched::{pipe, poll_once, watchdog};

#[test]
fn a_panic_of_the_root_future_reaches_its_caller_after_the_shutdown() {
    let _watchdog = watchdog("panics of the root", 60);
    quiet();
    for rings in [(256, 512), (2, 4)] {
        let account = Account::new();
        let kept = Mutex::new(None);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            account.builder(2, rings).run(async {
                let pipe = pipe();
                let mut read = pipe.reader.read_at(account.buffer(64), 0);
                assert!(poll_once(&mut read).is_pending());
                drop(task::spawn(async move { read.await.unwrap() }));
                task::yield_now().await;
                let mut held = pipe.reader.read_at(account.buffer(64), 0);
                assert!(poll_once(&mut held).is_pending());
                // Keeps the pipe's other end open, so that the reads have to be cancelled.
                *kept.lock().unwrap() = Some(pipe.writer);
                expected();
            })
        }));
        assert_eq!(text(&*panicked.unwrap_err()), Some(EXPECTED));
        account.balances();
        assert_eq!(account.unregistered.load(Ordering::SeqCst), 2);
    }
    // A shard can be made on this thread again.
    Builder::new_current_thread().run(well()).unwrap();
}

#[test]
fn a_panic_in_the_root_futures_destructor_comes_after_the_shutdown() {
    struct Root<F> {
        body: Pin<Box<F>>,
        _bomb: Bomb,
    }
    impl<F: Future> Future for Root<F> {
        type Output = F::Output;
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
            self.body.as_mut().poll(cx)
        }
    }
    let _watchdog = watchdog("a panic in the root's destructor", 60);
    quiet();
    for rings in [(256, 512), (2, 4)] {
        let account = Account::new();
        let kept = Mutex::new(None);
        let body = Box::pin(async {
            let pipe = pipe();
            for _ in 0..100 {
                let mut read = pipe.reader.read_at(account.buffer(64), 0);
                assert!(poll_once(&mut read).is_pending());
            }
            *kept.lock().unwrap() = Some(pipe.writer);
        });
        let run = catch_unwind(AssertUnwindSafe(|| {
            account.builder(2, rings).run(Root { body, _bomb: Bomb })
        }));
        assert_eq!(text(&*run.unwrap_err()), Some(EXPECTED));
        account.balances();
        assert_eq!(account.unregistered.load(Ordering::SeqCst), 2);
    }
}

/// Runs this very test in a process of its own, where `RINGHOLD_ABORTS` is set.
#[test]
fn a_panic_of_the_driver_aborts_the_process() {
    const CHILD: &str = "RINGHOLD_ABORTS";
    if let Ok(shards) = std::env::var(CHILD) {
        let account = Account::new();
        let mut builder = account.builder(2, (256, 512));
        let body = async {
            well().await;
            account.breaks.store(true, Ordering::SeqCst);
            time::sleep(Duration::from_secs(30)).await;
        };
        match shards.as_str() {
            "run" => builder.run(body).unwrap(),
            _ => builder.build().unwrap().block_on(body),
        }
        return;
    }
    for how in ["run", "build"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_panic_of_the_driver_aborts_the_process", "--nocapture"]);
        let output = child.env(CHILD, how).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{how}: {said}");
        assert!(said.contains("io_uring_enter failed, and completions may be lost"), "{said}");
        assert!(said.contains("a shard's driver panicked; the process is aborted"), "{said}");
    }
}
