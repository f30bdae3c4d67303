//! A shard's table of registered files.
//!
//! A file's slot is its descriptor's number, so that there is nothing to allocate and nothing to
//! look up but whether the slot still holds this very file.

use std::sync::Arc;

use ringhold_kernel::{FIXED_FILE, Kernel, MAY_HANG, Sqe};

use crate::fd::Fd;
use crate::registry::Remote;

pub(crate) struct FileTable {
    /// By slot, the serial of the file that is there; 0 for none.
    serials: Vec<u64>,
    slots: usize,
    remote: Arc<Remote>,
}

impl FileTable {
    pub(crate) fn new(slots: u32, remote: Arc<Remote>) -> FileTable {
        FileTable { serials: Vec::new(), slots: slots as usize, remote }
    }

    /// Names the registered slot in `sqe` where the table has the file, or is worth having it.
    #[inline(always)]
    pub(crate) fn place(&mut self, file: &Fd, sqe: &mut Sqe, kernel: &mut dyn Kernel) {
        let slot = file.descriptor() as usize;
        // What may hang is never attached, so a file that is needs no other look.
        if self.serials.get(slot) == Some(&file.serial()) {
            sqe.flags |= FIXED_FILE;
        } else if file.may_hang() {
            sqe.flags |= MAY_HANG;
        } else if self.attach_if_worth(file, kernel) {
            sqe.flags |= FIXED_FILE;
        }
    }

    #[inline(always)]
    fn attach_if_worth(&mut self, file: &Fd, kernel: &mut dyn Kernel) -> bool {
        !file.is_passing() && self.attach_if_used(file, kernel)
    }

    #[cold]
    fn attach_if_used(&mut self, file: &Fd, kernel: &mut dyn Kernel) -> bool {
        file.is_worth_attaching() && self.attach(file, kernel)
    }

    /// A file that can't be registered is used by its number: that costs time and changes nothing.
    fn attach(&mut self, file: &Fd, kernel: &mut dyn Kernel) -> bool {
        let slot = file.descriptor() as usize;
        if slot >= self.slots || kernel.set_file(slot as u32, Some(file.descriptor())).is_err() {
            return false;
        }
        if self.serials.len() <= slot {
            self.serials.resize(slot + 1, 0);
        }
        self.serials[slot] = file.serial();
        file.note_attached(&self.remote);
        true
    }

    pub(crate) fn detach(&mut self, descriptor: i32, serial: u64, kernel: &mut dyn Kernel) {
        let slot = descriptor as usize;
        if self.serials.get(slot) == Some(&serial) {
            self.serials[slot] = 0;
            // The slot is overwritten by its next file in any case; an error here is the ring's
            // end.
            let _ = kernel.set_file(slot as u32, None);
        }
    }
}
