//! Directories: changing names, making the changes durable, and listing them.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use super::descriptors::Listing;
use super::{Errno, FileSystem};

/// One name's change.
#[derive(Clone, Debug)]
pub(super) struct NameEdit {
    pub(super) directory: u64,
    pub(super) name: Box<[u8]>,
    /// What has the name from then on.
    pub(super) now: Option<u64>,
}

/// What one call did to names: on the medium it happened as a whole or not at all.
#[derive(Clone, Debug)]
pub(super) struct NameOperation {
    pub(super) sequence: u64,
    pub(super) at: Duration,
    /// A sync of it failed, so that no later one tries it again by itself.
    pub(super) is_abandoned: bool,
    pub(super) edits: Vec<NameEdit>,
    /// The directory that lost its name, and was empty.
    pub(super) emptied: Option<u64>,
    /// It renamed something.
    pub(super) moves: bool,
    /// It moved a directory into another one.
    pub(super) moves_directory: bool,
}

/// The changes of names that are not durable, in the order of the calls.
#[derive(Debug, Default)]
pub(super) struct NameLog {
    pub(super) operations: Vec<NameOperation>,
}

/// What the operations that were selected need of those before them. To be shown the operations
/// from the last to the first.
#[derive(Debug, Default)]
struct Needs<'a> {
    names: BTreeSet<(u64, &'a [u8])>,
    /// Directories that were empty later.
    emptied: BTreeSet<u64>,
    /// Directories that a name moved into later.
    places: BTreeSet<u64>,
    directory_moves: bool,
}

impl<'a> Needs<'a> {
    fn include(&self, operation: &NameOperation) -> bool {
        let needs_edit = |edit: &NameEdit| {
            self.names.contains(&(edit.directory, &edit.name))
                || self.emptied.contains(&edit.directory)
                || edit.now.is_some_and(|number| self.places.contains(&number))
        };
        self.directory_moves && operation.moves_directory || operation.edits.iter().any(needs_edit)
    }

    fn add(&mut self, operation: &'a NameOperation) {
        for edit in &operation.edits {
            self.names.insert((edit.directory, &edit.name));
            if let Some(number) = edit.now
                && (operation.moves || self.places.contains(&number))
            {
                self.places.insert(edit.directory);
            }
        }
        self.emptied.extend(operation.emptied);
        self.directory_moves |= operation.moves_directory;
    }
}

impl NameLog {
    /// Which operations become durable if those do that `is_wanted` says; it is asked about the
    /// last first, and not about those that a later one needs.
    pub(super) fn select(&self, mut is_wanted: impl FnMut(&NameOperation) -> bool) -> Vec<bool> {
        let mut needs = Needs::default();
        let mut selected = vec![false; self.operations.len()];
        for (index, operation) in self.operations.iter().enumerate().rev() {
            if needs.include(operation) || is_wanted(operation) {
                needs.add(operation);
                selected[index] = true;
            }
        }
        selected
    }

    pub(super) fn abandon(&mut self, directory: u64, before: u64) {
        for operation in &mut self.operations {
            if operation.sequence < before && operation.touches(directory) {
                operation.is_abandoned = true;
            }
        }
    }
}

impl NameOperation {
    fn touches(&self, directory: u64) -> bool {
        self.edits.iter().any(|edit| edit.directory == directory)
    }
}

/// One name of a directory, as [`FileSystem::read_directory`] gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name, `.` and `..` included.
    pub name: Vec<u8>,
    /// The inode's number.
    pub inode: u64,
    /// `DT_REG`, `DT_DIR` or `DT_LNK`.
    pub kind: u8,
}

impl FileSystem {
    /// Gives an inode its first name.
    pub(super) fn attach_new(&mut self, directory: u64, name: &[u8], number: u64) {
        self.attach(directory, name, number);
        let edit = NameEdit { directory, name: name.into(), now: Some(number) };
        self.record(vec![edit], None, false, false);
    }

    pub(super) fn attach(&mut self, directory: u64, name: &[u8], number: u64) {
        let now = self.now;
        let inode = self.inodes.get_mut(number);
        inode.links += 1;
        inode.attributes.changed = now;
        let is_directory = inode.is_directory();
        if let Ok(child) = inode.directory_mut() {
            child.parent = directory;
        }
        let parent = self.inodes.get_mut(directory);
        (parent.attributes.modified, parent.attributes.changed) = (now, now);
        let names = parent.directory_mut().expect("a path's parent is a directory");
        names.names.insert(name.into(), number);
        names.subdirectories += u32::from(is_directory);
    }

    pub(super) fn detach(&mut self, directory: u64, name: &[u8]) -> u64 {
        let now = self.now;
        let parent = self.inodes.get_mut(directory);
        (parent.attributes.modified, parent.attributes.changed) = (now, now);
        let names = parent.directory_mut().expect("a path's parent is a directory");
        let number = names.names.remove(name).expect("the name was looked up");
        let inode = self.inodes.get_mut(number);
        inode.links -= 1;
        inode.attributes.changed = now;
        if inode.is_directory() {
            let parent = self.inodes.get_mut(directory).directory_mut();
            parent.expect("a path's parent is a directory").subdirectories -= 1;
        }
        number
    }

    /// Notes a change of names that is not durable.
    pub(super) fn record(
        &mut self,
        edits: Vec<NameEdit>,
        emptied: Option<u64>,
        moves: bool,
        moves_directory: bool,
    ) {
        for number in edits.iter().filter_map(|edit| edit.now) {
            self.inodes.get_mut(number).pending_links += 1;
        }
        let (sequence, at) = (self.next_sequence(), self.now);
        let is_abandoned = false;
        self.names.operations.push(NameOperation {
            sequence,
            at,
            is_abandoned,
            edits,
            emptied,
            moves,
            moves_directory,
        });
        let count = self.names.operations.len();
        if count > self.config.unsynced_names_max {
            let sequence = self.names.operations[count / 2].sequence;
            self.commit_all_names(sequence);
        }
    }

    /// Makes a directory's names durable as they were before a call, and what they need.
    pub(super) fn commit_names(&mut self, directory: u64, before: u64) {
        let selected = self.names.select(|operation| {
            operation.sequence < before && !operation.is_abandoned && operation.touches(directory)
        });
        self.commit(&selected);
    }

    pub(super) fn commit_all_names(&mut self, before: u64) {
        let selected = self.names.select(|operation| operation.sequence < before);
        self.commit(&selected);
    }

    fn commit(&mut self, selected: &[bool]) {
        if !selected.contains(&true) {
            return;
        }
        let operations = std::mem::take(&mut self.names.operations);
        for (operation, is_selected) in operations.into_iter().zip(selected) {
            if *is_selected {
                self.apply(&operation);
            } else {
                self.names.operations.push(operation);
            }
        }
    }

    /// Changes the names on the medium.
    pub(super) fn apply(&mut self, operation: &NameOperation) {
        let mut replaced = Vec::new();
        for edit in &operation.edits {
            let inode = self.inodes.get_mut(edit.directory);
            inode.durable_attributes.modified = operation.at;
            inode.durable_attributes.changed = operation.at;
            let names = &mut inode.directory_mut().expect("names lie in directories").durable;
            let before = match edit.now {
                Some(number) => names.insert(edit.name.clone(), number),
                None => names.remove(&edit.name),
            };
            if let Some(number) = edit.now {
                let inode = self.inodes.get_mut(number);
                inode.durable_links += 1;
                inode.pending_links -= 1;
            }
            if let Some(number) = before {
                self.inodes.get_mut(number).durable_links -= 1;
                replaced.push(number);
            }
        }
        // Only now: within one operation a name can go before it comes back.
        replaced.sort_unstable();
        replaced.dedup();
        for number in replaced {
            self.forget_if_gone(number);
        }
    }

    /// The next names of an open directory, at most `most`, in the order of their bytes after `.`
    /// and `..`; none at the end. Names that come and go meanwhile may be listed or not, every
    /// other one is listed once.
    ///
    /// # Errors
    ///
    /// `EBADF`, `ENOTDIR`; `ENOENT` of a directory that was removed.
    pub fn read_directory(&mut self, descriptor: i32, most: usize) -> Result<Vec<Listed>, Errno> {
        let description = self.descriptors.get(descriptor)?;
        if !description.reads() {
            return Err(Errno(libc::EBADF));
        }
        let inode = self.inodes.get(description.inode);
        let directory = inode.directory()?;
        if inode.links == 0 {
            return Err(Errno(libc::ENOENT));
        }
        let mut listing = description.listing.clone();
        let mut listed = Vec::new();
        while listed.len() < most {
            let (name, number): (&[u8], u64) = match &listing {
                Listing::Start => (b".", description.inode),
                Listing::Itself => (b"..", directory.parent),
                Listing::UpTo(last) => {
                    let rest = (Bound::Excluded(&**last), Bound::Unbounded);
                    match directory.names.range::<[u8], _>(rest).next() {
                        Some((name, number)) => (name, *number),
                        None => break,
                    }
                }
            };
            let kind = self.inodes.get(number).entry_kind();
            listed.push(Listed { name: name.to_vec(), inode: number, kind });
            listing = match listing {
                Listing::Start => Listing::Itself,
                Listing::Itself => Listing::UpTo(Box::default()),
                Listing::UpTo(_) => Listing::UpTo(name.into()),
            };
        }
        self.descriptors.get_mut(descriptor)?.listing = listing;
        Ok(listed)
    }

    /// Lists an open directory from its start again.
    ///
    /// # Errors
    ///
    /// `EBADF`.
    pub fn rewind_directory(&mut self, descriptor: i32) -> Result<(), Errno> {
        self.descriptors.get_mut(descriptor)?.listing = Listing::Start;
        Ok(())
    }
}
