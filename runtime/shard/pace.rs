//! How long the polls of a shard take, which a turn has to know and a short poll can't pay for.
//!
//! Reading the clock costs as much as two polls of a small task. So it is read once in so many
//! polls as take [`STRETCH_NANOS_MAX`] at the rate of the last ones, in [`POLLS_A_READING`] at
//! most, and after each where they are long. A turn ends within [`TURN_MAX`] and one such stretch,
//! which is one poll where they are long; but tasks that have long been short, and begin to compute
//! all at once, are seen after [`POLLS_A_READING`] polls.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::shard::{POLLS_A_TURN, Shard};

/// The longest that polls follow each other before the shard looks at the kernel, its messages and
/// its timers.
pub(super) const TURN_MAX: Duration = Duration::from_micros(500);

/// How many short polls there are to a reading of the clock.
const POLLS_A_READING: u32 = 64;

/// How long polls may follow each other until the clock is read.
const STRETCH_NANOS_MAX: u64 = 400_000;

/// Where there are fewer polls to a reading, what else a turn does is not taken for theirs.
const FEW_POLLS: u32 = 4;

pub(super) struct Pace {
    /// How many polls there are to a reading. It falls at once, and rises by one a reading.
    stretch: Cell<u32>,
    /// How many of them are left, as of the beginning of a turn.
    left: Cell<u32>,
    /// Before which poll of the turn the clock is read.
    until: Cell<u32>,
    /// When the clock was read last. It counts for nothing after a wait.
    read_at: Cell<Option<Instant>>,
    /// The clock has to be read before there are polls.
    asks: Cell<bool>,
    turn_began: Cell<Option<Instant>>,
    is_over: Cell<bool>,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            // Nothing is known of them.
            stretch: Cell::new(1),
            left: Cell::new(1),
            until: Cell::new(1),
            read_at: Cell::new(None),
            asks: Cell::new(true),
            turn_began: Cell::new(None),
            is_over: Cell::new(false),
        }
    }
}

impl Pace {
    /// The shard has waited: what time passed says nothing of polls.
    pub(super) fn forget(&self) {
        self.read_at.set(None);
        self.asks.set(true);
    }

    /// Whether the clock has to be read before there are polls.
    #[inline]
    pub(super) fn asks_for_a_reading(&self) -> bool {
        self.asks.get()
    }

    /// After how many polls it is too long ago that the timers were looked at.
    #[inline]
    pub(super) fn polls_between_timers(&self) -> u32 {
        self.stretch.get()
    }

    #[inline]
    pub(super) fn begin_turn(&self) {
        self.turn_began.set(self.read_at.get());
        self.until.set(self.left.get());
    }

    /// Before which poll of the turn the clock is read: there is one at least.
    #[inline]
    pub(super) fn until(&self) -> u32 {
        self.until.get()
    }

    #[inline]
    pub(super) fn end_turn(&self, polls: u32) {
        let until = self.until.get();
        self.left.set(if polls < until { until - polls } else { self.stretch.get() });
    }

    /// Counts a poll between two turns, and says whether the clock is to be read.
    pub(super) fn count_one(&self) -> bool {
        let left = self.left.get() - 1;
        self.left.set(left);
        left == 0
    }

    /// The clock was read.
    fn note(&self, now: Instant) {
        let stretch = self.stretch.get();
        let polls = stretch - self.left.get();
        let before = self.read_at.replace(Some(now));
        let mut next = stretch;
        if let Some(before) = before
            && polls > 0
        {
            let took = now.saturating_duration_since(before);
            let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
            let fitting = STRETCH_NANOS_MAX * u64::from(polls) / took;
            next = fitting.clamp(1, u64::from(POLLS_A_READING.min(stretch + 1))) as u32;
            self.stretch.set(next);
        }
        self.left.set(next);
        self.asks.set(next < FEW_POLLS);
        let began = self.turn_began.get().unwrap_or(now);
        self.is_over.set(now.saturating_duration_since(began) >= TURN_MAX);
    }
}

impl Shard {
    /// Reads the clock amid the polls of a turn. Says whether there may be more of them.
    #[inline(never)]
    pub(super) fn may_poll_on(&self, polls: &mut u32) -> bool {
        let pace = &self.pace;
        pace.left.set(0);
        self.read_clock();
        if pace.is_over.get() {
            // It counts as one in which there were as many polls as there may be.
            *polls = POLLS_A_TURN.max(*polls);
        }
        pace.until.set(*polls + pace.left.get());
        *polls < POLLS_A_TURN
    }

    /// As [`Shard::may_poll_on`] says it, after one poll whose time a test has altered.
    #[cold]
    pub(super) fn is_over_though_time_is_altered(&self) -> bool {
        self.read_clock();
        self.pace.is_over.get()
    }

    /// Reads the system's clock, by which polls are timed.
    #[inline(never)]
    pub(super) fn read_clock(&self) -> Instant {
        let now = self.driver.borrow().kernel().now();
        // What a test has moved the runtime's own clock by counts as well.
        let moved = if self.clock.is_altered() { self.clock.nanos_now() } else { 0 };
        self.pace.note(now + Duration::from_nanos(moved));
        now
    }
}
