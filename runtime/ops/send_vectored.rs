//! `IORING_OP_SENDMSG`: gives the bytes of several buffers to a connected socket.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};
use ringhold_buffers::IoBuf;

use crate::failed::Failed;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::segments::Message;

/// Sends the initialised bytes of several buffers, one after the other; waits until there is room
/// for some of them. Unlike `IORING_OP_WRITEV` it raises no `SIGPIPE`.
#[derive(Debug)]
pub struct SendVectored<B> {
    file: Fd,
    buffers: Vec<B>,
    message: Message,
}

impl<B> SendVectored<B> {
    /// A send of all of `buffers`.
    pub fn new(file: Fd, buffers: Vec<B>) -> Self {
        SendVectored { file, buffers, message: Message::default() }
    }
}

// SAFETY: the entry points to the message and it to the segments, both on the heap, and they to the
// buffers' memory, all of which stays in place while this value moves (S2) and is not changed
// before `finish` (S1); the kernel only reads through the pointers.
unsafe impl<B: IoBuf> Operation for SendVectored<B> {
    type Output = Result<(usize, Vec<B>), Failed<Vec<B>>>;

    const UNBOUNDED: bool = true;

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn entry(&mut self) -> Entry {
        let buffers = self.buffers.iter();
        let parts = buffers.map(|each| (each.stable_ptr().cast_mut(), each.bytes_init()));
        let message = self.message.fill(parts);
        opcode::SendMsg::new(types::Fd(self.file.descriptor()), message)
            .flags(libc::MSG_NOSIGNAL as u32)
            .build()
            .into()
    }

    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        match outcome {
            Ok(count) => Ok((count as usize, self.buffers)),
            Err(error) => Err(Failed { error, buffer: self.buffers }),
        }
    }
}
