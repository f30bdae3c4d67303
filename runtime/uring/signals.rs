//! Linux's signals, as counts of events that a ring can wait for.

#![allow(unsafe_code)] // Signal handlers, and borrowing an event by its number.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::process;
use std::sync::{Mutex, PoisonError};

use ringhold_kernel::{SignalCounts, SignalEvents};
use rustix::event::{EventfdFlags, eventfd};
use signal_hook_registry::SigId;

/// Of each signal by its number, how often it came.
static COUNTS: [SignalCounts; 65] = [const { SignalCounts::new() }; 65];

/// One listener for one signal.
struct Listener {
    action: SigId,
    /// The caller's, who closes it after this was dropped.
    event: RawFd,
    counts: &'static SignalCounts,
}

/// The counts of a signal, which is counted from the first call on and for as long as the process
/// runs: its default action doesn't come back either.
fn counted(number: i32) -> io::Result<&'static SignalCounts> {
    static COUNTED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
    let counts = usize::try_from(number).ok().and_then(|number| COUNTS.get(number));
    let counts = counts.ok_or(io::ErrorKind::InvalidInput)?;
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !counted.contains(&number) {
        let process = process::id();
        let count = move || {
            if process::id() == process {
                counts.come();
            }
        };
        // SAFETY: what a handler does must be allowed in one. Reading the process's number and
        // adding to an atomic that is static are (S10).
        unsafe { signal_hook_registry::register(number, count) }?;
        counted.insert(number);
    }
    Ok(counts)
}

/// Adds to the event what the signal's handler does, which is one write.
pub(crate) fn listen(number: i32) -> io::Result<(Box<dyn SignalEvents>, RawFd)> {
    // Actions run in the order of their registration: who is told finds the signal counted.
    let counts = counted(number)?;
    // A handler must not wait, nor may whoever looks whether it ran.
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let event = eventfd(0, flags)?;
    let (told, process) = (event.as_raw_fd(), process::id());
    let tell = move || {
        // A child has the handler too, until it executes its program. What comes to it is not for
        // this process.
        if process::id() == process {
            // An event whose count is full is one that tells of a signal.
            let _ = rustix::io::write(borrow(told), &1u64.to_ne_bytes());
        }
    };
    // SAFETY: what a handler does must be allowed in one. Reading the process's number and writing
    // to a descriptor are, and errno is restored after them. The number is the event's own whenever
    // the handler runs (S10): the event is closed after the listener was dropped, which unregisters
    // the action and returns when no handler runs it any more.
    let action = unsafe { signal_hook_registry::register(number, tell) }?;
    Ok((Box::new(Listener { action, event: told, counts }), event.into_raw_fd()))
}

fn borrow(event: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is the event's own until its listener was dropped (S10), and what is
    // borrowed is used in one system call that a listener or its action makes.
    unsafe { BorrowedFd::borrow_raw(event) }
}

impl SignalEvents for Listener {
    fn take(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::retry_on_intr(|| rustix::io::read(borrow(self.event), &mut count)).is_ok()
    }

    fn counts(&self) -> &SignalCounts {
        self.counts
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        signal_hook_registry::unregister(self.action);
    }
}
