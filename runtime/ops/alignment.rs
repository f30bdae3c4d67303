//! What direct I/O asks of a buffer, a length and an offset.

use std::error::Error;
use std::fmt;
use std::io;

use crate::fd::Fd;

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
    /// The end of the file, which is where an appending write goes.
    End,
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
        let AlignmentError { what, wanted, given } = self;
        let (named, cure) = match what {
            Misaligned::Address => ("a buffer address", "lease the buffer from the pool"),
            Misaligned::Offset => ("an offset", "begin where a block does"),
            Misaligned::Length => {
                ("a length", "read and write whole blocks, a last one by a file that isn't direct")
            }
            Misaligned::End => {
                ("a file's end", "write the rest of its last block by a file that isn't direct")
            }
        };
        write!(
            f,
            "direct I/O on this file wants {named} that is a multiple of {wanted} bytes, and was \
             given {given} ({} past one): {cure}",
            given % wanted
        )
    }
}

impl Error for AlignmentError {}

impl From<AlignmentError> for io::Error {
    fn from(error: AlignmentError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Refuses what direct I/O can't do, before the kernel sees it: kernels check memory
/// inconsistently, by length and by version, so that what passes here today could fail elsewhere
/// tomorrow.
#[inline]
pub(crate) fn check_aligned(
    alignment: Option<Alignment>,
    address: *const u8,
    length: usize,
    offset: u64,
) -> io::Result<()> {
    match alignment {
        None => Ok(()),
        Some(alignment) => alignment.check(address, length, offset),
    }
}

/// What a write's `EINVAL` means, if it is that of a direct write to the end of a file whose last
/// block isn't whole.
#[cold]
pub(crate) fn explain_append(
    file: &Fd,
    alignment: Option<Alignment>,
    appends: bool,
    error: io::Error,
) -> io::Error {
    let (Some(alignment), true, Some(libc::EINVAL)) = (alignment, appends, error.raw_os_error())
    else {
        return error;
    };
    let known = file.system().open_files().describe(file.descriptor());
    let (wanted, end) = (u64::from(alignment.offset), known.map(|known| known.length));
    match end {
        Ok(given) if !given.is_multiple_of(wanted) => {
            AlignmentError { what: Misaligned::End, wanted, given }.into()
        }
        _ => error,
    }
}

impl Alignment {
    fn check(self, address: *const u8, length: usize, offset: u64) -> io::Result<()> {
        let checks = [
            (Misaligned::Address, self.memory, address.addr() as u64),
            (Misaligned::Offset, self.offset, if offset == u64::MAX { 0 } else { offset }),
            (Misaligned::Length, self.offset, length as u64),
        ];
        for (what, wanted, given) in checks {
            let wanted = u64::from(wanted.max(1));
            if !given.is_multiple_of(wanted) {
                return Err(AlignmentError { what, wanted, given }.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_address_offset_and_length_that_is_not_aligned_is_named() {
        let alignment = Some(Alignment { memory: 512, offset: 4096 });
        let at = std::ptr::without_provenance;
        assert!(check_aligned(alignment, at(1536), 8192, 4096).is_ok());
        assert!(check_aligned(alignment, at(1536), 0, u64::MAX).is_ok());
        assert!(check_aligned(None, at(1), 1, 1).is_ok());
        let cases = [
            (1, 1, 1, Misaligned::Address, 512, 1),
            (512, 1, 2048, Misaligned::Offset, 4096, 2048),
            (512, 512, 4096, Misaligned::Length, 4096, 512),
        ];
        for (address, length, offset, what, wanted, given) in cases {
            let error = check_aligned(alignment, at(address), length, offset).unwrap_err();
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            assert_eq!(inner, Some(&AlignmentError { what, wanted, given }));
        }
    }
}
