//! What a file holds: its size, its pages, and the blocks that are reserved but hold nothing yet.
//!
//! The cache and the medium each have a `Content`; they share the pages that are the same in both.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::ranges::Ranges;

pub(super) const PAGE_BYTES: u64 = 4096;

pub(super) type Page = [u8; PAGE_BYTES as usize];

#[derive(Clone, Debug)]
struct Sheet {
    bytes: Arc<Page>,
    /// It has not been read from the medium since the cache was lost.
    is_cold: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) size: u64,
    pages: BTreeMap<u64, Sheet>,
    /// Pages with blocks that read as zeros. None of them is in `pages`.
    reserved: Ranges,
}

/// The parts of `range` by page: the page's number, and the part within it.
pub(super) fn by_page(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let number = at / PAGE_BYTES;
        let base = number * PAGE_BYTES;
        let end = range.end.min(base.saturating_add(PAGE_BYTES));
        let part = (at - base) as usize..(end - base) as usize;
        at = end;
        Some((number, part))
    })
}

/// The numbers of the pages that `range` touches.
pub(super) fn touched(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES)
}

/// The numbers of the pages that lie in `range` as a whole.
pub(super) fn inner(range: &Range<u64>) -> Range<u64> {
    let start = range.start.div_ceil(PAGE_BYTES);
    start..(range.end / PAGE_BYTES).max(start)
}

impl Content {
    /// All of it a hole.
    pub(super) fn hole(size: u64) -> Content {
        Content { size, ..Content::default() }
    }

    /// Pages that hold bytes or are reserved.
    pub(super) fn blocks(&self) -> u64 {
        self.pages.len() as u64 + self.reserved.total()
    }

    /// Copies bytes from `offset` on, as far as the file reaches.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let count = self.size.saturating_sub(offset).min(into.len() as u64) as usize;
        let mut done = 0;
        for (number, part) in by_page(offset..offset + count as u64) {
            let target = &mut into[done..done + part.len()];
            done += part.len();
            match self.pages.get(&number) {
                Some(sheet) => target.copy_from_slice(&sheet.bytes[part]),
                None => target.fill(0),
            }
        }
        count
    }

    /// Puts bytes at `offset`. The size stays.
    pub(super) fn write(&mut self, offset: u64, from: &[u8]) {
        let mut done = 0;
        for (number, part) in by_page(offset..offset + from.len() as u64) {
            let source = &from[done..done + part.len()];
            done += part.len();
            match <&Page>::try_from(source) {
                Ok(whole) => self.put_page(number, new_page(whole)),
                Err(_) => self.page_mut(number)[part].copy_from_slice(source),
            }
        }
    }

    pub(super) fn put_page(&mut self, number: u64, bytes: Arc<Page>) {
        if self.pages.insert(number, Sheet { bytes, is_cold: false }).is_none() {
            self.unreserve(number);
        }
    }

    /// A page's bytes, zeros where there is none.
    pub(super) fn page(&self, number: u64) -> Option<&Arc<Page>> {
        self.pages.get(&number).map(|sheet| &sheet.bytes)
    }

    /// To change a page; one that isn't there begins as zeros.
    pub(super) fn page_mut(&mut self, number: u64) -> &mut Page {
        if !self.pages.contains_key(&number) {
            self.put_page(number, Arc::new([0; PAGE_BYTES as usize]));
        }
        let sheet = self.pages.get_mut(&number).expect("it is there or was put there");
        Arc::make_mut(&mut sheet.bytes)
    }

    fn unreserve(&mut self, number: u64) {
        if !self.reserved.is_empty() {
            self.reserved.remove(number..number + 1);
        }
    }

    /// The pages of `range` that have no block yet.
    pub(super) fn missing(&self, range: &Range<u64>) -> u64 {
        let pages = touched(range);
        if pages.end - pages.start == 1 {
            return u64::from(!self.has_block(pages.start));
        }
        let held = self.pages.range(pages.clone()).count() as u64;
        pages.end - pages.start - held - self.reserved.count(pages)
    }

    /// How many of `length` bytes at `offset` can be written with `free` more blocks.
    pub(super) fn fitting(&self, offset: u64, length: usize, free: u64) -> usize {
        let mut left = free;
        let mut fitting = 0;
        for (number, part) in by_page(offset..offset + length as u64) {
            if !self.has_block(number) {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            fitting += part.len();
        }
        fitting
    }

    pub(super) fn has_block(&self, number: u64) -> bool {
        self.pages.contains_key(&number) || self.reserved.contains(number)
    }

    /// Gives every page of `pages` a block.
    pub(super) fn reserve(&mut self, pages: Range<u64>) {
        self.reserved.insert(pages.clone());
        let held: Vec<u64> = self.pages.range(pages).map(|(number, _)| *number).collect();
        for number in held {
            self.reserved.remove(number..number + 1);
        }
    }

    /// Makes `range` read as zeros. Whole pages lose their bytes, and their blocks if
    /// `frees_blocks`; otherwise they are reserved.
    pub(super) fn zero(&mut self, range: Range<u64>, frees_blocks: bool) {
        let whole = inner(&range);
        self.drop_pages(whole.clone());
        if frees_blocks {
            self.reserved.remove(whole.clone());
        } else {
            self.reserved.insert(whole.clone());
        }
        let head = range.start..range.end.min(whole.start * PAGE_BYTES);
        let tail = range.start.max(whole.end * PAGE_BYTES)..range.end;
        for edge in [head, tail] {
            for (number, part) in by_page(edge) {
                if self.pages.contains_key(&number) {
                    self.page_mut(number)[part].fill(0);
                }
            }
        }
    }

    /// Makes it end at `size`: what lies beyond is gone, so that it reads as zeros when the file
    /// grows again.
    pub(super) fn cut(&mut self, size: u64) {
        self.size = size;
        let first = size.div_ceil(PAGE_BYTES);
        drop(self.pages.split_off(&first));
        self.reserved.remove(first..u64::MAX);
        for (number, part) in by_page(size..first * PAGE_BYTES) {
            if self.pages.contains_key(&number) {
                self.page_mut(number)[part].fill(0);
            }
        }
    }

    fn drop_pages(&mut self, pages: Range<u64>) {
        if pages.is_empty() {
            return;
        }
        let mut rest = self.pages.split_off(&pages.start);
        self.pages.append(&mut rest.split_off(&pages.end));
    }

    /// The numbers of the pages that hold bytes.
    pub(super) fn held(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.keys().copied()
    }

    pub(super) fn held_count(&self) -> usize {
        self.pages.len()
    }

    /// Whether `range` touches a page that is only on the medium.
    pub(super) fn is_cold(&self, range: &Range<u64>) -> bool {
        self.pages.range(touched(range)).any(|(_, sheet)| sheet.is_cold)
    }

    pub(super) fn warm(&mut self, range: &Range<u64>) {
        for (_, sheet) in self.pages.range_mut(touched(range)) {
            sheet.is_cold = false;
        }
    }

    pub(super) fn cool(&mut self) {
        for sheet in self.pages.values_mut() {
            sheet.is_cold = true;
        }
    }

    /// Changes bytes in place where there is a page, and says whether there was one.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) -> bool {
        let number = offset / PAGE_BYTES;
        let is_held = self.pages.contains_key(&number);
        if is_held {
            self.page_mut(number)[(offset % PAGE_BYTES) as usize] ^= mask;
        }
        is_held
    }
}

/// A page of its own with these bytes; made at once, so that they are copied once.
pub(super) fn new_page(bytes: &Page) -> Arc<Page> {
    let page: Arc<[u8]> = Arc::from(bytes.as_slice());
    page.try_into().unwrap_or_else(|_| unreachable!("a page has a page's length"))
}
