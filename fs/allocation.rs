//! What `File::allocate` does to a range.

use std::io;

use ringhold_runtime::ops::Allocate;
use ringhold_runtime::{Fd, Op};

/// How much is allocated or given back by one operation, in bytes. The kernel keeps everything that
/// is written to the file waiting meanwhile: for 30 GiB it takes some tenths of a second. An extent
/// of ext4 is as long.
const PIECE_BYTES: u64 = 128 * 1024 * 1024;

/// What is longer is no range of bytes that there are, but all up to the end, or a mistake. The
/// file system says so at once; by pieces it would come to it at the end.
const DIVIDED_MAX: u64 = 1 << 40;

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
    /// Frees the range's space: it reads as zero, and the length stays as it is.
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

/// Allocates by pieces, which end where a piece of a file ends: no page lies in two of them, of
/// which neither could give it back.
pub(crate) async fn allocate(
    file: &Fd,
    offset: u64,
    length: u64,
    how: Allocation,
) -> io::Result<()> {
    let end = offset.saturating_add(length);
    let mut begin = offset;
    loop {
        let of_piece = PIECE_BYTES - begin % PIECE_BYTES;
        let length = if length > DIVIDED_MAX { length } else { of_piece.min(end - begin) };
        Op::new(Allocate { file: file.clone(), offset: begin, length, mode: how.mode() }).await?;
        begin = begin.saturating_add(length);
        if begin >= end {
            return Ok(());
        }
    }
}
