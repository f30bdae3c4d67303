//! Files whose every byte is known: each word of a block says which version of which block of which
//! file it is.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::fs::{File, OpenOptions};

use crate::draws::scatter;
use crate::world::lease_patiently;

/// The bytes of a block, which are those of a page.
pub const BLOCK: usize = 4096;

/// The blocks of each file.
pub const BLOCKS: usize = 32;

const WORD: usize = size_of::<u64>();

/// What is known of a block.
#[derive(Debug, Default)]
struct Block {
    /// The oldest version that it may show.
    floor: u32,
    /// The newest version that anybody began to write.
    latest: u32,
    /// Writes that somebody awaits.
    writing: u32,
    /// A write was dropped: it may take effect at any time, until all is idle.
    uncertain: bool,
}

/// A file that keeps its length, and the versions of its blocks.
#[derive(Debug)]
pub struct Steady {
    id: u32,
    path: PathBuf,
    /// The file, open for reading and writing.
    pub file: File,
    /// Whether it is read and written past the page cache.
    pub direct: bool,
    blocks: Vec<Mutex<Block>>,
}

impl Steady {
    /// Makes the file, and opens it; past the page cache if that is asked for and can be done.
    pub async fn create(directory: &Path, id: u32, direct: bool) -> io::Result<Steady> {
        let path = directory.join(format!("steady-{id}"));
        let first: Vec<u8> = (0..BLOCKS).flat_map(|block| contents(id, block, 0)).collect();
        fs::write(&path, first)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let (file, direct) = match options.direct(direct).open(&path).await {
            Err(_) if direct => (options.direct(false).open(&path).await?, false),
            opened => (opened?, direct),
        };
        let blocks = (0..BLOCKS).map(|_| Mutex::default()).collect();
        Ok(Steady { id, path, file, direct, blocks })
    }

    fn block(&self, block: usize) -> MutexGuard<'_, Block> {
        self.blocks[block].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before a read of `count` blocks begins.
    pub fn begin_read(&self, first: usize, count: usize) -> Vec<u32> {
        (first..first + count).map(|block| self.block(block).floor).collect()
    }

    /// Checks what a read brought from block `first` on.
    ///
    /// # Errors
    ///
    /// In words, if any byte is none that the block may show.
    pub fn end_read(&self, first: usize, floors: &[u32], bytes: &[u8]) -> Result<(), String> {
        for (index, bytes) in bytes.chunks(BLOCK).take(floors.len()).enumerate() {
            let (block, floor) = (first + index, floors[index]);
            let latest = self.block(block).latest;
            self.verify(block, floor, latest, bytes)?;
        }
        Ok(())
    }

    fn verify(&self, block: usize, floor: u32, latest: u32, bytes: &[u8]) -> Result<(), String> {
        for (index, found) in bytes.chunks(WORD).enumerate() {
            // The version is in a whole word's upper half. A word that was read while it was
            // written may have bytes of several.
            let version =
                found.try_into().map_or(0, |bytes| (u64::from_le_bytes(bytes) >> 32) as u32);
            let whole = (floor..=latest).contains(&version)
                && *found == word(self.id, block, version, index).to_le_bytes();
            let may_show = |(at, byte): (usize, &u8)| {
                (floor..=latest)
                    .any(|version| word(self.id, block, version, index).to_le_bytes()[at] == *byte)
            };
            if !whole && !found.iter().enumerate().all(may_show) {
                return Err(format!(
                    "{} block {block} word {index} is {found:02x?}, which is none of its versions \
                     {floor} to {latest}",
                    self.path.display()
                ));
            }
        }
        Ok(())
    }

    /// Begins to write a block: gives the guard of the write, and the bytes.
    pub fn begin_write(self: &Arc<Steady>, block: usize) -> (Writing, Vec<u8>) {
        let mut state = self.block(block);
        state.latest += 1;
        let alone = state.writing == 0 && !state.uncertain;
        state.writing += 1;
        let version = state.latest;
        drop(state);
        let steady = self.clone();
        (Writing { steady, block, version, alone, done: false }, contents(self.id, block, version))
    }

    /// Checks every block once nothing is in flight, and begins anew with one version of each.
    pub async fn settle(self: &Arc<Steady>) -> io::Result<Result<(), String>> {
        // The length was never touched, so a short file fails here.
        let mut bytes = vec![0; BLOCKS * BLOCK];
        fs::File::open(&self.path)?.read_exact_at(&mut bytes, 0)?;
        for (block, bytes) in bytes.chunks(BLOCK).enumerate() {
            let (floor, latest) = {
                let state = self.block(block);
                (state.floor, state.latest)
            };
            if let Err(what) = self.verify(block, floor, latest, bytes) {
                return Ok(Err(what));
            }
            if floor < latest {
                self.block(block).uncertain = false;
                let (writing, bytes) = self.begin_write(block);
                let mut lease = lease_patiently(BLOCK).await?;
                lease.extend_from_slice(&bytes);
                self.file.write_all_fixed(lease, (block * BLOCK) as u64).await?;
                writing.finish();
            }
        }
        Ok(Ok(()))
    }
}

/// A write of a block that has begun.
pub struct Writing {
    steady: Arc<Steady>,
    block: usize,
    version: u32,
    alone: bool,
    done: bool,
}

impl Writing {
    /// All of it was written.
    pub fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.steady.block(self.block);
        state.writing -= 1;
        if !self.done {
            state.uncertain = true;
        } else if self.alone && state.latest == self.version && !state.uncertain {
            state.floor = self.version;
        }
    }
}

fn word(id: u32, block: usize, version: u32, index: usize) -> u64 {
    let place = u64::from(id) << 48 | (block as u64) << 32 | index as u64;
    let mark = scatter(place ^ scatter(u64::from(version)));
    u64::from(version) << 32 | mark & 0xFFFF_FFFF
}

fn contents(id: u32, block: usize, version: u32) -> Vec<u8> {
    (0..BLOCK / WORD).flat_map(|index| word(id, block, version, index).to_le_bytes()).collect()
}
