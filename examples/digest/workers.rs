//! The tasks that take files from the queue, hash them, and report what came of it.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::try_join_all;
use runtime::sync::{Mutex, mpsc};

use crate::hash::{self, Plan};
use crate::lines::{self, Digest};
use crate::report::Report;

/// A file to be read.
#[derive(Debug)]
pub struct Job {
    /// Its name as it is printed.
    pub path: PathBuf,
    /// What its digest should be, if it is to be checked.
    pub expected: Option<Digest>,
}

/// Starts as many workers on each shard as it reads files at once. The future that it gives ends
/// with the first that fails, or when the queue is closed and empty and all are done.
pub fn start(
    shards: usize,
    plan: &Arc<Plan>,
    report: &Arc<Report>,
    queue: mpsc::Receiver<Job>,
) -> impl Future<Output = io::Result<()>> + use<> {
    let queue = Arc::new(Mutex::new(queue));
    let mut workers = Vec::new();
    for shard in 0..shards {
        for _ in 0..plan.files {
            let (plan, report, queue) = (plan.clone(), report.clone(), queue.clone());
            let worker = runtime::spawn_on(shard, move || work(plan, report, queue));
            workers.push(async { worker.await? });
        }
    }
    async { try_join_all(workers).await.map(drop) }
}

async fn work(
    plan: Arc<Plan>,
    report: Arc<Report>,
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
) -> io::Result<()> {
    loop {
        // The queue is unlocked before the file is read.
        let job = queue.lock().await.recv().await;
        let Some(Job { path, expected }) = job else { return Ok(()) };
        match hash::file(&path, &plan, &report.bytes).await {
            Ok(digest) => {
                report.files.fetch_add(1, Ordering::Relaxed);
                match expected {
                    None => report.line(&lines::format(&digest, &path))?,
                    Some(expected) => report.verdict(&path, expected == digest)?,
                }
            }
            Err(error) if hash::is_of_pool(&error) => return Err(error),
            Err(error) => {
                report.unreadable(&path, &error);
                if expected.is_some() {
                    report.line(&lines::verdict(&path, "FAILED open or read"))?;
                }
            }
        }
    }
}
