//! The limit: a loop written by hand, one receive or one send of each connection in flight.
//!
//! It takes the flags that Ringhold's own ring takes, registered descriptors, and one `enter` for
//! all that is to be submitted. `unsafe`, because pushing an entry is.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use io_uring::{opcode, squeue, types};

use super::BUFFER_BYTES;
use super::server::accept;
use crate::raw::set_up;

/// What a connection's operation in flight is, in the lowest bit of its user data.
const SENDS: u64 = 1;

pub fn serve(connections: usize) -> io::Result<()> {
    let streams = accept(connections)?;
    let mut ring = set_up((connections as u32).next_power_of_two().max(2))?;
    let descriptors: Vec<_> = streams.iter().map(|stream| stream.as_raw_fd()).collect();
    ring.submitter().register_files(&descriptors)?;
    // Leaked: no unwinding can free what the kernel may write to.
    let buffers: &'static mut [[u8; BUFFER_BYTES]] = vec![[0; BUFFER_BYTES]; connections].leak();
    let first = buffers.as_mut_ptr();
    let buffer = |index: usize| first.wrapping_add(index).cast::<u8>();
    let receive = |index: usize| -> squeue::Entry {
        let file = types::Fixed(index as u32);
        let entry = opcode::Recv::new(file, buffer(index), BUFFER_BYTES as u32).build();
        entry.user_data((index as u64) << 1)
    };
    let send = |index: usize, count: u32| -> squeue::Entry {
        let file = types::Fixed(index as u32);
        // The kernel goes on by itself where there is room for a part only.
        let send = opcode::Send::new(file, buffer(index), count).flags(libc::MSG_WAITALL);
        send.build().user_data((index as u64) << 1 | SENDS)
    };
    let (mut submitter, mut submissions, mut completions) = ring.split();
    submitter.register_ring_fd()?;
    for index in 0..connections {
        // SAFETY: the buffer is leaked (S2), and is this connection's alone, which has one
        // operation in flight (S1, S5).
        unsafe { submissions.push(&receive(index)) }.expect("as many entries as connections");
    }
    let mut open = connections;
    while open > 0 {
        submissions.sync();
        match submitter.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        submissions.sync();
        completions.sync();
        for completion in &mut completions {
            let (index, result) = ((completion.user_data() >> 1) as usize, completion.result());
            let sent = completion.user_data() & SENDS != 0;
            let next = match result {
                // The peer has ended, or is gone.
                ..=0 => {
                    open -= 1;
                    continue;
                }
                _ if sent => receive(index),
                count => send(index, count as u32),
            };
            // SAFETY: as above; the operation that had the buffer has just completed (S1).
            unsafe { submissions.push(&next) }.expect("as many entries as connections");
        }
    }
    Ok(())
}
