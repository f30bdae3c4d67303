//! Finding the files: a walk that keeps no more of the tree than its open directories.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::{BoxFuture, FutureExt};
use runtime::fs::{self, ReadDir};
use runtime::sync::{Semaphore, mpsc};
use runtime::task::JoinSet;

use crate::report::Report;
use crate::workers::Job;

/// How many parts of the tree are walked at once.
const WALKERS: usize = 8;

#[derive(Debug)]
struct Walk {
    jobs: mpsc::Sender<Job>,
    idle: Arc<Semaphore>,
    report: Arc<Report>,
}

/// Nobody takes files any more.
struct Stopped;

/// Sends every regular file that is or lies below one of the paths.
///
/// A path that is a link is followed, a link found below is not.
///
/// # Errors
///
/// If a walker panicked: then files are missing.
pub async fn all(
    paths: Vec<PathBuf>,
    jobs: mpsc::Sender<Job>,
    report: Arc<Report>,
) -> io::Result<()> {
    let walk = Arc::new(Walk { jobs, idle: Arc::new(Semaphore::new(WALKERS - 1)), report });
    for path in paths {
        let done = match fs::statx(&path, true).await {
            Ok(stat) if stat.is_dir() => tree(path, walk.clone()).await?,
            Ok(stat) if stat.is_file() => walk.send(path).await,
            Ok(_) => {
                let error = io::Error::other("Is neither a regular file nor a directory");
                walk.report.unreadable(&path, &error);
                Ok(())
            }
            Err(error) => {
                walk.report.unreadable(&path, &error);
                Ok(())
            }
        };
        if done.is_err() {
            break;
        }
    }
    Ok(())
}

/// Walks one directory depth first, and leaves parts of it to walkers that are idle.
fn tree(root: PathBuf, walk: Arc<Walk>) -> BoxFuture<'static, io::Result<Result<(), Stopped>>> {
    async move {
        let mut helpers = JoinSet::new();
        let mut open = Vec::new();
        walk.enter(root, &mut open).await;
        while let Some((path, entries)) = open.last_mut() {
            let entry = match entries.next_entry().await {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    open.pop();
                    continue;
                }
                Err(error) => {
                    walk.report.unreadable(path, &error);
                    open.pop();
                    continue;
                }
            };
            let path = entry.path();
            match entry.file_type().await {
                Ok(kind) if kind.is_dir() => match walk.idle.clone().try_acquire_owned() {
                    Ok(turn) => {
                        let walk = walk.clone();
                        helpers.spawn(async move {
                            let _turn = turn;
                            tree(path, walk).await
                        });
                        while let Some(helper) = helpers.try_join_next() {
                            let _ = helper??;
                        }
                    }
                    Err(_) => walk.enter(path, &mut open).await,
                },
                Ok(kind) if kind.is_file() => {
                    if walk.send(path).await.is_err() {
                        return Ok(Err(Stopped));
                    }
                }
                Ok(_) => {}
                // It went away since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => walk.report.unreadable(&path, &error),
            }
        }
        while let Some(helper) = helpers.join_next().await {
            let _ = helper??;
        }
        Ok(Ok(()))
    }
    .boxed()
}

impl Walk {
    async fn enter(&self, path: PathBuf, open: &mut Vec<(PathBuf, ReadDir)>) {
        match fs::read_dir(&path).await {
            Ok(entries) => open.push((path, entries)),
            Err(error) => self.report.unreadable(&path, &error),
        }
    }

    async fn send(&self, path: PathBuf) -> Result<(), Stopped> {
        self.report.found.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(Job { path, expected: None }).await.map_err(|_| Stopped)
    }
}
