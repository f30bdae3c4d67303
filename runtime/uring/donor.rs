//! The donor ring: the master table of registered buffers.

#![allow(unsafe_code)] // Registering memory.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::PoisonError;

use io_uring::IoUring;
use io_uring::types::CloneBuffersFlags;
use ringhold_kernel::sync::{Mutex, MutexGuard, OnceLock};
use ringhold_kernel::{ARENA_SLOTS, ArenaEntry, Donor};

/// A ring that is never used for I/O. It is not a single issuer's, so any thread may change its
/// table.
pub(super) struct DonorRing {
    // One change at a time; the kernel would serialise them as well.
    ring: Mutex<IoUring>,
    descriptor: RawFd,
    can_be_cloned: bool,
}

impl DonorRing {
    pub(super) fn new() -> io::Result<DonorRing> {
        let ring = IoUring::builder().dontfork().build(1)?;
        ring.submitter().register_buffers_sparse(ARENA_SLOTS as u32)?;
        let descriptor = ring.as_raw_fd();
        let can_be_cloned = can_be_cloned(descriptor)?;
        Ok(DonorRing { ring: Mutex::new(ring), descriptor, can_be_cloned })
    }

    fn lock(&self) -> MutexGuard<'_, IoUring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this kernel clones a table over another one (6.13): a whole try is the only way to know.
/// What is short at the moment (memory, descriptors) is an error, and says nothing about the
/// kernel.
fn can_be_cloned(donor: RawFd) -> io::Result<bool> {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let ring = IoUring::new(1)?;
    let clone = || {
        let flags = CloneBuffersFlags::DST_REPLACE;
        ring.submitter().register_buffers_clone_offset(donor, 0, 0, 0, flags)
    };
    // The first goes over nothing, the second over a table.
    let can = match clone().and_then(|()| clone()) {
        Ok(()) => true,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM)) => return Err(error),
        Err(_) => false,
    };
    Ok(*KNOWN.get_or_init(|| can))
}

/// Puts memory under a slot of a ring's table; length 0 clears the slot.
pub(super) fn update_slot(
    ring: &IoUring,
    slot: u32,
    address: usize,
    length: usize,
) -> io::Result<()> {
    let buffer =
        libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(address), iov_len: length };
    // SAFETY: registering pins the pages; the region stays mapped until every table has let go of
    // it (S4).
    unsafe { ring.submitter().register_buffers_update(slot, &[buffer], None) }
}

impl Donor for DonorRing {
    fn register(&self, arena: &ArenaEntry) -> io::Result<()> {
        update_slot(&self.lock(), u32::from(arena.id.slot), arena.address, arena.length)
    }

    fn clear(&self, slot: u16) -> io::Result<()> {
        update_slot(&self.lock(), u32::from(slot), 0, 0)
    }

    fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    fn can_be_cloned(&self) -> bool {
        self.can_be_cloned
    }

    fn close(&self) {
        let _ = self.lock().submitter().unregister_buffers();
    }
}
