//! `IORING_OP_RECV` with `IORING_RECV_MULTISHOT`: what arrives, in leases that the kernel picks.
#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use io_uring::{opcode, types};
use ringhold_buffers::{IoBufMut, Lease};

use crate::collector::{Arrivals, Collector};
use crate::fd::Fd;
use crate::group::Group;
use crate::kernel::Cqe;
use crate::op::{Entry, Operation};

/// Receives from a connected socket until something is in the way, each time into a lease of a
/// group.
#[derive(Debug)]
pub struct ReceiveMany {
    file: Fd,
    received: Arc<Received>,
    collector: Arc<dyn Collector>,
}

/// What was received, in order.
#[derive(Debug)]
pub struct Received {
    group: Arc<Group>,
    arrivals: Arrivals<Lease>,
}

impl Received {
    /// Takes what came first.
    pub fn take(&self) -> Option<Lease> {
        self.arrivals.take()
    }

    /// Takes what came first, or waits for it.
    pub fn poll_take(&self, cx: &Context<'_>) -> Poll<Lease> {
        self.arrivals.poll_take(cx)
    }
}

impl Collector for Received {
    fn collect(&self, cqe: Cqe) -> Option<Waker> {
        let (number, count) = (cqe.buffer()?, cqe.outcome().ok()? as usize);
        let mut lease = self.group.take(number);
        // SAFETY: the kernel wrote `count` bytes from the start of the buffer that it picked (S9).
        unsafe { lease.set_init(count) };
        self.arrivals.add(lease, !cqe.has_more())
    }
}

impl ReceiveMany {
    /// An operation, and where it puts what it receives.
    pub fn new(file: Fd, group: Arc<Group>) -> (ReceiveMany, Arc<Received>) {
        let received = Arc::new(Received { group, arrivals: Arrivals::default() });
        let collector: Arc<dyn Collector> = received.clone();
        (ReceiveMany { file, received: received.clone(), collector }, received)
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
        opcode::RecvMulti::new(file, self.received.group.number()).build().into()
    }

    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        (outcome, self.received)
    }
}
