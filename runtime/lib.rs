//! The kernel seam, the driver, the executor and the clock of the Ringhold runtime.
//!
//! Applications use the face, package `ringhold`; what this crate opens to the layers above it is
//! not an interface of its own.

mod ahead;
mod arenas;
mod at_once;
mod away;
mod blocking;
mod builder;
mod call;
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
mod kernel;
mod local;
#[cfg(test)]
mod models;
mod op;
mod open_files;
mod operation_error;
#[doc(hidden)]
pub mod ops;
mod park;
mod plan;
mod pool;
mod pools;
mod processes;
mod random;
mod registry;
mod runtime;
mod select;
mod shard;
pub mod signal;
mod sockets;
mod sqe;
mod start_error;
mod stepped;
pub mod task;
mod telling;
mod threads;
pub mod time;
mod uring;
mod waiting;

pub use builder::Builder;
pub use driver::DriverCounts;
pub use failed::{Failed, IntoBufResult};
pub use handle::{EnterGuard, Handle, RuntimeFlavor, RuntimeMetrics, TryCurrentError};
pub use operation_error::OperationError;
pub use pool::{Leasing, NamedPool, lease, named_pool, occupancy, pool, try_lease};
pub use registry::ShardId;
pub use runtime::Runtime;
pub use start_error::{KERNEL_FLOOR, StartError};

#[doc(hidden)]
pub use ahead::Ahead;
#[doc(hidden)]
pub use at_once::{AtOnce, NothingAtOnce, ask_at_once, read_at_once, read_file_at_once};
#[doc(hidden)]
pub use call::{Call, CallPointer, ColdCall, DirectoryEntry};
#[doc(hidden)]
pub use collector::{Arrivals, Collector};
#[doc(hidden)]
pub use fd::Fd;
pub use gate::Gate;
#[doc(hidden)]
pub use group::Group;
#[doc(hidden)]
pub use kernel::{
    ArenaEntry, CQE_BUFFER, CQE_MORE, CQE_NOTIFICATION, CQE_SOCKET_NONEMPTY, Capacity, Cqe, Donor,
    Kernel, KernelConfig, Provided, QueueFull, SignalCounts, SignalEvents, System, Unpark, Wait,
};
#[doc(hidden)]
pub use op::{Entry, Op, Operation};
#[doc(hidden)]
pub use open_files::{Description, OpenFiles};
#[doc(hidden)]
pub use processes::Processes;
#[doc(hidden)]
pub use random::random_below;
#[doc(hidden)]
pub use ringhold_buffers::foreign;
#[doc(hidden)]
pub use select::{Both, poll_select};
#[doc(hidden)]
pub use shard::Shard;
#[doc(hidden)]
pub use sockets::{SocketAddress, Sockets};
#[doc(hidden)]
pub use sqe::{BUFFER_SELECT, FIXED_FILE, POLL_ARMED, RECEIVE_BUNDLE, SEND_FIXED_BUFFER, Sqe};
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
