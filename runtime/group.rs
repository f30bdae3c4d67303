//! Groups of provided buffers: leases of which the kernel picks one when something arrives.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};

use ringhold_buffers::sync::{Mutex, MutexGuard};
use ringhold_buffers::{IoBuf, Lease};

use crate::context;
use crate::inbox::Message;
use crate::kernel::Provided;
use crate::registry::Remote;
use crate::shard::Shard;

/// Leases that one shard's kernel may fill. A receive that names the group holds a count of it, and
/// nothing but such a receive touches the leases; so when the last count is dropped, they are free.
pub struct Group {
    number: u16,
    /// The shard whose kernel has the group.
    remote: Arc<Remote>,
    held: Mutex<Held>,
}

/// The leases that the kernel has, by their number.
struct Held {
    leases: Vec<Option<Lease>>,
    vacant: Vec<u16>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Group {
    /// A group of the shard that is running, with room for `entries` leases, a power of two.
    ///
    /// # Errors
    ///
    /// `Unsupported` where no shard is running, and by a kernel that has none; `ENOMEM` where
    /// locked memory is short; `ENFILE` where the shard has as many as it can.
    pub fn new(entries: u16) -> io::Result<Arc<Group>> {
        let made = context::with_shard(|shard| {
            let shard = shard.ok_or(io::ErrorKind::Unsupported)?;
            let number = shard.driver().borrow_mut().add_group(entries)?;
            Ok::<_, io::Error>((number, shard.remote().clone()))
        });
        let (number, remote) = made?;
        let leases = (0..entries).map(|_| None).collect();
        let held = Mutex::new(Held { leases, vacant: (0..entries).rev().collect() });
        Ok(Arc::new(Group { number, remote, held }))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that the kernel knows it by.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Whether it belongs to the shard that is running.
    pub fn is_here(&self) -> bool {
        context::with_shard(|shard| shard.is_some_and(|shard| shard.id() == self.remote.id()))
    }

    /// How many leases the kernel has.
    pub fn provided(&self) -> usize {
        let held = self.lock();
        held.leases.len() - held.vacant.len()
    }

    /// Gives the kernel a lease; gives it back where there is no room for it. On the group's shard
    /// only.
    ///
    /// # Errors
    ///
    /// The lease.
    pub fn provide(&self, lease: Lease) -> Result<(), Lease> {
        context::with_shard(|shard| match shard {
            Some(shard) if shard.id() == self.remote.id() => self.provide_here(shard, lease),
            _ => Err(lease),
        })
    }

    fn provide_here(&self, shard: &Shard, lease: Lease) -> Result<(), Lease> {
        let mut held = self.lock();
        let Some(number) = held.vacant.pop() else { return Err(lease) };
        let buffer = Provided {
            number,
            address: lease.stable_ptr().expose_provenance(),
            length: u32::try_from(lease.bytes_total()).unwrap_or(u32::MAX),
        };
        held.leases[usize::from(number)] = Some(lease);
        shard.driver().borrow_mut().provide(self.number, buffer);
        Ok(())
    }

    /// The kernel has picked a lease, and is done with it.
    pub(crate) fn take(&self, number: u16) -> Lease {
        let mut held = self.lock();
        let Some(lease) = held.leases[usize::from(number)].take() else {
            panic!("the kernel picked buffer {number} of {self:?}, which it doesn't have")
        };
        held.vacant.push(number);
        lease
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let number = self.number;
        // An ended shard has no groups any more.
        self.remote.send(Message::Run(Box::new(move |shard| {
            shard.driver().borrow_mut().remove_group(number);
        })));
    }
}
