//! The limit where connections are short: a loop written by hand that accepts, too.
//!
//! As `raw`, but for the descriptors, which are not registered: they come and go. A connection is
//! accepted by a multishot accept, or by system calls that wait by a poll which stays armed.
//! `unsafe`, because pushing an entry is.
#![allow(unsafe_code)]

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::BUFFER_BYTES;
use super::server::listen;
use crate::raw::set_up;

/// What a connection's operation in flight is, in the lowest bit of its user data.
const SENDS: u64 = 1;

/// The user data of the accept, or of the poll in its place.
const LISTENS: u64 = u64::MAX;

struct Server {
    ring: IoUring,
    listener: TcpListener,
    by_multishot: bool,
    streams: Vec<Option<TcpStream>>,
    vacant: Vec<usize>,
    buffers: *mut [u8; BUFFER_BYTES],
}

pub fn serve(connections: usize, by_multishot: bool) -> io::Result<()> {
    let listener = listen()?;
    listener.set_nonblocking(!by_multishot)?;
    // The next connection may come before the end of the one in whose place it is.
    let most = connections * 4 + 64;
    // Leaked: no unwinding can free what the kernel may write to.
    let buffers = vec![[0; BUFFER_BYTES]; most].leak().as_mut_ptr();
    let ring = set_up((most as u32 + 1).next_power_of_two())?;
    let streams = (0..most).map(|_| None).collect();
    let vacant = (0..most).rev().collect();
    let mut server = Server { ring, listener, by_multishot, streams, vacant, buffers };
    server.ring.submitter().register_ring_fd()?;
    let listen = server.listening();
    server.push(&listen);
    let mut completed: Vec<cqueue::Entry> = Vec::new();
    loop {
        match server.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        completed.extend(server.ring.completion());
        for completion in completed.drain(..) {
            if completion.user_data() != LISTENS {
                server.go_on(completion.user_data(), completion.result());
                continue;
            }
            server.accept(completion.result())?;
            if !cqueue::more(completion.flags()) {
                server.push(&listen);
            }
        }
    }
}

impl Server {
    fn listening(&self) -> squeue::Entry {
        let file = types::Fd(self.listener.as_raw_fd());
        let entry = if self.by_multishot {
            opcode::AcceptMulti::new(file).flags(libc::SOCK_CLOEXEC).build()
        } else {
            opcode::PollAdd::new(file, libc::POLLIN as u32).multi(true).build()
        };
        entry.user_data(LISTENS)
    }

    fn accept(&mut self, result: i32) -> io::Result<()> {
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        if self.by_multishot {
            // SAFETY: the descriptor came with this completion, of which there is one (S3).
            let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(result) });
            // What a system call that accepts tells, a server asks for here.
            stream.peer_addr()?;
            self.begin(stream);
            return Ok(());
        }
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.begin(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn begin(&mut self, stream: TcpStream) {
        let index = self.vacant.pop().expect("not so many connections are open");
        self.streams[index] = Some(stream);
        self.receive(index);
    }

    fn go_on(&mut self, user_data: u64, result: i32) {
        let index = (user_data >> 1) as usize;
        match result {
            // The peer has ended, or is gone.
            ..=0 => {
                self.streams[index] = None;
                self.vacant.push(index);
            }
            _ if user_data & SENDS != 0 => self.receive(index),
            count => {
                let file = self.file(index);
                // The kernel goes on by itself where there is room for a part only.
                let send = opcode::Send::new(file, self.buffer(index), count as u32);
                let send = send.flags(libc::MSG_WAITALL).build();
                self.push(&send.user_data((index as u64) << 1 | SENDS));
            }
        }
    }

    fn receive(&mut self, index: usize) {
        let (file, length) = (self.file(index), BUFFER_BYTES as u32);
        let receive = opcode::Recv::new(file, self.buffer(index), length).build();
        self.push(&receive.user_data((index as u64) << 1));
    }

    fn file(&self, index: usize) -> types::Fd {
        types::Fd(self.streams[index].as_ref().expect("it is open").as_raw_fd())
    }

    fn buffer(&self, index: usize) -> *mut u8 {
        self.buffers.wrapping_add(index).cast()
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the buffer is leaked (S2), and is this connection's alone, which has one
        // operation in flight (S1, S5).
        unsafe { self.ring.submission().push(entry) }.expect("as many entries as operations");
    }
}
