//! Which file a number stands for: what a kernel remembers of a descriptor that is in use.

use super::FileSystem;

impl FileSystem {
    /// Which of all the descriptors that ever had this number is open under it; `None` if none is.
    pub fn serial(&self, descriptor: i32) -> Option<u64> {
        self.descriptors.serial(descriptor)
    }

    /// What offset and length of direct I/O on an open file have to be multiples of, in bytes;
    /// `None` for a file that isn't open for it.
    pub fn direct_alignment(&self, descriptor: i32) -> Option<usize> {
        let description = self.descriptors.get(descriptor).ok()?;
        let direct = description.has(libc::O_DIRECT);
        direct.then_some(self.config.direct_offset_alignment as usize)
    }
}
