//! The queue of those who wait for a lease: first come, first served.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, task::Waker, time::Instant};

use crate::foreign::ForeignWaker;

use crate::{error::LeaseError, request::Grant};

/// Names one waiter. Later waiters have greater tickets.
pub(crate) type Ticket = u64;

#[derive(Debug)]
struct Waiter {
    length: usize,
    /// Taken when it is woken without an answer, so that it is woken once.
    waker: Option<ForeignWaker>,
    since: Option<Instant>,
}

/// What is known of a waiter that left the queue, for the caller to drop outside of the lock.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) waker: Option<ForeignWaker>,
    pub(crate) since: Option<Instant>,
}

/// Who waits, in order, and the answers that nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queue: BTreeMap<Ticket, Waiter>,
    answers: BTreeMap<Ticket, Result<Grant, LeaseError>>,
    next: Ticket,
}

impl Waiters {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts a waiter at the end.
    pub(crate) fn push(&mut self, length: usize, waker: ForeignWaker) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.queue.insert(ticket, Waiter { length, waker: Some(waker), since: None });
        ticket
    }

    /// Whose turn it is, and the bytes it wants.
    pub(crate) fn head(&self) -> Option<(Ticket, usize)> {
        self.queue.first_key_value().map(|(&ticket, waiter)| (ticket, waiter.length))
    }

    /// Whether it is this waiter's turn.
    pub(crate) fn is_head(&self, ticket: Ticket) -> bool {
        self.head().is_some_and(|(head, _)| head == ticket)
    }

    /// Notes when a waiter began to wait. Returns whether it had not before.
    pub(crate) fn start_clock(&mut self, ticket: Ticket, now: Instant) -> bool {
        let waiter = self.queued(ticket);
        let first = waiter.since.is_none();
        if first {
            waiter.since = Some(now);
        }
        first
    }

    /// Whether the waiter would be woken by waking `waker`.
    pub(crate) fn would_wake(&mut self, ticket: Ticket, waker: &Waker) -> bool {
        self.queued(ticket).waker.as_ref().is_some_and(|known| known.will_wake(waker))
    }

    /// Gives the waiter another waker, and returns the one it had.
    pub(crate) fn replace_waker(
        &mut self,
        ticket: Ticket,
        waker: ForeignWaker,
    ) -> Option<ForeignWaker> {
        self.queued(ticket).waker.replace(waker)
    }

    /// Takes the waker of the waiter whose turn it is.
    pub(crate) fn take_head_waker(&mut self) -> Option<ForeignWaker> {
        self.queue.first_entry().and_then(|mut entry| entry.get_mut().waker.take())
    }

    /// Answers a waiter, which leaves the queue.
    pub(crate) fn answer(
        &mut self,
        ticket: Ticket,
        answer: Result<Grant, LeaseError>,
    ) -> Departure {
        let departure = self.remove(ticket).expect("an answered waiter is in the queue");
        self.answers.insert(ticket, answer);
        departure
    }

    /// Takes the answer that a waiter was given.
    pub(crate) fn take_answer(&mut self, ticket: Ticket) -> Option<Result<Grant, LeaseError>> {
        self.answers.remove(&ticket)
    }

    /// Removes a waiter that has no answer.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Departure> {
        let waiter = self.queue.remove(&ticket)?;
        Some(Departure { waker: waiter.waker, since: waiter.since })
    }

    fn queued(&mut self, ticket: Ticket) -> &mut Waiter {
        self.queue.get_mut(&ticket).unwrap_or_else(|| panic!("waiter {ticket} is not in the queue"))
    }
}
