//! The table of open descriptors, and the open descriptions that they stand for.

use super::Errno;

/// The first number that is given out; those below are the standard streams'.
const FIRST: i32 = 3;

/// What an `open` made: descriptors that were duplicated share it.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) inode: u64,
    /// `O_…`, without what only matters while it is opened.
    pub(super) flags: i32,
    pub(super) position: u64,
    pub(super) listing: Listing,
    /// How many failures of the inode's writes its syncs have told, or were before its time.
    pub(super) failures_told: u64,
    descriptors: u32,
}

impl Description {
    pub(super) fn new(inode: u64, flags: i32, failures_told: u64) -> Description {
        let listing = Listing::default();
        Description { inode, flags, position: 0, listing, failures_told, descriptors: 0 }
    }

    fn access(&self) -> i32 {
        self.flags & libc::O_ACCMODE
    }

    fn is_path(&self) -> bool {
        self.flags & libc::O_PATH != 0
    }

    pub(super) fn reads(&self) -> bool {
        !self.is_path() && self.access() != libc::O_WRONLY
    }

    pub(super) fn writes(&self) -> bool {
        !self.is_path() && self.access() != libc::O_RDONLY
    }

    pub(super) fn has(&self, flag: i32) -> bool {
        self.flags & flag == flag
    }
}

/// How far a directory has been listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Listing {
    /// Nothing yet: `.` is next.
    #[default]
    Start,
    /// `.` was listed: `..` is next.
    Itself,
    /// Everything up to this name; after `..`, the empty one.
    UpTo(Box<[u8]>),
}

#[derive(Debug)]
enum Slot {
    Free,
    /// A description's place, and the serial number of the descriptor.
    Open(usize, u64),
    /// Taken by something that is not a file of this disk; with the descriptor's serial number.
    Foreign(u64),
}

#[derive(Debug, Default)]
pub(super) struct Descriptors {
    slots: Vec<Slot>,
    descriptions: Vec<Option<Description>>,
    /// Descriptors that were given out, each of which has a serial number.
    opened: u64,
}

impl Descriptors {
    fn place(&mut self, slot: Slot, most: usize) -> Result<i32, Errno> {
        let free = self.slots.iter().position(|slot| matches!(slot, Slot::Free));
        let index = free.unwrap_or(self.slots.len());
        if index + FIRST as usize >= most {
            return Err(Errno(libc::EMFILE));
        }
        if index == self.slots.len() {
            self.slots.push(Slot::Free);
        }
        self.opened += 1;
        self.slots[index] = slot;
        Ok(index as i32 + FIRST)
    }

    /// Whether there is a number left below `most`.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.slots.len() + (FIRST as usize) < most
            || self.slots.iter().any(|slot| matches!(slot, Slot::Free))
    }

    pub(super) fn add(&mut self, mut description: Description, most: usize) -> Result<i32, Errno> {
        description.descriptors = 1;
        let free = self.descriptions.iter().position(Option::is_none);
        let index = free.unwrap_or(self.descriptions.len());
        let descriptor = self.place(Slot::Open(index, self.opened), most)?;
        if index == self.descriptions.len() {
            self.descriptions.push(None);
        }
        self.descriptions[index] = Some(description);
        Ok(descriptor)
    }

    pub(super) fn add_foreign(&mut self, most: usize) -> Result<i32, Errno> {
        self.place(Slot::Foreign(self.opened), most)
    }

    fn index(&self, descriptor: i32) -> Result<usize, Errno> {
        let slot = descriptor.checked_sub(FIRST).and_then(|index| usize::try_from(index).ok());
        match slot.and_then(|index| self.slots.get(index)) {
            Some(Slot::Open(index, _)) => Ok(*index),
            _ => Err(Errno(libc::EBADF)),
        }
    }

    /// Which of all descriptors that had the number it is.
    pub(super) fn serial(&self, descriptor: i32) -> Option<u64> {
        let index = usize::try_from(descriptor.checked_sub(FIRST)?).ok()?;
        match self.slots.get(index) {
            Some(Slot::Open(_, serial) | Slot::Foreign(serial)) => Some(*serial),
            _ => None,
        }
    }

    pub(super) fn get(&self, descriptor: i32) -> Result<&Description, Errno> {
        let index = self.index(descriptor)?;
        Ok(self.descriptions[index].as_ref().expect("a slot's description is there"))
    }

    pub(super) fn get_mut(&mut self, descriptor: i32) -> Result<&mut Description, Errno> {
        let index = self.index(descriptor)?;
        Ok(self.descriptions[index].as_mut().expect("a slot's description is there"))
    }

    pub(super) fn duplicate(&mut self, descriptor: i32, most: usize) -> Result<i32, Errno> {
        let index = self.index(descriptor)?;
        let copy = self.place(Slot::Open(index, self.opened), most)?;
        let description = self.descriptions[index].as_mut();
        description.expect("a slot's description is there").descriptors += 1;
        Ok(copy)
    }

    /// Frees the number; the inode, if that was the description's last.
    pub(super) fn remove(&mut self, descriptor: i32) -> Result<Option<u64>, Errno> {
        let index = self.index(descriptor)?;
        self.slots[(descriptor - FIRST) as usize] = Slot::Free;
        let description = self.descriptions[index].as_mut().expect("it is there");
        description.descriptors -= 1;
        if description.descriptors > 0 {
            return Ok(None);
        }
        let inode = description.inode;
        self.descriptions[index] = None;
        Ok(Some(inode))
    }

    pub(super) fn remove_foreign(&mut self, descriptor: i32) -> Result<(), Errno> {
        let index = descriptor.checked_sub(FIRST).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| self.slots.get_mut(index)) {
            Some(slot @ Slot::Foreign(_)) => {
                *slot = Slot::Free;
                Ok(())
            }
            _ => Err(Errno(libc::EBADF)),
        }
    }

    /// The numbers in use, in order.
    pub(super) fn open(&self) -> Vec<i32> {
        let is_open = |slot: &Slot| !matches!(slot, Slot::Free);
        let numbers = FIRST..FIRST + self.slots.len() as i32;
        numbers.zip(&self.slots).filter(|(_, slot)| is_open(slot)).map(|(n, _)| n).collect()
    }

    /// Forgets all of them, those that are not files too.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.descriptions.clear();
    }
}
