//! How much of a mapping is in huge pages.

#![allow(unsafe_code)] // A system call that the crate has no wrapper for.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_length: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_any_of: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `PAGEMAP_SCAN`, which is `_IOWR('f', 16, struct pm_scan_arg)`, since Linux 6.7.
const PAGEMAP_SCAN: libc::c_ulong = 0xC060_6610;

/// `PAGE_IS_HUGE`.
const IS_HUGE: u64 = 1 << 6;

/// How many bytes of a mapped range are in huge pages; 0 where the kernel doesn't tell.
pub(super) fn bytes(address: NonNull<u8>, length: usize) -> usize {
    let Ok(pages) = File::open("/proc/self/pagemap") else { return 0 };
    let end = (address.as_ptr().addr() + length) as u64;
    let mut at = address.as_ptr().addr() as u64;
    let mut total = 0;
    while at < end {
        // Neighbours are told as one region, so one is enough at a time.
        let mut found = PageRegion::default();
        let mut arguments = ScanArguments {
            size: size_of::<ScanArguments>() as u64,
            start: at,
            end,
            regions: (&raw mut found).expose_provenance() as u64,
            regions_length: 1,
            category_mask: IS_HUGE,
            return_mask: IS_HUGE,
            ..ScanArguments::default()
        };
        // SAFETY: the kernel reads and writes one `pm_scan_arg` and at most one `page_region`, both
        // of them locals, during the call (S1); the scan changes nothing.
        let result = unsafe { libc::ioctl(pages.as_raw_fd(), PAGEMAP_SCAN, &raw mut arguments) };
        if result <= 0 {
            break;
        }
        total += found.end.saturating_sub(found.start);
        at = arguments.walk_end.max(found.end);
    }
    total as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_small_pages_has_none_that_are_huge() {
        let small = vec![1_u8; 64 << 10];
        let address = NonNull::new(small.as_ptr().cast_mut()).expect("it is somewhere");
        assert_eq!(bytes(address, 4096), 0);
    }
}
