//! The array of segments that vectored operations point to, and the longest transfer of a socket.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::mem;

use libc::{iovec, msghdr};
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

/// A message of segments, on the heap as they are (S2).
#[derive(Default)]
pub(crate) struct Message {
    segments: Segments,
    header: Option<Box<msghdr>>,
}

// SAFETY: as for the segments: the header points to them and to nothing else (S1).
unsafe impl Send for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.fmt(f)
    }
}

impl Message {
    /// The message of these segments, which is in place for as long as this lives.
    pub(crate) fn fill(
        &mut self,
        segments: impl Iterator<Item = (*mut u8, usize)>,
    ) -> *const msghdr {
        self.segments.fill(segments);
        // SAFETY: a message header is made of integers and pointers, for which zero is a value;
        // what it points to from here on are the segments, which stay where they are (S2).
        let mut header = unsafe { mem::zeroed::<msghdr>() };
        header.msg_iov = self.segments.pointer().cast_mut();
        header.msg_iovlen = self.segments.count() as _;
        &raw const **self.header.insert(Box::new(header))
    }
}

/// As many bytes as one transfer of a socket is asked for. The kernel moves no more at once
/// (`MAX_RW_COUNT`), and refuses lengths that are no `int`.
pub(crate) fn socket_length(bytes: usize) -> u32 {
    const MOST_BYTES: u32 = i32::MAX as u32 & !4095;
    u32::try_from(bytes).unwrap_or(u32::MAX).min(MOST_BYTES)
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
