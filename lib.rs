//! An async runtime for storage services on Linux.
//!
//! Each core runs one *shard*: an executor that owns one io_uring, polls its completions into
//! wakers, and leases registered, pinned buffers to futures. It has tokio's names, so that code
//! written for tokio compiles against it.
//!
//! ```
//! use runtime::{buffers, fs::File};
//!
//! #[runtime::main(shards = 1)]
//! async fn main() -> std::io::Result<()> {
//! #   let path = std::env::temp_dir().join(format!("ringhold-first-{}", std::process::id()));
//! #   std::fs::write(&path, [7u8; 4096])?;
//!     let file = File::open(&path).await?;
//!     let lease = buffers::lease(128 * 1024).await?; // waits its turn when the pool is empty
//!     let (n, lease) = file.read_fixed(lease, 0).await?; // the lease comes back, filled
//!     assert_eq!(n, 4096);
//!     assert_eq!(&lease[..4], [7, 7, 7, 7]);
//! #   std::fs::remove_file(&path)?;
//!     Ok(())
//! }
//! ```
//!
//! # Where things are
//!
//! | module | what it has |
//! |---|---|
//! | [`buffers`] | the pool of registered buffers, its leases, and the traits of buffers |
//! | [`fs`] | files and directories |
//! | [`net`] | sockets |
//! | [`task`] | spawning, joining, aborting, yielding, blocking closures, groups of tasks |
//! | [`time`] | sleeping, timeouts, intervals, and a clock that tests can pause |
//! | [`process`] | starting programs, their pipes, and waiting for their ends |
//! | [`signal`] | waiting for ctrl-c and other signals |
//! | [`sync`], [`io`] | tokio's own channels, locks, traits and utilities |
//! | [`mod@runtime`] | building a runtime by hand |
//! | [`book`] | how services are simulated, and [how tasks take turns](book::scheduling) |
//!
//! # What is promised
//!
//! A dropped operation leaks nothing, and nothing is freed under the kernel: its buffer and its
//! file stay with the runtime until the kernel is done with them, and what it still brings is kept
//! for the next call, or released. What a drop means for the effect, `docs/CANCELLATION.md` says
//! for every async function. `docs/PROMISES.md` numbers the promises and names the tests that prove
//! them; `docs/ARCHITECTURE.md` is the map of the code.

pub use ringhold_macros::{main, test};
pub use ringhold_runtime::task::{spawn, spawn_blocking, spawn_local, spawn_on};
pub use ringhold_runtime::{Builder, Handle, Runtime};
pub use tokio::{join, pin, try_join};

mod select;
mod transfer;

#[doc = include_str!("docs/book/simulation.md")]
pub mod book {
    #[doc = include_str!("docs/book/scheduling.md")]
    pub mod scheduling {}
}

pub mod buffers {
    //! Registered buffers: the pool, its leases, and the traits of buffers that go into the kernel.

    pub use ringhold_buffers::{
        ArenaId, FixedBuf, FixedBufMut, FreezeError, Frozen, IoBuf, IoBufMut, Lease, LeaseError,
        LeaseErrorKind, LeaseFuture, LeaseGroup, Occupancy, Pool, PoolConfig, Reserve, Slice,
    };
    pub use ringhold_runtime::{
        Failed, IntoBufResult, Leasing, NamedPool, lease, named_pool, occupancy, pool, try_lease,
    };
}

pub mod fs {
    //! Files and directories.

    pub use ringhold_fs::*;
}

pub mod io {
    //! tokio's traits and utilities of asynchronous I/O, which run on any runtime; and the ways
    //! from files to sockets and back.

    pub use tokio::io::{
        AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt,
        AsyncWrite, AsyncWriteExt, BufReader, BufStream, BufWriter, Chain, DuplexStream, Empty,
        Error, ErrorKind, Join, Lines, ReadBuf, ReadHalf, Repeat, Result, SeekFrom, SimplexStream,
        Sink, Split, Take, WriteHalf, copy, copy_bidirectional, copy_bidirectional_with_sizes,
        copy_buf, duplex, empty, join, repeat, simplex, sink, split,
    };

    pub use crate::transfer::{ReceiveSide, SendSide, TransferError, receive_file, send_file};
    pub use ringhold_net::{Interest, Ready};
}

pub mod net {
    //! Sockets.

    pub use ringhold_net::{
        Incoming, Leases, Listener, Sending, TcpListener, TcpSocket, TcpStream, ToSocketAddrs,
        UdpSocket, Undelivered, UnixDatagram, UnixListener, UnixSocket, UnixStream, lookup_host,
        tcp, unix,
    };
}

pub mod process {
    //! Child processes.

    pub use ringhold_process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
}

pub mod runtime {
    //! Building a runtime by hand.

    pub use ringhold_runtime::{
        Builder, DriverCounts, EnterGuard, Handle, KERNEL_FLOOR, OperationError, Runtime,
        RuntimeFlavor, RuntimeMetrics, ShardId, StartError, TryCurrentError,
    };
}

pub mod signal {
    //! Signals of the operating system.

    pub use ringhold_runtime::signal::{ctrl_c, unix};
}

pub mod sync {
    //! tokio's channels and locks, which run on any runtime.

    pub use tokio::sync::{
        AcquireError, Barrier, BarrierWaitResult, MappedMutexGuard, Mutex, MutexGuard, Notify,
        OnceCell, OwnedMappedMutexGuard, OwnedMutexGuard, OwnedRwLockMappedWriteGuard,
        OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock,
        RwLockMappedWriteGuard, RwLockReadGuard, RwLockWriteGuard, Semaphore, SemaphorePermit,
        SetError, SetOnce, SetOnceError, TryAcquireError, TryLockError, broadcast, futures, mpsc,
        oneshot, watch,
    };
}

pub mod task {
    //! Tasks: spawning, joining, aborting, yielding, and groups of tasks.

    pub use ringhold_runtime::task::{
        AbortHandle, Id, JoinError, JoinHandle, JoinSet, ShardLocal, TaskGroup, TaskGroupBuilder,
        TaskGroupCounts, block_in_place, consume_budget, id, on_every_shard, spawn, spawn_balanced,
        spawn_blocking, spawn_local, spawn_on, try_id, yield_now,
    };
}

pub mod time {
    //! Sleeping, timeouts, intervals, and a clock that tests can pause.

    pub use ringhold_runtime::time::{
        Duration, Instant, Interval, MissedTickBehavior, Sleep, Timeout, advance, error, interval,
        interval_at, pause, resume, sleep, sleep_until, timeout, timeout_at,
    };
}

#[doc(hidden)]
pub mod __private {
    //! What the macros expand to.

    pub use ringhold_macros::select;
    pub use ringhold_runtime::{Both, poll_select, random_below};

    /// Ends a program whose runtime could not start.
    pub fn start_failed(error: std::io::Error) -> ! {
        ringhold_runtime::foreign::report(format_args!("the runtime could not start: {error}"));
        std::process::exit(1)
    }
}
