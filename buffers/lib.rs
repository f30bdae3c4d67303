//! Registered, pinned memory and its leases: the memory side of Ringhold, which knows no ring.
//!
//! A [`Pool`] maps *arenas* (anonymous private memory, pre-faulted, 4096-aligned), has them
//! registered through a [`Registrar`], and hands out [`Lease`]s: exclusive windows that go back on
//! drop, from any thread. A lease is like a `Vec` with a fixed capacity; frozen it is a [`Frozen`],
//! which is shared, clonable and a [`bytes::Bytes`] without a copy.
//!
//! A request waits its turn while the pool is empty; [`Pool`] states the order.
//!
//! ```
//! use ringhold_buffers::{Pool, PoolConfig};
//!
//! let pool = Pool::unregistered(PoolConfig::new().limit(1 << 20).arena(1 << 16));
//! let mut lease = pool.try_lease(5000)?;
//! assert_eq!((lease.len(), lease.capacity()), (0, 5000));
//! lease.extend_from_slice(b"hello");
//! assert_eq!(&lease[..], b"hello");
//! assert_eq!(pool.occupancy().leased, 8192); // whole pages
//! drop(lease);
//! assert_eq!(pool.occupancy().leased, 0);
//! # Ok::<(), ringhold_buffers::LeaseError>(())
//! ```

mod arena;
mod block;
mod config;
mod error;
#[doc(hidden)]
pub mod foreign;
mod frozen;
mod group;
mod growing;
mod io_buf;
mod lease;
mod lease_future;
mod occupancy;
mod pool;
mod region;
mod registrar;
mod request;
mod slice;
mod slots;
mod state;
mod waiters;

pub use config::PoolConfig;
pub use error::{CapacityError, FreezeError, LeaseError, LeaseErrorKind};
pub use frozen::Frozen;
pub use group::{LeaseGroup, Reserve};
pub use io_buf::{FixedBuf, FixedBufMut, IoBuf, IoBufMut};
pub use lease::Lease;
pub use lease_future::LeaseFuture;
pub use occupancy::Occupancy;
pub use pool::Pool;
pub use registrar::{Registrar, Retiring};
#[doc(hidden)]
pub use ringhold_kernel::sync;
pub use ringhold_kernel::{ARENA_SLOTS, ArenaId};
pub use slice::Slice;

/// The bytes of a page: leases begin at a multiple of it, and are counted in it.
pub const PAGE: usize = 4096;

/// The slots of one pool: it never has more arenas than this.
pub const POOL_SLOTS: usize = ARENA_SLOTS / 4;

/// The most bytes that the kernel takes as one registered buffer: 1 GiB.
pub(crate) const LARGEST_ARENA: usize = 1 << 30;

/// The bytes of a huge page: arenas of this size and more are aligned to it and ask for such pages.
pub(crate) const HUGE_PAGE: usize = 2 << 20;
