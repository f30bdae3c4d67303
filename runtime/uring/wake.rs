//! Waking a ring that waits: an event that the ring always has a read of in flight.

#![allow(unsafe_code)] // A static that kernels write to.

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::kernel::Unpark;
use crate::uring::wake_read;

/// The user data of the read; no operation's key can be the same.
pub(super) const WAKE: u64 = u64::MAX - 1;

/// Where the count of the event goes. Nobody ever reads it, so one place is enough for all rings,
/// and none has to be kept for a ring that ends with its read in flight.
struct Sink(UnsafeCell<u64>);

// SAFETY: only kernels write to it, and nothing reads it (S2: it is static).
unsafe impl Sync for Sink {}

static SINK: Sink = Sink(UnsafeCell::new(0));

#[derive(Debug)]
pub(super) struct WakeEvent {
    // Blocking on purpose: a read of a non-blocking event would complete with EAGAIN instead of
    // waiting.
    event: OwnedFd,
}

impl WakeEvent {
    pub(super) fn new() -> io::Result<WakeEvent> {
        Ok(WakeEvent { event: eventfd(0, EventfdFlags::CLOEXEC)? })
    }

    pub(super) fn read(&self) -> io_uring::squeue::Entry {
        wake_read(self.event.as_raw_fd(), SINK.0.get().cast::<u8>())
    }
}

impl Unpark for WakeEvent {
    fn unpark(&self) {
        // The count can't overflow, and an event can't be closed by its reader: there is no error
        // to handle.
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.event, &1u64.to_ne_bytes()));
    }
}
