//! One task of the hunt: it does random things to its own file, drops some of them in the middle,
//! and looks at all that comes back.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use runtime::buffers::{self, Lease};
use runtime::fs::{self, File, OpenOptions};
use runtime::task::{spawn, spawn_blocking, spawn_on, yield_now};
use runtime::time::{Instant, sleep};

use super::{BLOCK_BYTES, BLOCKS, FileModel, Syncing, fate};

/// What a worker has.
#[derive(Clone)]
pub struct Worker {
    pub number: u32,
    pub shards: usize,
    /// The most bytes that one lease may have.
    pub pool_limit: usize,
    /// How long a lease may be waited for, where nobody is slow to give theirs back.
    pub patience: Option<Duration>,
    pub dice: fastrand::Rng,
    pub model: Arc<Mutex<FileModel>>,
}

impl Worker {
    pub fn path(&self) -> String {
        format!("/file-{}", self.number)
    }

    fn model(&self) -> MutexGuard<'_, FileModel> {
        self.model.lock().expect("no holder of the model panics")
    }

    fn draw_range(&mut self) -> Range<usize> {
        let length = self.dice.usize(1..=8);
        let first = self.dice.usize(..=BLOCKS - length);
        first..first + length
    }

    /// Does as many random things as it is told.
    pub async fn work(mut self, operations: u32) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(self.path()).await?;
        for _ in 0..operations {
            match self.dice.u32(..100) {
                0..30 => self.write(&file).await?,
                30..60 => self.read(&file).await?,
                60..68 => self.sync(&file).await?,
                68..76 => self.hold().await?,
                76..82 => self.nap().await,
                82..86 => file = self.reopen(file).await?,
                86..90 => self.hand_over(&file).await?,
                90..93 => self.panic_in_a_task().await,
                93..96 => self.rename_something().await?,
                96..98 => self.block().await,
                _ => yield_now().await,
            }
        }
        file.close().await
    }

    /// A lease, unless its future is dropped while it waits.
    async fn lease(&mut self, length: usize) -> io::Result<Option<Lease>> {
        let begin = Instant::now();
        let Some(leased) = self.fate(buffers::lease(length)).await else { return Ok(None) };
        let waited = begin.elapsed();
        match self.patience {
            Some(patience) if waited > patience => {
                Err(io::Error::other(format!("a lease of {length} bytes came after {waited:?}")))
            }
            _ => Ok(Some(leased?)),
        }
    }

    async fn write(&mut self, file: &File) -> io::Result<()> {
        let range = self.draw_range();
        let offset = (range.start * BLOCK_BYTES) as u64;
        let fixed = self.dice.bool();
        // The lease comes first: while it is waited for, nothing is begun.
        let lease = if fixed { self.lease(range.len() * BLOCK_BYTES).await? } else { None };
        let (version, bytes) = self.model().begin_write(&range);
        let ended = match lease {
            Some(mut lease) => {
                lease.extend_from_slice(&bytes);
                let written = self.fate(file.write_fixed(lease, offset)).await;
                written.map(|ended| ended.map(|(count, _)| count).map_err(io::Error::from))
            }
            None => {
                let written = self.fate(file.write_at(bytes, offset)).await;
                written.map(|ended| ended.map(|(count, _)| count).map_err(io::Error::from))
            }
        };
        match ended {
            Some(Ok(count)) => self.model().end_write(&range, version, count),
            Some(Err(error)) => return may_fail(error),
            None => {}
        }
        Ok(())
    }

    async fn read(&mut self, file: &File) -> io::Result<()> {
        let range = self.draw_range();
        let offset = (range.start * BLOCK_BYTES) as u64;
        let length = range.len() * BLOCK_BYTES;
        let bytes = if self.dice.bool() {
            let Some(lease) = self.lease(length).await? else { return Ok(()) };
            let read = self.fate(file.read_fixed(lease, offset)).await;
            read.map(|read| read.map(|(_, lease)| lease.to_vec()).map_err(io::Error::from))
        } else {
            let read = self.fate(file.read_at(Vec::with_capacity(length), offset)).await;
            read.map(|read| read.map(|(_, bytes)| bytes).map_err(io::Error::from))
        };
        match bytes {
            Some(Ok(bytes)) => self.model().check_read(&range, &bytes).map_err(io::Error::other),
            Some(Err(error)) => may_fail(error),
            None => Ok(()),
        }
    }

    async fn fate<F: Future>(&mut self, operation: F) -> Option<F::Output> {
        fate(&mut self.dice, operation).await
    }

    async fn sync(&mut self, file: &File) -> io::Result<()> {
        let syncing: Syncing = self.model().begin_sync();
        let ended = match self.dice.bool() {
            true => self.fate(file.sync_all()).await,
            false => self.fate(file.sync_data()).await,
        };
        match ended {
            Some(Ok(())) => self.model().end_sync(syncing),
            Some(Err(error)) => {
                self.model().fail_sync();
                return may_fail(error);
            }
            // A sync that was dropped and failed has told nobody, but what it spoiled is spoiled.
            None => self.model().fail_sync(),
        }
        Ok(())
    }

    /// Nobody else writes to memory that is leased.
    async fn hold(&mut self) -> io::Result<()> {
        let length = match self.dice.u32(..16) {
            // One that makes the pool grow, and one that no common arena can hold: idle arenas have
            // to make room for a larger one.
            0 => 40 << 10,
            1 => (100 << 10).min(self.pool_limit),
            _ => self.dice.usize(1..8192),
        };
        let Some(mut lease) = self.lease(length).await? else { return Ok(()) };
        let mark = self.number as u8 ^ 0x5A;
        lease.resize(length, mark);
        sleep(Duration::from_nanos(self.dice.u64(..300_000))).await;
        if lease.iter().any(|byte| *byte != mark) {
            return Err(io::Error::other("a leased buffer was written to by somebody else"));
        }
        Ok(())
    }

    async fn nap(&mut self) {
        // In a long one the pool gives back what has gone idle.
        let most = if self.dice.u32(..30) == 0 { 6_000_000_000 } else { 2_000_000 };
        let deadline = Instant::now() + Duration::from_nanos(self.dice.u64(..most));
        runtime::time::sleep_until(deadline).await;
        assert!(Instant::now() >= deadline, "a sleep was early");
    }

    async fn reopen(&mut self, file: File) -> io::Result<File> {
        if self.dice.bool() {
            file.close().await?;
        } else {
            drop(file);
        }
        let path = self.path();
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        // One that is dropped leaves nothing open.
        let _ = self.fate(options.open(&path)).await;
        options.open(&path).await
    }

    /// A read is begun here and ended on another shard, or aborted.
    async fn hand_over(&mut self, file: &File) -> io::Result<()> {
        let range = self.draw_range();
        let (length, offset) = (range.len() * BLOCK_BYTES, (range.start * BLOCK_BYTES) as u64);
        let Some(lease) = self.lease(length).await? else { return Ok(()) };
        let file = file.try_clone().await?;
        let mut reading = Box::pin(async move { file.read_fixed(lease, offset).await });
        let _ = futures::poll!(reading.as_mut());
        let shard = self.dice.usize(..self.shards);
        let task = match self.dice.bool() {
            true => spawn_on(shard, move || reading),
            false => spawn(reading),
        };
        if self.dice.u32(..3) == 0 {
            yield_now().await;
            task.abort();
        }
        match task.await {
            Ok(Ok((_, lease))) => self.model().check_read(&range, &lease).map_err(io::Error::other),
            Ok(Err(failed)) => may_fail(failed.into()),
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    async fn panic_in_a_task(&mut self) {
        let lease = buffers::try_lease(100);
        let task = spawn(async move {
            let _held = lease;
            yield_now().await;
            // It doesn't go through the hook, which would print.
            std::panic::resume_unwind(Box::new("meant"));
        });
        let error = task.await.expect_err("the task panicked");
        assert!(error.is_panic());
    }

    async fn rename_something(&mut self) -> io::Result<()> {
        let (from, to) = (format!("/tmp-{}", self.number), format!("/kept-{}", self.number));
        if let Err(error) = fs::write(&from, vec![self.number as u8; 700]).await {
            return may_fail(error);
        }
        if self.fate(fs::rename(&from, &to)).await.is_none() {
            return Ok(());
        }
        match fs::read(&to).await {
            Ok(bytes) if bytes.len() == 700 => Ok(()),
            Ok(bytes) => Err(io::Error::other(format!("a renamed file has {} bytes", bytes.len()))),
            Err(error) => may_fail(error),
        }
    }

    async fn block(&mut self) {
        let number = self.number;
        assert_eq!(spawn_blocking(move || number + 1).await.expect("it ends"), number + 1);
    }
}

/// Faults that were asked for are no failures of the hunt.
fn may_fail(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EIO | libc::ENOSPC | libc::ENOMEM | libc::EINTR) => Ok(()),
        _ => Err(error),
    }
}
