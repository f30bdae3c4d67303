//! The watchdog, which ends a run in which nothing advances; it draws the line of progress as well.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::ledger;
use crate::report::{Board, complain};

/// How long nothing may advance.
const PATIENCE: Duration = Duration::from_secs(30);

/// The exit code of a run that stands still.
const STANDS_STILL: i32 = 3;

/// Watches until it is dropped.
pub struct Watchdog {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts to watch. The directory is removed if the run stands still.
    pub fn start(board: &Arc<Board>, directory: PathBuf) -> Watchdog {
        let (end, ended) = channel();
        let board = board.clone();
        let thread = thread::spawn(move || {
            let bar = bar();
            let begun_at = Instant::now();
            let mut last = (board.tally.steps.get(), Instant::now());
            while ended.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                let steps = board.tally.steps.get();
                if steps != last.0 {
                    last = (steps, Instant::now());
                } else if last.1.elapsed() > PATIENCE {
                    dump(&board);
                    let _ = fs::remove_dir_all(&directory);
                    std::process::exit(STANDS_STILL);
                }
                if let Some(bar) = &bar {
                    let operations = board.next.load(Ordering::SeqCst);
                    let rate = operations as f64 / begun_at.elapsed().as_secs_f64();
                    let complaints = board.tally.complaints();
                    bar.set_message(format!(
                        "{operations} operations, {rate:.0} a second, {complaints} complaints"
                    ));
                    bar.tick();
                }
            }
            if let Some(bar) = &bar {
                bar.finish_and_clear();
            }
        });
        Watchdog { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A line on standard error, if that is a terminal.
fn bar() -> Option<ProgressBar> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    Some(ProgressBar::new_spinner().with_style(style.expect("the template is well formed")))
}

/// Says all that is known of a run that stands still.
fn dump(board: &Board) {
    complain(format_args!("nothing has advanced for {PATIENCE:?}; the tasks are at:"));
    complain(format_args!("{}", board.desks()));
    if let Some(handle) = board.handle() {
        for shard in 0..handle.shards() {
            complain(format_args!("shard {shard}: {:?}", handle.metrics().driver_counts(shard)));
        }
        complain(format_args!("{:?}", handle.pool().occupancy()));
        if let Ok(books) = ledger::Books::read(&handle, &board.tally, 0, 0) {
            for line in books.lines() {
                complain(format_args!("  {line}"));
            }
        }
    }
    for complaint in board.tally.first_complaints() {
        complain(format_args!("{complaint}"));
    }
    // What each thread is called, and which system call it is in.
    for thread in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let [name, call, place] = ["comm", "syscall", "wchan"].map(read);
        complain(format_args!(
            "thread {:?} {}: in {}, system call {}",
            thread.file_name(),
            name.trim(),
            place.trim(),
            call.trim()
        ));
    }
}
