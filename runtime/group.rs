//! Groups of provided buffers: leases of which the kernel picks one when something arrives.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};

use ringhold_buffers::{IoBuf, Lease};
use ringhold_kernel::Provided;
use ringhold_kernel::sync::{Mutex, MutexGuard};

use crate::context;
use crate::inbox::Message;
use crate::registry::Remote;
use crate::shard::Shard;

/// Leases that one shard's kernel may fill. A receive that names the group holds a count of it, and
/// nothing but such a receive touches the leases; so when the last count is dropped, they are free.
pub struct Group {
    number: u16,
    in_bundles: bool,
    /// The shard whose kernel has the group.
    remote: Arc<Remote>,
    held: Mutex<Held>,
}

/// The leases that the kernel has, by their number.
struct Held {
    leases: Vec<Option<Lease>>,
    vacant: Vec<u16>,
    /// The numbers that the kernel has, in the order in which it picks them.
    order: VecDeque<u16>,
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
            let made = shard.driver().borrow_mut().add_group(entries)?;
            Ok::<_, io::Error>((made, shard.remote().clone()))
        });
        let ((number, in_bundles), remote) = made?;
        let leases = (0..entries).map(|_| None).collect();
        let vacant = (0..entries).rev().collect();
        let order = VecDeque::with_capacity(usize::from(entries));
        let held = Mutex::new(Held { leases, vacant, order });
        Ok(Arc::new(Group { number, in_bundles, remote, held }))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that the kernel knows it by.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Whether one completion may tell of several of its leases.
    pub(crate) fn is_in_bundles(&self) -> bool {
        self.in_bundles
    }

    /// Whether it belongs to the shard that is running.
    pub fn is_here(&self) -> bool {
        context::with_shard(|shard| shard.is_some_and(|shard| shard.id() == self.remote.id()))
    }

    /// How many leases the kernel has.
    pub fn provided(&self) -> usize {
        self.lock().order.len()
    }

    /// Provides the kernel with a lease; returns it where there is no room for it. On the group's
    /// shard only.
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
        held.order.push_back(number);
        shard.driver().borrow_mut().provide(self.number, buffer);
        Ok(())
    }

    /// The kernel has picked the lease of this number and is done with it: it has filled `count`
    /// bytes, which go on in the leases that were provided after it. Returns each of them, and how
    /// many bytes it has.
    pub(crate) fn take(&self, number: u16, mut count: usize, mut each: impl FnMut(Lease, usize)) {
        let mut held = self.lock();
        let mut next = Some(number);
        loop {
            let picked = held.order.pop_front();
            let Some(number) = picked.filter(|picked| next.is_none_or(|next| *picked == next))
            else {
                panic!("the kernel picked buffer {number} of {self:?}, and {picked:?} was its turn")
            };
            next = None;
            let lease = held.leases[usize::from(number)].take();
            let lease = lease.expect("what the kernel has is there");
            held.vacant.push(number);
            let filled = count.min(lease.bytes_total());
            count -= filled;
            each(lease, filled);
            if count == 0 {
                return;
            }
        }
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
