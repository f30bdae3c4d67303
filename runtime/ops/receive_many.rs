//! `IORING_OP_RECV` with `IORING_RECV_MULTISHOT`: what arrives, in leases that the kernel picks;
//! since 6.16 several at once (`IORING_RECVSEND_BUNDLE`).
#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::{opcode, types};
use ringhold_buffers::{IoBufMut, Lease};
use ringhold_kernel::Cqe;

use crate::collector::{Arrivals, Collector};
use crate::fd::Fd;
use crate::group::Group;
use crate::op::{Entry, Operation};

/// Receives from a connected socket until something is in the way, each time into a lease of a
/// group.
#[derive(Debug)]
pub struct ReceiveMany {
    file: Fd,
    in_bundles: bool,
    received: Arc<Received>,
    collector: Arc<dyn Collector>,
}

/// What was received, in order.
#[derive(Debug)]
pub struct Received {
    group: Arc<Group>,
    arrivals: Arrivals<Lease>,
    /// Whether the last completion said that more has arrived already.
    has_more: AtomicBool,
}

impl Received {
    /// Takes what came first.
    pub fn take(&self) -> Option<Lease> {
        // A lease that was picked for the end of the stream has nothing in it.
        std::iter::from_fn(|| self.arrivals.take()).find(|lease| !lease.is_empty())
    }

    /// Whether more had arrived when something was received last.
    pub fn has_more(&self) -> bool {
        self.has_more.load(Ordering::Relaxed)
    }
}

impl Collector for Received {
    fn collect(&self, cqe: Cqe) -> bool {
        let (Some(number), Ok(count)) = (cqe.buffer(), cqe.outcome()) else { return false };
        self.has_more.store(cqe.leaves_something(), Ordering::Relaxed);
        self.group.take(number, count as usize, |mut lease, filled| {
            // SAFETY: the kernel wrote `count` bytes from the start of the buffer that it picked
            // on, and in those that were provided after it, whole ones but for the last (S9).
            unsafe { lease.set_init(filled) };
            self.arrivals.add(lease);
        });
        true
    }
}

impl ReceiveMany {
    /// An operation, and where it puts what it receives: into several leases at once, if that is
    /// wished and the kernel can.
    pub fn new(file: Fd, group: Arc<Group>, in_bundles: bool) -> (ReceiveMany, Arc<Received>) {
        let in_bundles = in_bundles && group.is_in_bundles();
        let received = Arc::new(Received {
            group,
            arrivals: Arrivals::default(),
            has_more: AtomicBool::new(false),
        });
        let collector: Arc<dyn Collector> = received.clone();
        (ReceiveMany { file, in_bundles, received: received.clone(), collector }, received)
    }
}

// SAFETY: the entry points to nothing; the buffers that the kernel writes to are those of the
// group, which keeps them until it is dropped (S1, S2), and this holds a count of it.
unsafe impl Operation for ReceiveMany {
    /// 0 at the end of the stream; anything else means that the kernel stopped before: an error, or
    /// because it may.
    type Output = (io::Result<u32>, Arc<Received>);

    const UNBOUNDED: bool = true;

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn collector(&self) -> Option<&Arc<dyn Collector>> {
        Some(&self.collector)
    }

    fn entry(&mut self) -> Entry {
        let file = types::Fd(self.file.descriptor());
        let group = &self.received.group;
        if self.in_bundles {
            opcode::RecvMultiBundle::new(file, group.number()).build().into()
        } else {
            opcode::RecvMulti::new(file, group.number()).build().into()
        }
    }

    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        (outcome, self.received)
    }
}
