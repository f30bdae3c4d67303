//! The progress bar: files done of those found so far, bytes, and bytes a second.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use runtime::task::JoinHandle;

use crate::report::Report;

/// A bar on standard error, if that is a terminal.
pub fn bar() -> Option<ProgressBar> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} files, {msg}")
        .expect("the template is well formed");
    Some(ProgressBar::new(0).with_style(style))
}

/// Draws the report's bar ten times a second, until the task is aborted. The rate is that of the
/// last second or so.
pub fn draw(report: &Arc<Report>) -> Option<JoinHandle<()>> {
    let bar = report.bar()?.clone();
    let report = report.clone();
    Some(runtime::spawn(async move {
        let mut interval = runtime::time::interval(Duration::from_millis(100));
        let mut last = (Instant::now(), 0);
        let mut rate = 0.0;
        loop {
            interval.tick().await;
            let bytes = report.bytes.load(Ordering::Relaxed);
            let elapsed = last.0.elapsed().as_secs_f64();
            if elapsed > 0.05 {
                let current = (bytes - last.1) as f64 / elapsed;
                rate += (current - rate) * elapsed.min(1.0);
                last = (Instant::now(), bytes);
            }
            bar.set_length(report.found.load(Ordering::Relaxed));
            bar.set_position(report.files.load(Ordering::Relaxed));
            bar.set_message(format!("{}, {}/s", HumanBytes(bytes), HumanBytes(rate as u64)));
        }
    }))
}
