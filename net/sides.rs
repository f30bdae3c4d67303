//! What the two directions of a stream remember of the owned reads and writes that were begun.
//!
//! A dropped owned read or write is an *orphan* until its completion comes. Whoever comes next
//! waits for that, so that the bytes keep their order; and what an orphaned read brings is kept
//! here for the next reader.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use ringhold_buffers::foreign::{self, ForeignWaker};
use ringhold_buffers::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use ringhold_buffers::sync::{Mutex, MutexGuard};
use ringhold_buffers::{IoBuf, IoBufMut};
use ringhold_runtime::Failed;
use ringhold_runtime::ops::{Keeper, fill};

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

/// One direction. What is asked for every transfer is an atomic; the rest is behind a lock.
#[derive(Default)]
pub(crate) struct Side {
    /// Owned operations that are not awaited any more, and whose completion has not come.
    orphans: AtomicU32,
    /// Whether something is kept.
    holds: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Who waits for the orphans.
    waiting: Vec<ForeignWaker>,
    /// What orphaned reads have brought.
    bytes: VecDeque<u8>,
    /// The error that an orphaned read met after that. The kernel says it only once.
    error: Option<io::Error>,
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no orphan is in flight.
    #[inline]
    pub(crate) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_orphan() { self.poll_orphans(cx) } else { Poll::Ready(()) }
    }

    #[cold]
    fn poll_orphans(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Cloned before the lock is taken: cloning a waker runs foreign code.
        let waker = ForeignWaker::of(cx.waker());
        let mut kept = self.lock();
        // The last orphan goes under the lock.
        if !self.has_orphan() {
            return Poll::Ready(());
        }
        if !kept.waiting.iter().any(|known| known.will_wake(cx.waker())) {
            kept.waiting.push(waker);
        }
        Poll::Pending
    }

    /// Changes how many orphans are in flight, and wakes those who wait for there to be none.
    #[cold]
    fn count(&self, change: impl FnOnce(&AtomicU32) -> u32) {
        let waiting = {
            let mut kept = self.lock();
            if change(&self.orphans) == 0 { std::mem::take(&mut kept.waiting) } else { Vec::new() }
        };
        foreign::wake_all(waiting);
    }

    /// Whether an orphan is in flight.
    #[inline]
    pub(crate) fn has_orphan(&self) -> bool {
        self.orphans.load(Ordering::Acquire) > 0
    }

    /// Whether an orphaned read has brought something that was not taken, or may still do so.
    pub(crate) fn may_hold_something(&self) -> bool {
        self.has_orphan() || self.holds_something()
    }

    /// Whether there is something to be taken here.
    #[inline]
    pub(crate) fn holds_something(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }

    /// Offers what is kept here to `take`, which says how much it took, unless there is nothing.
    /// With `leave`, it is only looked at.
    #[inline]
    pub(crate) fn deliver(
        &self,
        leave: bool,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Option<io::Result<usize>> {
        if self.holds_something() { self.deliver_kept(leave, take) } else { None }
    }

    #[cold]
    fn deliver_kept(
        &self,
        leave: bool,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Option<io::Result<usize>> {
        let mut kept = self.lock();
        if kept.bytes.is_empty() {
            if leave {
                return None;
            }
            self.holds.store(false, Ordering::Release);
            return kept.error.take().map(Err);
        }
        let taken = take(kept.bytes.make_contiguous());
        if !leave {
            kept.bytes.drain(..taken);
            if kept.bytes.is_empty() {
                kept.bytes = VecDeque::new();
                self.holds.store(kept.error.is_some(), Ordering::Release);
            }
        }
        Some(Ok(taken))
    }

    /// Moves what is kept here into a user's buffer. That runs the buffer's code, so it is done
    /// without the lock, and what it doesn't take, or panics over, stays here.
    #[cold]
    pub(crate) fn deliver_into<B: IoBufMut>(&self, buffer: &mut B) -> Option<io::Result<usize>> {
        let room = buffer.bytes_total();
        let mut bytes = Vec::new();
        let delivered = self.deliver(false, |kept| {
            bytes.extend_from_slice(&kept[..room.min(kept.len())]);
            bytes.len()
        });
        if let Err(error) = delivered? {
            return Some(Err(error));
        }
        let mut untaken = Untaken { side: self, bytes: &bytes };
        let count = fill(buffer, &bytes);
        untaken.bytes = &bytes[count..];
        Some(Ok(count))
    }

    /// Adds what was read to what is kept.
    pub(crate) fn add(&self, bytes: &[u8]) {
        let mut kept = self.lock();
        kept.bytes.extend(bytes);
        let holds = !kept.bytes.is_empty() || kept.error.is_some();
        self.holds.store(holds, Ordering::Release);
    }

    /// Keeps the error that came after that, unless it is about the operation only: of those the
    /// socket knows nothing, and the next reader needs to know nothing.
    pub(crate) fn add_error(&self, error: io::Error) {
        let ours = [libc::ECANCELED, libc::EINTR, libc::EAGAIN];
        if error.raw_os_error().is_some_and(|number| !ours.contains(&number)) {
            self.lock().error = Some(error);
            self.holds.store(true, Ordering::Release);
        }
    }
}

/// Kept bytes that go back to where they were, before all others.
struct Untaken<'a> {
    side: &'a Side,
    bytes: &'a [u8],
}

impl Drop for Untaken<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            let mut kept = self.side.lock();
            self.bytes.iter().rev().for_each(|&byte| kept.bytes.push_front(byte));
            self.side.holds.store(true, Ordering::Release);
        }
    }
}

/// One owned operation, until its completion has come. Dropped, it is an orphan's that is no more.
pub(crate) struct Ticket {
    sides: Arc<Sides>,
    direction: Direction,
    is_open: bool,
}

impl Ticket {
    #[inline]
    pub(crate) fn new(sides: &Arc<Sides>, direction: Direction) -> Ticket {
        Ticket { sides: sides.clone(), direction, is_open: true }
    }

    pub(crate) fn side(&self) -> &Side {
        self.sides.of(self.direction)
    }
}

impl Drop for Ticket {
    #[inline]
    fn drop(&mut self) {
        if self.is_open {
            self.bury();
        }
    }
}

impl Ticket {
    #[cold]
    fn bury(&mut self) {
        self.side().count(|orphans| orphans.fetch_sub(1, Ordering::AcqRel).wrapping_sub(1));
    }
}

impl<B: IoBuf> Keeper<Result<(usize, B), Failed<B>>> for Ticket {
    fn keep(self, output: Result<(usize, B), Failed<B>>) {
        match output {
            Ok((count, buffer)) => {
                let brought = buffer.slice(..count);
                self.side().add(&brought);
            }
            Err(Failed { error, .. }) => self.side().add_error(error),
        }
    }
}

/// The ticket of an operation that brings nothing: of one that writes, nothing is kept.
pub(crate) struct Outbound(Ticket);

impl<O> Keeper<O> for Outbound {
    fn keep(self, _: O) {}
}

impl From<Ticket> for Outbound {
    fn from(ticket: Ticket) -> Outbound {
        Outbound(ticket)
    }
}

impl From<Outbound> for Ticket {
    fn from(outbound: Outbound) -> Ticket {
        outbound.0
    }
}

/// A waiter for an owned operation, which is an orphan when this is dropped before it is finished.
/// The operation, and its ticket with it, is dropped after this.
pub(crate) struct Awaiting<'a> {
    side: &'a Side,
    is_open: bool,
}

impl<'a> Awaiting<'a> {
    #[inline]
    pub(crate) fn new(side: &'a Side) -> Awaiting<'a> {
        Awaiting { side, is_open: true }
    }

    /// The operation has completed, and its output is fetched.
    #[inline]
    pub(crate) fn finish(&mut self, mut ticket: Ticket) {
        (self.is_open, ticket.is_open) = (false, false);
    }
}

impl Drop for Awaiting<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_open {
            // Where finishing the operation panicked, its ticket went first.
            self.side.count(|orphans| orphans.fetch_add(1, Ordering::AcqRel).wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

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

    /// As where a buffer panics when its read is finished.
    #[test]
    fn who_waits_for_a_read_whose_ticket_went_first_is_woken() {
        let sides = Arc::new(Sides::default());
        let inbound = sides.of(Direction::In);
        let awaiting = Awaiting::new(inbound);
        drop(Ticket::new(&sides, Direction::In));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert!(inbound.poll_turn(&mut Context::from_waker(&waker)).is_pending());
        drop(awaiting);
        assert!(woken.0.load(Ordering::SeqCst) && is_free(inbound));
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_error_of_a_dropped_read_is_the_next_readers_unless_it_is_ours() {
        let sides = Arc::new(Sides::default());
        for (number, kept) in [(libc::ECANCELED, None), (libc::ECONNRESET, Some(104))] {
            let error = io::Error::from_raw_os_error(number);
            drop(Awaiting::new(sides.of(Direction::In)));
            Ticket::new(&sides, Direction::In).keep(Err(Failed { error, buffer: Vec::new() }));
            let next = sides.of(Direction::In).deliver(false, |_| 0);
            assert_eq!(next.map(|it| it.unwrap_err().raw_os_error().unwrap()), kept);
        }
    }
}
