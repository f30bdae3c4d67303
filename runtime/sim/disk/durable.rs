//! What was done to a file and is not durable yet, and how it becomes so.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::faults::Medium;
use super::inode::{Attributes, File};
use super::pages::{Content, PAGE_BYTES, Page, by_page};

/// The bytes of one call of write.
#[derive(Clone, Debug)]
pub(super) enum Bytes {
    /// The pages that the range touches, as they were after the write.
    Pages(Vec<Arc<Page>>),
    /// The range alone.
    Own(Box<[u8]>),
}

#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) range: Range<u64>,
    pub(super) bytes: Bytes,
    /// Parts of the range that are settled: durable, or overwritten on the medium.
    pub(super) gone: Vec<Range<u64>>,
}

impl Written {
    /// The parts of `within` that it still has to give.
    pub(super) fn live(&self, within: &Range<u64>) -> Vec<Range<u64>> {
        let whole = overlap(&self.range, within);
        let mut live = if whole.is_empty() { Vec::new() } else { vec![whole] };
        for gone in &self.gone {
            live = live.iter().flat_map(|part| without(part, gone)).collect();
        }
        live
    }

    /// Puts a part of its range into `content`. The size stays.
    pub(super) fn put(&self, part: &Range<u64>, content: &mut Content) {
        match &self.bytes {
            Bytes::Own(bytes) => {
                let start = (part.start - self.range.start) as usize;
                let length = (part.end - part.start) as usize;
                content.write(part.start, &bytes[start..start + length]);
            }
            Bytes::Pages(pages) => {
                let first = self.range.start / PAGE_BYTES;
                for (number, within) in by_page(part.clone()) {
                    let page = &pages[(number - first) as usize];
                    if within.len() as u64 == PAGE_BYTES {
                        content.put_page(number, Arc::clone(page));
                    } else {
                        content.page_mut(number)[within.clone()].copy_from_slice(&page[within]);
                    }
                }
            }
        }
    }

    fn copy(&self, part: &Range<u64>) -> Vec<u8> {
        let mut content = Content::hole(part.end);
        self.put(part, &mut content);
        let mut bytes = vec![0; (part.end - part.start) as usize];
        content.read(part.start, &mut bytes);
        bytes
    }
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Bytes(Written),
    /// Bytes become zeros, and whole pages lose or get their blocks.
    Zero {
        range: Range<u64>,
        frees_blocks: bool,
    },
    /// Pages get blocks.
    Reserve(Range<u64>),
    /// The file reaches at least that far.
    Grow(u64),
    /// The file ends there, and what was beyond is gone.
    Cut(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The number of the call.
    pub(super) sequence: u64,
    pub(super) at: Duration,
    /// A sync of it failed, so that no later one tries it again.
    pub(super) is_abandoned: bool,
    pub(super) change: Change,
}

/// In the order of the calls.
#[derive(Debug, Default)]
pub(super) struct FileLog {
    pub(super) entries: Vec<Entry>,
    /// About how many bytes were pushed since the kernel last looked.
    waiting_bytes: u64,
}

impl FileLog {
    #[inline]
    pub(super) fn push(&mut self, sequence: u64, at: Duration, change: Change) {
        self.waiting_bytes += change.bytes();
        self.entries.push(Entry { sequence, at, is_abandoned: false, change });
    }

    pub(super) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }
}

/// What an entry costs beyond its bytes, about.
const ENTRY_BYTES: u64 = 128;

impl Change {
    fn bytes(&self) -> u64 {
        match self {
            Change::Bytes(written) => written.range.end - written.range.start + ENTRY_BYTES,
            _ => ENTRY_BYTES,
        }
    }
}

pub(super) fn overlap(left: &Range<u64>, right: &Range<u64>) -> Range<u64> {
    let start = left.start.max(right.start);
    start..left.end.min(right.end).max(start)
}

/// What `gone` leaves of `part`.
fn without(part: &Range<u64>, gone: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let before = part.start..part.end.min(gone.start);
    let after = part.start.max(gone.end)..part.end;
    [before, after].into_iter().filter(|rest| !rest.is_empty())
}

/// `range` with the whole of the sectors that it touches.
pub(super) fn with_sectors(range: &Range<u64>, sector: u64) -> Range<u64> {
    range.start / sector * sector..range.end.div_ceil(sector).saturating_mul(sector)
}

/// What of a log is to become durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until<'a> {
    /// Calls before this one.
    pub(super) sequence: u64,
    /// Of what they wrote, this range alone; of sizes and holes, all.
    pub(super) range: Option<&'a Range<u64>>,
}

impl File {
    /// Makes durable what `until` says, in the order of the calls.
    pub(super) fn settle(
        &mut self,
        until: Until<'_>,
        attributes: &mut Attributes,
        medium: &mut Medium<'_>,
    ) {
        let mut kept: Vec<Entry> = Vec::new();
        let entries = std::mem::take(&mut self.log.entries);
        for mut entry in entries {
            if entry.sequence >= until.sequence {
                kept.push(entry);
                continue;
            }
            let stays = match &mut entry.change {
                Change::Bytes(written) => {
                    let wanted = match until.range {
                        Some(range) => with_sectors(range, medium.sector_bytes),
                        None if entry.is_abandoned => 0..0,
                        None => 0..u64::MAX,
                    };
                    self.settle_bytes(written, &wanted, &mut kept, medium)
                }
                Change::Zero { range, frees_blocks } => {
                    self.durable.zero(range.clone(), *frees_blocks);
                    forget(&mut kept, range);
                    false
                }
                Change::Reserve(pages) => {
                    self.durable.reserve(pages.clone());
                    false
                }
                Change::Grow(size) => {
                    self.durable.size = self.durable.size.max(*size);
                    false
                }
                Change::Cut(size) => {
                    self.durable.cut(*size);
                    forget(&mut kept, &(*size..u64::MAX));
                    false
                }
            };
            if stays {
                kept.push(entry);
            } else {
                attributes.modified = entry.at;
                attributes.changed = entry.at;
            }
        }
        self.log.waiting_bytes = kept.iter().map(|entry| entry.change.bytes()).sum();
        self.log.entries = kept;
    }

    /// Puts what of `written` lies in `wanted` on the medium; whether something of it stays.
    fn settle_bytes(
        &mut self,
        written: &mut Written,
        wanted: &Range<u64>,
        kept: &mut [Entry],
        medium: &mut Medium<'_>,
    ) -> bool {
        let parts = written.live(wanted);
        if parts.is_empty() {
            return !written.live(&(0..u64::MAX)).is_empty();
        }
        for part in &parts {
            self.put_on_medium(written, part, kept, medium);
        }
        written.gone.extend(parts);
        !written.live(&(0..u64::MAX)).is_empty()
    }

    fn put_on_medium(
        &mut self,
        written: &Written,
        part: &Range<u64>,
        kept: &mut [Entry],
        medium: &mut Medium<'_>,
    ) {
        // A sector is written as the cache has it, with what older calls put there.
        let sectors = with_sectors(part, medium.sector_bytes);
        for older in &mut *kept {
            if let Change::Bytes(older) = &mut older.change {
                let shared = older.live(&sectors);
                for range in &shared {
                    older.put(range, &mut self.durable);
                }
                older.gone.extend(shared);
            }
        }
        if medium.loses() {
            self.is_damaged = true;
        } else if medium.misdirects() {
            self.is_damaged = true;
            medium.strays.push(written.copy(part));
        } else {
            written.put(part, &mut self.durable);
        }
    }

    /// The bytes that no later sync makes durable: those of the calls before `sequence`.
    pub(super) fn abandon(&mut self, sequence: u64, range: Option<&Range<u64>>) {
        for entry in &mut self.log.entries {
            if entry.sequence < sequence
                && let Change::Bytes(written) = &entry.change
                && range.is_none_or(|range| !overlap(range, &written.range).is_empty())
            {
                entry.is_abandoned = true;
                self.is_damaged = true;
            }
        }
    }
}

fn forget(entries: &mut [Entry], range: &Range<u64>) {
    for entry in entries {
        if let Change::Bytes(written) = &mut entry.change {
            written.gone.push(range.clone());
        }
    }
}
