//! What is waited for in a descriptor's place, so that a wait doesn't hold it open.

use ringhold_kernel::sync::OnceLock;

use crate::fd::Fd;

/// Stands for one descriptor and what is waited for of it.
///
/// An operation that waits in the kernel holds its file open, also after its future was dropped, up
/// to its completion, which only the shard that began it can see to. An epoll instance holds
/// nothing open. So what has a name that others want (a port, a path) is waited for through one of
/// its own, which becomes ready when the descriptor is, and the descriptor is closed by whoever
/// drops it, on whichever thread, whatever the shard is doing.
///
/// Where there is no such instance to be had the descriptor itself is waited for.
#[derive(Debug, Default)]
pub struct Gate(OnceLock<Option<Fd>>);

impl Gate {
    /// What is to be waited for, and with which events, in the place of `events` of `file`: always
    /// the same two.
    pub fn of<'a>(&'a self, file: &'a Fd, events: u32) -> (&'a Fd, u32) {
        let made = self.0.get_or_init(|| {
            let system = file.system();
            let number = system.sockets().gate(file.descriptor(), events).ok()?;
            Some(Fd::passing(number, system.clone()))
        });
        match made {
            Some(gate) => (gate, libc::POLLIN as u32),
            None => (file, events),
        }
    }
}
