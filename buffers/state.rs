//! What a pool's lock guards: its arenas, its waiters and its counts, and who is served when.
//! How it grows and gives back is in `growing.rs`.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::{Arc, Weak},
    task::Waker,
    time::{Duration, Instant},
};

use crate::{
    Occupancy, PAGE, PoolConfig,
    error::{Cause, LeaseError},
    foreign::ForeignWaker,
    group::LeaseGroup,
    growing::{Plan, Steady},
    pool::Shared,
    registrar::{Registrar, Retiring},
    request::{Grant, Growth, Outbox, Request, Short, Step},
    slots::Slots,
    waiters::{COMMON, Departure, Ticket, Waiters},
};

/// The last attempt to grow failed for want of memory: the next one comes after `patience` returns,
/// which double with each failure, or after memory was given back.
#[derive(Debug)]
pub(crate) struct Shortage {
    pub(crate) short: Short,
    pub(crate) failures: u32,
    pub(crate) patience: u32,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    leases: u64,
    waits: u64,
    wait_time: Duration,
    passed: u64,
    pub(crate) grown: u64,
    pub(crate) given_back: u64,
    pub(crate) shortages: u64,
}

/// Everything behind a pool's lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: PoolConfig,
    /// Who tells the time; the system where nobody does.
    registrar: Option<Arc<dyn Registrar>>,
    pub(crate) slots: Slots,
    pub(crate) waiters: Waiters,
    outbox: Outbox,
    /// Another arena is being mapped, outside of the lock.
    pub(crate) growing: bool,
    pub(crate) shortage: Option<Shortage>,
    /// The size to grow by: the configured one, or less after a shortage.
    pub(crate) affordable: usize,
    pub(crate) steady: Steady,
    frozen: usize,
    pub(crate) closed: bool,
    leak_all: bool,
    pub(crate) totals: Totals,
}

/// How many pages a request takes.
pub(crate) fn pages_of(length: usize) -> usize {
    length.div_ceil(PAGE)
}

impl State {
    pub(crate) fn new(
        config: PoolConfig,
        registrar: Option<Arc<dyn Registrar>>,
        pool: Weak<Shared>,
        base: u16,
    ) -> State {
        State {
            affordable: config.arena,
            config,
            registrar,
            slots: Slots::new(pool, base),
            waiters: Waiters::new(),
            outbox: Outbox::default(),
            growing: false,
            shortage: None,
            steady: Steady::default(),
            frozen: 0,
            closed: false,
            leak_all: false,
            totals: Totals::default(),
        }
    }

    /// Takes what is to be delivered without the lock, if there is anything.
    #[inline]
    pub(crate) fn take_outbox(&mut self) -> Option<Outbox> {
        let is_empty = self.outbox.wake.is_empty() && self.outbox.discard.is_empty();
        (!is_empty).then(|| mem::take(&mut self.outbox))
    }

    /// Knows a group, and keeps its reserve, from now on.
    pub(crate) fn welcome(&mut self, group: &Arc<LeaseGroup>) {
        self.waiters.forget_gone();
        self.waiters.welcome(group);
    }

    pub(crate) fn queue_of(&mut self, request: &Request) -> u32 {
        request.group.as_ref().map_or(COMMON, |group| self.waiters.welcome(group))
    }

    /// One step of a request that may wait.
    pub(crate) fn step(
        &mut self,
        request: &mut Request,
        waker: &Waker,
        fresh: &mut Option<ForeignWaker>,
    ) -> Step {
        let ticket = match request.ticket {
            Some(ticket) => {
                if let Some(answer) = self.waiters.take_answer(ticket) {
                    request.ticket = None;
                    return Step::Done(answer);
                }
                ticket
            }
            None => {
                let queue = self.queue_of(request);
                if let Some(answer) = self.take_now(queue, request) {
                    return Step::Done(answer);
                }
                let Some(waker) = fresh.take() else { return Step::NeedWaker };
                *request.ticket.insert(self.waiters.push(queue, request.length, waker))
            }
        };
        self.turn();
        if !self.waiters.is_turn(ticket) {
            return match self.plan_behind(ticket, request.pages) {
                Some(growth) => self.begin_growth(Growth { by: Some(ticket), ..growth }),
                None => self.park(ticket, waker, fresh),
            };
        }
        // There are no pages for it: whatever brings some answers whose turn it is.
        let attempted = self.waiters.is_attempted(ticket);
        let answer = match self.plan(ticket.queue, request.pages, attempted) {
            Plan::Wait => return self.park(ticket, waker, fresh),
            Plan::Grow(growth) => {
                return self.begin_growth(Growth { by: Some(ticket), ..growth });
            }
            Plan::Retire(slots) => return Step::Retire(self.slots.retire(&slots)),
            Plan::Fail(cause) => Err(LeaseError::new(request.length, cause)),
        };
        request.ticket = None;
        let departure = self.waiters.remove(ticket);
        self.depart(departure, false);
        self.serve();
        Step::Done(answer)
    }

    /// One step of a request that does not wait: `Step::Wait` means that the pool is full.
    pub(crate) fn try_step(&mut self, request: &Request) -> Step {
        let queue = self.queue_of(request);
        if let Some(answer) = self.take_now(queue, request) {
            return Step::Done(answer);
        }
        if !self.waiters.is_empty() {
            let may = !request.attempted && !self.waiters.is_before(queue, request.length);
            let growth = may.then(|| self.plan_within_reserve(queue, request.pages)).flatten();
            return growth.map_or(Step::Wait, |growth| self.begin_growth(growth));
        }
        match self.plan(queue, request.pages, request.attempted) {
            Plan::Wait => Step::Wait,
            Plan::Grow(growth) => self.begin_growth(growth),
            Plan::Retire(slots) => Step::Retire(self.slots.retire(&slots)),
            Plan::Fail(cause) => Step::Done(Err(LeaseError::new(request.length, cause))),
        }
    }

    /// How to grow for a waiter whose turn it isn't, if it is the first of its size and its group.
    fn plan_behind(&self, ticket: Ticket, pages: usize) -> Option<Growth> {
        let may = self.waiters.is_head(ticket) && !self.waiters.is_attempted(ticket);
        may.then(|| self.plan_within_reserve(ticket.queue, pages)).flatten()
    }

    /// How to grow for a request that passes the turn's, since its group's reserve has it. The
    /// turn's may wait for more than the pool can still map: a reserve is there all the same.
    fn plan_within_reserve(&self, queue: u32, pages: usize) -> Option<Growth> {
        if !self.waiters.is_reserved(queue, pages, self.capacity()) {
            return None;
        }
        match self.plan(queue, pages, false) {
            Plan::Grow(growth) => Some(growth),
            _ => None,
        }
    }

    /// What `try_lease` says where it would have to wait.
    pub(crate) fn full(&self) -> Cause {
        Cause::Full {
            limit: self.config.limit,
            leased: self.slots.leased(),
            waiters: self.waiters.len(),
            largest: self.slots.longest_run() * PAGE,
        }
    }

    /// A waiter goes: its place, or the pages that it was granted, pass on to the next.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        if let Some(Ok(grant)) = self.waiters.take_answer(ticket) {
            return self.release(grant);
        }
        let departure = self.waiters.remove(ticket);
        self.depart(departure, false);
        self.serve();
    }

    /// Pages come back.
    pub(crate) fn release(&mut self, grant: Grant) {
        self.slots.release(grant);
        if grant.queue != COMMON {
            self.waiters.note_return(grant.queue, grant.pages as usize);
        }
        if let Some(shortage) = &mut self.shortage {
            shortage.patience = shortage.patience.saturating_sub(1);
        }
        self.serve();
    }

    /// Ends leasing: every waiter is told, and so is who asks later.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        while let Some((ticket, length)) = self.waiters.choose() {
            self.answer(ticket, Err(LeaseError::new(length, Cause::Closed)));
        }
    }

    /// Nothing is ever unmapped from now on.
    pub(crate) fn leak_all(&mut self) {
        self.leak_all = true;
        self.close();
    }

    /// Whether nothing is to be unmapped any more.
    pub(crate) fn is_leaked(&self) -> bool {
        self.leak_all
    }

    /// Everything that is mapped, when the last handle and the last lease are gone.
    pub(crate) fn take_all(&mut self) -> Vec<Retiring> {
        let live: Vec<usize> = self.slots.arenas().map(|(slot, _)| slot).collect();
        self.slots.retire(&live)
    }

    /// Counts `pages` as frozen, or says how much is frozen already and what the limit is.
    pub(crate) fn freeze(&mut self, pages: usize) -> Result<(), (usize, usize)> {
        let limit = self.config.frozen_limit();
        if self.frozen + pages * PAGE > limit {
            return Err((self.frozen, limit));
        }
        self.frozen += pages * PAGE;
        Ok(())
    }

    /// Counts `pages` as frozen no more.
    pub(crate) fn thaw(&mut self, pages: usize) {
        self.frozen -= pages * PAGE;
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        let waits = (!self.waiters.is_empty()).then(|| self.now());
        let oldest = self.waiters.oldest().zip(waits);
        let (oldest_wait, oldest_wait_bytes) = oldest.map_or((Duration::ZERO, 0), |(head, now)| {
            (now.saturating_duration_since(head.0), head.1)
        });
        let waiting = waits.map_or(Duration::ZERO, |now| self.waiters.waiting_time(now));
        Occupancy {
            limit: self.config.limit,
            mapped: self.slots.mapped(),
            leased: self.slots.leased(),
            free: self.slots.live() - self.slots.leased(),
            largest_free: self.slots.longest_run() * PAGE,
            reserved: self.waiters.kept_from(COMMON, self.config.limit / PAGE) * PAGE,
            huge: self.slots.huge(),
            retiring: self.slots.retiring(),
            leaked: self.slots.leaked(),
            frozen: self.frozen,
            frozen_limit: self.config.frozen_limit(),
            arenas: self.slots.arenas().count(),
            growing: self.growing,
            waiters: self.waiters.len(),
            oldest_wait,
            oldest_wait_bytes,
            leases_total: self.totals.leases,
            waits_total: self.totals.waits,
            wait_time_total: self.totals.wait_time + waiting,
            passed_total: self.totals.passed,
            grown_total: self.totals.grown,
            given_back_total: self.totals.given_back,
            shortages_total: self.totals.shortages,
            closed: self.closed,
        }
    }

    /// What can be said without waiting and without growing.
    fn take_now(&mut self, queue: u32, request: &Request) -> Option<Result<Grant, LeaseError>> {
        if self.closed {
            return Some(Err(LeaseError::new(request.length, Cause::Closed)));
        }
        if self.waiters.is_empty() {
            return self.take(queue, request.pages).map(Ok);
        }
        // Nobody overtakes one of the same size.
        if self.waiters.is_before(queue, request.length) {
            return None;
        }
        self.pass(queue, request.pages).map(Ok)
    }

    /// Pages for who comes first.
    pub(crate) fn take(&mut self, queue: u32, pages: usize) -> Option<Grant> {
        if !self.admits(queue, pages) {
            return None;
        }
        let grant = self.slots.allocate(pages)?;
        Some(self.count(grant, queue))
    }

    /// Pages for one that passes the request whose turn it is. That request loses little by it:
    ///
    /// - At most a quarter of what the pool may have is out at any time to those who passed it.
    /// - Nobody passes any more when only those who passed stand in the way of its range.
    /// - A group within its reserve takes what was never the others'.
    fn pass(&mut self, queue: u32, pages: usize) -> Option<Grant> {
        let capacity = self.capacity();
        if self.slots.leased() == self.slots.live() {
            return None;
        }
        if !self.waiters.is_reserved(queue, pages, capacity) {
            let quarter = self.slots.passed() + pages <= capacity / 4;
            let hopeless = self.slots.keep_range() || self.growing;
            if !quarter || !hopeless || !self.admits(queue, pages) {
                return None;
            }
        }
        let grant = self.slots.allocate_passing(pages)?;
        self.totals.passed += 1;
        Some(self.count(grant, queue))
    }

    #[inline(always)]
    fn count(&mut self, grant: Grant, queue: u32) -> Grant {
        self.totals.leases += 1;
        self.steady.note(self.slots.leased());
        if self.waiters.has_groups() || !self.waiters.is_empty() {
            self.waiters.note_grant(queue, grant.pages as usize);
        }
        Grant { queue, ..grant }
    }

    /// Whether `pages` more for a queue leave room for what the others have reserved. What could
    /// not be met otherwise takes of the reserves.
    #[inline]
    pub(crate) fn admits(&self, queue: u32, pages: usize) -> bool {
        if !self.waiters.has_groups() {
            return true;
        }
        let capacity = self.capacity();
        let kept = self.waiters.kept_from(queue, capacity);
        pages + kept > capacity || self.slots.leased() / PAGE + pages + kept <= capacity
    }

    /// The pages that the pool can have: no more than it has, while memory is short.
    fn capacity(&self) -> usize {
        let bytes = match self.shortage {
            Some(_) => self.slots.live(),
            None => self.config.limit.saturating_sub(self.slots.leaked()),
        };
        bytes / PAGE
    }

    /// Whose turn it is. A turn lasts until the request is answered or gone.
    fn turn(&mut self) -> Option<(Ticket, usize)> {
        if let Some(turn) = self.waiters.turn() {
            return Some(turn);
        }
        let next = self.waiters.choose();
        self.slots.begin_turn(next.map_or(0, |(_, length)| pages_of(length)));
        next
    }

    /// Answers those whose turn it is, one after another, as far as free pages go, and then those
    /// who may pass. If the one that then has its turn has something to do itself (to grow, say),
    /// it is woken once for that.
    #[inline]
    pub(crate) fn serve(&mut self) {
        if !self.closed && (!self.waiters.is_empty() || self.slots.has_turn()) {
            self.serve_waiters();
        }
    }

    fn serve_waiters(&mut self) {
        while let Some((ticket, length)) = self.turn() {
            let pages = pages_of(length);
            if let Some(grant) = self.take(ticket.queue, pages) {
                self.answer(ticket, Ok(grant));
                continue;
            }
            let attempted = self.waiters.is_attempted(ticket);
            if !matches!(self.plan(ticket.queue, pages, attempted), Plan::Wait) {
                self.outbox.wake.extend(self.waiters.take_turn_waker());
            }
            break;
        }
        while self.waiters.len() > 1 && self.serve_one_behind() {}
        if self.waiters.len() > 1 && self.waiters.has_groups() && !self.growing {
            self.wake_one_behind();
        }
    }

    /// Wakes one of those who may pass by growing.
    fn wake_one_behind(&mut self) {
        let behind = self.waiters.behind().into_iter();
        let mut growing =
            behind.filter(|&(ticket, length)| self.plan_behind(ticket, pages_of(length)).is_some());
        if let Some((ticket, _)) = growing.next() {
            self.outbox.wake.extend(self.waiters.take_waker(ticket));
        }
    }

    /// Answers one of those who may pass.
    fn serve_one_behind(&mut self) -> bool {
        if self.slots.leased() == self.slots.live() {
            return false;
        }
        let behind = self.waiters.behind().into_iter();
        let mut grants = behind.filter_map(|(ticket, length)| {
            Some((ticket, self.pass(ticket.queue, pages_of(length))?))
        });
        let Some((ticket, grant)) = grants.next() else { return false };
        self.answer(ticket, Ok(grant));
        true
    }

    pub(crate) fn now(&self) -> Instant {
        self.registrar.as_ref().map_or_else(Instant::now, |registrar| registrar.now())
    }

    /// What this user may lock; `None` without a limit.
    pub(crate) fn locked_memory_limit(&self) -> Option<u64> {
        self.registrar.as_ref().and_then(|registrar| registrar.locked_memory_limit())
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Result<Grant, LeaseError>) {
        let departure = self.waiters.answer(ticket, answer);
        self.depart(Some(departure), true);
    }

    fn depart(&mut self, departure: Option<Departure>, wake: bool) {
        let Some(departure) = departure else { return };
        if let Some(since) = departure.since {
            self.totals.wait_time += self.now().saturating_duration_since(since);
        }
        let wakers = if wake { &mut self.outbox.wake } else { &mut self.outbox.discard };
        wakers.extend(departure.waker);
    }

    fn park(&mut self, ticket: Ticket, waker: &Waker, fresh: &mut Option<ForeignWaker>) -> Step {
        if !self.waiters.would_wake(ticket, waker) {
            let Some(waker) = fresh.take() else { return Step::NeedWaker };
            let old = self.waiters.replace_waker(ticket, waker);
            self.outbox.discard.extend(old);
        }
        self.waiters.forget_attempt(ticket);
        let now = self.now();
        if self.waiters.start_clock(ticket, now) {
            self.totals.waits += 1;
        }
        Step::Wait
    }
}
