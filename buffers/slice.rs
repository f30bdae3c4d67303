//! A part of a buffer that goes in and comes back as one; unsafe because it is a buffer, too.
#![allow(unsafe_code)]

use std::{
    fmt,
    ops::{Bound, Deref, DerefMut, RangeBounds},
    slice,
};

use crate::{ArenaId, IoBuf, IoBufMut};

/// A part of a buffer, by value: the buffer comes back by [`into_inner`](Slice::into_inner).
///
/// A read fills it from its begin, up to its end at most. A write writes what of it is initialised.
/// It dereferences to just that.
///
/// What the buffer has outside of the range stays as it is. Where a read begins behind the buffer's
/// initialised bytes, those between become zero. Otherwise the buffer then has what the kind of
/// buffer says: a lease ends with what was read, unless it had bytes beyond the slice.
///
/// ```
/// use ringhold_buffers::IoBuf;
///
/// let slice = Vec::from(*b"hello world").slice(6..);
/// assert_eq!((&slice[..5], slice.begin()), (&b"world"[..], 6));
/// assert_eq!(slice.into_inner(), b"hello world");
/// ```
///
/// It can't be cloned: the clone of a `Vec` has less capacity than the `Vec`, so the range could
/// lie beyond it.
///
/// ```compile_fail
/// use ringhold_buffers::IoBuf;
///
/// let copy = Vec::<u8>::with_capacity(64).slice(..).clone();
/// ```
pub struct Slice<B> {
    inner: B,
    begin: usize,
    end: usize,
}

impl<B: IoBuf> Slice<B> {
    pub(crate) fn new(inner: B, range: impl RangeBounds<usize>) -> Slice<B> {
        let total = inner.bytes_total();
        let begin = match range.start_bound() {
            Bound::Included(&begin) => begin,
            Bound::Excluded(&before) => before.checked_add(1).expect("a range begins in memory"),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.checked_add(1).expect("a range ends in memory"),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => total,
        };
        assert!(begin <= end, "slice begins at {begin} but ends at {end}");
        assert!(end <= total, "slice ends at {end}, beyond the {total} bytes of the buffer");
        Slice { inner, begin, end }
    }

    fn filled(&self) -> usize {
        self.inner.bytes_init().min(self.end).saturating_sub(self.begin)
    }
}

impl<B> Slice<B> {
    /// Where it begins in the buffer.
    pub fn begin(&self) -> usize {
        self.begin
    }

    /// Where it ends in the buffer.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The whole buffer.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The whole buffer back.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: IoBuf> Deref for Slice<B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is initialised, as its end is at most that of the initialised bytes
        // (S9), and the buffer is borrowed.
        unsafe { slice::from_raw_parts(self.stable_ptr(), self.filled()) }
    }
}

impl<B: IoBufMut> DerefMut for Slice<B> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let filled = self.filled();
        // SAFETY: as for `deref` (S9), and the buffer is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.stable_mut_ptr(), filled) }
    }
}

impl<B: IoBuf> fmt::Debug for Slice<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Slice")
            .field("begin", &self.begin)
            .field("end", &self.end)
            .field("filled", &self.filled())
            .finish_non_exhaustive()
    }
}

// SAFETY: the range was checked to lie in the buffer, whose address does not change (S2); how much
// of it is initialised follows from the buffer (S9).
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn stable_ptr(&self) -> *const u8 {
        self.inner.stable_ptr().wrapping_add(self.begin)
    }

    fn bytes_init(&self) -> usize {
        self.filled()
    }

    fn bytes_total(&self) -> usize {
        self.end - self.begin
    }

    fn arena(&self) -> Option<ArenaId> {
        self.inner.arena()
    }
}

// SAFETY: as for `IoBuf` (S2, S9).
unsafe impl<B: IoBufMut> IoBufMut for Slice<B> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.inner.stable_mut_ptr().wrapping_add(self.begin)
    }

    unsafe fn set_init(&mut self, position: usize) {
        debug_assert!(position <= self.end - self.begin);
        let known = self.inner.bytes_init();
        // Filled bytes beyond the slice stay filled, and nothing read is no reason to fill a gap.
        if known > self.end || (position == 0 && known <= self.begin) {
            return;
        }
        if known < self.begin {
            let gap = self.inner.stable_mut_ptr().wrapping_add(known);
            // SAFETY: the gap lies in the buffer, which is borrowed exclusively (S5), and outside
            // of what was given to the kernel (S1).
            unsafe { gap.write_bytes(0, self.begin - known) };
        }
        // SAFETY: before the slice's begin all is initialised, by then at the latest, and behind it
        // `position` bytes by this method's own contract (S9).
        unsafe { self.inner.set_init(self.begin + position) };
    }
}
