//! The seam: everything that the Ringhold runtime asks of an operating system.
//!
//! Above these traits nothing knows whether it runs on Linux or on a simulation. Operations go into
//! a [`Kernel`] as 64-byte [`Sqe`]s and come back as [`Cqe`]s; what io_uring has no opcode for goes
//! in as a [`Call`] and comes back the same way. A [`System`] makes kernels, and answers for what
//! never waits: time, limits, sockets, open files, signals and processes.
//!
//! This package knows none of the others, and each kernel is a package beside it.

mod at_once;
mod call;
mod kernel;
mod open_files;
mod processes;
mod signals;
mod sockets;
mod sqe;
mod start_error;
#[doc(hidden)]
pub mod sync;
mod system;
pub mod threads;

pub use at_once::{AtOnce, NothingAtOnce, STATX_EVERYTHING};
pub use call::{Ahead, Call, CallPointer, DirectoryEntry};
pub use kernel::{
    ARENA_SLOTS, ArenaEntry, ArenaId, CQE_BUFFER, CQE_MORE, CQE_NOTIFICATION, CQE_SOCKET_NONEMPTY,
    Capacity, Cqe, Donor, Kernel, Provided, QueueFull, Unpark, Wait,
};
pub use open_files::{Description, OpenFiles};
pub use processes::Processes;
pub use signals::{SignalCounts, SignalEvents};
pub use sockets::{SocketAddress, Sockets};
pub use sqe::{
    ASYNC, BUFFER_SELECT, FIXED_FILE, MAY_HANG, POLL_ARMED, RECEIVE_BUNDLE, SEND_FIXED_BUFFER, Sqe,
};
pub use start_error::{KERNEL_FLOOR, StartError};
pub use system::{HeldFile, KernelConfig, NewDescriptor, System};
