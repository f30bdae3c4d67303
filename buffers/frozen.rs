//! The frozen lease: shared, read-only pool memory; unsafe because it makes slices of that memory.
#![allow(unsafe_code)]

use std::{
    fmt,
    ops::{Deref, RangeBounds},
    slice,
    sync::Arc,
};

use bytes::Bytes;

use crate::{ArenaId, IoBuf, Lease, region::Address};

/// The lease behind frozen bytes: nothing writes to it any more.
struct Owner {
    lease: Lease,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.lease.block().thaw();
    }
}

/// Pool memory that is shared and read-only: what [`Lease::freeze`] makes.
///
/// Clones and slices share the memory, which goes back to the pool with the last of them. It
/// becomes a [`Bytes`] without a copy.
///
/// ```
/// use ringhold_buffers::{Pool, PoolConfig};
///
/// let mut lease = Pool::unregistered(PoolConfig::new()).try_lease(100)?;
/// lease.extend_from_slice(b"key=value");
/// let frozen = lease.freeze().unwrap();
/// let value = frozen.clone().slice(4..);
/// assert_eq!(&value[..], b"value");
/// let bytes = bytes::Bytes::from(frozen.clone());
/// assert_eq!(bytes.as_ptr(), frozen.as_ptr());
/// # Ok::<(), ringhold_buffers::LeaseError>(())
/// ```
#[derive(Clone)]
pub struct Frozen {
    owner: Arc<Owner>,
    address: Address,
    length: usize,
}

impl Frozen {
    pub(crate) fn new(lease: Lease) -> Frozen {
        let (address, length) = (lease.address(), lease.len());
        Frozen { owner: Arc::new(Owner { lease }), address, length }
    }

    /// The registered arena it lies in; `None` if its pool is an unregistered one.
    pub fn arena(&self) -> Option<ArenaId> {
        self.owner.lease.arena()
    }

    /// A part of it, without a copy; clone it first to keep the whole.
    ///
    /// # Panics
    /// If the range ends beyond the bytes, or begins behind its end.
    pub fn slice(self, range: impl RangeBounds<usize>) -> Frozen {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        // Indexing checks the range, and says what is wrong with it.
        let part = &self[bounds];
        let (length, skipped) = (part.len(), part.as_ptr() as usize - self.as_ptr() as usize);
        Frozen { address: self.address.advance(skipped), length, owner: self.owner }
    }
}

impl Deref for Frozen {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the filled bytes (S9) of a lease that the owner keeps (S4, S5),
        // and that nobody writes to since it was frozen.
        unsafe { slice::from_raw_parts(self.address.get().as_ptr(), self.length) }
    }
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Frozen {
    fn eq(&self, other: &Frozen) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Frozen {}

impl From<Frozen> for Bytes {
    fn from(frozen: Frozen) -> Bytes {
        Bytes::from_owner(frozen)
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Frozen")
            .field("arena", &self.arena())
            .field("address", &self.address.get())
            .field("len", &self.length)
            .finish()
    }
}

// SAFETY: the address is that of pool memory, which the counted owner keeps where it is (S2, S10),
// and all of it is initialised (S9).
unsafe impl IoBuf for Frozen {
    fn stable_ptr(&self) -> *const u8 {
        self.address.get().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.length
    }

    fn bytes_total(&self) -> usize {
        self.length
    }

    fn arena(&self) -> Option<ArenaId> {
        Frozen::arena(self)
    }
}
