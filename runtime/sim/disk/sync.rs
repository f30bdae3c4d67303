//! Making durable what was done before a sync began.

use std::ops::Range;

use super::durable::Until;
use super::faults::{FaultKind, Medium};
use super::inode::Kind;
use super::{Errno, FileSystem};
use crate::choose::Choose;

/// A moment between two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

impl FileSystem {
    /// The moment now. A sync takes the one of when it was submitted: it promises what was complete
    /// by then, and no more.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.sequence + 1)
    }

    /// Makes durable what was done to the file or directory before `begun`: of a file its bytes and
    /// its size, and unless `data_only` its attributes; of a directory its names.
    ///
    /// # Errors
    ///
    /// `EBADF`, or what went wrong with the medium. An error is told once to each open description;
    /// what it struck is never tried again, and is still read from the cache.
    pub fn sync(
        &mut self,
        descriptor: i32,
        data_only: bool,
        begun: Stamp,
        choose: &mut dyn Choose,
    ) -> Result<(), Errno> {
        let description = self.descriptors.get(descriptor)?;
        if description.has(libc::O_PATH) {
            return Err(Errno(libc::EBADF));
        }
        let number = description.inode;
        let error = self.sync_inode(number, data_only, begun, None, choose).err();
        self.tell_failure(descriptor, number, error)
    }

    /// Every failure of the inode's writes is told to every description once.
    pub(super) fn tell_failure(
        &mut self,
        descriptor: i32,
        number: u64,
        error: Option<Errno>,
    ) -> Result<(), Errno> {
        let inode = self.inodes.get(number);
        let description = self.descriptors.get_mut(descriptor)?;
        let is_told = description.failures_told == inode.failures;
        description.failures_told = inode.failures;
        match error {
            Some(error) => Err(error),
            None if is_told => Ok(()),
            None => Err(inode.last_failure),
        }
    }

    /// Makes durable what was done before `begun`, of bytes only those in `range`.
    pub(super) fn sync_inode(
        &mut self,
        number: u64,
        data_only: bool,
        begun: Stamp,
        range: Option<&Range<u64>>,
        choose: &mut dyn Choose,
    ) -> Result<(), Errno> {
        let failure = self.faults.strike(FaultKind::Sync, number, choose);
        let inode = self.inodes.get_mut(number);
        if let Some(errno) = failure {
            inode.failures += 1;
            inode.last_failure = errno;
            match &mut inode.kind {
                Kind::File(file) => file.abandon(begun.0, range),
                _ => self.names.abandon(number, begun.0),
            }
            return Err(errno);
        }
        if inode.is_directory() {
            self.commit_names(number, begun.0);
        } else {
            self.settle(number, Until { sequence: begun.0, range }, choose);
        }
        if !data_only {
            self.sync_attributes(number, begun.0);
        }
        Ok(())
    }

    fn settle(&mut self, number: u64, until: Until<'_>, choose: &mut dyn Choose) {
        let inode = self.inodes.get_mut(number);
        let Kind::File(file) = &mut inode.kind else { return };
        let mut medium = Medium {
            inode: number,
            sector_bytes: u64::from(self.config.sector_bytes),
            faults: &mut self.faults,
            choose: &mut *choose,
            strays: Vec::new(),
        };
        file.settle(until, &mut inode.durable_attributes, &mut medium);
        let strays = medium.strays;
        self.misdirect(strays, choose);
    }

    fn sync_attributes(&mut self, number: u64, before: u64) {
        let inode = self.inodes.get_mut(number);
        let count = inode.attribute_log.partition_point(|(sequence, _)| *sequence < before);
        let last = inode.attribute_log.drain(..count).next_back();
        if let Some((_, attributes)) = last {
            inode.durable_attributes = attributes;
        }
        let is_all = match &inode.kind {
            Kind::File(file) => file.log.entries.is_empty(),
            _ => true,
        };
        if is_all && inode.attribute_log.is_empty() {
            inode.durable_attributes = inode.attributes;
        }
    }

    /// What the kernel does by itself when much waits in the cache: the older half becomes durable.
    pub(super) fn write_back(&mut self, number: u64, choose: &mut dyn Choose) {
        let Ok(file) = self.inodes.get(number).file() else { return };
        let entries = &file.log.entries;
        if entries.len() < 2 || file.log.waiting_bytes() <= self.config.unsynced_bytes_max {
            return;
        }
        let sequence = entries[entries.len() / 2].sequence;
        self.settle(number, Until { sequence, range: None }, choose);
    }

    /// Makes everything durable that waits, of every file and every directory, as `sync(2)`.
    pub fn sync_all(&mut self, choose: &mut dyn Choose) {
        let begun = self.stamp();
        self.commit_all_names(begun.0);
        for number in self.inodes.numbers() {
            self.settle(number, Until { sequence: begun.0, range: None }, choose);
            self.sync_attributes(number, begun.0);
        }
    }
}
