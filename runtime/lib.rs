//! The kernel seam, the driver, the executor and the clock of the Ringhold runtime.
//!
//! Applications use the face, package `ringhold`; what this crate opens to the layers above it is
//! not an interface of its own.

mod arenas;
mod at_once;
mod away;
mod blocking;
mod builder;
mod cold_call;
mod collector;
mod context;
#[doc(hidden)]
pub mod descriptor;
mod driver;
mod failed;
mod fd;
mod files;
mod gate;
mod group;
mod growth;
mod handle;
mod handover;
mod inbox;
mod local;
#[cfg(test)]
mod models;
mod op;
mod operation_error;
#[doc(hidden)]
pub mod ops;
mod park;
mod plan;
mod pool;
mod pools;
mod random;
mod registry;
mod runtime;
mod select;
mod shard;
pub mod signal;
mod stepped;
pub mod task;
mod telling;
pub mod time;
mod waiting;

pub use builder::Builder;
pub use driver::DriverCounts;
pub use failed::{Failed, IntoBufResult};
pub use handle::{EnterGuard, Handle, RuntimeFlavor, RuntimeMetrics, TryCurrentError};
pub use operation_error::OperationError;
pub use pool::{Leasing, NamedPool, lease, named_pool, occupancy, pool, try_lease};
pub use registry::ShardId;
pub use ringhold_kernel::{KERNEL_FLOOR, StartError};
pub use runtime::Runtime;

#[doc(hidden)]
pub use at_once::{ask_at_once, read_at_once, read_file_at_once};
#[doc(hidden)]
pub use cold_call::ColdCall;
#[doc(hidden)]
pub use collector::{Arrivals, Collector};
#[doc(hidden)]
pub use fd::Fd;
pub use gate::Gate;
#[doc(hidden)]
pub use group::Group;
#[doc(hidden)]
pub use op::{Entry, Op, Operation};
#[doc(hidden)]
pub use random::random_below;
#[doc(hidden)]
pub use ringhold_buffers::foreign;
#[doc(hidden)]
pub use ringhold_kernel::{
    Ahead, ArenaEntry, AtOnce, BUFFER_SELECT, CQE_BUFFER, CQE_MORE, CQE_NOTIFICATION,
    CQE_SOCKET_NONEMPTY, Call, CallPointer, Capacity, Cqe, Description, DirectoryEntry, Donor,
    FIXED_FILE, HeldFile, Kernel, KernelConfig, NewDescriptor, NothingAtOnce, OpenFiles,
    POLL_ARMED, Processes, Provided, QueueFull, RECEIVE_BUNDLE, SEND_FIXED_BUFFER, SignalCounts,
    SignalEvents, SocketAddress, Sockets, Sqe, System, Unpark, Wait,
};
#[doc(hidden)]
pub use select::{Both, poll_select};
#[doc(hidden)]
pub use shard::Shard;
#[doc(hidden)]
pub use stepped::Stepped;
#[doc(hidden)]
pub use waiting::Waiting;

/// The system of the entered runtime, or Linux where none is entered, for the layers above.
#[doc(hidden)]
pub fn system() -> std::sync::Arc<dyn System> {
    context::system()
}

/// Runs a loop that turns shards within a budget for tokio's channels.
#[doc(hidden)]
pub fn within_budget<R>(run: impl FnOnce() -> R) -> R {
    task::coop::within(run)
}

/// Takes one step of the running task's budget, for futures that may be ready at once.
#[doc(hidden)]
#[inline]
pub fn poll_budget(cx: &std::task::Context<'_>) -> std::task::Poll<()> {
    task::budget::poll_step(cx)
}
