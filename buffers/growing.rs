//! How a pool grows, makes do with less, and gives back.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use ringhold_kernel::ArenaId;

use crate::{
    LARGEST_ARENA, PAGE, POOL_SLOTS,
    error::{Cause, LeaseError},
    region::Region,
    registrar::Retiring,
    request::{Grant, Growth, Short, Step},
    state::{Shortage, State},
    waiters::Ticket,
};

/// What to do about a request that the free pages can't meet.
#[derive(Debug)]
pub(crate) enum Plan {
    /// What is out will come back and meet it.
    Wait,
    Grow(Growth),
    /// No arena could ever hold it: idle ones make room for one that can.
    Retire(Vec<usize>),
    Fail(Cause),
}

/// How much the pool was lately in use, by which it is told how much stays mapped: the most that
/// was leased at once, which halves after each `PoolConfig::linger` in which less was.
#[derive(Debug, Default)]
pub(crate) struct Steady {
    /// Since the last sweep.
    most: usize,
    mark: usize,
    since: Option<Instant>,
}

impl Steady {
    #[inline]
    pub(crate) fn note(&mut self, leased: usize) {
        self.most = self.most.max(leased);
    }

    /// The mark as of now. `leased` is what is out.
    fn fall(&mut self, now: Instant, linger: Duration, leased: usize) -> usize {
        let most = std::mem::replace(&mut self.most, leased);
        if linger.is_zero() {
            return 0;
        }
        let since = *self.since.get_or_insert(now);
        if most >= self.mark {
            (self.mark, self.since) = (most, Some(now));
        } else if now.saturating_duration_since(since) >= linger {
            (self.mark, self.since) = (most.max(self.mark / 2), Some(now));
        }
        self.mark
    }
}

/// The size of an arena that is grown for requests of `need` bytes: `length`, or less if more than
/// a sixteenth of that were of no use to them.
fn fitting(length: usize, need: usize) -> usize {
    let fitting = length / need * need;
    if length - fitting > length / 16 { fitting } else { length }
}

impl State {
    /// What a request does that finds no pages.
    pub(crate) fn plan(&self, queue: u32, pages: usize, attempted: bool) -> Plan {
        let need = pages * PAGE;
        let limit = self.ceiling();
        if need > limit {
            return Plan::Fail(self.too_large(limit));
        }
        if self.growing || !self.admits(queue, pages) {
            return Plan::Wait;
        }
        let room = self.config.limit.saturating_sub(self.slots.mapped());
        let vacant = self.slots.vacant().filter(|_| room >= need);
        let nothing_out = self.slots.is_nothing_out();
        let patient = self.shortage.as_ref().is_some_and(|shortage| shortage.patience > 0);
        let may_grow = !patient || (nothing_out && !attempted);
        if let Some(id) = vacant.filter(|_| may_grow) {
            let mut length = self.affordable.min(room).max(need);
            // So many slots that the limit is reached with arenas of half the size.
            if self.config.arena / 2 * POOL_SLOTS >= self.config.limit {
                length = fitting(length, need);
            }
            return Plan::Grow(Growth { id, length, least: need, by: None });
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

    /// How to grow so that as much is mapped as there is to be at the start, if it isn't and can
    /// be.
    pub(crate) fn plan_fill(&mut self) -> Option<Growth> {
        let room = self.config.limit.saturating_sub(self.slots.mapped());
        let missing = self.config.prefill.saturating_sub(self.slots.live()).min(room);
        if missing == 0 || self.growing || self.closed || self.shortage.is_some() {
            return None;
        }
        let id = self.slots.vacant()?;
        self.growing = true;
        // Whole arenas: what is left of the room may be less.
        let length = self.affordable.min(room);
        Some(Growth { id, length, least: PAGE.min(length), by: None })
    }

    fn too_large(&self, limit: usize) -> Cause {
        Cause::TooLarge { limit, locked: self.config.half_of.filter(|_| limit < LARGEST_ARENA) }
    }

    fn shortage_cause(&self, short: Short) -> Cause {
        let mapped = self.slots.mapped();
        match short {
            Short::Locked => {
                Cause::LockedMemory { limit: self.locked_memory_limit(), pinned: mapped }
            }
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

    pub(crate) fn begin_growth(&mut self, growth: Growth) -> Step {
        self.growing = true;
        Step::Grow(growth)
    }

    /// Growing ended. `first` pages of what it brought are set aside for a caller that has no
    /// ticket. Gives the arena back if the pool was closed meanwhile.
    pub(crate) fn finish_growth(
        &mut self,
        growth: Growth,
        (region, huge): (Region, usize),
        first: Option<(u32, usize)>,
    ) -> (Option<Grant>, Option<Retiring>) {
        self.growing = false;
        self.totals.grown += 1;
        self.shortage = None;
        let slot = self.slots.insert(growth.id, region, huge);
        if self.closed {
            return (None, self.slots.retire(&[slot]).pop());
        }
        let grant = first.and_then(|(queue, pages)| self.take(queue, pages));
        self.serve();
        (grant, None)
    }

    /// Growing failed, for want of memory if `short` says so.
    pub(crate) fn fail_growth(&mut self, short: Option<Short>, by: Option<Ticket>) {
        self.growing = false;
        if let Some(short) = short {
            let failures = self.shortage.as_ref().map_or(0, |shortage| shortage.failures) + 1;
            let patience = 1 << failures.min(10);
            self.shortage = Some(Shortage { short, failures, patience });
            self.totals.shortages += 1;
            if let Some(ticket) = by {
                self.waiters.note_attempt(ticket);
            }
        }
        self.serve();
    }

    /// Growing was refused, for another reason than the amount: who waits for it is told.
    pub(crate) fn refuse_growth(&mut self, errno: Option<i32>, by: Option<Ticket>) {
        if let Some(ticket) = by
            && let Some(length) = self.waiters.length(ticket)
        {
            let cause = Cause::NotRegistrable { errno };
            self.answer(ticket, Err(LeaseError::new(length, cause)));
        }
        self.fail_growth(None, None);
    }

    /// Growing by `length` was too much: later attempts begin with less.
    pub(crate) fn afford(&mut self, length: usize) {
        self.affordable = length.min(self.affordable);
    }

    /// Whether memory that others give back late would help: nothing is there that would come back,
    /// and the limit itself allows for it.
    pub(crate) fn waits_for_late_memory(&self, growth: &Growth) -> bool {
        let allowed = self.locked_memory_limit().is_some_and(|limit| growth.least as u64 <= limit);
        allowed && self.slots.is_nothing_out() && !self.closed
    }

    /// An arena is out of every table and unmapped.
    pub(crate) fn finish_retirement(&mut self, id: ArenaId) {
        self.slots.finish(id);
        self.totals.given_back += 1;
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
        self.waiters.forget_gone();
        let now = self.now();
        let mark = self.steady.fall(now, self.config.linger, self.slots.leased());
        let keep = self.config.keep;
        let (chosen, more) = self.slots.stale(keep.max(mark));
        let retiring = self.slots.retire(&chosen);
        // What the mark keeps goes when it has fallen.
        let more = more || (mark > keep && self.slots.has_spare(keep));
        self.serve();
        (retiring, more)
    }

    fn forget_shortage(&mut self) {
        self.shortage = None;
        self.affordable = self.config.arena;
    }
}
