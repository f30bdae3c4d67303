//! What `File::allocate` does to a range.

/// What [`File::allocate`](crate::File::allocate) does to a range of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Allocation {
    /// Sets space aside, and makes the file long enough to reach the range's end. New bytes read as
    /// zero.
    #[default]
    Extend,
    /// Sets space aside, and leaves the length as it is.
    KeepLength,
    /// Gives the range's space back: it reads as zero, and the length stays as it is.
    PunchHole,
    /// Makes the range read as zero, with space set aside for it, and the file long enough to reach
    /// its end.
    Zero,
}

impl Allocation {
    /// `FALLOC_FL_*`.
    pub(crate) fn mode(self) -> i32 {
        match self {
            Allocation::Extend => 0,
            Allocation::KeepLength => libc::FALLOC_FL_KEEP_SIZE,
            Allocation::PunchHole => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Allocation::Zero => libc::FALLOC_FL_ZERO_RANGE,
        }
    }
}
