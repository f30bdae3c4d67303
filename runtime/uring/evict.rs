//! Takes a file out of the table of registered files of a ring whose thread is busy.
//!
//! Only a ring's own thread may change its table by a call, and it comes round when its task lets
//! it. But a message that brings a file to a slot is carried out by the kernel on that thread, as
//! soon as this is in the kernel or can be interrupted, whatever it computes: it puts something
//! that is nobody's in the file's place.

#![allow(unsafe_code)] // Pushing a message.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use rustix::event::{EventfdFlags, eventfd};

/// How long the thread may take to be in the kernel. It takes microseconds, unless it waits for a
/// core, or for a device and lets nothing interrupt it.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long nothing is tried after a thread took longer than that.
const PAUSE: Duration = Duration::from_secs(1);

/// `IORING_MSG_RING_CQE_SKIP`: the ring that the message is for isn't told of it.
const UNTOLD: u32 = 1;

/// A ring to send messages from.
pub(super) struct Evictor {
    ring: IoUring,
    /// How many messages were sent. Each carries its number.
    sent: u64,
    /// Until when the thread is taken to be out of reach.
    pause: Option<Instant>,
}

impl fmt::Debug for Evictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evictor").field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl Evictor {
    pub(super) fn new() -> io::Result<Evictor> {
        let ring = IoUring::builder().dontfork().build(4)?;
        let nobodys = eventfd(0, EventfdFlags::CLOEXEC)?;
        ring.submitter().register_files(&[nobodys.as_raw_fd()])?;
        Ok(Evictor { ring, sent: 0, pause: None })
    }

    /// Puts the file that is nobody's under a slot of another ring's table, and waits until it is
    /// there. The other one is closed if the table was the last to hold it.
    ///
    /// A message that comes too late does no harm: the ring's thread does nothing before it has
    /// come, so the slot is still that file's.
    pub(super) fn evict(&mut self, from: RawFd, slot: u32) -> io::Result<()> {
        let slot = DestinationSlot::try_from_slot_target(slot)
            .map_err(|slot| io::Error::other(format!("slot {slot} is none")))?;
        if self.pause.is_some_and(|end| Instant::now() < end) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.sent += 1;
        let message = opcode::MsgRingSendFd::new(Fd(from), Fixed(0), slot, 0)
            .opcode_flags(UNTOLD)
            .build()
            .user_data(self.sent);
        // SAFETY: the message points to no memory (S2).
        unsafe { self.ring.submission().push(&message) }.map_err(io::Error::other)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = Timespec::from(deadline.saturating_duration_since(Instant::now()));
            let waited =
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&left));
            let mine = self.ring.completion().find(|cqe| cqe.user_data() == self.sent);
            match (mine.map(|cqe| cqe.result()), waited) {
                (Some(result), _) if result < 0 => {
                    return Err(io::Error::from_raw_os_error(-result));
                }
                (Some(_), _) => return Ok(()),
                (None, Err(error)) if error.raw_os_error() != Some(libc::EINTR) => {
                    self.pause = Some(Instant::now() + PAUSE);
                    return Err(error);
                }
                (None, _) => {}
            }
        }
    }
}
