//! What direct I/O and positions ask of a file's buffers.

use std::io;

use ringhold_runtime::ops::{Alignment, AlignmentError, Misaligned};
use ringhold_runtime::{Description, OpenFiles};

use crate::cursor::Kind;
use crate::file::Target;
use crate::standing::KERNELS;
use crate::stat::alignment_of;

/// A buffer with room for `length` bytes from an address on that is a multiple of `memory`, and
/// where in the buffer that is. It is filled up to there.
pub(crate) fn aligned(mut buffer: Vec<u8>, memory: usize, length: usize) -> (Vec<u8>, usize) {
    buffer.clear();
    buffer.reserve_exact(length + memory - 1);
    let begin = buffer.as_ptr().align_offset(memory);
    buffer.resize(begin, 0);
    (buffer, begin)
}

/// What an open file is, as far as its transfers go: how direct ones are aligned, whether writes go
/// to its end, and whose position it has where others may have it, too.
pub(crate) fn traits_of(known: &Description) -> (Option<Alignment>, bool, Kind) {
    let has_blocks = matches!(known.mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFBLK);
    // `O_DIRECT` of a pipe is another matter.
    let is_direct = has_blocks && known.flags & libc::O_DIRECT != 0;
    let kind = if has_blocks { Kind::Shared } else { Kind::Stream };
    (
        is_direct.then(|| alignment_of(known.memory_alignment, known.offset_alignment)),
        known.flags & libc::O_APPEND != 0,
        kind,
    )
}

impl Target {
    fn files(&self) -> &dyn OpenFiles {
        self.descriptor.system().open_files()
    }

    pub(crate) fn seek(&self, offset: i64, whence: i32) -> io::Result<u64> {
        self.files().seek(self.descriptor.descriptor(), offset, whence)
    }

    /// Where the open file stands.
    pub(crate) fn stands_at(&self) -> io::Result<u64> {
        self.seek(0, libc::SEEK_CUR)
    }

    /// Whose position it is once others may have the file.
    pub(crate) fn kind_of_shared(&self) -> Kind {
        let known = self.files().describe(self.descriptor.descriptor());
        known.map_or(Kind::Stream, |known| traits_of(&known).2)
    }

    /// What a buffer's address is a multiple of.
    pub(crate) fn memory(&self) -> usize {
        self.alignment.map_or(1, |wanted| wanted.memory.max(1) as usize)
    }

    fn block(&self) -> u64 {
        self.alignment.map_or(1, |wanted| u64::from(wanted.offset.max(1)))
    }

    /// Where the block of a position begins, and how far behind that the position is.
    pub(crate) fn block_of(&self, position: u64) -> (u64, usize) {
        let behind = position % self.block();
        (position - behind, behind as usize)
    }

    /// The length of the blocks that `length` bytes from `skipped` on lie in.
    pub(crate) fn whole_blocks_around(&self, skipped: usize, length: usize) -> usize {
        (skipped + length).next_multiple_of(self.block() as usize)
    }

    /// How many of the bytes on offer a write at `at` can take, at least one block.
    ///
    /// # Errors
    ///
    /// An [`AlignmentError`] where it isn't a block that is written, or not where one begins.
    pub(crate) fn writable_now(&self, at: u64, offered: usize, limit: usize) -> io::Result<usize> {
        let block = self.block();
        if block == 1 {
            return Ok(offered.min(limit));
        }
        let (what, given) = match at {
            KERNELS if self.appends => {
                let known = self.files().describe(self.descriptor.descriptor())?;
                (Misaligned::End, known.length)
            }
            KERNELS => (Misaligned::Offset, self.stands_at()?),
            at => (Misaligned::Offset, at),
        };
        if !given.is_multiple_of(block) {
            return Err(AlignmentError { what, wanted: block, given }.into());
        }
        let whole = |length: usize| length - length % block as usize;
        match whole(offered) {
            0 => {
                let (what, given) = (Misaligned::Length, offered as u64);
                Err(AlignmentError { what, wanted: block, given }.into())
            }
            blocks => Ok(blocks.min(whole(limit).max(block as usize))),
        }
    }

    /// What `EINVAL` of a direct transfer where the file stands means, if it is that.
    pub(crate) fn explain(&self, error: io::Error) -> io::Error {
        if self.alignment.is_none() || error.raw_os_error() != Some(libc::EINVAL) {
            return error;
        }
        match self.stands_at() {
            Ok(given) if !given.is_multiple_of(self.block()) => {
                AlignmentError { what: Misaligned::Offset, wanted: self.block(), given }.into()
            }
            _ => error,
        }
    }
}
