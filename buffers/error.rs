//! Why a lease was not had, or could not be frozen.
#![forbid(unsafe_code)]

use std::{error::Error, fmt, io};

use crate::{Lease, PAGE};

/// What kind of thing went wrong with a request for a lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LeaseErrorKind {
    /// A lease of zero bytes was asked for.
    Invalid,
    /// More was asked for than the pool could ever give.
    TooLarge,
    /// The pool has nothing that fits at the moment, or others wait for it; from `try_lease` only.
    Full,
    /// The kernel refuses to pin more memory for this user, and nothing is out that would come
    /// back.
    LockedMemory,
    /// The system has no memory to map, and nothing is out that would come back.
    OutOfMemory,
    /// The kernel refuses to register the memory, for another reason than its amount.
    NotRegistrable,
    /// The pool is closed.
    Closed,
}

/// Why a lease was not had.
///
/// It converts into an [`io::Error`] and rides inside of it:
///
/// ```
/// use ringhold_buffers::{LeaseError, LeaseErrorKind, Pool, PoolConfig};
///
/// let pool = Pool::unregistered(PoolConfig::new().limit(8192));
/// let error: std::io::Error = pool.try_lease(8193).unwrap_err().into();
/// let error = error.get_ref().unwrap().downcast_ref::<LeaseError>().unwrap();
/// assert_eq!(error.kind(), LeaseErrorKind::TooLarge);
/// assert_eq!(
///     error.to_string(),
///     "a lease of 8193 bytes was asked for, \
///      but this pool can never give more than 8192 bytes at once"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct LeaseError {
    asked: usize,
    cause: Cause,
}

/// What a [`LeaseError`] knows beside the bytes that were asked for.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    Invalid,
    TooLarge { limit: usize, locked: Option<u64> },
    Full { limit: usize, leased: usize, waiters: usize, largest: usize },
    LockedMemory { limit: Option<u64>, pinned: usize },
    OutOfMemory { errno: i32, mapped: usize },
    NotRegistrable { errno: Option<i32> },
    Closed,
}

impl LeaseError {
    pub(crate) fn new(asked: usize, cause: Cause) -> LeaseError {
        LeaseError { asked, cause }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> LeaseErrorKind {
        match self.cause {
            Cause::Invalid => LeaseErrorKind::Invalid,
            Cause::TooLarge { .. } => LeaseErrorKind::TooLarge,
            Cause::Full { .. } => LeaseErrorKind::Full,
            Cause::LockedMemory { .. } => LeaseErrorKind::LockedMemory,
            Cause::OutOfMemory { .. } => LeaseErrorKind::OutOfMemory,
            Cause::NotRegistrable { .. } => LeaseErrorKind::NotRegistrable,
            Cause::Closed => LeaseErrorKind::Closed,
        }
    }

    /// The bytes that were asked for.
    pub fn asked(&self) -> usize {
        self.asked
    }
}

/// What helps against the errors of registering that have a cure.
fn cure(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EMFILE | libc::ENFILE) => {
            "; the pool needs a descriptor: raise RLIMIT_NOFILE (`ulimit -n`) or close files"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "; allow io_uring_register in the container's seccomp profile"
        }
        _ => "",
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.asked;
        match &self.cause {
            Cause::Invalid => formatter.write_str("a lease of 0 bytes was asked for"),
            Cause::TooLarge { limit, locked } => {
                write!(
                    formatter,
                    "a lease of {asked} bytes was asked for, but this pool can never give more \
                     than {limit} bytes at once"
                )?;
                match locked {
                    Some(locked) => write!(
                        formatter,
                        "; it was made for half of RLIMIT_MEMLOCK, which is {locked} bytes: raise \
                         that limit (`ulimit -l`), or set the pool's (`Builder::pool_limit`)"
                    ),
                    None => Ok(()),
                }
            }
            Cause::Full { limit, leased, waiters, largest } => {
                let why = match limit.saturating_sub(*leased) {
                    left if left < asked => "the pool is full",
                    _ if *largest < asked => "the pool has no piece of that size",
                    _ => "others come first",
                };
                write!(
                    formatter,
                    "{why}: a lease of {asked} bytes was asked for, {leased} of at most {limit} \
                     bytes are leased, "
                )?;
                if *largest >= PAGE {
                    write!(formatter, "{largest} are free in one piece, ")?;
                }
                write!(formatter, "and {waiters} requests wait")
            }
            Cause::LockedMemory { limit, pinned } => {
                let limit = limit.map_or_else(|| "unlimited".into(), |bytes| bytes.to_string());
                write!(
                    formatter,
                    "locked memory ran out: a lease of {asked} bytes was asked for, this pool has \
                     pinned {pinned} bytes, and RLIMIT_MEMLOCK, which all rings and processes of \
                     the user share, is {limit} bytes; raise the limit (`ulimit -l`), make the \
                     pool smaller, or grant CAP_IPC_LOCK"
                )
            }
            Cause::OutOfMemory { errno, mapped } => write!(
                formatter,
                "no memory could be mapped for a lease of {asked} bytes beside the {mapped} bytes \
                 that this pool has mapped: {}",
                io::Error::from_raw_os_error(*errno)
            ),
            Cause::NotRegistrable { errno } => {
                let reason = errno.map_or_else(
                    || "the registrar failed without an errno".into(),
                    |errno| io::Error::from_raw_os_error(errno).to_string(),
                );
                write!(
                    formatter,
                    "memory for a lease of {asked} bytes could not be registered: {reason}{}",
                    cure(*errno)
                )
            }
            Cause::Closed => write!(
                formatter,
                "the pool is closed: a lease of {asked} bytes was asked for while its runtime \
                 shuts down"
            ),
        }
    }
}

impl Error for LeaseError {}

impl From<LeaseError> for io::Error {
    fn from(error: LeaseError) -> io::Error {
        let kind = match error.kind() {
            LeaseErrorKind::Invalid | LeaseErrorKind::TooLarge => io::ErrorKind::InvalidInput,
            LeaseErrorKind::Full => io::ErrorKind::WouldBlock,
            LeaseErrorKind::LockedMemory | LeaseErrorKind::OutOfMemory => {
                io::ErrorKind::OutOfMemory
            }
            LeaseErrorKind::NotRegistrable => io::ErrorKind::Unsupported,
            LeaseErrorKind::Closed => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// A lease that was not frozen, because the pool's share of frozen memory is used up.
///
/// It gives the lease back, and converts into an [`io::Error`] of kind `QuotaExceeded`.
///
/// ```
/// use ringhold_buffers::{Pool, PoolConfig};
///
/// let pool = Pool::unregistered(PoolConfig::new().frozen_percent(0));
/// let mut lease = pool.try_lease(5)?;
/// lease.extend_from_slice(b"hello");
/// let error = lease.freeze().unwrap_err();
/// assert_eq!(&error.into_lease()[..], b"hello");
/// # Ok::<(), ringhold_buffers::LeaseError>(())
/// ```
pub struct FreezeError {
    /// The lease, as it was.
    pub lease: Lease,
    pub(crate) frozen: usize,
    pub(crate) limit: usize,
}

impl FreezeError {
    /// The lease, as it was.
    pub fn into_lease(self) -> Lease {
        self.lease
    }
}

impl fmt::Debug for FreezeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FreezeError")
            .field("frozen", &self.frozen)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for FreezeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} bytes can't be frozen: {} of at most {} bytes are; drop frozen ones, copy the \
             bytes, or raise the frozen share of the pool",
            self.lease.len(),
            self.frozen,
            self.limit
        )
    }
}

impl Error for FreezeError {}

impl From<FreezeError> for io::Error {
    fn from(error: FreezeError) -> io::Error {
        io::Error::new(io::ErrorKind::QuotaExceeded, error)
    }
}

/// Bytes that don't fit into what is left of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CapacityError {
    /// The bytes that were to be added.
    pub asked: usize,
    /// The bytes that would have fitted.
    pub spare: usize,
}

impl fmt::Display for CapacityError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CapacityError { asked, spare } = self;
        write!(formatter, "{asked} bytes don't fit into the {spare} that the lease has left")
    }
}

impl Error for CapacityError {}

impl From<CapacityError> for io::Error {
    fn from(error: CapacityError) -> io::Error {
        io::Error::new(io::ErrorKind::WriteZero, error)
    }
}
