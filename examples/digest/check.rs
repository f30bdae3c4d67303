//! Reading a list of digests to be checked.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use runtime::fs::File;
use runtime::io::{AsyncBufReadExt, BufReader};
use runtime::sync::mpsc;

use crate::lines;
use crate::report::Report;
use crate::workers::Job;

/// Sends every file of the list.
///
/// # Errors
///
/// None: a list that can't be read is reported.
pub async fn read_list(list: &Path, jobs: mpsc::Sender<Job>, report: &Report) -> io::Result<()> {
    if let Err(error) = send_files(list, jobs, report).await {
        report.useless_list(list, &error);
    } else if report.found.load(Ordering::Relaxed) == 0 {
        report.useless_list(list, &"no properly formatted checksum lines found");
    }
    Ok(())
}

async fn send_files(list: &Path, jobs: mpsc::Sender<Job>, report: &Report) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(list).await?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.is_empty() && !text.starts_with(b"#") {
            match lines::parse(text) {
                None => {
                    report.malformed.fetch_add(1, Ordering::Relaxed);
                }
                Some((digest, path)) => {
                    report.found.fetch_add(1, Ordering::Relaxed);
                    if jobs.send(Job { path, expected: Some(digest) }).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        line.clear();
    }
    Ok(())
}
