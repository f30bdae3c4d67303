//! What a contender has to do: the load, each task's share of it, and the check of what a read
//! brought.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::meter::Histogram;

/// The size of one read, in bytes.
pub const PAGE_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    Read,
    Spawn,
    Yield,
    Echo,
}

/// One contender's work in one round, as the parent hands it to the child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    pub workload: Workload,
    pub tasks: usize,
    /// Operations of the measured part.
    pub ops: u64,
    /// Operations before it, which fault in memory, fill caches and grow pools.
    pub warm_up_ops: u64,
    pub file: PathBuf,
    /// Pages of the file.
    pub pages: u64,
    /// Whether each operation is clocked.
    pub latency: bool,
    /// After how many messages the peer ends a connection of an echo and makes another, if it does.
    pub messages: Option<u64>,
}

impl Load {
    /// An echo is no work that a contender does by itself: its server is driven by the parent.
    pub fn is_served(&self) -> io::Error {
        io::Error::other(format!("{:?} is served, and not run", self.workload))
    }

    /// Each task's share of the warm-up. It draws other offsets than the measured part.
    pub fn warm_up_shares(&self) -> Vec<Share> {
        self.shares(self.warm_up_ops, 0x5745_4c43_4f4d_4500, None)
    }

    /// Each task's share of the measured part; clocked into `latencies` if there are any.
    pub fn measured_shares(&self, latencies: Option<&Arc<Histogram>>) -> Vec<Share> {
        self.shares(self.ops, 0x5249_4e47_484f_4c44, latencies)
    }

    /// Where the measured part's latencies go, if they are asked for.
    pub fn latencies(&self) -> Option<Arc<Histogram>> {
        self.latency.then(|| Arc::new(Histogram::new()))
    }

    fn shares(&self, ops: u64, seed: u64, latencies: Option<&Arc<Histogram>>) -> Vec<Share> {
        let tasks = self.tasks as u64;
        (0..tasks)
            .map(|task| Share {
                left: ops / tasks + u64::from(task < ops % tasks),
                pages: self.pages,
                random: scatter(seed.wrapping_add(task)),
                latencies: latencies.cloned(),
                started: None,
            })
            .collect()
    }
}

/// One task's operations: which page each of them reads, and what it has to bring.
#[derive(Debug)]
pub struct Share {
    left: u64,
    pages: u64,
    random: u64,
    latencies: Option<Arc<Histogram>>,
    started: Option<Instant>,
}

impl Share {
    /// The offset of the next read, in bytes, or `None` when the share is done.
    #[inline]
    pub fn next_offset(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // The upper half times the number of pages: a range without a division.
        let page = ((self.random >> 32) * self.pages) >> 32;
        if self.latencies.is_some() {
            self.started = Some(Instant::now());
        }
        Some(page * PAGE_BYTES as u64)
    }

    /// Panics unless a whole page came, and the one asked for: a contender that reads nothing must
    /// not win.
    #[inline]
    pub fn check(&mut self, bytes: &[u8], offset: u64) {
        assert_eq!(bytes.len(), PAGE_BYTES, "a short read at {offset}");
        let stamp = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        assert_eq!(stamp, page_stamp(offset), "another page than the one at {offset}");
        if let (Some(latencies), Some(started)) = (&self.latencies, self.started.take()) {
            latencies.record(started.elapsed());
        }
    }

    /// How many operations are left.
    pub fn left(&self) -> u64 {
        self.left
    }
}

/// The first eight bytes of the page at `offset`.
#[inline]
pub fn page_stamp(offset: u64) -> u64 {
    offset / PAGE_BYTES as u64 + 0x7374_616d_7000_0000
}

/// Spreads neighbouring seeds over all 64 bits (the finaliser of splitmix64); never zero for the
/// seeds used here.
fn scatter(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).max(1)
}

/// Wakes its task and gives way once. One future for all contenders, so that `yield` compares their
/// wakers and queues.
#[derive(Debug, Default)]
pub struct GiveWay {
    given: bool,
}

impl Future for GiveWay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.given {
            return Poll::Ready(());
        }
        self.given = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(tasks: usize, ops: u64) -> Load {
        let workload = Workload::Read;
        let file = PathBuf::new();
        Load {
            workload,
            tasks,
            ops,
            warm_up_ops: 0,
            file,
            pages: 16,
            latency: false,
            messages: None,
        }
    }

    #[test]
    fn the_shares_add_up_to_the_load() {
        let shares = load(3, 11).measured_shares(None);
        assert_eq!(shares.iter().map(Share::left).collect::<Vec<_>>(), [4, 4, 3]);
    }

    #[test]
    fn the_offsets_are_whole_pages_and_reach_every_page_of_the_file() {
        let mut share = load(1, 1_000).measured_shares(None).remove(0);
        let mut seen = [0_u32; 16];
        while let Some(offset) = share.next_offset() {
            assert_eq!(offset % 4096, 0);
            seen[(offset / 4096) as usize] += 1;
        }
        assert!(seen.iter().all(|times| *times > 30), "{seen:?}");
    }

    #[test]
    #[should_panic(expected = "another page")]
    fn a_read_of_another_page_is_noticed() {
        let mut page = vec![0; 4096];
        page[..8].copy_from_slice(&page_stamp(4096).to_le_bytes());
        load(1, 1).measured_shares(None)[0].check(&page, 8192);
    }

    #[test]
    #[should_panic(expected = "a short read")]
    fn a_short_read_is_noticed() {
        load(1, 1).measured_shares(None)[0].check(&[0; 4095], 0);
    }
}
