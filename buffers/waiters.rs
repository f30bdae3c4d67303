//! Who waits for a lease: a queue for each group, and in it, for each class of sizes, first come,
//! first served.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    task::Waker,
    time::{Duration, Instant},
};

use crate::{
    PAGE,
    error::LeaseError,
    foreign::ForeignWaker,
    group::{LeaseGroup, SHARES_MAX},
    request::Grant,
};

/// The queue of those who are of no group.
pub(crate) const COMMON: u32 = 0;

/// Names one waiter, and where it stands. Of two, the later one has the greater number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket {
    number: u64,
    pub(crate) queue: u32,
    class: u8,
}

#[derive(Debug)]
struct Waiter {
    length: usize,
    /// Taken when it is woken without an answer, so that it is woken once.
    waker: Option<ForeignWaker>,
    since: Option<Instant>,
    /// It has seen an attempt to grow fail since it was last polled.
    attempted: bool,
}

/// What is known of a waiter that left the queue, for the caller to drop outside of the lock.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) waker: Option<ForeignWaker>,
    pub(crate) since: Option<Instant>,
}

/// The requests of one group, and what it has.
#[derive(Debug, Default)]
struct Queue {
    group: Weak<LeaseGroup>,
    /// By class of sizes: those of one class differ by less than the double, so that none of them
    /// waits long for a range that would do for the next.
    classes: BTreeMap<u8, BTreeMap<u64, Waiter>>,
    /// Pages that are out; of the common queue they are not counted.
    leased: usize,
    /// Pages that it was given while others waited, divided by its part of 1000 shares.
    used: u64,
}

impl Queue {
    fn shares(&self) -> u64 {
        u64::from(self.group.upgrade().map_or(SHARES_MAX, |group| group.shares()))
    }

    /// Who came first.
    fn oldest(&self) -> Option<(u64, u8, usize)> {
        self.heads().min()
    }

    /// Who came first of each class.
    fn heads(&self) -> impl Iterator<Item = (u64, u8, usize)> {
        self.classes.iter().filter_map(|(&class, waiters)| {
            let (&number, waiter) = waiters.first_key_value()?;
            Some((number, class, waiter.length))
        })
    }
}

/// Who waits, in order, and the answers that were not taken yet.
#[derive(Debug)]
pub(crate) struct Waiters {
    queues: BTreeMap<u32, Queue>,
    answers: BTreeMap<u64, Result<Grant, LeaseError>>,
    next: u64,
    count: usize,
    /// Who is served before all others.
    turn: Option<Ticket>,
    /// What the queue that was served last had used: one that comes back begins there.
    clock: u64,
    /// By how much the waiters' clocks began later than the first one ever, together.
    begun: Duration,
    clocks: u32,
    epoch: Option<Instant>,
}

/// The class of a request: the powers of two.
fn class(length: usize) -> u8 {
    length.div_ceil(PAGE).next_power_of_two().trailing_zeros() as u8
}

impl Waiters {
    pub(crate) fn new() -> Waiters {
        Waiters {
            queues: BTreeMap::from([(COMMON, Queue::default())]),
            answers: BTreeMap::new(),
            next: 0,
            count: 0,
            turn: None,
            clock: 0,
            begun: Duration::ZERO,
            clocks: 0,
            epoch: None,
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no waiter.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there is only the common queue.
    #[inline]
    pub(crate) fn has_groups(&self) -> bool {
        self.queues.len() > 1
    }

    /// The queue of a group, which is made if there is none yet.
    pub(crate) fn welcome(&mut self, group: &Arc<LeaseGroup>) -> u32 {
        let queue = self.queues.entry(group.id());
        queue.or_insert_with(|| Queue { group: Arc::downgrade(group), ..Queue::default() });
        group.id()
    }

    /// Forgets the groups that are gone.
    pub(crate) fn forget_gone(&mut self) {
        self.queues.retain(|&id, queue| {
            let gone = queue.group.strong_count() == 0 && queue.classes.is_empty();
            id == COMMON || queue.leased > 0 || !gone
        });
    }

    /// Puts a waiter at the end of its class.
    pub(crate) fn push(&mut self, queue: u32, length: usize, waker: ForeignWaker) -> Ticket {
        let ticket = Ticket { number: self.next, queue, class: class(length) };
        self.next += 1;
        self.count += 1;
        let clock = self.clock;
        let entry = self.queue(queue);
        if entry.classes.is_empty() {
            entry.used = entry.used.max(clock);
        }
        let waiter = Waiter { length, waker: Some(waker), since: None, attempted: false };
        entry.classes.entry(ticket.class).or_default().insert(ticket.number, waiter);
        ticket
    }

    /// Whether one of the same queue and class waits already.
    pub(crate) fn is_before(&self, queue: u32, length: usize) -> bool {
        self.queues[&queue].classes.contains_key(&class(length))
    }

    /// Whether no other of the same queue and class has waited longer.
    pub(crate) fn is_head(&self, ticket: Ticket) -> bool {
        let waiters = &self.queues[&ticket.queue].classes[&ticket.class];
        waiters.first_key_value().is_some_and(|(&number, _)| number == ticket.number)
    }

    /// Whose turn it is, and the bytes it wants.
    pub(crate) fn turn(&self) -> Option<(Ticket, usize)> {
        let ticket = self.turn?;
        Some((ticket, self.waiter(ticket).length))
    }

    /// Whether it is this waiter's turn.
    pub(crate) fn is_turn(&self, ticket: Ticket) -> bool {
        self.turn == Some(ticket)
    }

    /// Lets the next one have its turn: who came first, of the queue that has used the least.
    pub(crate) fn choose(&mut self) -> Option<(Ticket, usize)> {
        let waiting = self.queues.iter().filter_map(|(&id, queue)| {
            let (number, class, length) = queue.oldest()?;
            Some((queue.used, number, length, Ticket { number, queue: id, class }))
        });
        let next = waiting.min_by_key(|&(used, number, ..)| (used, number));
        let (used, _, length, ticket) = next?;
        self.clock = self.clock.max(used);
        self.turn = Some(ticket);
        Some((ticket, length))
    }

    /// Who may pass the turn's request, in the order in which they are asked: the queue that has
    /// used the least first, and in it who came first of each class.
    pub(crate) fn behind(&self) -> Vec<(Ticket, usize)> {
        let mut behind: Vec<(u64, Ticket, usize)> = Vec::new();
        for (&id, queue) in &self.queues {
            for (number, class, length) in queue.heads() {
                let ticket = Ticket { number, queue: id, class };
                // The others of its class don't pass it.
                if !self.is_turn(ticket) {
                    behind.push((queue.used, ticket, length));
                }
            }
        }
        behind.sort_unstable_by_key(|&(used, ticket, _)| (used, ticket.number));
        behind.into_iter().map(|(_, ticket, length)| (ticket, length)).collect()
    }

    /// Notes that a queue was given pages.
    pub(crate) fn note_grant(&mut self, queue: u32, pages: usize) {
        let waited_for = self.count > 0;
        let entry = self.queue(queue);
        if queue != COMMON {
            entry.leased += pages;
        }
        if waited_for {
            // In 1024ths of a page, so that the division loses nothing that shows.
            entry.used += pages as u64 * 1024 * u64::from(SHARES_MAX) / entry.shares();
        }
    }

    /// Notes that pages of a queue came back.
    pub(crate) fn note_return(&mut self, queue: u32, pages: usize) {
        self.queue(queue).leased -= pages;
    }

    /// The pages of a pool of `limit` that are kept free of this queue's leases for others.
    pub(crate) fn kept_from(&self, queue: u32, limit: usize) -> usize {
        let others = self.queues.iter().filter(|&(&id, _)| id != queue);
        let unmet = others.filter_map(|(_, other)| {
            let group = other.group.upgrade()?;
            Some(group.reserved(limit).saturating_sub(other.leased))
        });
        unmet.sum::<usize>().min(limit / 2)
    }

    /// Whether a queue that is given `pages` more stays within its reserve in a pool of `limit`.
    pub(crate) fn is_reserved(&self, queue: u32, pages: usize, limit: usize) -> bool {
        let queue = &self.queues[&queue];
        let group = queue.group.upgrade();
        group.is_some_and(|group| queue.leased + pages <= group.reserved(limit))
    }

    /// Notes when a waiter began to wait. Returns whether it had not before.
    pub(crate) fn start_clock(&mut self, ticket: Ticket, now: Instant) -> bool {
        let waiter = self.waiter_mut(ticket);
        let first = waiter.since.is_none();
        if first {
            waiter.since = Some(now);
            self.begun += now.saturating_duration_since(*self.epoch.get_or_insert(now));
            self.clocks += 1;
        }
        first
    }

    /// For how long those who wait have waited, together.
    pub(crate) fn waiting_time(&self, now: Instant) -> Duration {
        let Some(epoch) = self.epoch else { return Duration::ZERO };
        (now.saturating_duration_since(epoch) * self.clocks).saturating_sub(self.begun)
    }

    /// Since when the one waits that has waited longest, and how many bytes it wants.
    pub(crate) fn oldest(&self) -> Option<(Instant, usize)> {
        let queues = self.queues.values().flat_map(|queue| queue.classes.values());
        let heads = queues.filter_map(|waiters| waiters.values().next());
        heads.filter_map(|head| Some((head.since?, head.length))).min()
    }

    /// Notes that an attempt to grow for this waiter failed, if it still waits.
    pub(crate) fn note_attempt(&mut self, ticket: Ticket) {
        if self.length(ticket).is_some() {
            self.waiter_mut(ticket).attempted = true;
        }
    }

    /// Whether an attempt to grow has failed since this waiter was last polled.
    pub(crate) fn is_attempted(&self, ticket: Ticket) -> bool {
        self.waiter(ticket).attempted
    }

    /// The waiter was polled, and waits on.
    pub(crate) fn forget_attempt(&mut self, ticket: Ticket) {
        self.waiter_mut(ticket).attempted = false;
    }

    /// The bytes that a waiter wants, if it has neither an answer nor left.
    pub(crate) fn length(&self, ticket: Ticket) -> Option<usize> {
        let classes = &self.queues.get(&ticket.queue)?.classes;
        Some(classes.get(&ticket.class)?.get(&ticket.number)?.length)
    }

    /// Whether the waiter would be woken by waking `waker`.
    pub(crate) fn would_wake(&self, ticket: Ticket, waker: &Waker) -> bool {
        self.waiter(ticket).waker.as_ref().is_some_and(|known| known.will_wake(waker))
    }

    /// Sets another waker for the waiter, and returns the one it had.
    pub(crate) fn replace_waker(
        &mut self,
        ticket: Ticket,
        waker: ForeignWaker,
    ) -> Option<ForeignWaker> {
        self.waiter_mut(ticket).waker.replace(waker)
    }

    /// Takes the waker of the waiter whose turn it is.
    pub(crate) fn take_turn_waker(&mut self) -> Option<ForeignWaker> {
        self.turn.and_then(|ticket| self.take_waker(ticket))
    }

    /// Takes a waiter's waker.
    pub(crate) fn take_waker(&mut self, ticket: Ticket) -> Option<ForeignWaker> {
        self.waiter_mut(ticket).waker.take()
    }

    /// Answers a waiter, which leaves the queue.
    pub(crate) fn answer(
        &mut self,
        ticket: Ticket,
        answer: Result<Grant, LeaseError>,
    ) -> Departure {
        let departure = self.remove(ticket).expect("an answered waiter is in the queue");
        self.answers.insert(ticket.number, answer);
        departure
    }

    /// Takes the answer that a waiter was given.
    pub(crate) fn take_answer(&mut self, ticket: Ticket) -> Option<Result<Grant, LeaseError>> {
        self.answers.remove(&ticket.number)
    }

    /// Removes a waiter that has no answer.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Departure> {
        let queue = self.queues.get_mut(&ticket.queue)?;
        let waiters = queue.classes.get_mut(&ticket.class)?;
        let waiter = waiters.remove(&ticket.number)?;
        if waiters.is_empty() {
            queue.classes.remove(&ticket.class);
        }
        self.count -= 1;
        if self.is_turn(ticket) {
            self.turn = None;
        }
        if let (Some(since), Some(epoch)) = (waiter.since, self.epoch) {
            self.begun -= since.saturating_duration_since(epoch);
            self.clocks -= 1;
        }
        Some(Departure { waker: waiter.waker, since: waiter.since })
    }

    fn queue(&mut self, id: u32) -> &mut Queue {
        self.queues.get_mut(&id).unwrap_or_else(|| panic!("there is no queue {id}"))
    }

    fn waiter(&self, ticket: Ticket) -> &Waiter {
        &self.queues[&ticket.queue].classes[&ticket.class][&ticket.number]
    }

    fn waiter_mut(&mut self, ticket: Ticket) -> &mut Waiter {
        let class = self.queue(ticket.queue).classes.get_mut(&ticket.class);
        let waiter = class.and_then(|waiters| waiters.get_mut(&ticket.number));
        waiter.unwrap_or_else(|| panic!("{ticket:?} is not in the queue"))
    }
}
