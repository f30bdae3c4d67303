//! Hashing one file: a short queue of reads into leases, taken in order.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::maybe_done;
use futures::poll;
use runtime::buffers::{self, Lease, LeaseError, LeaseErrorKind};
use runtime::fs::OpenOptions;
use sha2::{Digest as _, Sha256};

use crate::lines::Digest;

/// A lease consists of pages of this size, in bytes.
const PAGE: usize = 4096;

/// The longest first read of a file, in bytes; most files are shorter.
const FIRST_MAX: usize = 64 << 10;

/// The longest of the other reads, in bytes: a few of them fit into a core's second-level cache.
const CHUNK_MAX: usize = 256 << 10;

/// The most reads of one file in flight.
const DEPTH_MAX: usize = 8;

/// The most files in flight: on one shard, and on all.
const SHARD_FILES: usize = 32;
const ALL_FILES: usize = 512;

/// How files are read.
#[derive(Debug)]
pub struct Plan {
    /// How many files each shard reads at once.
    pub files: usize,
    first: usize,
    chunk: usize,
    direct: bool,
}

impl Plan {
    /// Cuts reads to the size of the current runtime's pool, so that small pools, too, have many
    /// files in flight.
    pub fn new(shards: usize, direct: bool) -> Plan {
        let limit = buffers::occupancy().limit;
        let files = (ALL_FILES / shards).clamp(1, SHARD_FILES);
        let whole_pages = |bytes: usize| bytes / PAGE * PAGE;
        let first = whole_pages(limit / (files * shards)).clamp(PAGE, FIRST_MAX);
        let chunk = whole_pages(limit / (2 * DEPTH_MAX)).clamp(first, CHUNK_MAX);
        Plan { files, first, chunk, direct }
    }

    /// Waits for the lease that a file starts with. Its caller holds no other, so whoever has
    /// leases gets done without waiting for one, and this ends.
    ///
    /// Where locked memory is short, a shorter lease will do. A lack that stays is an error that
    /// carries a [`LeaseError`].
    async fn lease(&self) -> io::Result<Lease> {
        let mut length = self.first;
        let mut patience = 100;
        loop {
            match buffers::lease(length).await {
                Ok(lease) => return Ok(lease),
                Err(error) if !is_shortage(&error) => return Err(error.into()),
                Err(_) if length > PAGE => length = (length / 2).next_multiple_of(PAGE),
                Err(error) if patience == 0 => return Err(error.into()),
                // What a process that has just ended had locked is given back a little later.
                Err(_) => {
                    patience -= 1;
                    runtime::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// One more lease to read ahead with, if the pool has one to spare right now.
    fn spare(&self) -> Option<Lease> {
        buffers::try_lease(self.chunk).ok()
    }
}

fn is_shortage(error: &LeaseError) -> bool {
    use LeaseErrorKind::{LockedMemory, OutOfMemory, TooLarge};
    matches!(error.kind(), LockedMemory | OutOfMemory | TooLarge)
}

/// Whether this is the pool's failure, which the next file would meet as well.
pub fn is_of_pool(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<LeaseError>())
}

/// Hashes a file from its beginning to where a read brings nothing, and adds to `progress_bytes` as
/// it goes.
///
/// The queue of reads doubles with each read that was filled. A lease goes from one read to the
/// next; once others wait for leases, all but the last go back to the pool.
pub async fn file(path: &Path, plan: &Plan, progress_bytes: &AtomicU64) -> io::Result<Digest> {
    let file = OpenOptions::new().read(true).direct(plan.direct).open(path).await?;
    let block = file.alignment().map_or(1, |alignment| alignment.offset as usize);
    let mut hasher = Sha256::new();
    let mut hashed = 0;
    let mut ahead = 0;
    let mut depth = 1;
    let mut reads = VecDeque::new();
    let mut free = Some(plan.lease().await?);
    loop {
        while reads.len() < depth
            && let Some(lease) = free.take().or_else(|| plan.spare())
        {
            let length = lease.capacity();
            let mut read = maybe_done(file.read_fixed(lease, ahead));
            // A read begins when it is first polled.
            let _ = poll!(&mut read);
            reads.push_back((length, read));
            ahead += length as u64;
        }
        let (length, mut read) = reads.pop_front().expect("a lease is in flight or free");
        (&mut read).await;
        let (count, lease) = Pin::new(&mut read).take_output().expect("it was awaited")?;
        hasher.update(&lease[..count]);
        hashed += count as u64;
        progress_bytes.fetch_add(count as u64, Ordering::Relaxed);
        // A direct read that ends within a block has met the file's end, and could not go on there.
        if count == 0 || !count.is_multiple_of(block) {
            return Ok(hasher.finalize().into());
        }
        if count == length {
            depth = (depth * 2).min(DEPTH_MAX);
        } else {
            // Most likely the end; what was read ahead began behind a gap.
            reads.clear();
            (ahead, depth) = (hashed, 1);
        }
        if reads.is_empty() || buffers::occupancy().waiters == 0 {
            free = Some(lease);
        }
    }
}
