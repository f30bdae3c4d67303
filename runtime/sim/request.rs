//! What an entry asks for: the 64 bytes as the kernel reads them.

#![allow(unsafe_code)] // It follows the addresses of entries.

use io_uring::opcode;
use ringhold_kernel::{
    BUFFER_SELECT, FIXED_FILE, POLL_ARMED, RECEIVE_BUNDLE, SEND_FIXED_BUFFER, SocketAddress, Sqe,
};

use crate::memory::{self, Answer, CallAddress, Span};

/// What an operation names a file by: a descriptor, or a slot of the file table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) number: i32,
    pub(crate) registered: bool,
}

/// A read or a write.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) file: FileName,
    pub(crate) offset: u64,
    pub(crate) spans: Vec<Span>,
    /// The slot of the buffer table that the memory has to lie in.
    pub(crate) arena: Option<u16>,
    /// `RWF_*`.
    pub(crate) flags: i32,
}

/// A path, and where it begins.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: i32,
    pub(crate) path: Vec<u8>,
}

/// An entry, read.
#[derive(Debug)]
pub(crate) enum Request {
    Nop,
    Read(Transfer),
    Write(Transfer),
    Sync { file: FileName, data_only: bool },
    Allocate { file: FileName, mode: i32, offset: u64, length: u64 },
    Truncate { file: FileName, length: u64 },
    Advise { file: FileName },
    Open { place: Place, flags: i32, mode: u32 },
    OpenBeneath,
    Close { descriptor: i32 },
    Statx { place: Place, flags: i32, answer: Answer },
    Rename { from: Place, to: Place, flags: u32 },
    Unlink { place: Place, flags: i32 },
    MakeDirectory { place: Place, mode: u32 },
    Link { from: Place, to: Place, flags: i32 },
    Symlink { target: Vec<u8>, link: Place },
    Cancel { target: u64 },
    Pause { nanos: u64 },
    PollReady { file: FileName, events: u32, armed: bool },
    Connect { file: FileName, address: SocketAddress },
    Receive { file: FileName, span: Span, flags: i32 },
    ReceiveMany { file: FileName, group: u16, in_bundles: bool },
    Send { file: FileName, spans: Vec<Span> },
    SendZeroCopy { file: FileName, span: Span, arena: Option<u16> },
    Shutdown { file: FileName, how: i32 },
    Call(CallAddress),
}

impl Request {
    /// Reads an entry.
    ///
    /// # Panics
    ///
    /// For an opcode that the simulation doesn't know.
    ///
    /// # Safety
    ///
    /// All that the entry points to is the kernel's (S1, S2).
    pub(crate) unsafe fn read(sqe: &Sqe) -> Request {
        let file = FileName { number: sqe.fd, registered: sqe.flags & FIXED_FILE != 0 };
        let flags = sqe.operation_flags as i32;
        // SAFETY: as the caller promises (S1, S2); which of the fields are addresses is said by the
        // opcode.
        let place = |directory, path| unsafe { Place { directory, path: memory::path(path) } };
        // SAFETY: as the caller promises (S1, S2).
        let transfer = |fixed, vectored| unsafe { transfer(sqe, file, fixed, vectored) };
        match sqe.opcode {
            opcode::Nop::CODE => Request::Nop,
            opcode::Read::CODE => Request::Read(transfer(false, false)),
            opcode::ReadFixed::CODE => Request::Read(transfer(true, false)),
            opcode::Readv::CODE => Request::Read(transfer(false, true)),
            opcode::Write::CODE => Request::Write(transfer(false, false)),
            opcode::WriteFixed::CODE => Request::Write(transfer(true, false)),
            opcode::Writev::CODE => Request::Write(transfer(false, true)),
            opcode::Fsync::CODE => {
                const DATASYNC: u32 = 1;
                Request::Sync { file, data_only: sqe.operation_flags & DATASYNC != 0 }
            }
            opcode::Fallocate::CODE => Request::Allocate {
                file,
                mode: sqe.length as i32,
                offset: sqe.offset,
                length: sqe.address,
            },
            opcode::Ftruncate::CODE => Request::Truncate { file, length: sqe.offset },
            opcode::Fadvise::CODE => Request::Advise { file },
            opcode::OpenAt::CODE => {
                Request::Open { place: place(sqe.fd, sqe.address), flags, mode: sqe.length }
            }
            opcode::OpenAt2::CODE => Request::OpenBeneath,
            opcode::Close::CODE => Request::Close { descriptor: sqe.fd },
            opcode::Statx::CODE => {
                // SAFETY: as the caller promises (S1, S2).
                let answer = unsafe { Answer::new(sqe.offset) };
                Request::Statx { place: place(sqe.fd, sqe.address), flags, answer }
            }
            opcode::RenameAt::CODE => Request::Rename {
                from: place(sqe.fd, sqe.address),
                to: place(sqe.length as i32, sqe.offset),
                flags: sqe.operation_flags,
            },
            opcode::UnlinkAt::CODE => Request::Unlink { place: place(sqe.fd, sqe.address), flags },
            opcode::MkDirAt::CODE => {
                Request::MakeDirectory { place: place(sqe.fd, sqe.address), mode: sqe.length }
            }
            opcode::LinkAt::CODE => Request::Link {
                from: place(sqe.fd, sqe.address),
                to: place(sqe.length as i32, sqe.offset),
                flags,
            },
            opcode::SymlinkAt::CODE => Request::Symlink {
                // SAFETY: as the caller promises (S1, S2).
                target: unsafe { memory::path(sqe.address) },
                link: place(sqe.fd, sqe.offset),
            },
            opcode::AsyncCancel::CODE => Request::Cancel { target: sqe.address },
            // SAFETY: as the caller promises (S1, S2).
            opcode::Timeout::CODE => unsafe {
                Request::Pause { nanos: memory::nanos(sqe.address) }
            },
            // SAFETY: as the caller promises (S1, S2).
            _ => unsafe { Request::read_of_sockets(sqe, file) },
        }
    }

    /// As [`Request::read`], for the opcodes of sockets.
    ///
    /// # Safety
    ///
    /// As for [`Request::read`].
    unsafe fn read_of_sockets(sqe: &Sqe, file: FileName) -> Request {
        let flags = sqe.operation_flags as i32;
        // SAFETY: as the caller promises (S1, S2).
        let span = || unsafe { Span::new(sqe.address, sqe.length as usize) };
        match sqe.opcode {
            opcode::PollAdd::CODE => {
                let armed = sqe.length & POLL_ARMED != 0;
                Request::PollReady { file, events: sqe.operation_flags, armed }
            }
            opcode::Connect::CODE => {
                // SAFETY: as the caller promises (S1, S2); it is as long as the entry says.
                let address = unsafe { Span::new(sqe.address, sqe.offset as usize) };
                Request::Connect { file, address: SocketAddress::from_bytes(address.source()) }
            }
            opcode::Recv::CODE if sqe.flags & BUFFER_SELECT != 0 => {
                let in_bundles = sqe.ioprio & RECEIVE_BUNDLE != 0;
                Request::ReceiveMany { file, group: sqe.buffer_index, in_bundles }
            }
            opcode::Recv::CODE => Request::Receive { file, span: span(), flags },
            opcode::Send::CODE => Request::Send { file, spans: vec![span()] },
            // SAFETY: as the caller promises (S1, S2).
            opcode::SendMsg::CODE => unsafe {
                Request::Send { file, spans: memory::message(sqe.address) }
            },
            opcode::SendZc::CODE => {
                let arena = (sqe.ioprio & SEND_FIXED_BUFFER != 0).then_some(sqe.buffer_index);
                Request::SendZeroCopy { file, span: span(), arena }
            }
            opcode::Shutdown::CODE => Request::Shutdown { file, how: sqe.length as i32 },
            unknown => panic!("the simulated kernel doesn't know io_uring's opcode {unknown}"),
        }
    }

    /// The memory that is read into, and belongs to nobody until the completion.
    pub(crate) fn targets(&self) -> &[Span] {
        match self {
            Request::Read(transfer) => &transfer.spans,
            Request::Receive { span, .. } => std::slice::from_ref(span),
            _ => &[],
        }
    }

    /// The memory that is written from, and must not change until the completion.
    pub(crate) fn sources(&self) -> &[Span] {
        match self {
            Request::Write(transfer) => &transfer.spans,
            Request::Send { spans, .. } => spans,
            Request::SendZeroCopy { span, .. } => std::slice::from_ref(span),
            _ => &[],
        }
    }

    /// The group of provided buffers that it picks from.
    pub(crate) fn group(&self) -> Option<u16> {
        match self {
            Request::ReceiveMany { group, .. } => Some(*group),
            _ => None,
        }
    }

    /// The slot of the buffer table that its memory has to lie in, and that memory.
    pub(crate) fn registered(&self) -> Option<(u16, &[Span])> {
        match self {
            Request::Read(transfer) | Request::Write(transfer) => {
                Some((transfer.arena?, &transfer.spans))
            }
            Request::SendZeroCopy { span, arena, .. } => {
                Some(((*arena)?, std::slice::from_ref(span)))
            }
            _ => None,
        }
    }

    /// Whether it changes what is on the disk and needs no memory but what it writes from: if its
    /// process is killed, it may take effect all the same.
    pub(crate) fn lasts(&self) -> bool {
        match self {
            Request::Write(_)
            | Request::Sync { .. }
            | Request::Allocate { .. }
            | Request::Truncate { .. }
            | Request::Rename { .. }
            | Request::Unlink { .. }
            | Request::MakeDirectory { .. }
            | Request::Link { .. }
            | Request::Symlink { .. } => true,
            Request::Nop
            | Request::Read(_)
            | Request::Advise { .. }
            | Request::Open { .. }
            | Request::OpenBeneath
            | Request::Close { .. }
            | Request::Statx { .. }
            | Request::Cancel { .. }
            | Request::Pause { .. }
            | Request::PollReady { .. }
            | Request::Connect { .. }
            | Request::Receive { .. }
            | Request::ReceiveMany { .. }
            | Request::Send { .. }
            | Request::SendZeroCopy { .. }
            | Request::Shutdown { .. }
            | Request::Call(_) => false,
        }
    }

    /// How long it takes at least, in nanoseconds.
    pub(crate) fn pause(&self) -> u64 {
        if let Request::Pause { nanos } = self { *nanos } else { 0 }
    }

    /// The file that it is about, where that has to stay open.
    pub(crate) fn file(&self) -> Option<FileName> {
        match self {
            Request::Read(transfer) | Request::Write(transfer) => Some(transfer.file),
            Request::Sync { file, .. }
            | Request::Allocate { file, .. }
            | Request::Truncate { file, .. }
            | Request::Advise { file }
            | Request::PollReady { file, .. }
            | Request::Connect { file, .. }
            | Request::Receive { file, .. }
            | Request::ReceiveMany { file, .. }
            | Request::Send { file, .. }
            | Request::SendZeroCopy { file, .. }
            | Request::Shutdown { file, .. } => Some(*file),
            _ => None,
        }
    }

    /// The paths that it names, as the trace shows them.
    pub(crate) fn paths(&self) -> Vec<String> {
        let of = |place: &Place| String::from_utf8_lossy(&place.path).into_owned();
        match self {
            Request::Open { place, .. }
            | Request::Statx { place, .. }
            | Request::Unlink { place, .. }
            | Request::MakeDirectory { place, .. }
            | Request::Symlink { link: place, .. } => vec![of(place)],
            Request::Rename { from, to, .. } | Request::Link { from, to, .. } => {
                vec![of(from), of(to)]
            }
            _ => Vec::new(),
        }
    }

    /// A number for what is in no field of the entry: the path.
    pub(crate) fn checksum(&self) -> u64 {
        let of = |place: &Place| memory::checksum(&place.path);
        match self {
            Request::Open { place, .. }
            | Request::Statx { place, .. }
            | Request::Unlink { place, .. }
            | Request::MakeDirectory { place, .. }
            | Request::Symlink { link: place, .. } => of(place),
            Request::Rename { from, to, .. } | Request::Link { from, to, .. } => {
                of(from) ^ of(to).rotate_left(1)
            }
            _ => 0,
        }
    }
}

/// # Safety
///
/// As for [`Request::read`].
unsafe fn transfer(sqe: &Sqe, file: FileName, fixed: bool, vectored: bool) -> Transfer {
    let spans = if vectored {
        // SAFETY: as the caller promises (S1, S2).
        unsafe { memory::segments(sqe.address, sqe.length) }
    } else {
        // SAFETY: as the caller promises (S1, S2).
        vec![unsafe { Span::new(sqe.address, sqe.length as usize) }]
    };
    Transfer {
        file,
        offset: sqe.offset,
        spans,
        arena: fixed.then_some(sqe.buffer_index),
        flags: sqe.operation_flags as i32,
    }
}
