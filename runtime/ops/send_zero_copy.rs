//! `IORING_OP_SEND_ZC`: the network reads a buffer where it lies.
#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;

use io_uring::{opcode, types};
use ringhold_buffers::IoBuf;
use ringhold_kernel::{ArenaId, Cqe};

use crate::collector::{Arrivals, Collector};
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::fixed::check_filled;
use crate::ops::segments::socket_length;

/// Sends a buffer's initialised bytes without copying them.
///
/// It completes twice: once when the bytes are queued, which [`Sent`] tells, and at last when the
/// kernel no longer reads them, which is when the buffer comes back.
#[derive(Debug)]
pub struct SendZeroCopy<B, G> {
    file: Fd,
    buffer: B,
    /// Dropped when the kernel is done.
    guard: G,
    collector: Arc<dyn Collector>,
}

/// How many bytes were queued, once that is known.
#[derive(Debug, Default)]
pub struct Sent(Arrivals<Cqe>);

impl Sent {
    /// How many bytes were queued, if that is known and was not asked before.
    pub fn take(&self) -> Option<io::Result<u32>> {
        self.0.take().map(Cqe::outcome)
    }
}

impl Collector for Sent {
    fn collect(&self, cqe: Cqe) -> bool {
        // The notification only ends the operation.
        if !cqe.is_notification() {
            self.0.add(cqe);
        }
        true
    }
}

impl<B: IoBuf, G> SendZeroCopy<B, G> {
    /// An operation, and what tells how many bytes it has queued.
    pub fn new(file: Fd, buffer: B, guard: G) -> (SendZeroCopy<B, G>, Arc<Sent>) {
        let sent = Arc::<Sent>::default();
        (SendZeroCopy { file, buffer, guard, collector: sent.clone() }, sent)
    }
}

// SAFETY: the entry points to the buffer's memory, which `IoBuf` promises to keep in place while
// the buffer moves (S2), and which nothing changes before `finish` since the buffer is in here; the
// notification, after which the kernel reads no more, is the last completion (S1).
unsafe impl<B: IoBuf, G: Send + 'static> Operation for SendZeroCopy<B, G> {
    /// An error if nothing was even begun, and the buffer.
    type Output = (io::Result<()>, B);

    const UNBOUNDED: bool = true;

    fn check(&self) -> io::Result<()> {
        if self.buffer.arena().is_some() {
            check_filled(self.buffer.bytes_init())?;
        }
        Ok(())
    }

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn arena(&self) -> Option<ArenaId> {
        self.buffer.arena()
    }

    fn collector(&self) -> Option<&Arc<dyn Collector>> {
        Some(&self.collector)
    }

    fn entry(&mut self) -> Entry {
        let file = types::Fd(self.file.descriptor());
        let length = socket_length(self.buffer.bytes_init());
        opcode::SendZc::new(file, self.buffer.stable_ptr(), length)
            .buf_index(self.buffer.arena().map(|arena| arena.slot))
            // With MSG_WAITALL the kernel itself goes on where there is room for a part only.
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .into()
    }

    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        drop(self.guard);
        (outcome.map(drop), self.buffer)
    }
}
