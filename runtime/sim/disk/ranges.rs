//! A set of numbers as ranges that neither overlap nor touch.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// Start to end.
    spans: BTreeMap<u64, u64>,
    total: u64,
}

impl Ranges {
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.spans.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&first, &last)) = self.spans.range(..=end).next_back() {
            if last < start {
                break;
            }
            self.spans.remove(&first);
            self.total -= last - first;
            start = start.min(first);
            end = end.max(last);
        }
        self.spans.insert(start, end);
        self.total += end - start;
    }

    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&first, &last)) = self.spans.range(..range.end).next_back() {
            if last <= range.start {
                break;
            }
            self.spans.remove(&first);
            self.total -= last - first;
            for (start, end) in [(first, range.start), (range.end, last)] {
                if start < end {
                    self.spans.insert(start, end);
                    self.total += end - start;
                }
            }
        }
    }

    /// The parts of `range` that are not in the set, in order.
    pub(super) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let before = self.spans.range(..=range.start).next_back().map(|(start, _)| *start);
        for (&first, &last) in self.spans.range(before.unwrap_or(range.start)..range.end) {
            if at < first {
                gaps.push(at..first.min(range.end));
            }
            at = at.max(last);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// How many numbers of `range` are in the set.
    pub(super) fn count(&self, range: Range<u64>) -> u64 {
        if self.spans.is_empty() || range.is_empty() {
            return 0;
        }
        let missing: u64 = self.gaps(range.clone()).iter().map(|gap| gap.end - gap.start).sum();
        range.end - range.start - missing
    }
}
