//! The 64-byte submission entry, readable on both sides of the seam.

#![allow(unsafe_code)] // One conversion between two layouts that the kernel fixed.

use io_uring::{opcode, squeue};

/// One submission as the kernel's header lays it out (`struct io_uring_sqe`).
///
/// The `io-uring` crate's builders make it, and [`Sqe::from`] takes their entry over. Its own entry
/// hides its fields; a simulated kernel has to read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C, align(8))]
pub struct Sqe {
    /// `IORING_OP_*`.
    pub opcode: u8,
    /// `IOSQE_*`.
    pub flags: u8,
    /// Priority, or flags of the opcode.
    pub ioprio: u16,
    /// A descriptor, or a slot of the file table under [`FIXED_FILE`].
    pub fd: i32,
    /// Offset, or a second address.
    pub offset: u64,
    /// Address, or what the opcode says.
    pub address: u64,
    /// Length in bytes, or what the opcode says.
    pub length: u32,
    /// Flags of the opcode.
    pub operation_flags: u32,
    /// Comes back in the completion.
    pub user_data: u64,
    /// Slot of the buffer table, or a buffer group.
    pub buffer_index: u16,
    /// Registered personality.
    pub personality: u16,
    /// Second descriptor, or target slot of the file table.
    pub file_index: i32,
    /// Third address.
    pub address3: u64,
    /// Reserved.
    pub reserved: u64,
}

/// `IOSQE_FIXED_FILE`: the entry's `fd` is a slot of the file table.
pub const FIXED_FILE: u8 = 1;

/// `IOSQE_ASYNC`: the entry goes to a thread of the kernel's at once, and may wait there.
pub const ASYNC: u8 = 1 << 4;

/// None of the kernel's own: the operation may wait for a server or a peer that never answers, so
/// that Linux may have it done elsewhere. It is taken away before an entry goes to a ring.
pub const MAY_HANG: u8 = 1 << 7;

/// `IOSQE_BUFFER_SELECT`: the entry's `buffer_index` is a group of provided buffers.
pub const BUFFER_SELECT: u8 = 1 << 5;

/// `IORING_RECVSEND_FIXED_BUF`, in `ioprio`: the bytes lie in a registered buffer.
pub const SEND_FIXED_BUFFER: u16 = 1 << 2;

/// `IORING_POLL_ADD_MULTI`, in `len`: the poll stays armed.
pub const POLL_ARMED: u32 = 1;

/// `IORING_RECVSEND_BUNDLE`, in `ioprio`: several provided buffers may be filled at once.
pub const RECEIVE_BUNDLE: u16 = 1 << 4;

const _: () = assert!(size_of::<Sqe>() == 64 && size_of::<squeue::Entry>() == 64);

impl From<squeue::Entry> for Sqe {
    fn from(entry: squeue::Entry) -> Sqe {
        // SAFETY: both are 64 bytes of plain integers in the layout of the kernel's `io_uring_sqe`;
        // the crate zeroes an entry before its builder fills it, so no byte is uninitialised.
        // Nothing is pointed to before the push of the result, whose contract (S1, S2) covers that.
        unsafe { std::mem::transmute::<squeue::Entry, Sqe>(entry) }
    }
}

impl Sqe {
    /// Turns a transfer that names a registered buffer into the same transfer that names none.
    pub fn make_plain(&mut self) {
        match self.opcode {
            opcode::ReadFixed::CODE => self.opcode = opcode::Read::CODE,
            opcode::WriteFixed::CODE => self.opcode = opcode::Write::CODE,
            opcode::SendZc::CODE => self.ioprio &= !SEND_FIXED_BUFFER,
            other => panic!("opcode {other} names an arena and has no plain form"),
        }
        self.buffer_index = 0;
    }

    /// The entry as the `io-uring` crate pushes it.
    #[inline(always)]
    pub fn as_entry(&self) -> &squeue::Entry {
        // SAFETY: the same layout as above, and `Sqe` is at least as aligned, as is asserted below;
        // what it points to is the matter of the push (S1, S2).
        unsafe { &*std::ptr::from_ref(self).cast::<squeue::Entry>() }
    }
}

const _: () = assert!(align_of::<Sqe>() >= align_of::<squeue::Entry>());

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::types;

    #[test]
    fn the_fields_of_a_built_entry_are_where_the_kernel_has_them() {
        let sqe = Sqe::from(
            opcode::ReadFixed::new(types::Fd(7), 0x1000 as *mut u8, 4096, 3)
                .offset(8192)
                .build()
                .user_data(42),
        );
        assert_eq!(sqe.opcode, 4);
        assert_eq!(sqe.fd, 7);
        assert_eq!(sqe.address, 0x1000);
        assert_eq!(sqe.length, 4096);
        assert_eq!(sqe.offset, 8192);
        assert_eq!(sqe.buffer_index, 3);
        assert_eq!(sqe.user_data, 42);
        assert_eq!(sqe.flags, 0);
    }

    #[test]
    fn a_send_from_a_registered_buffer_says_so_until_it_is_made_plain() {
        let send = opcode::SendZc::new(types::Fd(7), 0x1000 as *const u8, 4096);
        let mut sqe = Sqe::from(send.buf_index(Some(3)).build());
        assert_eq!((sqe.opcode, sqe.ioprio, sqe.buffer_index), (47, 4, 3));
        sqe.make_plain();
        assert_eq!((sqe.opcode, sqe.ioprio, sqe.buffer_index), (47, 0, 0));
    }
}
