//! Waking a ring that waits: by a message to it, or, where the kernel knows none that comes from
//! no ring (before 6.13), by an event that the ring always has a read of in flight.

#![allow(unsafe_code)] // A system call without a wrapper, and a static that kernels write to.

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::PoisonError;
use std::thread;

use io_uring::{opcode, squeue, types};
use ringhold_buffers::foreign;
use ringhold_kernel::Unpark;
use ringhold_kernel::sync::StaticMutex;
use rustix::event::{EventfdFlags, eventfd};

use crate::evict::Evictor;
use crate::raised::Raised;

/// The user data of what wakes a ring; no operation's key can be the same.
pub(super) const WAKE: u64 = u64::MAX - 1;

/// `IORING_REGISTER_SEND_MSG_RING`: one entry, which is a message to a ring, is carried out during
/// the call, by a thread that needs no ring.
const SEND_MESSAGE: libc::c_uint = 31;

/// Where the count of the event goes. Nobody ever reads it, so one place is enough for all rings,
/// and none has to be kept for a ring that ends with its read in flight.
struct Sink(UnsafeCell<u64>);

// SAFETY: only kernels write to it, and nothing reads it (S2: it is static).
unsafe impl Sync for Sink {}

static SINK: Sink = Sink(UnsafeCell::new(0));

/// What takes files out of the ring's table, once that was needed.
type Evicting = StaticMutex<Option<Box<Evictor>>>;

/// The way in which other threads wake a ring.
#[derive(Debug)]
pub(super) enum Waking {
    /// At most one message is on its way to the ring: the completion queue has room for one.
    Message { pending: Raised, ring: StaticMutex<Option<RawFd>>, evictor: Evicting },
    /// Blocking on purpose: a read of a non-blocking event would complete with EAGAIN instead of
    /// waiting.
    Event(OwnedFd),
}

impl Waking {
    /// The better way that the kernel has. The message that finds it out waits in the ring, whose
    /// first enter it ends at once.
    pub(super) fn of(ring: RawFd) -> io::Result<Waking> {
        match send(ring) {
            Ok(()) => Ok(Waking::by_message(ring)),
            Err(_) => Waking::by_event(),
        }
    }

    fn by_message(ring: RawFd) -> Waking {
        let pending = Raised::new();
        pending.raise();
        Waking::Message {
            pending,
            ring: StaticMutex::new(Some(ring)),
            evictor: StaticMutex::new(None),
        }
    }

    pub(super) fn by_event() -> io::Result<Waking> {
        Ok(Waking::Event(eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    /// What must be in flight for a wake-up to arrive; nothing where messages do.
    pub(super) fn read(&self) -> Option<squeue::Entry> {
        let Waking::Event(event) = self else { return None };
        let event = types::Fd(event.as_raw_fd());
        Some(opcode::Read::new(event, SINK.0.get().cast::<u8>(), 8).build().user_data(WAKE))
    }

    /// A wake-up has arrived, and the next one tells again. Says whether it arrives as it is.
    pub(super) fn arrived(&self) -> bool {
        match self {
            Waking::Message { pending, .. } => {
                pending.lower();
                true
            }
            Waking::Event(_) => false,
        }
    }

    /// The ring is about to be closed: from now on nothing is sent to its descriptor.
    pub(super) fn end(&self) {
        if let Waking::Message { ring, evictor, .. } = self {
            *ring.lock().unwrap_or_else(PoisonError::into_inner) = None;
            *evictor.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl Unpark for Waking {
    fn unpark(&self) {
        match self {
            Waking::Message { pending, ring, .. } => {
                if pending.raise() {
                    // Held during the call, so that the descriptor is the ring's.
                    let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(ring) = *ring {
                        deliver(ring);
                    }
                }
            }
            // The count can't overflow, and an event can't be closed by its reader: there is no
            // error to handle.
            Waking::Event(event) => {
                let one = 1u64.to_ne_bytes();
                let _ = rustix::io::retry_on_intr(|| rustix::io::write(event, &one));
            }
        }
    }

    fn evict(&self, slot: u32) -> bool {
        let Waking::Message { ring, evictor, .. } = self else { return false };
        let mut evictor = evictor.lock().unwrap_or_else(PoisonError::into_inner);
        // Held during the call, so that the descriptor is the ring's.
        let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ring) = *ring else { return false };
        let evict = |evictor: &mut Evictor| evictor.evict(ring, slot).is_ok();
        match &mut *evictor {
            Some(evictor) => evict(evictor),
            none => Evictor::new().is_ok_and(|made| evict(none.insert(Box::new(made)))),
        }
    }
}

/// Sends until it arrives: the shard waits for it.
fn deliver(ring: RawFd) {
    while let Err(error) = send(ring) {
        match error.raw_os_error() {
            // The kernel has no 256 bytes for the message, which can't be for long.
            Some(libc::ENOMEM | libc::EAGAIN | libc::EINTR) => thread::yield_now(),
            // The thread that owned the ring is gone, and nothing waits.
            Some(libc::EOWNERDEAD | libc::EBADFD | libc::ESHUTDOWN) => return,
            // A shard that sleeps would never hear of it.
            _ => refused(&error),
        }
    }
}

#[cold]
fn refused(error: &io::Error) -> ! {
    foreign::report(format_args!(
        "a shard can't be woken any more, and the process is aborted: io_uring_register is refused \
         since the runtime started ({error}); a seccomp filter has to allow it, or to be installed \
         before the runtime starts"
    ));
    std::process::abort();
}

fn send(ring: RawFd) -> io::Result<()> {
    let message = opcode::MsgRingData::new(types::Fd(ring), 0, WAKE, None).build();
    // SAFETY: the kernel reads one entry of 64 bytes, which an `Entry` is, during the call (S1),
    // and the message points to no memory.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, -1, SEND_MESSAGE, ptr::from_ref(&message), 1)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
