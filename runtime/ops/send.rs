//! `IORING_OP_SEND`: gives bytes to a connected socket.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};
use ringhold_buffers::IoBuf;

use crate::failed::Failed;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::segments::socket_length;

/// Sends a buffer's initialised bytes; waits until there is room for some of them.
#[derive(Debug)]
pub struct Send<B> {
    /// The socket.
    pub file: Fd,
    /// The buffer.
    pub buffer: B,
}

// SAFETY: the entry points to the buffer's memory, which `IoBuf` promises to keep in place while
// the buffer moves (S2), and which nothing changes before `finish` since the buffer is in here
// (S1).
unsafe impl<B: IoBuf> Operation for Send<B> {
    type Output = Result<(usize, B), Failed<B>>;

    const UNBOUNDED: bool = true;

    #[inline]
    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    #[inline]
    fn entry(&mut self) -> Entry {
        let file = types::Fd(self.file.descriptor());
        let length = socket_length(self.buffer.bytes_init());
        opcode::Send::new(file, self.buffer.stable_ptr(), length)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .into()
    }

    #[inline]
    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        match outcome {
            Ok(count) => Ok((count as usize, self.buffer)),
            Err(error) => Err(Failed { error, buffer: self.buffer }),
        }
    }
}
