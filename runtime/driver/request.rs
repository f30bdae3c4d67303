//! What is asked of the driver to start an operation, and what it answers to a poll.

use std::io;
use std::sync::Arc;

use ringhold_kernel::{ArenaId, Cqe};

use crate::collector::Collector;
use crate::driver::Nature;
use crate::fd::Fd;
use crate::op::Operation;
use crate::operation_error::OperationError;

/// What the driver needs to know of an operation to start it, besides its entry.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) file: Option<&'a Fd>,
    pub(crate) arena: Option<ArenaId>,
    pub(crate) nature: Nature,
    pub(crate) fixed_only: bool,
    pub(crate) collector: Option<&'a Arc<dyn Collector>>,
}

impl<'a> Request<'a> {
    #[inline(always)]
    pub(crate) fn of<T: Operation>(operation: &'a T) -> Request<'a> {
        Request {
            file: operation.file(),
            arena: operation.arena(),
            nature: const { Nature::of::<T>() },
            fixed_only: T::FIXED_ONLY,
            collector: operation.collector(),
        }
    }
}

/// What a poll finds in the slot.
pub(crate) enum Taken {
    Done(Cqe),
    Pending,
    /// Still waiting, and for another than the one at hand.
    NewWaiter,
}

/// The answer of a shard that is past starting anything.
pub(crate) fn shut_down() -> io::Error {
    OperationError::RuntimeEnded.into()
}
