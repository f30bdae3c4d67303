//! What goes wrong with the medium: by chance, and by name.

use std::fmt;
use std::ops::Range;

use super::{Errno, FileSystem};
use crate::choose::Choose;

/// Probabilities of what goes wrong by itself, each for one call or one write to the medium. All
/// are 0 at first, and where all are, nobody is asked to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MediaFaults {
    /// A read from the medium fails with `EIO`.
    pub read_error: f64,
    /// A write fails with `EIO`, and nothing was written.
    pub write_error: f64,
    /// A sync fails with `EIO`: what it was to make durable never will be.
    pub sync_error: f64,
    /// A read from the medium finds a bit that has changed there for good.
    pub bit_flip: f64,
    /// A write to the medium, reported as done, goes to another place, maybe of another file.
    pub misdirected_write: f64,
    /// A write to the medium, reported as done, goes nowhere.
    pub lost_write: f64,
}

/// What [`FileSystem::fail_next`] can let happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A read fails.
    Read,
    /// A write fails, and nothing was written.
    Write,
    /// A sync fails: what it was to make durable never will be.
    Sync,
    /// A bit changes on the medium under a read.
    BitFlip,
    /// A write to the medium goes to another place.
    MisdirectedWrite,
    /// A write to the medium goes nowhere.
    LostWrite,
}

#[derive(Clone, Debug)]
struct Planned {
    kind: FaultKind,
    inode: Option<u64>,
    errno: Errno,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) rates: MediaFaults,
    planned: Vec<Planned>,
    /// What went wrong since it was last asked for.
    struck: Vec<FaultKind>,
}

impl Faults {
    /// The error of what goes wrong now with `inode`, if anything does.
    #[inline]
    pub(super) fn strike(
        &mut self,
        kind: FaultKind,
        inode: u64,
        choose: &mut dyn Choose,
    ) -> Option<Errno> {
        let rate = match kind {
            FaultKind::Read => self.rates.read_error,
            FaultKind::Write => self.rates.write_error,
            FaultKind::Sync => self.rates.sync_error,
            FaultKind::BitFlip => self.rates.bit_flip,
            FaultKind::MisdirectedWrite => self.rates.misdirected_write,
            FaultKind::LostWrite => self.rates.lost_write,
        };
        if rate <= 0.0 && self.planned.is_empty() {
            return None;
        }
        if let Some(errno) = self.strike_planned(kind, inode) {
            return Some(errno);
        }
        let strikes = rate > 0.0 && choose.chance(rate);
        if strikes {
            self.struck.push(kind);
        }
        strikes.then_some(Errno(libc::EIO))
    }

    /// As `strike`, of what was planned alone.
    #[inline]
    pub(super) fn strike_planned(&mut self, kind: FaultKind, inode: u64) -> Option<Errno> {
        let is_meant = |fault: &Planned| {
            fault.kind == kind && fault.inode.is_none_or(|number| number == inode)
        };
        let index = self.planned.iter().position(is_meant)?;
        self.struck.push(kind);
        Some(self.planned.remove(index).errno)
    }
}

/// The medium, as whoever writes to it meets it.
pub(super) struct Medium<'a> {
    pub(super) inode: u64,
    pub(super) sector_bytes: u64,
    pub(super) faults: &'a mut Faults,
    pub(super) choose: &'a mut dyn Choose,
    /// What has to go to another place.
    pub(super) strays: Vec<Vec<u8>>,
}

impl fmt::Debug for Medium<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Medium").field("inode", &self.inode).finish_non_exhaustive()
    }
}

impl Medium<'_> {
    pub(super) fn loses(&mut self) -> bool {
        self.faults.strike(FaultKind::LostWrite, self.inode, self.choose).is_some()
    }

    pub(super) fn misdirects(&mut self) -> bool {
        self.faults.strike(FaultKind::MisdirectedWrite, self.inode, self.choose).is_some()
    }
}

impl FileSystem {
    /// Sets what goes wrong by itself from now on.
    pub fn set_media_faults(&mut self, faults: MediaFaults) {
        self.faults.rates = faults;
    }

    /// What went wrong with the medium since this was last asked for.
    pub fn take_struck(&mut self) -> Vec<FaultKind> {
        std::mem::take(&mut self.faults.struck)
    }

    /// Lets the next call of that kind go wrong: on the file at `path` (from the root) as it is
    /// named now, or on any file. `errno` matters for reads, writes and syncs. Several wait in
    /// order.
    ///
    /// # Errors
    ///
    /// As for looking up the path.
    pub fn fail_next(
        &mut self,
        kind: FaultKind,
        path: Option<&[u8]>,
        errno: Errno,
    ) -> Result<(), Errno> {
        let find = |path| self.find_existing(libc::AT_FDCWD, path, true);
        let inode = path.map(find).transpose()?;
        self.faults.planned.push(Planned { kind, inode, errno });
        Ok(())
    }

    /// Flips the bits of `mask` in the byte at `offset` on the medium. The cache keeps what it has:
    /// a buffered read shows the change only after the cache was lost.
    ///
    /// # Errors
    ///
    /// As for looking up the path; `EISDIR`; `ENXIO` where the medium holds nothing.
    pub fn corrupt(&mut self, path: &[u8], offset: u64, mask: u8) -> Result<(), Errno> {
        let number = self.find_existing(libc::AT_FDCWD, path, true)?;
        let file = self.inodes.get_mut(number).file_mut()?;
        if offset >= file.durable.size || !file.durable.flip(offset, mask) {
            return Err(Errno(libc::ENXIO));
        }
        if file.cached.is_cold(&(offset..offset + 1)) {
            file.cached.flip(offset, mask);
        }
        file.is_damaged = true;
        Ok(())
    }

    /// Flips one bit of what a read from the medium is about to find.
    pub(super) fn rot(&mut self, number: u64, reach: &Range<u64>, choose: &mut dyn Choose) {
        let Ok(file) = self.inodes.get_mut(number).file_mut() else { return };
        let end = file.durable.size.min(reach.end);
        if reach.start >= end {
            return;
        }
        let bit = choose.pick(((end - reach.start) * 8) as usize) as u64;
        let (at, mask) = (reach.start + bit / 8, 1 << (bit % 8));
        if file.durable.flip(at, mask) {
            if file.cached.is_cold(&(at..at + 1)) {
                file.cached.flip(at, mask);
            }
            file.is_damaged = true;
        }
    }

    /// Puts misdirected writes somewhere: over a sector of any file that the medium holds.
    pub(super) fn misdirect(&mut self, strays: Vec<Vec<u8>>, choose: &mut dyn Choose) {
        for stray in strays {
            let held =
                |inode: &super::inode::Inode| inode.file().map_or(0, |it| it.durable.held_count());
            let counts: Vec<(u64, usize)> =
                self.inodes.iter().map(|(number, inode)| (number, held(inode))).collect();
            let total: usize = counts.iter().map(|(_, count)| count).sum();
            if total == 0 {
                continue;
            }
            let mut index = if total == 1 { 0 } else { choose.pick(total) };
            for (number, count) in counts {
                if index >= count {
                    index -= count;
                    continue;
                }
                let file = self.inodes.get_mut(number).file_mut().expect("it holds pages");
                let page = file.durable.held().nth(index).expect("it holds more pages");
                let length = stray.len().min(super::pages::PAGE_BYTES as usize);
                file.durable.write(page * super::pages::PAGE_BYTES, &stray[..length]);
                file.is_damaged = true;
                break;
            }
        }
    }
}
