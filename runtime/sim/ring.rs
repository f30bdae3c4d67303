//! One shard's ring: its queues, its tables, and what is in flight.

use std::collections::{BTreeMap, VecDeque};
use std::mem::MaybeUninit;

use ringhold_kernel::{ArenaEntry, Cqe, KernelConfig, Wait};

use crate::memory::Span;
use crate::request::Request;

/// The descriptor that an operation works on, and which of the files that ever had the number it
/// is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFile {
    pub(crate) descriptor: i32,
    pub(crate) serial: u64,
}

/// What was done to an operation's memory while the kernel has it.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    /// What was in the targets before they were poisoned.
    saved: Vec<Vec<MaybeUninit<u8>>>,
    /// What the sources' bytes came to.
    checksums: Vec<u64>,
}

impl Lent {
    /// The kernel gets the memory of `request`.
    pub(crate) fn lend(request: &Request) -> Lent {
        Lent {
            saved: request.targets().iter().map(|span| span.poison()).collect(),
            checksums: request.sources().iter().map(Span::checksum).collect(),
        }
    }

    /// The kernel gives the memory back. What it doesn't write now is as it was.
    pub(crate) fn restore(&self, request: &Request) {
        for (span, saved) in request.targets().iter().zip(&self.saved) {
            span.restore(saved);
        }
    }

    /// Whether the bytes to be written are those that were pushed.
    pub(crate) fn is_intact(&self, request: &Request) -> bool {
        request.sources().iter().map(Span::checksum).eq(self.checksums.iter().copied())
    }
}

/// An entry that no enter has handed over yet.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) user_data: u64,
    pub(crate) opcode: u8,
    pub(crate) request: Request,
    pub(crate) lent: Lent,
}

/// An operation that the kernel has taken.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) user_data: u64,
    pub(crate) request: Request,
    pub(crate) lent: Lent,
    pub(crate) file: Option<OpenFile>,
    /// What a sync makes durable: that which completed before this.
    pub(crate) begun: crate::disk::Stamp,
    /// It has been tried, and waits for a peer.
    pub(crate) waits: bool,
    /// A cancel came too late to keep it from being tried.
    pub(crate) is_unwanted: bool,
    /// How many bytes it has moved, of an operation that goes on until it has moved them all.
    pub(crate) moved: usize,
    /// Its bytes are on their way, and only its memory is still in use.
    pub(crate) is_queued: bool,
}

/// Whether the shard waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It has something to do.
    No,
    /// Until something comes.
    Ever,
    /// Until something comes, or until this time, in nanoseconds of the simulation.
    Until(u64),
}

#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) config: KernelConfig,
    pub(crate) queue: VecDeque<Queued>,
    /// By number, counted up: what was taken earlier is first.
    pub(crate) in_flight: BTreeMap<u64, InFlight>,
    /// Completions that the next enter lets into the queue.
    pub(crate) arrived: VecDeque<Cqe>,
    pub(crate) completions: VecDeque<Cqe>,
    pub(crate) overflows: u64,
    pub(crate) files: Vec<Option<OpenFile>>,
    pub(crate) arenas: BTreeMap<u16, ArenaEntry>,
    /// The buffers that each group was provided with, in their order.
    pub(crate) groups: BTreeMap<u16, VecDeque<(u16, Span)>>,
    pub(crate) waiting: Waiting,
}

impl Ring {
    pub(crate) fn new(config: KernelConfig) -> Ring {
        Ring {
            config,
            queue: VecDeque::new(),
            in_flight: BTreeMap::new(),
            arrived: VecDeque::new(),
            completions: VecDeque::new(),
            overflows: 0,
            files: Vec::new(),
            arenas: BTreeMap::new(),
            groups: BTreeMap::new(),
            waiting: Waiting::No,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= self.config.submissions as usize
    }

    /// Whether the operation's user data names one that the kernel has.
    pub(crate) fn find(&self, user_data: u64) -> Option<u64> {
        let mut in_flight = self.in_flight.iter();
        in_flight.find(|(_, each)| each.user_data == user_data).map(|(number, _)| *number)
    }

    pub(crate) fn has(&self, user_data: u64) -> bool {
        self.find(user_data).is_some() || self.queue.iter().any(|each| each.user_data == user_data)
    }

    /// Whether its table has another arena in the slot of `arena`.
    pub(crate) fn has_another_at(&self, arena: &ArenaEntry) -> bool {
        self.arenas.get(&arena.id.slot).is_some_and(|other| other.id != arena.id)
    }

    pub(crate) fn arrive(&mut self, cqe: Cqe) {
        self.arrived.push_back(cqe);
        self.waiting = Waiting::No;
    }

    /// Lets what arrived into the completion queue, `most` at the most. What finds it full stays
    /// aside, and is counted.
    pub(crate) fn let_in(&mut self, most: usize) {
        let room = self.config.completions as usize - self.completions.len();
        let due = self.arrived.len().min(most);
        if due > room {
            self.overflows += 1;
        }
        let coming = room.min(due);
        self.completions.extend(self.arrived.drain(..coming));
    }

    /// The shard waits, if there is nothing for it.
    pub(crate) fn wait(&mut self, wait: Wait, now: u64) {
        let nothing =
            self.completions.is_empty() && self.arrived.is_empty() && self.queue.is_empty();
        self.waiting = match wait {
            Wait::For { timeout: None, .. } if nothing => Waiting::Ever,
            Wait::For { timeout: Some(timeout), .. } if nothing => {
                let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
                Waiting::Until(now.saturating_add(nanos))
            }
            _ => Waiting::No,
        };
    }
}
