//! What the kernel keeps back, and what is kept back from it.
//!
//! With deferred task work nothing completes but while the kernel is entered, and since about Linux
//! 6.14 one enter completes no more than twenty operations (`IO_LOCAL_TW_DEFAULT_MAX`, or as many
//! as are waited for). A shard polls up to 256 tasks an enter, each of which may start operations,
//! so it would leave ever more behind. The kernel says so by its flag, and is entered again, lap by
//! lap, until that is gone (docs/decisions/0032-what-is-in-flight-follows-what-is-alive.md).

use std::time::Duration;

use ringhold_kernel::Wait;

use crate::driver::Driver;
use crate::driver::cancels::FIRST;

/// As many completions as one enter brings at least, if it keeps any back. Fewer need no look.
const AN_ENTER: u32 = 20;

/// How many laps there are before the tasks, timers and messages have their turn, and how long
/// those may take that send cancels.
const LAPS: u32 = 64;
const LONGEST: Duration = Duration::from_micros(1000);

/// How far the shard has come with the kernel since it entered last.
pub(super) struct Lag {
    fetched: u32,
    laps: u32,
    /// Cancels that were sent without waiting for their turn.
    pub(super) cancels: u32,
    /// How many of those that wait go next.
    pub(super) batch: u32,
    /// What these have taken.
    spent_micros: u32,
}

impl Default for Lag {
    fn default() -> Lag {
        Lag { fetched: 0, laps: 0, cancels: 0, batch: FIRST, spent_micros: 0 }
    }
}

impl Lag {
    /// Whether the kernel may have kept something back, now that this many more were taken.
    #[inline(always)]
    pub(super) fn may_be(&mut self, taken: usize) -> bool {
        self.fetched = self.fetched.saturating_add(taken as u32);
        self.fetched >= AN_ENTER
    }

    /// Something is to be handed over by the next lap.
    pub(super) fn ask_for_lap(&mut self) {
        self.fetched = AN_ENTER;
    }

    pub(super) fn note_spent(&mut self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.spent_micros = self.spent_micros.saturating_add(micros);
    }

    fn is_over(&self) -> bool {
        self.laps == LAPS || Duration::from_micros(self.spent_micros.into()) > LONGEST
    }
}

impl Driver {
    /// Enters once more if the kernel has kept something back, or something waits to be handed
    /// over; and says whether it has.
    #[cold]
    pub(super) fn catch_up(&mut self) -> bool {
        if self.lag.is_over() || !(self.kernel.has_arrived() || self.can_hand_over()) {
            return false;
        }
        self.lag.laps += 1;
        self.lag.fetched = 0;
        self.enter_with_all(Wait::No)
    }
}
