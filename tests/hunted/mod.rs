//! What a hunted file may hold: by block, the versions that a read may show, and those that may be
//! there after the power went.

#![allow(dead_code)] // Each test file is a program of its own and uses a part of this.

pub mod talk;
pub mod worker;

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use runtime::task::yield_now;
use runtime::time::timeout;

/// One sector: what a disk writes whole or not at all.
pub const BLOCK_BYTES: usize = 512;

/// Blocks of a hunted file.
pub const BLOCKS: usize = 24;

/// What is known of one block.
#[derive(Clone, Debug, Default)]
struct Block {
    /// The version that was written last and for sure; 0 for none.
    settled: u32,
    /// Versions that may be there, or may still come: of writes that were dropped or cut short.
    maybe: Vec<u32>,
    /// The version that a sync made durable.
    durable: u32,
    /// Versions that were written since, some of which may be durable.
    since: Vec<u32>,
    /// A sync failed on it: until it is written anew, no sync makes it durable.
    spoiled: bool,
}

impl Block {
    fn now(&self) -> Vec<u32> {
        [&[self.settled], &self.maybe[..]].concat()
    }

    fn after_power_loss(&self) -> Vec<u32> {
        [&[self.durable], &self.since[..], &self.maybe[..]].concat()
    }
}

/// What a sync found when it began.
pub struct Syncing(Vec<(u32, usize)>);

/// What is known of one file.
#[derive(Clone, Debug)]
pub struct FileModel {
    file: u32,
    versions: u32,
    blocks: Vec<Block>,
}

impl FileModel {
    pub fn new(file: u32) -> FileModel {
        FileModel { file, versions: 0, blocks: vec![Block::default(); BLOCKS] }
    }

    /// A write of these blocks begins: what it writes, and its version.
    pub fn begin_write(&mut self, range: &Range<usize>) -> (u32, Vec<u8>) {
        self.versions += 1;
        let version = self.versions;
        let mut bytes = Vec::with_capacity(range.len() * BLOCK_BYTES);
        for index in range.clone() {
            self.blocks[index].maybe.push(version);
            self.blocks[index].since.push(version);
            bytes.extend_from_slice(&pattern(self.file, index, version));
        }
        (version, bytes)
    }

    /// The write has ended, and this many bytes were written. One that was dropped never ends.
    pub fn end_write(&mut self, range: &Range<usize>, version: u32, count: usize) {
        for (place, index) in range.clone().enumerate() {
            let block = &mut self.blocks[index];
            if count >= (place + 1) * BLOCK_BYTES {
                block.settled = version;
                block.spoiled = false;
                block.maybe.retain(|maybe| *maybe != version);
            } else if count <= place * BLOCK_BYTES {
                block.maybe.retain(|maybe| *maybe != version);
                block.since.retain(|since| *since != version);
            }
        }
    }

    pub fn begin_sync(&self) -> Syncing {
        Syncing(self.blocks.iter().map(|block| (block.settled, block.since.len())).collect())
    }

    /// The sync has ended well: what was settled when it began is durable.
    pub fn end_sync(&mut self, Syncing(begun): Syncing) {
        for (block, (settled, since)) in self.blocks.iter_mut().zip(begun) {
            if !block.spoiled {
                block.durable = settled;
                block.since.drain(..since);
            }
        }
    }

    /// The sync has failed: what it was to make durable never will be.
    pub fn fail_sync(&mut self) {
        for block in &mut self.blocks {
            block.spoiled |= !block.since.is_empty();
        }
    }

    /// Whether a read may have brought `bytes` from the file's `range`.
    pub fn check_read(&self, range: &Range<usize>, bytes: &[u8]) -> Result<(), String> {
        self.check(range.start, bytes, Block::now)
    }

    /// Whether `bytes`, the whole file, may be what a power loss left; what is known from then on.
    pub fn check_after_power_loss(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.check(0, bytes, Block::after_power_loss)?;
        for block in &mut self.blocks {
            block.maybe = block.after_power_loss();
            block.settled = block.durable;
            block.since = block.maybe.clone();
        }
        Ok(())
    }

    fn check(
        &self,
        first: usize,
        bytes: &[u8],
        allowed: impl Fn(&Block) -> Vec<u32>,
    ) -> Result<(), String> {
        for (place, found) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let index = first + place;
            let block = &self.blocks[index];
            let versions = allowed(block);
            let patterns = versions.iter().map(|version| pattern(self.file, index, *version));
            let patterns: Vec<_> = patterns.collect();
            let fits = |(at, byte): (usize, &u8)| patterns.iter().any(|each| each[at] == *byte);
            if !patterns.iter().any(|each| each[..found.len()] == *found)
                && !found.iter().enumerate().all(fits)
            {
                let (file, found) = (self.file, &found[..found.len().min(16)]);
                return Err(format!(
                    "block {index} of file {file} shows {found:x?}, and may show one of the \
                     versions {versions:?}"
                ));
            }
        }
        Ok(())
    }
}

/// What a version of a block of a file is: zeros before the first.
pub fn pattern(file: u32, block: usize, version: u32) -> [u8; BLOCK_BYTES] {
    let mut bytes = [0; BLOCK_BYTES];
    if version > 0 {
        let seed = u64::from(file) << 48 | (block as u64) << 32 | u64::from(version);
        for (place, word) in bytes.chunks_exact_mut(8).enumerate() {
            let mixed = (seed ^ (place as u64) << 20).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            word.copy_from_slice(&(mixed ^ mixed >> 29).to_le_bytes());
        }
    }
    bytes
}

/// Awaits an operation, or drops it: after its first poll, or some time later.
pub async fn fate<F: Future>(dice: &mut fastrand::Rng, operation: F) -> Option<F::Output> {
    let mut operation = pin!(operation);
    match dice.u32(..10) {
        0 => match futures::poll!(operation.as_mut()) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        },
        1 => {
            if let Poll::Ready(output) = futures::poll!(operation.as_mut()) {
                return Some(output);
            }
            for _ in 0..dice.u32(1..4) {
                yield_now().await;
            }
            None
        }
        2 => {
            let limit = Duration::from_nanos(dice.u64(..400_000));
            timeout(limit, operation).await.ok()
        }
        _ => Some(operation.await),
    }
}
