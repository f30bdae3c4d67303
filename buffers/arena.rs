//! One arena: a region, and a bitmap of which of its pages are free.
#![forbid(unsafe_code)]

use std::ops::{Range, RangeInclusive};

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
    /// A set bit is a page that is out to who passed the request whose turn it is. Empty until one
    /// is.
    passed: Vec<u64>,
}

/// The bits of word number `index` that stand for pages of `range`.
fn bits_of(index: usize, range: &Range<usize>) -> u64 {
    let low = range.start.saturating_sub(index * 64).min(64);
    let high = range.end.saturating_sub(index * 64).min(64);
    if low >= high { 0 } else { (u64::MAX >> (64 - (high - low))) << low }
}

impl PageMap {
    /// A map of `pages` pages, all of them free.
    pub(crate) fn new(pages: usize) -> PageMap {
        let mut words = vec![u64::MAX; pages.div_ceil(64)];
        let rest = pages % 64;
        if rest > 0 {
            *words.last_mut().expect("a map has pages") = (1 << rest) - 1;
        }
        PageMap { words, pages, free: pages, hint: 0, longest: pages, passed: Vec::new() }
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
        while self.words.get(self.hint) == Some(&0) {
            self.hint += 1;
        }
        if count == 1 {
            // A page is free, and none of the words before.
            let first = self.hint * 64 + self.words[self.hint].trailing_zeros() as usize;
            self.take_at(first, 1);
            return Some(first);
        }
        match self.search(self.hint * 64..self.pages, count) {
            Ok(first) => {
                self.take_at(first, count);
                Some(first)
            }
            Err(longest) => {
                self.longest = longest;
                None
            }
        }
    }

    /// As [`PageMap::take`], of the pages outside of `kept`.
    pub(crate) fn take_outside(&mut self, count: usize, kept: Range<usize>) -> Option<usize> {
        if count > self.longest || count > self.free {
            return None;
        }
        let before = self.search(0..kept.start, count);
        let first = before.or_else(|_| self.search(kept.end..self.pages, count)).ok()?;
        self.take_at(first, count);
        Some(first)
    }

    fn take_at(&mut self, first: usize, count: usize) {
        self.change(first, count, true);
        self.free -= count;
    }

    /// Gives `count` pages from `first` on back. Says how many of them were marked as passed.
    /// Panics if one of them is free already.
    pub(crate) fn give(&mut self, first: usize, count: usize) -> usize {
        self.change(first, count, false);
        self.free += count;
        self.hint = self.hint.min(first / 64);
        // The pages may join a run on either side.
        self.longest = self.pages.min(2 * self.longest + count);
        self.unmark_passed(first..first + count)
    }

    /// How many free pages the longest run of them has.
    pub(crate) fn longest_run(&self) -> usize {
        self.search(0..self.pages, usize::MAX).unwrap_err()
    }

    /// Finds the first run of `count` free pages in a range, or says how long the longest is.
    fn search(&self, within: Range<usize>, count: usize) -> Result<usize, usize> {
        let (mut start, mut run, mut longest) = (0, 0, 0);
        for index in within.start / 64..within.end.div_ceil(64) {
            let word = self.words[index] & bits_of(index, &within);
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
                        return Ok(start);
                    }
                    bit += free;
                } else {
                    run = 0;
                    bit += rest.trailing_zeros() as usize;
                }
            }
        }
        Err(longest)
    }

    /// Notes that taken pages are out to who passed.
    pub(crate) fn mark_passed(&mut self, range: Range<usize>) {
        self.passed.resize(self.words.len(), 0);
        for index in range.start / 64..range.end.div_ceil(64) {
            self.passed[index] |= bits_of(index, &range);
        }
    }

    fn unmark_passed(&mut self, range: Range<usize>) -> usize {
        let mut count = 0;
        if !self.passed.is_empty() {
            for index in range.start / 64..range.end.div_ceil(64) {
                let bits = self.passed[index] & bits_of(index, &range);
                count += bits.count_ones() as usize;
                self.passed[index] ^= bits;
            }
        }
        count
    }

    /// Nobody has passed from now on: another request has its turn.
    pub(crate) fn forget_passed(&mut self) {
        self.passed.clear();
    }

    /// How many pages of a range are taken by who did not pass.
    pub(crate) fn in_the_way(&self, range: Range<usize>) -> usize {
        let words = range.start / 64..range.end.div_ceil(64);
        let taken = words.map(|index| {
            let passed = self.passed.get(index).copied().unwrap_or(0);
            (!self.words[index] & !passed & bits_of(index, &range)).count_ones() as usize
        });
        taken.sum()
    }

    /// Of the runs of `count` pages that begin in `starts`, one with the fewest pages in the way:
    /// its first page, and how many those are. It is looked for in steps of a sixteenth of the run,
    /// or of `steps` pages if that is more.
    pub(crate) fn best(
        &self,
        count: usize,
        starts: RangeInclusive<usize>,
        steps: usize,
    ) -> Option<(usize, usize)> {
        let last = self.pages.checked_sub(count)?;
        let (from, to) = (*starts.start(), last.min(*starts.end()));
        let stepped = (from..=to).step_by((count / 16).max(steps).max(1));
        let mut best = None;
        for first in stepped.chain([to]) {
            let in_the_way = self.in_the_way(first..first + count);
            if best.is_none_or(|(_, fewest)| in_the_way < fewest) {
                best = Some((first, in_the_way));
            }
            if in_the_way == 0 {
                break;
            }
        }
        best
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
    /// Bytes of it in huge pages.
    pub(crate) huge: usize,
    /// Something of it was leased since the previous sweep.
    pub(crate) touched: bool,
}

impl Arena {
    /// An arena over a region that was just mapped and registered.
    pub(crate) fn new(region: Region, generation: u32, huge: usize) -> Arena {
        let map = PageMap::new(region.length() / PAGE);
        Arena { region, map, generation, huge, touched: true }
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
                    prop_assert_eq!(map.give(first, count), 0);
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
