//! The table of a pool's arenas: which slot holds what, and how many bytes are in which state.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::{
        Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    ARENA_SLOTS, PAGE,
    arena::Arena,
    pool::Shared,
    region::Region,
    registrar::{ArenaId, Retiring},
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

/// All arenas of a pool.
#[derive(Debug)]
pub(crate) struct Slots {
    pool: Weak<Shared>,
    entries: Vec<Slot>,
    /// The generation of the next slot that is used for the first time.
    fresh: u32,
    live: usize,
    leased: usize,
    retiring: usize,
    leaked: usize,
}

impl Slots {
    /// An empty table of the given pool.
    pub(crate) fn new(pool: Weak<Shared>) -> Slots {
        Slots {
            pool,
            entries: Vec::new(),
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
        leaked == ARENA_SLOTS
    }

    /// The slots that hold an arena.
    pub(crate) fn arenas(&self) -> impl Iterator<Item = (usize, &Arena)> {
        self.entries.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Live(arena) => Some((index, arena)),
            _ => None,
        })
    }

    /// Takes the first free pages that fit, of the first arena that has them.
    pub(crate) fn allocate(&mut self, pages: usize) -> Option<Grant> {
        for (index, slot) in self.entries.iter_mut().enumerate() {
            let Slot::Live(arena) = slot else { continue };
            let Some(first) = arena.map.take(pages) else { continue };
            arena.touched = true;
            let address = arena.address(first);
            let id = ArenaId { slot: index as u16, generation: arena.generation };
            self.leased += pages * PAGE;
            return Some(Grant { id, first: first as u32, pages: pages as u32, address });
        }
        None
    }

    /// Pages come back to their arena.
    pub(crate) fn release(&mut self, grant: Grant) {
        let Slot::Live(arena) = &mut self.entries[usize::from(grant.id.slot)] else {
            panic!("{:?} was retired while a lease was out", grant.id);
        };
        assert_eq!(arena.generation, grant.id.generation, "slot {}", grant.id.slot);
        arena.map.give(grant.first as usize, grant.pages as usize);
        self.leased -= grant.pages as usize * PAGE;
    }

    /// The id that the next arena gets, if there is room for one.
    pub(crate) fn vacant(&self) -> Option<ArenaId> {
        for (index, slot) in self.entries.iter().enumerate() {
            if let &Slot::Vacant { generation } = slot {
                return Some(ArenaId { slot: index as u16, generation });
            }
        }
        let next = self.entries.len();
        (next < ARENA_SLOTS).then_some(ArenaId { slot: next as u16, generation: self.fresh })
    }

    /// Puts an arena into the vacant slot `id`.
    pub(crate) fn insert(&mut self, id: ArenaId, region: Region) {
        let index = usize::from(id.slot);
        if index == self.entries.len() {
            self.entries.push(Slot::Vacant { generation: self.fresh });
            self.fresh = next_generation();
        }
        match self.entries[index] {
            Slot::Vacant { generation } if generation == id.generation => {}
            _ => panic!("{id:?} is not vacant"),
        }
        self.live += region.length();
        self.entries[index] = Slot::Live(Arena::new(region, id.generation));
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
            let id = ArenaId { slot: index as u16, generation };
            retiring.push(Retiring::new(id, arena.region, self.pool.clone()));
        }
        retiring
    }

    /// Edge 3: an arena is out of every table and unmapped.
    pub(crate) fn finish(&mut self, id: ArenaId) {
        self.retiring -= self.retiring_length(id);
        let generation = next_generation();
        self.entries[usize::from(id.slot)] = Slot::Vacant { generation };
    }

    /// Edge 4: an arena was given up, and its slot with it.
    pub(crate) fn abandon(&mut self, id: ArenaId) {
        let length = self.retiring_length(id);
        self.retiring -= length;
        self.leaked += length;
        self.entries[usize::from(id.slot)] = Slot::Leaked;
    }

    fn retiring_length(&self, id: ArenaId) -> usize {
        match self.entries[usize::from(id.slot)] {
            Slot::Retiring { generation, length } if generation == id.generation => length,
            _ => panic!("{id:?} is not retiring"),
        }
    }
}
