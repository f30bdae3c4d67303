//! `IORING_OP_RECV`: takes what arrives at a connected socket.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};
use ringhold_buffers::IoBufMut;

use crate::failed::Failed;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::segments::socket_length;

/// Receives into a buffer, from the buffer's start; waits until there is something.
#[derive(Debug)]
pub struct Receive<B> {
    /// The socket.
    pub file: Fd,
    /// The buffer, filled up to its total length at the most.
    pub buffer: B,
}

// SAFETY: the entry points to the buffer's memory, which `IoBufMut` promises to keep in place while
// the buffer moves (S2), and which nothing touches before `finish` since the buffer is in here
// (S1).
unsafe impl<B: IoBufMut> Operation for Receive<B> {
    type Output = Result<(usize, B), Failed<B>>;

    const UNBOUNDED: bool = true;

    #[inline]
    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    #[inline]
    fn entry(&mut self) -> Entry {
        let file = types::Fd(self.file.descriptor());
        let length = socket_length(self.buffer.bytes_total());
        opcode::Recv::new(file, self.buffer.stable_mut_ptr(), length).build().into()
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        let Receive { mut buffer, .. } = self;
        match outcome {
            Ok(count) => {
                let count = count as usize;
                // SAFETY: the kernel wrote `count` bytes from the buffer's start (S9).
                unsafe { buffer.set_init(count) };
                Ok((count, buffer))
            }
            Err(error) => Err(Failed { error, buffer }),
        }
    }
}

/// Does what a receive of `bytes` would have done, and says how many of them there was room for.
pub fn fill<B: IoBufMut>(buffer: &mut B, bytes: &[u8]) -> usize {
    let count = bytes.len().min(buffer.bytes_total());
    // SAFETY: there is room for `count` bytes, the buffer is borrowed exclusively (S5), and what it
    // is told of is initialised (S9).
    unsafe {
        buffer.stable_mut_ptr().copy_from_nonoverlapping(bytes.as_ptr(), count);
        buffer.set_init(count);
    }
    count
}
