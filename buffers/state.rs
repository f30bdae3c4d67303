//! What a pool's lock guards: its arenas, its waiters and its counts, and every decision about
//! them.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::{Arc, Weak},
    task::Waker,
    time::{Duration, Instant},
};

use crate::{
    LARGEST_ARENA, Occupancy, PAGE, PoolConfig,
    error::{Cause, LeaseError},
    foreign::ForeignWaker,
    pool::Shared,
    region::{Region, locked_memory_limit},
    registrar::{ArenaId, Registrar, Retiring},
    request::{Grant, Growth, Outbox, Request, Short, Step},
    slots::Slots,
    waiters::{Departure, Ticket, Waiters},
};

/// The last attempt to grow failed for want of memory: the next one comes after `patience` returns,
/// which double with each failure, or after memory was given back.
#[derive(Debug)]
struct Shortage {
    short: Short,
    failures: u32,
    patience: u32,
}

/// What to do about a request that the free pages can't meet.
#[derive(Debug)]
enum Plan {
    /// What is out will come back and meet it.
    Wait,
    Grow(Growth),
    /// No arena could ever hold it: idle ones make room for one that can.
    Retire(Vec<usize>),
    Fail(Cause),
}

/// Everything behind a pool's lock.
#[derive(Debug)]
pub(crate) struct State {
    config: PoolConfig,
    /// Who tells the time; the system where nobody does.
    registrar: Option<Arc<dyn Registrar>>,
    slots: Slots,
    waiters: Waiters,
    outbox: Outbox,
    /// Somebody maps another arena, outside of the lock.
    growing: bool,
    shortage: Option<Shortage>,
    /// The size to grow by: the configured one, or less after a shortage.
    affordable: usize,
    frozen: usize,
    closed: bool,
    leak_all: bool,
    leases_total: u64,
    waits_total: u64,
    wait_time_total: Duration,
    grown_total: u64,
    given_back_total: u64,
    shortages_total: u64,
}

impl State {
    pub(crate) fn new(
        config: PoolConfig,
        registrar: Option<Arc<dyn Registrar>>,
        pool: Weak<Shared>,
    ) -> State {
        State {
            affordable: config.arena,
            config,
            registrar,
            slots: Slots::new(pool),
            waiters: Waiters::default(),
            outbox: Outbox::default(),
            growing: false,
            shortage: None,
            frozen: 0,
            closed: false,
            leak_all: false,
            leases_total: 0,
            waits_total: 0,
            wait_time_total: Duration::ZERO,
            grown_total: 0,
            given_back_total: 0,
            shortages_total: 0,
        }
    }

    /// Takes what is to be delivered without the lock.
    pub(crate) fn take_outbox(&mut self) -> Outbox {
        mem::take(&mut self.outbox)
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
                if let Some(answer) = self.take_now(request.length, request.pages) {
                    return Step::Done(answer);
                }
                let Some(waker) = fresh.take() else { return Step::NeedWaker };
                *request.ticket.insert(self.waiters.push(request.length, waker))
            }
        };
        if !self.waiters.is_head(ticket) {
            return self.park(ticket, waker, fresh);
        }
        // There are no pages for it: whatever brings some answers the head of the queue.
        let answer = match self.plan(request.pages, request.attempted) {
            Plan::Wait => return self.park(ticket, waker, fresh),
            Plan::Grow(growth) => return self.begin_growth(growth),
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
        if let Some(answer) = self.take_now(request.length, request.pages) {
            return Step::Done(answer);
        }
        if !self.waiters.is_empty() {
            return Step::Wait;
        }
        match self.plan(request.pages, request.attempted) {
            Plan::Wait => Step::Wait,
            Plan::Grow(growth) => self.begin_growth(growth),
            Plan::Retire(slots) => Step::Retire(self.slots.retire(&slots)),
            Plan::Fail(cause) => Step::Done(Err(LeaseError::new(request.length, cause))),
        }
    }

    /// What `try_lease` says where it would have to wait.
    pub(crate) fn full(&self) -> Cause {
        let waiters = self.waiters.len();
        Cause::Full { limit: self.config.limit, leased: self.slots.leased(), waiters }
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
        if let Some(shortage) = &mut self.shortage {
            shortage.patience = shortage.patience.saturating_sub(1);
        }
        self.serve();
    }

    /// Growing ended. `first` pages of what it brought are set aside for a caller that has no
    /// ticket. Gives the arena back if the pool was closed meanwhile.
    pub(crate) fn finish_growth(
        &mut self,
        growth: Growth,
        region: Region,
        first: Option<usize>,
    ) -> (Option<Grant>, Option<Retiring>) {
        self.growing = false;
        self.grown_total += 1;
        self.shortage = None;
        self.slots.insert(growth.id, region);
        if self.closed {
            return (None, self.slots.retire(&[usize::from(growth.id.slot)]).pop());
        }
        let grant = first.and_then(|pages| self.allocate(pages));
        self.serve();
        (grant, None)
    }

    /// Growing failed, for want of memory if `short` says so.
    pub(crate) fn fail_growth(&mut self, short: Option<Short>) {
        self.growing = false;
        if let Some(short) = short {
            let failures = self.shortage.as_ref().map_or(0, |shortage| shortage.failures) + 1;
            let patience = 1 << failures.min(10);
            self.shortage = Some(Shortage { short, failures, patience });
            self.shortages_total += 1;
        }
        self.serve();
    }

    /// Growing by `length` was too much: later attempts begin with less.
    pub(crate) fn afford(&mut self, length: usize) {
        self.affordable = length.min(self.affordable);
    }

    /// An arena is out of every table and unmapped.
    pub(crate) fn finish_retirement(&mut self, id: ArenaId) {
        self.slots.finish(id);
        self.given_back_total += 1;
        self.forget_shortage();
        self.serve();
    }

    /// An arena was given up: its memory and its slot are never used again.
    pub(crate) fn abandon_retirement(&mut self, id: ArenaId) {
        self.slots.abandon(id);
        self.serve();
    }

    /// Retires what was idle since the previous sweep, and says whether more is idle than is to be
    /// kept.
    pub(crate) fn sweep(&mut self) -> (Vec<Retiring>, bool) {
        if self.closed {
            return (Vec::new(), false);
        }
        self.forget_shortage();
        let (chosen, more) = self.slots.stale(self.config.keep);
        let retiring = self.slots.retire(&chosen);
        self.serve();
        (retiring, more)
    }

    /// Ends leasing: every waiter is told, and so is who asks later.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        while let Some((ticket, length)) = self.waiters.head() {
            let error = LeaseError::new(length, Cause::Closed);
            let departure = self.waiters.answer(ticket, Err(error));
            self.depart(Some(departure), true);
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
        Occupancy {
            limit: self.config.limit,
            mapped: self.slots.mapped(),
            leased: self.slots.leased(),
            free: self.slots.live() - self.slots.leased(),
            retiring: self.slots.retiring(),
            leaked: self.slots.leaked(),
            frozen: self.frozen,
            frozen_limit: self.config.frozen_limit(),
            arenas: self.slots.arenas().count(),
            waiters: self.waiters.len(),
            leases_total: self.leases_total,
            waits_total: self.waits_total,
            wait_time_total: self.wait_time_total,
            grown_total: self.grown_total,
            given_back_total: self.given_back_total,
            shortages_total: self.shortages_total,
            closed: self.closed,
        }
    }

    /// What can be said without waiting and without growing.
    fn take_now(&mut self, length: usize, pages: usize) -> Option<Result<Grant, LeaseError>> {
        if self.closed {
            return Some(Err(LeaseError::new(length, Cause::Closed)));
        }
        // Nobody overtakes the head of the queue, whatever its size.
        if !self.waiters.is_empty() {
            return None;
        }
        self.allocate(pages).map(Ok)
    }

    fn allocate(&mut self, pages: usize) -> Option<Grant> {
        let grant = self.slots.allocate(pages)?;
        self.leases_total += 1;
        Some(grant)
    }

    fn plan(&self, pages: usize, attempted: bool) -> Plan {
        let need = pages * PAGE;
        let limit = self.ceiling();
        if need > limit {
            return Plan::Fail(Cause::TooLarge { limit });
        }
        if self.growing {
            return Plan::Wait;
        }
        let room = self.config.limit.saturating_sub(self.slots.mapped());
        let vacant = self.slots.vacant().filter(|_| room >= need);
        let nothing_out = self.slots.is_nothing_out();
        let patient = self.shortage.as_ref().is_some_and(|shortage| shortage.patience > 0);
        let may_grow = !patient || (nothing_out && !attempted);
        if let Some(id) = vacant.filter(|_| may_grow) {
            let length = self.affordable.min(room).max(need);
            return Plan::Grow(Growth { id, length, least: need });
        }
        if self.slots.arenas().any(|(_, arena)| arena.map.pages() >= pages) {
            return Plan::Wait;
        }
        let missing = if patient { need } else { need.saturating_sub(room).max(1) };
        let idle = self.slots.idle(missing);
        if !idle.is_empty() {
            return Plan::Retire(idle);
        }
        match &self.shortage {
            Some(shortage) if nothing_out => Plan::Fail(self.shortage_cause(shortage.short)),
            _ => Plan::Wait,
        }
    }

    fn shortage_cause(&self, short: Short) -> Cause {
        let mapped = self.slots.mapped();
        match short {
            Short::Locked => Cause::LockedMemory { limit: locked_memory_limit(), pinned: mapped },
            Short::Mapped(errno) => Cause::OutOfMemory { errno, mapped },
        }
    }

    /// The most bytes that one request could ever get.
    fn ceiling(&self) -> usize {
        if self.slots.is_used_up() {
            return 0;
        }
        self.config.limit.saturating_sub(self.slots.leaked()).min(LARGEST_ARENA)
    }

    fn begin_growth(&mut self, growth: Growth) -> Step {
        self.growing = true;
        Step::Grow(growth)
    }

    fn forget_shortage(&mut self) {
        self.shortage = None;
        self.affordable = self.config.arena;
    }

    /// Answers those whose turn it is, in order, as far as free pages go. If the one that then
    /// stands at the head has something to do itself (to grow, say), it is woken once for that.
    fn serve(&mut self) {
        if self.closed {
            return;
        }
        while let Some((ticket, length)) = self.waiters.head() {
            let pages = length.div_ceil(PAGE);
            let Some(grant) = self.allocate(pages) else {
                if !matches!(self.plan(pages, false), Plan::Wait) {
                    self.outbox.wake.extend(self.waiters.take_head_waker());
                }
                return;
            };
            let departure = self.waiters.answer(ticket, Ok(grant));
            self.depart(Some(departure), true);
        }
    }

    fn now(&self) -> Instant {
        self.registrar.as_ref().map_or_else(Instant::now, |registrar| registrar.now())
    }

    fn depart(&mut self, departure: Option<Departure>, wake: bool) {
        let Some(departure) = departure else { return };
        if let Some(since) = departure.since {
            self.wait_time_total += self.now().saturating_duration_since(since);
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
        let now = self.now();
        if self.waiters.start_clock(ticket, now) {
            self.waits_total += 1;
        }
        Step::Wait
    }
}
