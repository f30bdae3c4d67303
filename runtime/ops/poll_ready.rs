//! `IORING_OP_POLL_ADD`: waits until a descriptor is ready for something.
#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;

use io_uring::{opcode, types};
use ringhold_kernel::Cqe;
use ringhold_kernel::sync::atomic::{AtomicU32, Ordering};

use crate::collector::Collector;
use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// Waits until one of the events is there, once, or each time that one comes. It takes nothing from
/// the descriptor, so a dropped one has lost nothing.
#[derive(Debug)]
pub struct PollReady {
    file: Fd,
    events: u32,
    /// There for one that stays armed.
    collector: Option<Arc<dyn Collector>>,
}

/// What operations that stay armed have told.
#[derive(Debug, Default)]
pub struct Told {
    /// How often they told something. Nobody takes from it, so nobody misses what another has seen.
    count: AtomicU32,
    /// All that ever came.
    events: AtomicU32,
}

impl Told {
    /// How often something was told.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether one of these events ever came.
    pub fn has_told(&self, events: u32) -> bool {
        self.events.load(Ordering::Acquire) & events != 0
    }
}

impl Collector for Told {
    fn collect(&self, cqe: Cqe) -> bool {
        self.events.fetch_or(cqe.outcome().unwrap_or(0), Ordering::AcqRel);
        self.count.fetch_add(1, Ordering::AcqRel);
        true
    }
}

impl PollReady {
    /// Waits once for some of `POLL*`. `POLLERR` and `POLLHUP` are always waited for as well.
    pub fn new(file: Fd, events: u32) -> PollReady {
        PollReady { file, events, collector: None }
    }

    /// As [`new`](PollReady::new), and stays armed after it has told what there is
    /// (`IORING_POLL_ADD_MULTI`, since 5.13). At first it tells what is there; from then on it
    /// tells what comes, and not again what has stayed.
    pub fn armed(file: Fd, events: u32, told: Arc<Told>) -> PollReady {
        PollReady { file, events, collector: Some(told) }
    }
}

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for PollReady {
    /// The events that are there.
    type Output = io::Result<u32>;

    const UNBOUNDED: bool = true;

    #[inline]
    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    #[inline]
    fn collector(&self) -> Option<&Arc<dyn Collector>> {
        self.collector.as_ref()
    }

    #[inline]
    fn entry(&mut self) -> Entry {
        opcode::PollAdd::new(types::Fd(self.file.descriptor()), self.events)
            .multi(self.collector.is_some())
            .build()
            .into()
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> io::Result<u32> {
        outcome
    }
}
