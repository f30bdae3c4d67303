//! Anonymous private mappings, made and unmapped here alone; unsafe because that is `mmap` and
//! `munmap`.
#![allow(unsafe_code)]

use std::{io, ptr::NonNull};

use crate::{HUGE_PAGE, PAGE};

/// An address inside of a region, as a value that may go to another thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address(NonNull<u8>);

// SAFETY: an address by itself gives no access. Whoever reads or writes through it holds a lease
// (S5: live leases are disjoint) or is a region that nobody else knows of, and region memory stays
// mapped as long as a lease is out (S4), on whichever thread that is.
unsafe impl Send for Address {}
// SAFETY: as for `Send` (S4, S5): a shared address gives no access either.
unsafe impl Sync for Address {}

impl Address {
    /// The pointer itself.
    pub(crate) fn get(self) -> NonNull<u8> {
        self.0
    }

    /// The address `bytes` further on, which must be within the region or at its very end.
    pub(crate) fn advance(self, bytes: usize) -> Address {
        // An offset without the in-bounds promise keeps this safe; a mapping never wraps to zero.
        let pointer = self.0.as_ptr().wrapping_add(bytes);
        Address(NonNull::new(pointer).expect("a region does not wrap around the address space"))
    }
}

/// One anonymous private mapping, readable and writable, all of its pages present.
#[derive(Debug)]
pub(crate) struct Region {
    base: Address,
    length: usize,
}

impl Region {
    /// Maps and pre-faults `length` bytes, a multiple of the page. From 2 MiB on it is aligned to
    /// huge pages and asks for them; below it asks for none, so that no neighbour's huge page is
    /// charged.
    pub(crate) fn map(length: usize) -> io::Result<Region> {
        assert!(length > 0 && length.is_multiple_of(PAGE), "a region of {length} bytes");
        let huge = length >= HUGE_PAGE;
        let region = if huge { Region::map_aligned(length)? } else { Region::map_plain(length)? };
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // A kernel without transparent huge pages answers EINVAL: the region is as good without.
        let _ = region.advise(advice);
        // A fork would copy every pinned page for the child then and there: half a second for 512
        // MiB. The child gets none of it; leases are the parent's.
        let _ = region.advise(libc::MADV_DONTFORK);
        region.populate()?;
        if cfg!(debug_assertions) {
            // SAFETY: nobody else knows this region yet, and all of it is mapped (S4).
            unsafe { bury(region.base, length) };
        }
        Ok(region)
    }

    /// Where it begins.
    pub(crate) fn base(&self) -> Address {
        self.base
    }

    /// Its bytes.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    fn map_plain(length: usize) -> io::Result<Region> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice replaces nothing (S4).
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast()).expect("mmap does not choose address zero");
        Ok(Region { base: Address(base), length })
    }

    fn map_aligned(length: usize) -> io::Result<Region> {
        let mut whole = Region::map_plain(length + HUGE_PAGE)?;
        let start = whole.base.get().as_ptr() as usize;
        let head = start.next_multiple_of(HUGE_PAGE) - start;
        let tail = HUGE_PAGE - head;
        if head > 0 {
            // SAFETY: the head belongs to the mapping just made, and nobody knows it (S4).
            unsafe { unmap(whole.base, head) };
        }
        whole.base = whole.base.advance(head);
        whole.length = length;
        if tail > 0 {
            // SAFETY: the tail belongs to the mapping just made, and nobody knows it (S4).
            unsafe { unmap(whole.base.advance(length), tail) };
        }
        Ok(whole)
    }

    fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: the range is this region's own, and the advice given here never discards (S4).
        let result = unsafe { libc::madvise(self.base.get().as_ptr().cast(), self.length, advice) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Makes all pages present, so that neither registering nor the first I/O has to fault them in.
    fn populate(&self) -> io::Result<()> {
        undisturbed(|| self.advise(libc::MADV_POPULATE_WRITE))
    }
}

/// Goes on for as long as the kernel was only disturbed.
fn undisturbed(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match attempt() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
            outcome => return outcome,
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: a region is dropped only where no table reaches it and no lease is out (S4).
        unsafe { unmap(self.base, self.length) };
    }
}

/// # Safety
/// The range is part of a mapping made here, and nobody uses it from now on.
unsafe fn unmap(base: Address, length: usize) {
    // SAFETY: that is this function's own contract (S4).
    let result = unsafe { libc::munmap(base.get().as_ptr().cast(), length) };
    // Splitting a mapping can fail with ENOMEM; then the range stays mapped, unused, for good.
    debug_assert_eq!(result, 0, "munmap: {}", io::Error::last_os_error());
}

/// What fills the pages of a debug build that nobody has leased.
const CANARY: u64 = 0xA5A5_A5A5_A5A5_A5A5;

/// Fills a range that nobody leases with the canary.
///
/// # Safety
/// The caller owns the whole range exclusively; it is mapped, aligned to 8, a multiple of 8 long.
pub(crate) unsafe fn bury(start: Address, length: usize) {
    // SAFETY: the caller owns the range (S5).
    unsafe { start.get().as_ptr().write_bytes(CANARY as u8, length) };
}

/// Panics with the address if anything in the range has changed since it was buried.
///
/// # Safety
/// As for [`bury`], and the range has been buried before.
pub(crate) unsafe fn inspect(start: Address, length: usize) {
    // SAFETY: the caller owns the range (S5), all of which was written by `bury`.
    let words: &[u64] =
        unsafe { std::slice::from_raw_parts(start.get().as_ptr().cast(), length / 8) };
    if let Some(index) = words.iter().position(|&word| word != CANARY) {
        panic!(
            "memory at {:p} was written while nobody leased it: found {:#018x}",
            &words[index], words[index]
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_disturbed_the_kernel_is_tried_again() {
        let mut outcomes = [Some(libc::EINTR), Some(libc::EAGAIN), None].into_iter();
        undisturbed(|| match outcomes.next().expect("it ends with the first success") {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        })
        .unwrap();
        let error = undisturbed(|| Err(io::Error::from_raw_os_error(libc::ENOMEM))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    }
}
