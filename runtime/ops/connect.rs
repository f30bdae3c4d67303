//! `IORING_OP_CONNECT`: connects a socket to a peer.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};
use ringhold_kernel::SocketAddress;

use crate::fd::Fd;
use crate::op::{Entry, Operation};

/// Connects, or says why not.
#[derive(Debug)]
pub struct Connect {
    file: Fd,
    address: Box<SocketAddress>,
}

impl Connect {
    /// Connects the socket `file` to `address`.
    pub fn new(file: Fd, address: &SocketAddress) -> Connect {
        Connect { file, address: Box::new(*address) }
    }
}

// SAFETY: the entry points to the address, which is on the heap (S2) and is not touched before
// `finish` (S1).
unsafe impl Operation for Connect {
    type Output = io::Result<()>;

    const UNBOUNDED: bool = true;

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn entry(&mut self) -> Entry {
        let bytes = self.address.as_bytes();
        let (address, length) = (bytes.as_ptr().cast(), bytes.len() as libc::socklen_t);
        opcode::Connect::new(types::Fd(self.file.descriptor()), address, length).build().into()
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}
