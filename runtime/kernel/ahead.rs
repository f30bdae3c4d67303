//! Bytes that were read where an open file stands, until they are taken.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::descriptors::HeldFile;

/// What a read brought and nothing took yet.
///
/// A read at an open file's own position moves that for all who have the file. What is left of such
/// a read goes back when this is dropped: the file then stands where the rest begins, unless others
/// have moved it meanwhile. It is part of a [`Call`](crate::Call), so that a dropped one gives
/// everything back.
pub struct Ahead {
    bytes: Vec<u8>,
    taken: usize,
    room: usize,
    /// The file whose position was moved; `None` where it was read at an offset of its own.
    file: Option<Arc<dyn HeldFile>>,
    /// Where the file stood after the read, if nothing else has moved it during that.
    end: Option<u64>,
}

impl Ahead {
    /// What was read from nobody's position: `bytes`, of which `taken` are not part of it.
    pub fn of_own(bytes: Vec<u8>, taken: usize) -> Ahead {
        Ahead { bytes, taken, room: 0, file: None, end: None }
    }

    /// Room for `room` bytes behind those of `bytes`, to be read where `file` stands.
    pub fn at_position(file: Arc<dyn HeldFile>, mut bytes: Vec<u8>, room: usize) -> Ahead {
        bytes.reserve_exact(room);
        Ahead { taken: bytes.len(), bytes, room, file: Some(file), end: None }
    }

    /// The file whose position the read moves; `None` of bytes that were read elsewhere.
    pub fn file(&self) -> Option<RawFd> {
        self.file.as_ref().map(|file| file.descriptor())
    }

    /// What is left.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Takes some of what is left from its beginning.
    pub fn take(&mut self, count: usize) {
        self.taken += count;
    }

    /// Gives the buffer away, and nothing back to the file.
    pub fn keep(mut self) -> Vec<u8> {
        self.end = None;
        std::mem::take(&mut self.bytes)
    }

    /// For the kernel that reads: the file, what to read behind, and how much at most.
    ///
    /// # Panics
    ///
    /// If it is of no file's position.
    pub fn to_read(&mut self) -> (RawFd, &mut Vec<u8>, usize) {
        let file = self.file().expect("only what is at a file's position is read by a call");
        (file, &mut self.bytes, self.room)
    }

    /// For the kernel that has read: where the file stands now.
    pub fn set_end(&mut self, end: u64) {
        self.end = Some(end);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let (Some(file), Some(end)) = (self.file.take(), self.end) else { return };
        let left = self.rest().len() as i64;
        if left == 0 {
            return;
        }
        let files = file.system().open_files();
        let now = files.seek(file.descriptor(), 0, libc::SEEK_CUR);
        if now.is_ok_and(|now| now == end) {
            let _ = files.seek(file.descriptor(), -left, libc::SEEK_CUR);
        }
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead")
            .field("left", &self.rest().len())
            .field("room", &self.room)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
