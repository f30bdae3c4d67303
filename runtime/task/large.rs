//! Futures that are too large to be moved from one frame to the next.

/// Above this a future is put on the heap before it is handed on: each frame that it passes through
/// by value may hold a copy, and half a mebibyte of it would use up a stack.
const LARGE_BYTES: usize = 16 * 1024;

/// Whether a value of this type goes to the heap first.
pub(crate) const fn is_large<T>() -> bool {
    size_of::<T>() > LARGE_BYTES
}
