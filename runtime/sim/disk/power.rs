//! The end of a process, and the loss of power.

use std::collections::BTreeMap;
use std::ops::Range;

use super::FileSystem;
use super::durable::{Change, Entry, Written, overlap};
use super::inode::{Attributes, File, Inode, Kind, ROOT};
use super::pages::PAGE_BYTES;
use crate::choose::Choose;

/// Up to how many sectors every way to tear a write is one alternative of one choice.
const SECTORS_WITH_EVERY_TEAR: usize = 8;

impl FileSystem {
    /// Ends every process without the power going: the descriptors are closed, and the cache stays.
    pub fn crash_clean(&mut self) {
        for descriptor in self.open_descriptors() {
            // What isn't a file of this disk is closed by whoever has it, and forgotten here.
            let _ = self.close(descriptor);
        }
        self.descriptors.clear();
        self.current_directory = ROOT;
    }

    /// Turns the power off and on again: the descriptors and the cache are gone, and what was not
    /// durable is there or not, as the rules of this module allow and `choose` says.
    pub fn lose_power(&mut self, choose: &mut dyn Choose) {
        self.descriptors.clear();
        self.current_directory = ROOT;
        self.settle_names(choose);
        let found = self.reachable();
        self.used_pages = 0;
        self.inodes.live = 0;
        for number in self.inodes.numbers() {
            let Some(place) = found.get(&number) else {
                self.inodes.remove(number);
                continue;
            };
            let inode = self.inodes.get_mut(number);
            inode.restart(place, u64::from(self.config.sector_bytes), choose);
            self.used_pages += inode.blocks();
            self.inodes.live += 1;
        }
    }

    fn settle_names(&mut self, choose: &mut dyn Choose) {
        let selected = self.names.select(|_| choose.pick(2) == 1);
        let operations = std::mem::take(&mut self.names.operations);
        for (operation, is_selected) in operations.iter().zip(selected) {
            if is_selected {
                self.apply(operation);
            }
        }
    }

    /// What has a path on the medium.
    fn reachable(&self) -> BTreeMap<u64, Found> {
        let mut found = BTreeMap::new();
        found.insert(ROOT, Found { links: 1, parent: ROOT, subdirectories: 0 });
        let mut directories = vec![ROOT];
        while let Some(directory) = directories.pop() {
            let names = &self.inodes.get(directory).directory().expect("only they wait").durable;
            let mut subdirectories = 0;
            for number in names.values() {
                let parent = directory;
                let place = Found { links: 0, parent, subdirectories: 0 };
                let place = found.entry(*number).or_insert(place);
                place.links += 1;
                if self.inodes.get(*number).is_directory() {
                    assert_eq!(place.links, 1, "directory {number} has two names on the medium");
                    subdirectories += 1;
                    directories.push(*number);
                }
            }
            let place = found.get_mut(&directory).expect("it waited, so it was found");
            place.subdirectories = subdirectories;
        }
        found
    }
}

/// How the medium names an inode.
#[derive(Debug)]
struct Found {
    links: u32,
    parent: u64,
    subdirectories: u32,
}

impl Inode {
    /// Makes it what the medium has of it.
    fn restart(&mut self, found: &Found, sector: u64, choose: &mut dyn Choose) {
        let (links, parent) = (found.links, found.parent);
        (self.links, self.durable_links) = (links, links);
        (self.pending_links, self.opens, self.failures) = (0, 0, 0);
        self.is_ghost = false;
        let log = std::mem::take(&mut self.attribute_log);
        if !log.is_empty() {
            let kept = choose.pick(log.len() + 1);
            if kept > 0 {
                self.durable_attributes = log[kept - 1].1;
            }
        }
        match &mut self.kind {
            Kind::File(file) => file.restart(&mut self.durable_attributes, sector, choose),
            Kind::Directory(directory) => {
                directory.names = directory.durable.clone();
                directory.parent = parent;
                directory.subdirectories = found.subdirectories;
            }
            Kind::Link(_) => {}
        }
        self.attributes = self.durable_attributes;
    }
}

/// Which sectors of a write reach the medium.
fn surviving(sectors: usize, choose: &mut dyn Choose) -> Vec<bool> {
    if sectors == 1 {
        return vec![choose.pick(2) == 1];
    }
    match choose.pick(3) {
        0 => return vec![false; sectors],
        1 => return vec![true; sectors],
        _ => {}
    }
    if sectors <= SECTORS_WITH_EVERY_TEAR {
        let set = choose.pick((1 << sectors) - 2) + 1;
        return (0..sectors).map(|index| set >> index & 1 == 1).collect();
    }
    match choose.pick(3) {
        0 => {
            let first_lost = choose.pick(sectors - 1) + 1;
            (0..sectors).map(|index| index < first_lost).collect()
        }
        1 => {
            let first_kept = choose.pick(sectors - 1) + 1;
            (0..sectors).map(|index| index >= first_kept).collect()
        }
        _ => (0..sectors).map(|_| choose.pick(2) == 1).collect(),
    }
}

/// The sizes that survive: those of the first calls, as the size is one number on the medium.
#[derive(Debug)]
struct Sizes {
    /// By entry, whether it is a size that survives.
    survives: Vec<bool>,
    /// By entry, where the bytes end that can still be seen at the end.
    limits: Vec<u64>,
}

impl Sizes {
    fn choose(durable: u64, entries: &[Entry], choose: &mut dyn Choose) -> Sizes {
        let is_size = |entry: &&Entry| matches!(entry.change, Change::Grow(_) | Change::Cut(_));
        let count = entries.iter().filter(is_size).count();
        let mut left = if count > 0 { choose.pick(count + 1) } else { 0 };
        let mut size = durable;
        let mut survives = vec![false; entries.len()];
        for (index, entry) in entries.iter().enumerate() {
            if left == 0 || !is_size(&entry) {
                continue;
            }
            left -= 1;
            survives[index] = true;
            match entry.change {
                Change::Grow(to) => size = size.max(to),
                Change::Cut(to) => size = to,
                _ => unreachable!("only sizes get here"),
            }
        }
        let mut limits = vec![0; entries.len()];
        let mut limit = size;
        for (index, entry) in entries.iter().enumerate().rev() {
            limits[index] = limit;
            if let (Change::Cut(to), true) = (&entry.change, survives[index]) {
                limit = limit.min(*to);
            }
        }
        Sizes { survives, limits }
    }
}

/// The writes that a sector missed, by the sector's number: the entry's index and where its bytes
/// end. A later write that survives brings them, as a sector is written as the cache has it.
type Missed = BTreeMap<u64, Vec<(usize, u64)>>;

impl File {
    fn restart(&mut self, attributes: &mut Attributes, sector: u64, choose: &mut dyn Choose) {
        let entries = std::mem::take(&mut self.log).entries;
        let sizes = Sizes::choose(self.durable.size, &entries, choose);
        let mut missed = Missed::new();
        // Bytes beyond lie in blocks that only a truncation that is lost would have freed first.
        let mut unreachable_from = u64::MAX;
        for (index, entry) in entries.iter().enumerate() {
            let survives = match &entry.change {
                Change::Bytes(_) => {
                    let end = sizes.limits[index].min(unreachable_from);
                    self.restart_bytes(&entries, (index, end), sector, &mut missed, choose)
                }
                Change::Zero { range, frees_blocks } => {
                    let survives = choose.pick(2) == 1;
                    if survives {
                        self.durable.zero(range.clone(), *frees_blocks);
                        let inner = range.start.div_ceil(sector)..range.end / sector;
                        missed.retain(|number, _| !inner.contains(number));
                    }
                    survives
                }
                Change::Reserve(pages) => {
                    let survives = choose.pick(2) == 1;
                    if survives {
                        self.durable.reserve(pages.clone());
                    }
                    survives
                }
                Change::Grow(to) if sizes.survives[index] => {
                    self.durable.size = self.durable.size.max(*to);
                    true
                }
                Change::Cut(to) if sizes.survives[index] => {
                    self.durable.cut(*to);
                    true
                }
                Change::Cut(to) => {
                    unreachable_from = unreachable_from.min(*to);
                    false
                }
                Change::Grow(_) => false,
            };
            if survives {
                (attributes.modified, attributes.changed) = (entry.at, entry.at);
            }
        }
        self.cached = self.durable.clone();
        self.cached.cool();
        self.is_damaged = false;
    }

    /// Lets one write survive, be torn or be lost, up to where it can be seen; whether any of it
    /// survived.
    fn restart_bytes(
        &mut self,
        entries: &[Entry],
        (index, end): (usize, u64),
        sector: u64,
        missed: &mut Missed,
        choose: &mut dyn Choose,
    ) -> bool {
        let written = bytes_of(&entries[index]);
        let parts = written.live(&(0..end));
        if parts.is_empty() {
            return false;
        }
        let mut sectors: Vec<u64> =
            parts.iter().flat_map(|part| part.start / sector..part.end.div_ceil(sector)).collect();
        sectors.dedup();
        let survives = surviving(sectors.len(), choose);
        for (&number, &is_kept) in sectors.iter().zip(&survives) {
            if !is_kept {
                missed.entry(number).or_default().push((index, end));
                continue;
            }
            let whole = number * sector..(number + 1) * sector;
            for (older, end) in missed.remove(&number).unwrap_or_default() {
                self.put_live(bytes_of(&entries[older]), &overlap(&whole, &(0..end)));
            }
            self.put_live(written, &overlap(&whole, &(0..end)));
        }
        survives.contains(&true)
    }

    fn put_live(&mut self, written: &Written, within: &Range<u64>) {
        for part in written.live(within) {
            written.put(&part, &mut self.durable);
        }
    }
}

fn bytes_of(entry: &Entry) -> &Written {
    match &entry.change {
        Change::Bytes(written) => written,
        change => panic!("call {} wrote no bytes but {change:?}", entry.sequence),
    }
}

/// The sectors lie in pages as a whole.
const _: () = assert!(PAGE_BYTES.is_power_of_two());
