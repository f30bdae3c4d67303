//! What an operation may read from and write to; unsafe because the kernel is given the addresses.
#![allow(unsafe_code)]

use std::ops::RangeBounds;

use bytes::{Bytes, BytesMut};

use crate::{ArenaId, Frozen, Lease, Slice};

/// Memory that the kernel may read while its owner moves about.
///
/// It is `Send`, because an operation that is dropped on another thread sends its buffer home.
///
/// # Safety
/// As long as the value is not used, other than being moved, [`stable_ptr`](IoBuf::stable_ptr)
/// stays valid for reads of [`bytes_total`](IoBuf::bytes_total) bytes, and the first
/// [`bytes_init`](IoBuf::bytes_init) of them, which are at most that many, are initialised and
/// don't change. Calling the methods does not change what they return.
///
/// ```
/// use ringhold_buffers::IoBuf;
///
/// let buffer = Vec::from(*b"hello");
/// let (pointer, length) = (buffer.stable_ptr(), buffer.bytes_init());
/// let moved = Box::new(buffer);
/// assert_eq!((moved.stable_ptr(), length), (pointer, 5));
/// assert_eq!(&moved.slice(1..3)[..], b"el");
/// ```
pub unsafe trait IoBuf: Send + 'static {
    /// Where the bytes begin.
    fn stable_ptr(&self) -> *const u8;

    /// How many bytes, from the start, are initialised: what a write writes.
    fn bytes_init(&self) -> usize;

    /// How many bytes there are: what a read may fill, if it is [`IoBufMut`].
    fn bytes_total(&self) -> usize;

    /// The registered arena that the bytes lie in, if there is one.
    #[doc(hidden)]
    fn arena(&self) -> Option<ArenaId> {
        None
    }

    /// A part of it, which is a buffer, too; see [`Slice`]. The range counts within
    /// [`bytes_total`](IoBuf::bytes_total).
    ///
    /// # Panics
    /// If the range ends beyond that, or begins behind its end.
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: Sized,
    {
        Slice::new(self, range)
    }
}

/// Memory that the kernel may write to while its owner moves about.
///
/// # Safety
/// As for [`IoBuf`]; and as long as the value is not used, other than being moved,
/// [`stable_mut_ptr`](IoBufMut::stable_mut_ptr), which is the same address as
/// [`stable_ptr`](IoBuf::stable_ptr), is valid for writes of [`bytes_total`](IoBuf::bytes_total)
/// bytes, to which nothing else has access.
///
/// ```
/// use ringhold_buffers::IoBufMut;
///
/// let mut buffer = Vec::with_capacity(16);
/// // SAFETY: the buffer has room for 5 bytes, and they are written before it is told.
/// unsafe {
///     buffer.stable_mut_ptr().copy_from_nonoverlapping(b"hello".as_ptr(), 5);
///     buffer.set_init(5);
/// }
/// assert_eq!(buffer, b"hello");
/// ```
pub unsafe trait IoBufMut: IoBuf {
    /// Where the bytes begin.
    fn stable_mut_ptr(&mut self) -> *mut u8;

    /// Says that the first `position` bytes have been written. A `Vec` and a `BytesMut` grow to
    /// that length, and never shrink; a lease then has exactly that length; what has a fixed length
    /// stays as it is.
    ///
    /// # Safety
    /// `position` is at most [`bytes_total`](IoBuf::bytes_total), and the first `position` bytes
    /// are initialised.
    unsafe fn set_init(&mut self, position: usize);
}

mod sealed {
    /// Seals what is fixed.
    pub trait Sealed {}
}

/// What lies in registered memory: a [`Lease`], a [`Frozen`] one, and their [slices](Slice).
///
/// Leases of a pool that was asked for as unregistered have this type as well, and no arena: fixed
/// I/O refuses them.
///
/// ```
/// use ringhold_buffers::{FixedBuf, IoBuf, Pool, PoolConfig};
///
/// fn capacity(buffer: &impl FixedBuf) -> usize {
///     buffer.bytes_total()
/// }
/// let lease = Pool::unregistered(PoolConfig::new()).try_lease(100)?;
/// assert_eq!(capacity(&lease), 100);
/// assert_eq!(capacity(&lease.slice(10..)), 90);
/// # Ok::<(), ringhold_buffers::LeaseError>(())
/// ```
pub trait FixedBuf: IoBuf + sealed::Sealed {}

/// What lies in registered memory and can be read into: a [`Lease`] and its [slices](Slice).
pub trait FixedBufMut: FixedBuf + IoBufMut {}

impl sealed::Sealed for Lease {}
impl sealed::Sealed for Frozen {}
impl<B: sealed::Sealed> sealed::Sealed for Slice<B> {}
impl FixedBuf for Lease {}
impl FixedBuf for Frozen {}
impl<B: FixedBuf> FixedBuf for Slice<B> {}
impl FixedBufMut for Lease {}
impl<B: FixedBufMut> FixedBufMut for Slice<B> {}

// SAFETY: a vector's bytes lie on the heap and stay there as it moves (S2); the first `len` are
// initialised (S9).
unsafe impl IoBuf for Vec<u8> {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.capacity()
    }
}

// SAFETY: as for `IoBuf` (S2, S9), and a vector owns its capacity alone.
unsafe impl IoBufMut for Vec<u8> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, position: usize) {
        if self.len() < position {
            // SAFETY: that is this method's own contract (S9).
            unsafe { self.set_len(position) };
        }
    }
}

// SAFETY: the bytes lie on the heap and stay there as the box moves (S2); all are initialised (S9).
unsafe impl IoBuf for Box<[u8]> {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }
}

// SAFETY: as for `IoBuf` (S2, S9), and a box owns its bytes alone.
unsafe impl IoBufMut for Box<[u8]> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, _position: usize) {}
}

/// Implements `IoBuf` for what is read-only and wholly initialised.
macro_rules! read_only {
    ($($type:ty: $why:literal),+ $(,)?) => {$(
        #[doc = concat!("Reads from ", $why, ".")]
        // SAFETY: the bytes lie where the type's own pointer says, on the heap or in static memory,
        // and stay there as it moves (S2); all are initialised (S9).
        unsafe impl IoBuf for $type {
            fn stable_ptr(&self) -> *const u8 {
                self.as_ptr()
            }

            fn bytes_init(&self) -> usize {
                self.len()
            }

            fn bytes_total(&self) -> usize {
                self.len()
            }
        }
    )+};
}

read_only! {
    &'static [u8]: "static memory",
    &'static str: "static memory",
    String: "the heap",
    Bytes: "shared memory",
}

// SAFETY: the bytes lie on the heap and stay there as the value moves (S2); the first `len` are
// initialised (S9).
unsafe impl IoBuf for BytesMut {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.capacity()
    }
}

// SAFETY: as for `IoBuf` (S2, S9), and the range up to the capacity is this value's alone.
unsafe impl IoBufMut for BytesMut {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, position: usize) {
        if self.len() < position {
            // SAFETY: that is this method's own contract (S9).
            unsafe { self.set_len(position) };
        }
    }
}
