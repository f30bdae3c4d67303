//! One arena: a region, and a bitmap of which of its pages are free.
#![forbid(unsafe_code)]

use crate::{
    PAGE,
    region::{Address, Region},
};

/// A bitmap of the free pages of an arena (a set bit is a free page), taken first fit.
#[derive(Debug)]
pub(crate) struct PageMap {
    words: Vec<u64>,
    pages: usize,
    free: usize,
    /// No page of the words below this one is free.
    hint: usize,
    /// No run of free pages is longer than this, so that what can't fit is refused without a
    /// search.
    longest: usize,
}

impl PageMap {
    /// A map of `pages` pages, all of them free.
    pub(crate) fn new(pages: usize) -> PageMap {
        let mut words = vec![u64::MAX; pages.div_ceil(64)];
        let rest = pages % 64;
        if rest > 0 {
            *words.last_mut().expect("a map has pages") = (1 << rest) - 1;
        }
        PageMap { words, pages, free: pages, hint: 0, longest: pages }
    }

    /// All pages, leased or not.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// How many pages are free.
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// Takes the first run of `count` free pages and returns its first page.
    pub(crate) fn take(&mut self, count: usize) -> Option<usize> {
        if count > self.longest || count > self.free {
            return None;
        }
        let first = self.find(count)?;
        self.change(first, count, true);
        self.free -= count;
        Some(first)
    }

    /// Gives `count` pages from `first` on back. Panics if one of them is free already.
    pub(crate) fn give(&mut self, first: usize, count: usize) {
        self.change(first, count, false);
        self.free += count;
        self.hint = self.hint.min(first / 64);
        // The pages may join a run on either side.
        self.longest = self.pages.min(2 * self.longest + count);
    }

    fn find(&mut self, count: usize) -> Option<usize> {
        while self.words.get(self.hint) == Some(&0) {
            self.hint += 1;
        }
        let (mut start, mut run, mut longest) = (0, 0, 0);
        for (index, &word) in self.words.iter().enumerate().skip(self.hint) {
            let mut bit = 0;
            while bit < 64 {
                let rest = word >> bit;
                let free = rest.trailing_ones() as usize;
                if free > 0 {
                    if run == 0 {
                        start = index * 64 + bit;
                    }
                    run += free;
                    longest = longest.max(run);
                    if run >= count {
                        return Some(start);
                    }
                    bit += free;
                } else {
                    run = 0;
                    bit += rest.trailing_zeros() as usize;
                }
            }
        }
        self.longest = longest;
        None
    }

    /// Turns the bits of a range, which must all have been `free` before.
    fn change(&mut self, first: usize, count: usize, free: bool) {
        assert!(first + count <= self.pages, "pages {first}+{count} of {}", self.pages);
        let (mut page, end) = (first, first + count);
        while page < end {
            let bit = page % 64;
            let bits = (64 - bit).min(end - page);
            let mask = (u64::MAX >> (64 - bits)) << bit;
            let word = &mut self.words[page / 64];
            let before = if free { *word & mask } else { !*word & mask };
            assert_eq!(before, mask, "pages {page}+{bits} were not {}", state_name(free));
            *word ^= mask;
            page += bits;
        }
    }
}

fn state_name(free: bool) -> &'static str {
    if free { "free" } else { "taken" }
}

/// A mapped arena and what is free in it.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) region: Region,
    pub(crate) map: PageMap,
    /// Of the slot, at the time this arena came into it.
    pub(crate) generation: u32,
    /// Something of it was leased since the previous sweep.
    pub(crate) touched: bool,
}

impl Arena {
    /// An arena over a region that was just mapped and registered.
    pub(crate) fn new(region: Region, generation: u32) -> Arena {
        let map = PageMap::new(region.length() / PAGE);
        Arena { region, map, generation, touched: true }
    }

    /// Nothing of it is leased.
    pub(crate) fn is_idle(&self) -> bool {
        self.map.free() == self.map.pages()
    }

    /// Where a page begins.
    pub(crate) fn address(&self, page: usize) -> Address {
        self.region.base().advance(page * PAGE)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, Hasher, RandomState};

    use proptest::{prelude::*, test_runner::RngSeed};

    use super::PageMap;

    /// A run by a seed that is printed, and that `RINGHOLD_SEED` sets.
    fn seeded() -> ProptestConfig {
        let given = std::env::var("RINGHOLD_SEED").ok();
        let seed = given.map_or_else(
            || RandomState::new().build_hasher().finish(),
            |text| text.parse().expect("RINGHOLD_SEED is a number"),
        );
        println!("RINGHOLD_SEED={seed}");
        ProptestConfig {
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    /// The first run of `count` free pages, found the slow way.
    fn naive(free: &[bool], count: usize) -> Option<usize> {
        free.windows(count).position(|run| run.iter().all(|&free| free))
    }

    proptest! {
        #![proptest_config(seeded())]

        #[test]
        fn pages_are_taken_first_fit_and_never_twice(
            pages in 1..400usize,
            calls in proptest::collection::vec((1..90usize, any::<bool>(), any::<usize>()), 1..300),
        ) {
            let mut map = PageMap::new(pages);
            let mut free = vec![true; pages];
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for (count, take, which) in calls {
                if take {
                    let expected = if count <= pages { naive(&free, count) } else { None };
                    prop_assert_eq!(map.take(count), expected);
                    if let Some(first) = expected {
                        free[first..first + count].fill(false);
                        taken.push((first, count));
                    }
                } else if !taken.is_empty() {
                    let (first, count) = taken.swap_remove(which % taken.len());
                    map.give(first, count);
                    free[first..first + count].fill(true);
                }
                prop_assert_eq!(map.free(), free.iter().filter(|&&free| free).count());
            }
        }
    }

    #[test]
    fn a_run_may_cross_words() {
        let mut map = PageMap::new(200);
        assert_eq!((map.take(63), map.take(66), map.take(71)), (Some(0), Some(63), Some(129)));
        assert_eq!(map.take(1), None);
        map.give(63, 66);
        assert_eq!((map.take(67), map.take(66)), (None, Some(63)));
    }

    #[test]
    #[should_panic(expected = "pages 3+2 were not taken")]
    fn giving_back_what_is_free_panics() {
        let mut map = PageMap::new(10);
        map.take(4);
        map.give(3, 2);
    }
}
