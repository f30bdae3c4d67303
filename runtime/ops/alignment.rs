//! What direct I/O asks of a buffer, a length and an offset.

use std::error::Error;
use std::fmt;
use std::io;

/// The alignment that a file opened for direct I/O asks for, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// Of the buffer's address.
    pub memory: u32,
    /// Of the offset and of the length.
    pub offset: u32,
}

/// Which of the three is not aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misaligned {
    /// The address of the buffer.
    Address,
    /// The offset in the file.
    Offset,
    /// The length of the transfer.
    Length,
}

/// Direct I/O was asked for with an address, an offset or a length that the file can't take.
///
/// It rides inside an [`io::Error`] of the kind `InvalidInput`; downcast to it for the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlignmentError {
    /// What is not aligned.
    pub what: Misaligned,
    /// The alignment wanted, in bytes.
    pub wanted: u64,
    /// The address, offset or length given, in bytes.
    pub given: u64,
}

impl fmt::Display for AlignmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Misaligned::Address => "a buffer address",
            Misaligned::Offset => "an offset",
            Misaligned::Length => "a length",
        };
        let AlignmentError { wanted, given, .. } = self;
        write!(
            f,
            "direct I/O on this file wants {what} that is a multiple of {wanted} bytes, and was \
             given {given} ({} past one); lease the buffer from the pool, and read and write whole \
             blocks",
            given % wanted
        )
    }
}

impl Error for AlignmentError {}

/// Refuses what direct I/O can't do, before the kernel sees it: kernels check memory
/// inconsistently, by length and by version, so that what passes here today could fail elsewhere
/// tomorrow.
pub(crate) fn check_aligned(
    alignment: Option<Alignment>,
    address: *const u8,
    length: usize,
    offset: u64,
) -> io::Result<()> {
    let Some(alignment) = alignment else { return Ok(()) };
    let checks = [
        (Misaligned::Address, alignment.memory, address.addr() as u64),
        (Misaligned::Offset, alignment.offset, if offset == u64::MAX { 0 } else { offset }),
        (Misaligned::Length, alignment.offset, length as u64),
    ];
    for (what, wanted, given) in checks {
        let wanted = u64::from(wanted.max(1));
        if given % wanted != 0 {
            let error = AlignmentError { what, wanted, given };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
    }
    Ok(())
}
