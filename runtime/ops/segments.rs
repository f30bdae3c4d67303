//! The array of segments that vectored operations point to.
#![allow(unsafe_code)]

use std::io;

use libc::iovec;
use ringhold_buffers::IoBuf;

use crate::ops::alignment::{Alignment, check_aligned};

/// The kernel refuses longer arrays (`UIO_MAXIOV`); what is beyond it is left to the next call, as
/// a short transfer.
const MOST_SEGMENTS: usize = 1024;

/// Addresses and lengths, on the heap, where they stay while the operation moves (S2).
#[derive(Debug, Default)]
pub(crate) struct Segments(Vec<iovec>);

// SAFETY: the addresses are only followed by the kernel, and the memory they name belongs to
// buffers that are `Send` and live in the same operation (S1).
unsafe impl Send for Segments {}

impl Segments {
    pub(crate) fn fill(&mut self, segments: impl Iterator<Item = (*mut u8, usize)>) {
        self.0 = segments
            .take(MOST_SEGMENTS)
            .map(|(address, length)| iovec { iov_base: address.cast(), iov_len: length })
            .collect();
    }

    pub(crate) fn pointer(&self) -> *const iovec {
        self.0.as_ptr()
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.len() as u32
    }
}

/// As for one buffer, for each. The offset is checked once: the lengths before it are whole blocks,
/// too.
pub(crate) fn check_each<B: IoBuf>(
    alignment: Option<Alignment>,
    buffers: &[B],
    length: impl Fn(&B) -> usize,
    offset: u64,
) -> io::Result<()> {
    if alignment.is_none() {
        return Ok(());
    }
    buffers
        .iter()
        .try_for_each(|each| check_aligned(alignment, each.stable_ptr(), length(each), offset))
}
