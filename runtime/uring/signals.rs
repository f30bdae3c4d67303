//! Linux's signals, as counts of events that a ring can wait for.

#![allow(unsafe_code)] // Signal handlers, and borrowing an event by its number.

use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::process;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use signal_hook_registry::SigId;

use crate::fd::Fd;
use crate::kernel::{SignalEvents, System};

/// One listener for one signal.
struct Listener {
    action: SigId,
    event: Fd,
}

/// Adds to the event what the signal's handler does, which is one write.
pub(crate) fn listen(number: i32, system: Arc<dyn System>) -> io::Result<Box<dyn SignalEvents>> {
    // A handler must not wait, nor may whoever looks whether it ran.
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let event = Fd::new(eventfd(0, flags)?.into_raw_fd(), system);
    let (told, process) = (event.clone(), process::id());
    let tell = move || {
        // A child has the handler too, until it executes its program. What comes to it is not for
        // this process.
        if process::id() == process {
            // An event whose count is full is one that tells of a signal.
            let _ = rustix::io::write(borrow(&told), &1u64.to_ne_bytes());
        }
    };
    // SAFETY: what a handler does must be allowed in one. Reading the process's number and writing
    // to a descriptor are, and errno is restored after them. The closure counts the event (S10), so
    // its number is the event's own whenever the handler runs; and it is dropped by who unregisters
    // it, when no handler runs it any more.
    let action = unsafe { signal_hook_registry::register(number, tell) }?;
    Ok(Box::new(Listener { action, event }))
}

fn borrow(event: &Fd) -> BorrowedFd<'_> {
    // SAFETY: the number stays the event's own as long as a counted owner holds it (S10), and one
    // is borrowed.
    unsafe { BorrowedFd::borrow_raw(event.descriptor()) }
}

impl SignalEvents for Listener {
    fn event(&self) -> &Fd {
        &self.event
    }

    fn take(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::retry_on_intr(|| rustix::io::read(borrow(&self.event), &mut count)).is_ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        signal_hook_registry::unregister(self.action);
    }
}
