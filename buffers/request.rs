//! A request for a lease, the steps it goes through, and what it is granted.
#![forbid(unsafe_code)]

use std::sync::Arc;

use ringhold_kernel::ArenaId;

use crate::{
    error::LeaseError,
    foreign::{self, ForeignWaker},
    group::LeaseGroup,
    region::Address,
    registrar::Retiring,
    waiters::Ticket,
};

/// Pages of an arena that left the free map: of a lease, or reserved for a waiter that was
/// answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) id: ArenaId,
    pub(crate) first: u32,
    pub(crate) pages: u32,
    /// Whose they are, for the count.
    pub(crate) queue: u32,
    pub(crate) address: Address,
}

/// How to grow: as much as `length` bytes, but `least` will do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    pub(crate) id: ArenaId,
    pub(crate) length: usize,
    pub(crate) least: usize,
    /// For whom, if it waits.
    pub(crate) by: Option<Ticket>,
}

/// What is short where growing failed with ENOMEM.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Short {
    /// The memory that may be pinned.
    Locked,
    /// Memory at all.
    Mapped(i32),
}

/// What a request has to do next.
#[derive(Debug)]
pub(crate) enum Step {
    Done(Result<Grant, LeaseError>),
    Grow(Growth),
    Retire(Vec<Retiring>),
    /// Clone the waker outside of the lock and come again.
    NeedWaker,
    Wait,
}

/// A request, as it stands between two steps.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) length: usize,
    pub(crate) pages: usize,
    pub(crate) group: Option<Arc<LeaseGroup>>,
    pub(crate) ticket: Option<Ticket>,
    /// One that has no ticket has seen an attempt to grow fail.
    pub(crate) attempted: bool,
}

/// Wakers to be woken, and to be dropped, once the lock is released: both is foreign code.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) wake: Vec<ForeignWaker>,
    pub(crate) discard: Vec<ForeignWaker>,
}

impl Outbox {
    /// Wakes and drops what was collected; to be called without the lock.
    pub(crate) fn deliver(self) {
        let Outbox { wake, discard } = self;
        // One that panics must not cost another one its turn, nor the caller its lease.
        foreign::wake_all(wake);
        drop(discard);
    }
}
