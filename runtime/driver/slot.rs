//! An operation in flight, as the driver keeps it: its name, its state, and what is asked to start
//! it.

use std::task::Waker;

use ringhold_buffers::ArenaId;

use crate::fd::Fd;
use crate::kernel::Cqe;
use crate::op::{Entry, Operation, Orphan};

/// Names one operation for as long as anybody may ask for it: the slot's index and the generation
/// of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// The completions of cancel requests carry this; nobody waits for them.
pub(super) const CANCEL: u64 = u64::MAX;

impl Key {
    pub(super) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_user_data(user_data: u64) -> Key {
        Key { index: user_data as u32, generation: (user_data >> 32) as u32 }
    }
}

/// One operation in flight.
pub(super) struct Slot {
    pub(super) generation: u32,
    /// The kernel has it; before that it waits in the backlog.
    pub(super) pushed: bool,
    pub(super) unbounded: bool,
    pub(super) cancellable: bool,
    pub(super) state: SlotState,
}

pub(super) enum SlotState {
    /// Its future waits, and holds the resources.
    Waiting(Waker),
    /// The final completion came; the future hasn't looked yet.
    Done(Cqe),
    /// The future is gone; the resources stay here until the final completion.
    Orphaned(Box<dyn Orphan>),
}

/// What the driver needs to know of an operation to start it.
pub(crate) struct Request<'a> {
    pub(crate) entry: Entry,
    pub(crate) file: Option<&'a Fd>,
    pub(crate) arena: Option<ArenaId>,
    pub(crate) unbounded: bool,
    pub(crate) cancellable: bool,
    pub(crate) fixed_only: bool,
}

impl<'a> Request<'a> {
    #[inline]
    pub(crate) fn of<T: Operation>(operation: &'a mut T) -> Request<'a> {
        Request {
            entry: operation.entry(),
            file: operation.file(),
            arena: operation.arena(),
            unbounded: T::UNBOUNDED,
            cancellable: T::CANCELLABLE,
            fixed_only: T::FIXED_ONLY,
        }
    }
}

/// What a poll finds in the slot.
pub(crate) enum Taken {
    Done(Cqe),
    Pending,
    /// Still waiting, and with another waker than the one at hand.
    NewWaker,
}

pub(super) fn waker_of(state: SlotState) -> Option<Waker> {
    match state {
        SlotState::Waiting(waker) => Some(waker),
        SlotState::Done(_) | SlotState::Orphaned(_) => None,
    }
}
