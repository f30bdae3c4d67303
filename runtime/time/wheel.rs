//! The timer wheel: it holds the wakers of all timers of a shard, sorted as far as the clock needs.
//!
//! A tick is one nanosecond since the runtime's epoch. That timers close together share a wake-up
//! is the shard's doing, when it parks: the wheel knows of no slack. A timer lives on the level of
//! the highest base-64 digit in which its tick differs from the wheel's own time, in the slot that
//! this digit names. So every timer of a level is due before every timer of the next one, no slot
//! is ever behind the wheel's time, and the first bit set in two bitmaps finds the earliest slot.
//! When time enters a slot of a higher level, its timers move down (a cascade), at most once for
//! each level: a timer costs the same among 100,000 others as alone. The wheel never clones, wakes
//! or drops a waker (only its own drop does), so that no foreign code runs while it is borrowed.

use std::fmt;

use ringhold_buffers::foreign::ForeignWaker;

/// Each level takes this many bits of a tick.
const LEVEL_BITS: u32 = 6;

/// The slots of a level: as many as a bitmap in one word has bits.
const SLOTS: usize = 1 << LEVEL_BITS;

/// Eleven levels of six bits reach over all 64 bits of a tick, so no deadline needs a list apart.
const LEVELS: usize = u64::BITS.div_ceil(LEVEL_BITS) as usize;

/// The link that leads nowhere.
const NIL: u32 = u32::MAX;

/// Names one timer of one wheel, and never another one: a key that was fired or removed is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

/// One timer, or a free place. A live entry is in the ring of its slot and has a waker; a free one
/// has none, and its `next` leads to the next free one.
struct Entry {
    tick: u64,
    waker: Option<ForeignWaker>,
    next: u32,
    previous: u32,
    generation: u32,
}

/// 64 slots, each a ring of entries that starts with the one inserted first.
struct Level {
    /// Bit `n` is set if slot `n` has entries; what the arrays hold for other slots is stale.
    occupied: u64,
    heads: [u32; SLOTS],
    /// No entry of the slot is due before this tick. It is exact until an entry is removed.
    bounds: [u64; SLOTS],
}

/// The timers of one shard.
pub(crate) struct Wheel {
    /// The wheel's own time: all that was due at it has been taken out.
    now: u64,
    /// Bit `n` is set if level `n` has entries.
    occupied: u32,
    levels: Box<[Level]>,
    entries: Vec<Entry>,
    free: u32,
    /// How many timers there are.
    len: usize,
}

impl Wheel {
    /// An empty wheel at tick 0.
    pub(crate) fn new() -> Wheel {
        let level = || Level { occupied: 0, heads: [NIL; SLOTS], bounds: [0; SLOTS] };
        Wheel {
            now: 0,
            occupied: 0,
            levels: (0..LEVELS).map(|_| level()).collect(),
            entries: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// Adds a timer that is due at `tick`. A tick that the wheel has passed counts as its present
    /// time: the next `expire` takes the timer out.
    pub(crate) fn insert(&mut self, tick: u64, waker: ForeignWaker) -> TimerKey {
        let index = self.allocate();
        let entry = &mut self.entries[index as usize];
        entry.tick = tick.max(self.now);
        entry.waker = Some(waker);
        let key = TimerKey { index, generation: entry.generation };
        self.link(index);
        self.len += 1;
        key
    }

    /// The waker of a timer, or `None` if the key is stale: the timer was fired or removed.
    pub(crate) fn waker(&self, key: TimerKey) -> Option<&ForeignWaker> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation == key.generation { entry.waker.as_ref() } else { None }
    }

    /// Sets another waker for a timer and returns the old one, which the caller drops when the
    /// wheel is not borrowed any more.
    ///
    /// # Errors
    ///
    /// Hands the new waker back if the key is stale: the timer was fired or removed.
    pub(crate) fn set_waker(
        &mut self,
        key: TimerKey,
        waker: ForeignWaker,
    ) -> Result<ForeignWaker, ForeignWaker> {
        match self.entries.get_mut(key.index as usize) {
            Some(Entry { generation, waker: Some(present), .. })
                if *generation == key.generation =>
            {
                Ok(std::mem::replace(present, waker))
            }
            _ => Err(waker),
        }
    }

    /// Takes a timer out and returns its waker, or `None` if the key is stale.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<ForeignWaker> {
        self.waker(key)?;
        self.unlink(key.index);
        self.release(key.index)
    }

    /// Moves the wakers of all timers that are due at `now` into `into`, in the order of their
    /// ticks, and among equal ticks in the order of their insertion. A `now` before that of an
    /// earlier call takes nothing out.
    ///
    /// Stops when `into` has `most`, and says whether that was all: those that are left are due.
    pub(crate) fn expire(&mut self, now: u64, most: usize, into: &mut Vec<ForeignWaker>) -> bool {
        if now < self.now {
            return true;
        }
        while let Some((level, slot)) = self.first() {
            let start = self.start_of(level, slot);
            if start > now {
                break;
            }
            self.now = self.now.max(start);
            if level > 0 {
                self.cascade(level, slot);
            } else if !self.fire(slot, most, into) {
                return false;
            }
        }
        self.now = now;
        true
    }

    /// The tick at which `expire` should be called next: never later than the earliest deadline,
    /// and exactly that unless timers were removed. Where it is earlier, `expire` moves timers to
    /// lower levels, so that asking again brings progress. `None` if there are no timers.
    pub(crate) fn next(&self) -> Option<u64> {
        self.first().map(|(level, slot)| self.levels[level].bounds[slot])
    }

    /// Whether there are no timers.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The level and the slot of the timers that are due first.
    fn first(&self) -> Option<(usize, usize)> {
        if self.occupied == 0 {
            return None;
        }
        let level = self.occupied.trailing_zeros() as usize;
        Some((level, self.levels[level].occupied.trailing_zeros() as usize))
    }

    /// The first tick of a slot: the present time with its digit at the level replaced and the
    /// lower ones zero.
    fn start_of(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * LEVEL_BITS;
        let digits_above = shift + LEVEL_BITS;
        let above = match self.now.checked_shr(digits_above) {
            Some(digits) => digits << digits_above,
            None => 0,
        };
        above | (slot as u64) << shift
    }

    /// The level and the slot of a tick, which is not before the present time. An entry stays
    /// where this says: time can't enter a slot of a higher level without a cascade.
    fn place_of(&self, tick: u64) -> (usize, usize) {
        let differing_bits = u64::BITS - (tick ^ self.now).leading_zeros();
        let level = differing_bits.saturating_sub(1) / LEVEL_BITS;
        let slot = (tick >> (level * LEVEL_BITS)) as usize % SLOTS;
        (level as usize, slot)
    }

    /// Takes the timers of a slot of the lowest level out, all of which have the same tick; `false`
    /// if `into` had `most` before that was all.
    fn fire(&mut self, slot: usize, most: usize, into: &mut Vec<ForeignWaker>) -> bool {
        while into.len() < most {
            let head = self.levels[0].heads[slot];
            let is_last = self.entries[head as usize].next == head;
            self.unlink(head);
            into.extend(self.release(head));
            if is_last {
                return true;
            }
        }
        false
    }

    /// Moves the timers of a slot that time has entered to lower levels.
    fn cascade(&mut self, level: usize, slot: usize) {
        let head = self.detach(level, slot);
        let mut index = head;
        loop {
            let next = self.entries[index as usize].next;
            self.link(index);
            index = next;
            if index == head {
                break;
            }
        }
    }

    /// Empties an occupied slot and returns the head of the ring that it had.
    fn detach(&mut self, level: usize, slot: usize) -> u32 {
        let head = self.levels[level].heads[slot];
        self.vacate(level, slot);
        head
    }

    /// Marks a slot as empty.
    fn vacate(&mut self, level: usize, slot: usize) {
        self.levels[level].occupied &= !(1 << slot);
        if self.levels[level].occupied == 0 {
            self.occupied &= !(1 << level);
        }
    }

    /// Puts an entry at the end of the ring where its tick belongs.
    fn link(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick;
        let (level, slot) = self.place_of(tick);
        let Level { occupied, heads, bounds } = &mut self.levels[level];
        let (next, previous) = if *occupied & (1 << slot) == 0 {
            *occupied |= 1 << slot;
            self.occupied |= 1 << level;
            heads[slot] = index;
            bounds[slot] = tick;
            (index, index)
        } else {
            bounds[slot] = bounds[slot].min(tick);
            let head = heads[slot];
            let tail = std::mem::replace(&mut self.entries[head as usize].previous, index);
            self.entries[tail as usize].next = index;
            (head, tail)
        };
        let entry = &mut self.entries[index as usize];
        (entry.next, entry.previous) = (next, previous);
    }

    /// Takes an entry out of its ring.
    fn unlink(&mut self, index: u32) {
        let Entry { tick, next, previous, .. } = self.entries[index as usize];
        let (level, slot) = self.place_of(tick);
        if next == index {
            self.vacate(level, slot);
            return;
        }
        self.entries[previous as usize].next = next;
        self.entries[next as usize].previous = previous;
        let head = &mut self.levels[level].heads[slot];
        if *head == index {
            *head = next;
        }
    }

    /// A place for an entry: a free one, or a new one.
    fn allocate(&mut self) -> u32 {
        if self.free != NIL {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            return index;
        }
        let index = self.entries.len();
        assert!(index < NIL as usize, "a timer wheel holds at most {NIL} timers");
        self.entries.push(Entry { tick: 0, waker: None, next: NIL, previous: NIL, generation: 0 });
        index as u32
    }

    /// Frees the place of an entry that is in no ring and returns its waker. A place whose
    /// generations are used up is not used again, so that no key ever matches twice.
    fn release(&mut self, index: u32) -> Option<ForeignWaker> {
        self.len -= 1;
        let entry = &mut self.entries[index as usize];
        if entry.generation < u32::MAX {
            entry.generation += 1;
            entry.next = self.free;
            self.free = index;
        }
        entry.waker.take()
    }
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("now", &self.now)
            .field("len", &self.len)
            .field("next", &self.next())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
