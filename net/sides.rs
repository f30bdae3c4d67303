//! What the two directions of a stream remember of the owned reads and writes that were begun.
//!
//! A dropped owned read or write is an *orphan* until its completion comes. Whoever comes next
//! waits for that, so that the bytes keep their order; and what an orphaned read brings is kept
//! here for the next reader.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use ringhold_buffers::IoBuf;
use ringhold_buffers::sync::{Mutex, MutexGuard};
use ringhold_runtime::Failed;
use ringhold_runtime::ops::Keeper;

/// A direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
}

/// Both directions of a stream.
#[derive(Default)]
pub(crate) struct Sides {
    inbound: Side,
    outbound: Side,
}

impl Sides {
    pub(crate) fn of(&self, direction: Direction) -> &Side {
        match direction {
            Direction::In => &self.inbound,
            Direction::Out => &self.outbound,
        }
    }
}

#[derive(Default)]
pub(crate) struct Side(Mutex<State>);

#[derive(Default)]
struct State {
    /// Owned operations of which the completion has not come.
    begun: u32,
    /// Those of them that somebody still awaits. What is begun and not awaited is an orphan.
    awaited: u32,
    /// Who waits for the orphans.
    waiting: Vec<Waker>,
    /// What orphaned reads have brought.
    bytes: VecDeque<u8>,
    /// The error that an orphaned read met after that. The kernel says it only once.
    error: Option<io::Error>,
}

impl State {
    fn has_orphan(&self) -> bool {
        self.begun > self.awaited
    }

    /// Who is to be woken, if there is nothing left to wait for.
    fn released(&mut self) -> Vec<Waker> {
        if self.has_orphan() { Vec::new() } else { std::mem::take(&mut self.waiting) }
    }
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no orphan is in flight.
    pub(crate) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.lock().has_orphan() {
            return Poll::Ready(());
        }
        // Cloned before the lock is taken: cloning a waker runs foreign code.
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if !state.has_orphan() {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|known| known.will_wake(&waker)) {
            state.waiting.push(waker);
        }
        Poll::Pending
    }

    /// Whether an orphan is in flight.
    pub(crate) fn has_orphan(&self) -> bool {
        self.lock().has_orphan()
    }

    /// Whether an orphaned read has brought something that nobody took, or may still do so.
    pub(crate) fn may_hold_something(&self) -> bool {
        let state = self.lock();
        state.has_orphan() || !state.bytes.is_empty() || state.error.is_some()
    }

    /// Whether there is something to be taken here.
    pub(crate) fn holds_something(&self) -> bool {
        let state = self.lock();
        !state.bytes.is_empty() || state.error.is_some()
    }

    /// Offers what is kept here to `take`, which says how much it took, unless there is nothing.
    /// With `leave`, it is only looked at.
    pub(crate) fn deliver(
        &self,
        leave: bool,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Option<io::Result<usize>> {
        let mut state = self.lock();
        if state.bytes.is_empty() {
            return if leave { None } else { state.error.take().map(Err) };
        }
        let taken = take(state.bytes.make_contiguous());
        if !leave {
            state.bytes.drain(..taken);
            if state.bytes.is_empty() {
                state.bytes = VecDeque::new();
            }
        }
        Some(Ok(taken))
    }
}

/// One owned operation, until its completion has come.
pub(crate) struct Ticket {
    sides: Arc<Sides>,
    direction: Direction,
    is_open: bool,
}

impl Ticket {
    pub(crate) fn new(sides: &Arc<Sides>, direction: Direction) -> Ticket {
        sides.of(direction).lock().begun += 1;
        Ticket { sides: sides.clone(), direction, is_open: true }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let released = {
            let mut state = self.sides.of(self.direction).lock();
            state.begun -= 1;
            state.released()
        };
        released.into_iter().for_each(Waker::wake);
    }
}

impl Ticket {
    /// Adds what was read to what is kept.
    pub(crate) fn add(&self, bytes: &[u8]) {
        self.sides.of(self.direction).lock().bytes.extend(bytes);
    }

    /// Keeps the error that came after that, unless it is about the operation only: of those the
    /// socket knows nothing, and the next reader needs to know nothing.
    pub(crate) fn add_error(&self, error: io::Error) {
        let ours = [libc::ECANCELED, libc::EINTR, libc::EAGAIN];
        if error.raw_os_error().is_some_and(|number| !ours.contains(&number)) {
            self.sides.of(self.direction).lock().error = Some(error);
        }
    }
}

impl<B: IoBuf> Keeper<Result<(usize, B), Failed<B>>> for Ticket {
    fn keep(self, output: Result<(usize, B), Failed<B>>) {
        if self.direction == Direction::Out {
            return;
        }
        match output {
            Ok((count, buffer)) => {
                let brought = buffer.slice(..count);
                self.add(&brought);
            }
            Err(Failed { error, .. }) => self.add_error(error),
        }
    }
}

/// Somebody who awaits an owned operation.
pub(crate) struct Awaiting<'a> {
    side: &'a Side,
    is_open: bool,
}

impl<'a> Awaiting<'a> {
    pub(crate) fn new(side: &'a Side) -> Awaiting<'a> {
        side.lock().awaited += 1;
        Awaiting { side, is_open: true }
    }

    /// The operation has completed, and its output is fetched. Both counts change at once, so that
    /// nobody takes another's orphan for this operation.
    pub(crate) fn finish(mut self, mut ticket: Ticket) {
        let mut state = self.side.lock();
        state.begun -= 1;
        state.awaited -= 1;
        (self.is_open, ticket.is_open) = (false, false);
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.side.lock().awaited -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_free(side: &Side) -> bool {
        side.poll_turn(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_dropped_read_is_waited_for_and_what_it_brings_is_kept() {
        let sides = Arc::new(Sides::default());
        let inbound = sides.of(Direction::In);
        let ticket = Ticket::new(&sides, Direction::In);
        let awaiting = Awaiting::new(inbound);
        assert!(is_free(inbound), "who is awaited holds nobody up");
        drop(awaiting);
        assert!(!is_free(inbound));
        ticket.keep(Ok((3, Vec::from("abcd"))));
        assert!(is_free(inbound));
        let mut seen = Vec::new();
        let mut take = |bytes: &[u8]| {
            seen.push(bytes[..2.min(bytes.len())].to_vec());
            2.min(bytes.len())
        };
        assert_eq!(inbound.deliver(true, &mut take).map(Result::unwrap), Some(2));
        assert_eq!(inbound.deliver(false, &mut take).map(Result::unwrap), Some(2));
        assert_eq!(inbound.deliver(false, &mut take).map(Result::unwrap), Some(1));
        assert!(inbound.deliver(false, &mut take).is_none());
        assert_eq!(seen, [&b"ab"[..], b"ab", b"c"]);
    }

    #[test]
    fn the_error_of_a_dropped_read_is_the_next_readers_unless_it_is_ours() {
        let sides = Arc::new(Sides::default());
        for (number, kept) in [(libc::ECANCELED, None), (libc::ECONNRESET, Some(104))] {
            let error = io::Error::from_raw_os_error(number);
            Ticket::new(&sides, Direction::In).keep(Err(Failed { error, buffer: Vec::new() }));
            let next = sides.of(Direction::In).deliver(false, |_| 0);
            assert_eq!(next.map(|it| it.unwrap_err().raw_os_error().unwrap()), kept);
        }
    }
}
