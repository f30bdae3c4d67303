//! Why an operation ended that its caller had not given up.

use std::error::Error;
use std::fmt;
use std::io;

use crate::context;

/// Why an operation ended before it was done, although its caller still awaited it. It rides inside
/// the [`io::Error`] of the operation; downcast to it to tell the causes apart.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OperationError {
    /// The runtime has ended: it cancelled the operation, or no longer begins any.
    RuntimeEnded,
    /// The operation needs a worker thread of the kernel's, and none could be started.
    NoWorker,
}

impl OperationError {
    /// Explains the error of an operation of the shard that is running, which its future awaits.
    ///
    /// The driver cancels an operation only when its future was dropped or its shard ends. So while
    /// the shard goes on it was the kernel that gave up.
    #[cold]
    pub(crate) fn explain(error: io::Error) -> io::Error {
        let goes_on = context::with_shard(|shard| {
            shard.is_some_and(|shard| shard.driver().borrow().takes_operations())
        });
        let cause = if goes_on { OperationError::NoWorker } else { OperationError::RuntimeEnded };
        cause.in_place_of_cancelled(error)
    }

    /// Explains the error of an operation whose shard has ended.
    #[cold]
    pub(crate) fn explain_end(error: io::Error) -> io::Error {
        OperationError::RuntimeEnded.in_place_of_cancelled(error)
    }

    /// The kernel reports both causes by `ECANCELED`. All other errors stay as they are.
    fn in_place_of_cancelled(self, error: io::Error) -> io::Error {
        if error.raw_os_error() == Some(libc::ECANCELED) { self.into() } else { error }
    }
}

impl From<OperationError> for io::Error {
    fn from(error: OperationError) -> io::Error {
        let kind = match error {
            OperationError::RuntimeEnded => io::ErrorKind::Other,
            OperationError::NoWorker => io::ErrorKind::QuotaExceeded,
        };
        io::Error::new(kind, error)
    }
}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OperationError::RuntimeEnded => {
                "the runtime has shut down, and its shards take no operations"
            }
            OperationError::NoWorker => {
                "the kernel could start no worker thread for the operation (ECANCELED): raise the \
                 limit of processes (`ulimit -u`, RLIMIT_NPROC), or that of the control group \
                 (pids.max)"
            }
        })
    }
}

impl fmt::Debug for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for OperationError {}
