//! The table of a pool's arenas: which slot holds what, and how many bytes are in which state.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::{
        Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use ringhold_kernel::ArenaId;

use crate::{
    PAGE, POOL_SLOTS,
    arena::{Arena, PageMap},
    pool::Shared,
    region::Region,
    registrar::Retiring,
    request::Grant,
};

/// A slot of the table of arenas.
///
/// ```text
/// Vacant --1--> Live --2--> Retiring --3--> Vacant
///                               \-----4---> Leaked
/// ```
/// 1 grown, 2 idle and not wanted, 3 out of every table and unmapped, 4 given up.
#[derive(Debug)]
enum Slot {
    Vacant { generation: u32 },
    Live(Arena),
    Retiring { generation: u32, length: usize },
    Leaked,
}

/// A generation that no arena of this process had before, of whatever pool: a lease that strays to
/// another runtime must not name one of that runtime's arenas.
fn next_generation() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let generation = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(generation != u32::MAX, "the generations of arenas are used up");
    generation
}

/// The range that is kept for the request whose turn it is.
#[derive(Clone, Copy, Debug)]
struct Kept {
    slot: usize,
    first: usize,
    pages: usize,
    /// How many of its pages are out to who did not pass. It never grows: whoever takes pages while
    /// the turn lasts has passed.
    in_the_way: usize,
}

/// All arenas of a pool.
#[derive(Debug)]
pub(crate) struct Slots {
    pool: Weak<Shared>,
    /// The first of the pool's own slots in the table of registered buffers.
    base: u16,
    entries: Vec<Slot>,
    /// The pages of the request whose turn it is; 0 if there is none.
    wanted: usize,
    /// Looked for when a request wants to pass.
    kept: Option<Kept>,
    /// Pages that are out to who passed the request whose turn it is.
    passed: usize,
    /// The generation of the next slot that is used for the first time.
    fresh: u32,
    live: usize,
    leased: usize,
    retiring: usize,
    leaked: usize,
}

impl Slots {
    /// An empty table of the given pool, whose slots are those from `base` on.
    pub(crate) fn new(pool: Weak<Shared>, base: u16) -> Slots {
        Slots {
            pool,
            base,
            entries: Vec::new(),
            wanted: 0,
            kept: None,
            passed: 0,
            fresh: next_generation(),
            live: 0,
            leased: 0,
            retiring: 0,
            leaked: 0,
        }
    }

    /// Bytes of arenas that leases come from.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Bytes leased.
    pub(crate) fn leased(&self) -> usize {
        self.leased
    }

    /// Bytes on their way out.
    pub(crate) fn retiring(&self) -> usize {
        self.retiring
    }

    /// Bytes given up.
    pub(crate) fn leaked(&self) -> usize {
        self.leaked
    }

    /// Bytes mapped.
    pub(crate) fn mapped(&self) -> usize {
        self.live + self.retiring + self.leaked
    }

    /// Nothing is there that could be leased, now or once it is out of the tables.
    pub(crate) fn is_nothing_out(&self) -> bool {
        self.live == 0 && self.retiring == 0
    }

    /// No slot will ever be vacant again.
    pub(crate) fn is_used_up(&self) -> bool {
        let leaked = self.entries.iter().filter(|slot| matches!(slot, Slot::Leaked)).count();
        leaked == POOL_SLOTS
    }

    /// The slots that hold an arena.
    pub(crate) fn arenas(&self) -> impl Iterator<Item = (usize, &Arena)> {
        self.entries.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Live(arena) => Some((index, arena)),
            _ => None,
        })
    }

    /// How many pages the longest run of free ones has.
    pub(crate) fn longest_run(&self) -> usize {
        self.arenas().map(|(_, arena)| arena.map.longest_run()).max().unwrap_or(0)
    }

    /// Bytes in huge pages.
    pub(crate) fn huge(&self) -> usize {
        self.arenas().map(|(_, arena)| arena.huge).sum()
    }

    /// Pages that are out to who passed the request whose turn it is.
    pub(crate) fn passed(&self) -> usize {
        self.passed
    }

    /// Whether a request has its turn.
    pub(crate) fn has_turn(&self) -> bool {
        self.wanted > 0
    }

    /// Another request has its turn, one for `pages`, or none if that is 0: nobody has passed it.
    pub(crate) fn begin_turn(&mut self, pages: usize) {
        if self.passed > 0 {
            for slot in &mut self.entries {
                if let Slot::Live(arena) = slot {
                    arena.map.forget_passed();
                }
            }
        }
        self.passed = 0;
        self.wanted = pages;
        self.kept = None;
    }

    /// Keeps the range with the fewest pages in the way for the request whose turn it is. Returns
    /// whether there are any in it.
    pub(crate) fn keep_range(&mut self) -> bool {
        if self.kept.is_none() && self.wanted > 0 {
            let pages = self.wanted;
            let ranges = self.arenas().filter_map(|(slot, arena)| {
                let steps = arena.map.pages() / 64;
                let (first, in_the_way) = arena.map.best(pages, 0..=usize::MAX, steps)?;
                Some(Kept { slot, first, pages, in_the_way })
            });
            self.kept = ranges.min_by_key(|kept| kept.in_the_way);
        }
        self.kept.is_some_and(|kept| kept.in_the_way > 0)
    }

    /// Pages came back that were in the way: the kept range may be nearer, or another one.
    fn reconsider(&mut self, grant: &Grant) {
        let Some(kept) = &mut self.kept else { return };
        if let Slot::Live(arena) = &self.entries[kept.slot] {
            kept.in_the_way = arena.map.in_the_way(kept.first..kept.first + kept.pages);
        }
        let slot = usize::from(grant.id.slot - self.base);
        let Slot::Live(arena) = &self.entries[slot] else { return };
        let (first, last) = (grant.first as usize, (grant.first + grant.pages) as usize);
        let starts = (first + 1).saturating_sub(kept.pages)..=last - 1;
        if let Some((first, in_the_way)) = arena.map.best(kept.pages, starts, 1)
            && in_the_way < kept.in_the_way
        {
            *kept = Kept { slot, first, in_the_way, ..*kept };
        }
    }

    /// Takes the first free pages that fit, of the first arena that has them.
    pub(crate) fn allocate(&mut self, pages: usize) -> Option<Grant> {
        self.take(pages, |_, map| map.take(pages))
    }

    /// As [`Slots::allocate`], for one that passes the request whose turn it is: inside of the
    /// range that is kept for that only if there is no other place.
    pub(crate) fn allocate_passing(&mut self, pages: usize) -> Option<Grant> {
        self.keep_range();
        let kept = self.kept;
        let outside = self.take(pages, |index, map| match &kept {
            Some(kept) if kept.slot == index => {
                map.take_outside(pages, kept.first..kept.first + kept.pages)
            }
            _ => map.take(pages),
        });
        let grant = outside.or_else(|| self.allocate(pages))?;
        if let Slot::Live(arena) = &mut self.entries[usize::from(grant.id.slot - self.base)] {
            arena.map.mark_passed(grant.first as usize..(grant.first + grant.pages) as usize);
        }
        self.passed += pages;
        Some(grant)
    }

    fn take(
        &mut self,
        pages: usize,
        mut take: impl FnMut(usize, &mut PageMap) -> Option<usize>,
    ) -> Option<Grant> {
        for (index, slot) in self.entries.iter_mut().enumerate() {
            let Slot::Live(arena) = slot else { continue };
            let Some(first) = take(index, &mut arena.map) else { continue };
            arena.touched = true;
            let address = arena.address(first);
            let id = ArenaId { slot: self.base + index as u16, generation: arena.generation };
            self.leased += pages * PAGE;
            return Some(Grant { id, first: first as u32, pages: pages as u32, queue: 0, address });
        }
        None
    }

    /// Pages come back to their arena.
    pub(crate) fn release(&mut self, grant: Grant) {
        let index = usize::from(grant.id.slot - self.base);
        let Slot::Live(arena) = &mut self.entries[index] else {
            panic!("{:?} was retired while a lease was out", grant.id);
        };
        assert_eq!(arena.generation, grant.id.generation, "slot {}", grant.id.slot);
        let passed = arena.map.give(grant.first as usize, grant.pages as usize);
        self.leased -= grant.pages as usize * PAGE;
        self.passed -= passed;
        if self.kept.is_some() && passed < grant.pages as usize {
            self.reconsider(&grant);
        }
    }

    /// The id that the next arena gets, if there is room for one.
    pub(crate) fn vacant(&self) -> Option<ArenaId> {
        for (index, slot) in self.entries.iter().enumerate() {
            if let &Slot::Vacant { generation } = slot {
                return Some(ArenaId { slot: self.base + index as u16, generation });
            }
        }
        let next = self.entries.len();
        let slot = self.base + next as u16;
        (next < POOL_SLOTS).then_some(ArenaId { slot, generation: self.fresh })
    }

    /// Puts an arena into the vacant slot `id`, and returns its index.
    pub(crate) fn insert(&mut self, id: ArenaId, region: Region, huge: usize) -> usize {
        let index = usize::from(id.slot - self.base);
        if index == self.entries.len() {
            self.entries.push(Slot::Vacant { generation: self.fresh });
            self.fresh = next_generation();
        }
        match self.entries[index] {
            Slot::Vacant { generation } if generation == id.generation => {}
            _ => panic!("{id:?} is not vacant"),
        }
        self.live += region.length();
        self.entries[index] = Slot::Live(Arena::new(region, id.generation, huge));
        index
    }

    /// Idle arenas of `bytes` together, or all of them if they are fewer.
    pub(crate) fn idle(&self, bytes: usize) -> Vec<usize> {
        let (mut chosen, mut found) = (Vec::new(), 0);
        for (index, arena) in self.arenas() {
            if found < bytes && arena.is_idle() {
                found += arena.region.length();
                chosen.push(index);
            }
        }
        chosen
    }

    /// The arenas that were idle since the last call, as long as `keep` bytes stay; and whether
    /// others beyond those are idle by now.
    pub(crate) fn stale(&mut self, keep: usize) -> (Vec<usize>, bool) {
        let (mut chosen, mut left, mut more) = (Vec::new(), self.live, false);
        for (index, slot) in self.entries.iter_mut().enumerate().rev() {
            let Slot::Live(arena) = slot else { continue };
            let spare = arena.is_idle() && left - arena.region.length() >= keep;
            if spare && !arena.touched {
                left -= arena.region.length();
                chosen.push(index);
                continue;
            }
            more |= spare;
            arena.touched = !arena.is_idle();
        }
        (chosen, more)
    }

    /// Whether an arena is idle that is not needed to keep `keep` bytes.
    pub(crate) fn has_spare(&self, keep: usize) -> bool {
        self.arenas().any(|(_, arena)| arena.is_idle() && self.live - arena.region.length() >= keep)
    }

    /// Edge 2: takes idle arenas out of their slots.
    pub(crate) fn retire(&mut self, slots: &[usize]) -> Vec<Retiring> {
        let mut retiring = Vec::with_capacity(slots.len());
        for &index in slots {
            let Slot::Live(arena) = &self.entries[index] else {
                panic!("slot {index} is retired but holds no arena");
            };
            let (generation, length) = (arena.generation, arena.region.length());
            let gone = Slot::Retiring { generation, length };
            let Slot::Live(arena) = mem::replace(&mut self.entries[index], gone) else {
                panic!("slot {index} changed under the lock");
            };
            self.live -= length;
            self.retiring += length;
            let id = ArenaId { slot: self.base + index as u16, generation };
            retiring.push(Retiring::new(id, arena.region, self.pool.clone()));
        }
        self.kept = self.kept.filter(|kept| !slots.contains(&kept.slot));
        retiring
    }

    /// Edge 3: an arena is out of every table and unmapped.
    pub(crate) fn finish(&mut self, id: ArenaId) {
        self.retiring -= self.retiring_length(id);
        let generation = next_generation();
        self.entries[usize::from(id.slot - self.base)] = Slot::Vacant { generation };
    }

    /// Edge 4: an arena was given up, and its slot with it.
    pub(crate) fn abandon(&mut self, id: ArenaId) {
        let length = self.retiring_length(id);
        self.retiring -= length;
        self.leaked += length;
        self.entries[usize::from(id.slot - self.base)] = Slot::Leaked;
    }

    fn retiring_length(&self, id: ArenaId) -> usize {
        match self.entries[usize::from(id.slot - self.base)] {
            Slot::Retiring { generation, length } if generation == id.generation => length,
            _ => panic!("{id:?} is not retiring"),
        }
    }
}
