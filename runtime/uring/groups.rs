//! Rings of provided buffers.

#![allow(unsafe_code)] // Memory that is shared with the kernel.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use ringhold_kernel::Provided;

/// The memory that a ring of provided buffers is shared in with the kernel.
pub(super) struct GroupRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    /// One less than there are entries, which are a power of two.
    mask: u16,
    tail: u16,
}

impl GroupRing {
    /// Registers a ring with room for `entries` buffers.
    pub(super) fn register(ring: &IoUring, group: u16, entries: u16) -> io::Result<GroupRing> {
        assert!(entries.is_power_of_two(), "a ring has a power of two of entries");
        let bytes = (usize::from(entries) * size_of::<BufRingEntry>()).next_multiple_of(4096);
        let layout = Layout::from_size_align(bytes, 4096).expect("a small layout");
        // SAFETY: the layout is not empty, and nobody else has the memory yet (S8).
        let memory = unsafe { alloc_zeroed(layout) }.cast::<BufRingEntry>();
        let Some(memory) = NonNull::new(memory) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let made = GroupRing { entries: memory, layout, mask: entries - 1, tail: 0 };
        let address = memory.as_ptr().expose_provenance() as u64;
        // SAFETY: the memory is page-aligned, as long as the entries, and stays allocated until the
        // ring is unregistered, by `unregister` or by the end of the io_uring, which its owner
        // drops before this (S2).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(address, entries, group, 0)?;
        }
        Ok(made)
    }

    /// Puts a buffer behind those that are there. There is room for it: its group never has more
    /// than there are entries.
    ///
    /// # Safety
    ///
    /// As for `Kernel::provide`.
    pub(super) unsafe fn add(&mut self, buffer: Provided) {
        // SAFETY: the index is within the entries; the kernel reads an entry only after the tail
        // below says that it is there, and has read what stood in it before the group could be
        // given another buffer (S8).
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(usize::from(self.tail & self.mask));
            entry.set_addr(buffer.address as u64);
            entry.set_len(buffer.length);
            entry.set_bid(buffer.number);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, in a field that no `set_` writes to, and is
        // written by this alone (S8); the kernel reads it after acquiring it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    pub(super) fn unregister(self, ring: &IoUring, group: u16) {
        // What fails here is undone by the end of the io_uring.
        let _ = ring.submitter().unregister_buf_ring(group);
    }
}

impl Drop for GroupRing {
    fn drop(&mut self) {
        // SAFETY: allocated by `register` with this layout. The kernel no longer reads it; if it
        // wasn't unregistered, the kernel holds the pages itself and only reads them (S2).
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}
