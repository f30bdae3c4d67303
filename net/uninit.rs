//! Reads into buffers that have room and no bytes there yet.

#![allow(unsafe_code)] // `BufMut` hands out memory that is not initialised.

use std::{io, slice};

use bytes::BufMut;

/// No datagram is longer, and no more is initialised than this for one read.
const MOST_BYTES: usize = 1 << 16;

/// Lets `read` fill the buffer's next part, and makes the buffer that much longer.
pub(crate) fn read_into<B: BufMut + ?Sized, R>(
    buffer: &mut B,
    read: impl FnOnce(&mut [u8]) -> io::Result<(usize, R)>,
) -> io::Result<(usize, R)> {
    let chunk = buffer.chunk_mut();
    let (pointer, length) = (chunk.as_mut_ptr(), chunk.len().min(MOST_BYTES));
    // SAFETY: the chunk is borrowed exclusively (S5) and has room for `length` bytes, all of which
    // are written here before a slice is made of them (S9).
    let room = unsafe {
        pointer.write_bytes(0, length);
        slice::from_raw_parts_mut(pointer, length)
    };
    let (count, with) = read(room)?;
    assert!(count <= length, "a read filled {count} bytes of {length}");
    // SAFETY: `count` bytes of the chunk are initialised (S9), and there is room for them.
    unsafe { buffer.advance_mut(count) };
    Ok((count, with))
}
