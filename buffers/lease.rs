//! The lease: an exclusive window of pool memory; unsafe because it makes slices of that memory.
#![allow(unsafe_code)]

use std::{
    fmt, io,
    mem::MaybeUninit,
    ops::{Deref, DerefMut, RangeBounds},
    slice,
    sync::Arc,
};

use bytes::{BufMut, buf::UninitSlice};

use crate::{
    ArenaId, CapacityError, FreezeError, Frozen, IoBuf, IoBufMut, PAGE, Slice, block::Block,
    region::Address,
};

/// The pages behind a lease: its own, or shared with leases that were split from it within a page.
pub(crate) enum Holder {
    Sole(Block),
    Counted(Arc<Block>),
}

impl Holder {
    pub(crate) fn block(&self) -> &Block {
        match self {
            Holder::Sole(block) => block,
            Holder::Counted(block) => block,
        }
    }

    /// Another holder of the same pages.
    fn share(&mut self) -> Holder {
        if let Holder::Sole(block) = self {
            // What stays behind has no pages, and goes without a trace.
            let whole = block.split_to(block.pages());
            *self = Holder::Counted(Arc::new(whole));
        }
        match self {
            Holder::Counted(block) => Holder::Counted(block.clone()),
            Holder::Sole(_) => panic!("a holder was shared and is its block's only one"),
        }
    }
}

/// An exclusive window of pool memory, which goes back when it is dropped, on whatever thread.
///
/// It is like a `Vec<u8>` of fixed capacity: fresh it is empty; it dereferences to the filled
/// bytes; a read fills it from the start. It begins at a multiple of 4096.
///
/// ```
/// use ringhold_buffers::{Pool, PoolConfig};
///
/// let pool = Pool::unregistered(PoolConfig::new());
/// let mut lease = pool.try_lease(10)?;
/// assert!(lease.is_empty());
/// lease.resize(4, b'.');
/// lease[1..3].copy_from_slice(b"ab");
/// lease.extend_from_slice(b"!");
/// assert_eq!(&lease[..], b".ab.!");
/// assert_eq!(lease.try_extend(b"123456").unwrap_err().spare, 5);
/// # Ok::<(), ringhold_buffers::LeaseError>(())
/// ```
pub struct Lease {
    /// Behind one pointer: a lease goes into each operation and comes back out of it, through every
    /// future on the way, and so moves as one word.
    window: Box<Window>,
}

struct Window {
    address: Address,
    capacity: u32,
    length: u32,
    /// That of the holder's block, which operations ask for several times each.
    arena: Option<ArenaId>,
    holder: Holder,
}

impl Lease {
    pub(crate) fn new(block: Block, capacity: usize) -> Lease {
        debug_assert_eq!(capacity.div_ceil(PAGE), block.pages());
        let window = Window {
            address: block.address(),
            capacity: capacity as u32,
            length: 0,
            arena: block.arena(),
            holder: Holder::Sole(block),
        };
        Lease { window: Box::new(window) }
    }

    /// How many bytes it can hold: what was asked for.
    pub fn capacity(&self) -> usize {
        self.window.capacity as usize
    }

    /// How many bytes are filled.
    pub fn len(&self) -> usize {
        self.window.length as usize
    }

    /// Whether no byte is filled.
    pub fn is_empty(&self) -> bool {
        self.window.length == 0
    }

    /// The registered arena it lies in; `None` if its pool is an unregistered one.
    pub fn arena(&self) -> Option<ArenaId> {
        self.window.arena
    }

    /// Forgets all filled bytes.
    pub fn clear(&mut self) {
        self.window.length = 0;
    }

    /// Forgets the filled bytes from `length` on, if there are any.
    pub fn truncate(&mut self, length: usize) {
        self.window.length = self.len().min(length) as u32;
    }

    /// Makes `length` bytes filled: forgets those beyond, or adds bytes of value `byte`.
    ///
    /// # Panics
    /// If `length` is more than the capacity.
    pub fn resize(&mut self, length: usize, byte: u8) {
        assert!(length <= self.capacity(), "{length} bytes in a lease of {}", self.capacity());
        if let Some(added) = length.checked_sub(self.len()) {
            self.spare_capacity_mut()[..added].fill(MaybeUninit::new(byte));
        }
        self.window.length = length as u32;
    }

    /// Adds bytes behind the filled ones.
    ///
    /// # Panics
    /// If they don't fit.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_extend(bytes) {
            panic!("{error}");
        }
    }

    /// Adds bytes behind the filled ones.
    ///
    /// # Errors
    /// If they don't fit; then nothing is added.
    pub fn try_extend(&mut self, bytes: &[u8]) -> Result<(), CapacityError> {
        let spare = self.capacity() - self.len();
        if bytes.len() > spare {
            return Err(CapacityError { asked: bytes.len(), spare });
        }
        for (place, &byte) in self.spare_capacity_mut().iter_mut().zip(bytes) {
            place.write(byte);
        }
        self.window.length += bytes.len() as u32;
        Ok(())
    }

    /// The bytes behind the filled ones, of which nothing is known.
    pub fn spare_capacity_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        let (filled, capacity) = (self.len(), self.capacity());
        let start = self.window.address.advance(filled).get();
        // SAFETY: the range lies in the pages of this lease, which are mapped (S4) and nobody
        // else's (S5); the borrow of the lease keeps them so.
        unsafe { slice::from_raw_parts_mut(start.as_ptr().cast(), capacity - filled) }
    }

    /// Declares the first `length` bytes filled, and those beyond not.
    ///
    /// # Safety
    /// `length` is at most the capacity, and the first `length` bytes have been written.
    pub unsafe fn set_len(&mut self, length: usize) {
        debug_assert!(length <= self.capacity());
        self.window.length = length as u32;
    }

    /// A part of it, to read into or to write from; see [`Slice`]. The range counts from the start
    /// of the capacity.
    ///
    /// # Panics
    /// If the range ends beyond the capacity, or begins behind its end.
    pub fn slice(self, range: impl RangeBounds<usize>) -> Slice<Lease> {
        Slice::new(self, range)
    }

    /// Cuts off the first `at` bytes of the capacity, which become a lease of their own. Filled
    /// bytes stay filled, in the one or the other.
    ///
    /// The pages of a lease that was cut within a page go back when both parts are gone, and the
    /// second part then begins at no multiple of 4096.
    ///
    /// # Panics
    /// If `at` is more than the capacity.
    ///
    /// ```
    /// use ringhold_buffers::{Pool, PoolConfig};
    ///
    /// let mut rest = Pool::unregistered(PoolConfig::new()).try_lease(8192)?;
    /// rest.extend_from_slice(b"headbody");
    /// let head = rest.split_to(4);
    /// assert_eq!((&head[..], head.capacity()), (&b"head"[..], 4));
    /// assert_eq!((&rest[..], rest.capacity()), (&b"body"[..], 8188));
    /// # Ok::<(), ringhold_buffers::LeaseError>(())
    /// ```
    pub fn split_to(&mut self, at: usize) -> Lease {
        assert!(at <= self.capacity(), "split at {at} of a lease of {}", self.capacity());
        let holder = match &mut self.window.holder {
            // Each part gets a page at least, for a lease must pin its arena.
            Holder::Sole(block)
                if at > 0 && at.is_multiple_of(PAGE) && at / PAGE < block.pages() =>
            {
                Holder::Sole(block.split_to(at / PAGE))
            }
            shared => shared.share(),
        };
        let window = &mut *self.window;
        let front = Window {
            address: window.address,
            capacity: at as u32,
            length: window.length.min(at as u32),
            arena: window.arena,
            holder,
        };
        window.address = window.address.advance(at);
        window.capacity -= front.capacity;
        window.length -= front.length;
        Lease { window: Box::new(front) }
    }

    /// Makes it shared and read-only, without a copy: clonable, and a [`bytes::Bytes`] on demand.
    /// The pages behind the last filled one go back to the pool at once.
    ///
    /// # Errors
    /// If the pool's share of frozen memory is used up: the error gives the lease back.
    pub fn freeze(mut self) -> Result<Frozen, FreezeError> {
        let kept = match &self.window.holder {
            Holder::Sole(_) => self.len().div_ceil(PAGE).max(1),
            Holder::Counted(block) => block.pages(),
        };
        if let Err((frozen, limit)) = self.window.holder.block().freeze(kept) {
            return Err(FreezeError { lease: self, frozen, limit });
        }
        if let Holder::Sole(block) = &mut self.window.holder {
            drop(block.split_off(kept));
            self.window.capacity = self.window.capacity.min((kept * PAGE) as u32);
        }
        Ok(Frozen::new(self))
    }

    /// The block that keeps its pages.
    pub(crate) fn block(&self) -> &Block {
        self.window.holder.block()
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> Address {
        self.window.address
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the first `length` bytes are initialised (S9), in pages that are mapped (S4) and
        // nobody else's (S5).
        unsafe { slice::from_raw_parts(self.window.address.get().as_ptr(), self.len()) }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref` (S4, S5, S9), and the lease is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.window.address.get().as_ptr(), self.len()) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Lease {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lease")
            .field("arena", &self.arena())
            .field("address", &self.window.address.get())
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish()
    }
}

/// Writes behind the filled bytes, as much as fits.
impl io::Write for Lease {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.capacity() - self.len());
        self.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// SAFETY: `chunk_mut` is the spare capacity, `advance_mut` moves within it, and between them the
// address does not change (S2).
unsafe impl BufMut for Lease {
    fn remaining_mut(&self) -> usize {
        self.capacity() - self.len()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        let spare = self.remaining_mut();
        assert!(count <= spare, "advanced by {count} of {spare} bytes");
        self.window.length += count as u32;
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::uninit(self.spare_capacity_mut())
    }
}

// SAFETY: the address is that of pool memory and does not change as the lease moves (S2); nobody
// else reaches it (S5); the first `length` bytes are initialised (S9).
unsafe impl IoBuf for Lease {
    fn stable_ptr(&self) -> *const u8 {
        self.window.address.get().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.capacity()
    }

    fn arena(&self) -> Option<ArenaId> {
        Lease::arena(self)
    }
}

// SAFETY: as for `IoBuf`, and a lease is exclusive (S5).
unsafe impl IoBufMut for Lease {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.window.address.get().as_ptr()
    }

    /// Sets the filled length to exactly `position`.
    unsafe fn set_init(&mut self, position: usize) {
        // SAFETY: that is this method's own contract (S9).
        unsafe { self.set_len(position) };
    }
}
