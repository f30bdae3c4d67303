//! Why a runtime could not start, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;

/// The oldest kernel that has what a shard needs: `IORING_SETUP_SINGLE_ISSUER` and
/// `IORING_SETUP_DEFER_TASKRUN`.
pub const KERNEL_FLOOR: &str = "6.1";

/// A runtime could not start. It rides inside the [`io::Error`] of `Builder::build`; downcast to it
/// to tell the causes apart.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// `io_uring_setup` is unknown (`ENOSYS`): the kernel was built without it, or a sandbox hides
    /// it.
    NotInKernel {
        /// The running kernel.
        release: String,
    },
    /// A seccomp filter forbids `io_uring_setup` (`EPERM`), as container engines do by default.
    ForbiddenBySeccomp,
    /// `kernel.io_uring_disabled` forbids it (`EPERM`).
    ForbiddenBySysctl {
        /// 1: allowed to the privileged and to the group `kernel.io_uring_group` only; 2: to
        /// nobody.
        value: u32,
    },
    /// The kernel has io_uring, but is older than the floor.
    KernelTooOld {
        /// The running kernel.
        release: String,
    },
    /// `io_uring_setup` refuses the flags of a ring (`EINVAL`), and the kernel says that it is no
    /// older than the floor, so it would know them: something else answers for it.
    FlagsRefused {
        /// The running kernel.
        release: String,
    },
    /// The ring itself doesn't fit into what the user may lock (`ENOMEM`): Linux 6.18 charges rings
    /// to `RLIMIT_MEMLOCK`.
    LockedMemory {
        /// The limit in bytes; `None` if there is none, and memory itself is short.
        limit: Option<u64>,
        /// About what one ring of the configured size is charged, in bytes.
        needed: u64,
    },
    /// The rings fit into what the user may lock, and nothing that could be leased does beside them
    /// (`ENOMEM`), whatever other processes give back.
    NoRoomForLeases {
        /// The limit in bytes.
        limit: u64,
        /// About what the rings and one page take, in bytes.
        needed: u64,
    },
    /// The process has too many files open (`EMFILE`).
    TooManyOpenFiles {
        /// `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// A thread could not be started.
    Thread(io::Error),
    /// The builder was given something that can't be.
    InvalidConfiguration(String),
    /// Anything else that the system answered.
    Other(io::Error),
}

/// The first two numbers of a kernel's release, such as `6.18.44-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl StartError {
    /// Why the kernel of this `release` doesn't take the flags of a ring.
    pub fn unknown_flags(release: String) -> StartError {
        // `None` is smaller than any version: what has no number is not known to be new enough.
        match version(&release) < version(KERNEL_FLOOR) {
            true => StartError::KernelTooOld { release },
            false => StartError::FlagsRefused { release },
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            StartError::NotInKernel { .. }
            | StartError::KernelTooOld { .. }
            | StartError::FlagsRefused { .. } => io::ErrorKind::Unsupported,
            StartError::ForbiddenBySeccomp | StartError::ForbiddenBySysctl { .. } => {
                io::ErrorKind::PermissionDenied
            }
            StartError::LockedMemory { .. } | StartError::NoRoomForLeases { .. } => {
                io::ErrorKind::OutOfMemory
            }
            StartError::TooManyOpenFiles { .. } => io::ErrorKind::QuotaExceeded,
            StartError::InvalidConfiguration(_) => io::ErrorKind::InvalidInput,
            StartError::Thread(error) | StartError::Other(error) => error.kind(),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NotInKernel { release } => write!(
                f,
                "the kernel ({release}) has no io_uring (ENOSYS): run on Linux {KERNEL_FLOOR} or \
                 later, built with CONFIG_IO_URING; a sandbox such as gVisor may also hide it"
            ),
            StartError::ForbiddenBySeccomp => f.write_str(
                "a seccomp filter forbids io_uring (EPERM), as the default profile of Docker, \
                 containerd and Podman does: allow io_uring_setup, io_uring_enter and \
                 io_uring_register in the container's seccomp profile",
            ),
            StartError::ForbiddenBySysctl { value } => write!(
                f,
                "kernel.io_uring_disabled = {value} forbids io_uring to this process: set it to 0 \
                 (`sysctl kernel.io_uring_disabled=0`){}",
                if *value == 1 {
                    ", or add the process to the group of kernel.io_uring_group, or give it \
                     CAP_SYS_ADMIN"
                } else {
                    ""
                }
            ),
            StartError::KernelTooOld { release } => write!(
                f,
                "the kernel ({release}) is too old: Ringhold needs Linux {KERNEL_FLOOR} or later \
                 (IORING_SETUP_SINGLE_ISSUER and IORING_SETUP_DEFER_TASKRUN)"
            ),
            StartError::FlagsRefused { release } => write!(
                f,
                "io_uring_setup refuses the flags of a ring (EINVAL), though the kernel \
                 ({release}) is no older than Linux {KERNEL_FLOOR}, which has them: a sandbox or a \
                 filter of system calls answers for the kernel; allow the process the kernel's own \
                 io_uring"
            ),
            StartError::LockedMemory { limit: Some(limit), needed } => write!(
                f,
                "the limit of locked memory ({limit} bytes for this user, over all processes) \
                 leaves no room for a ring of about {needed} bytes (ENOMEM): raise RLIMIT_MEMLOCK \
                 (`ulimit -l`, LimitMEMLOCK= in a unit), use fewer shards or smaller rings, \
                 or give the process CAP_IPC_LOCK"
            ),
            StartError::LockedMemory { limit: None, needed } => write!(
                f,
                "there is no memory for a ring of about {needed} bytes (ENOMEM): free memory, \
                 raise the control group's limit, or use fewer shards or smaller rings"
            ),
            StartError::NoRoomForLeases { limit, needed } => write!(
                f,
                "the limit of locked memory ({limit} bytes for this user, over all processes) \
                 leaves no room for a lease beside the rings: about {needed} bytes are needed for \
                 them and one page (ENOMEM); raise RLIMIT_MEMLOCK (`ulimit -l`, LimitMEMLOCK= in a \
                 unit), use fewer shards or smaller rings, or give the process CAP_IPC_LOCK"
            ),
            StartError::TooManyOpenFiles { limit } => write!(
                f,
                "too many open files (EMFILE; the limit is {limit}): a shard needs two \
                 descriptors and the pool one; raise RLIMIT_NOFILE (`ulimit -n`) or close files"
            ),
            StartError::Thread(error) => write!(
                f,
                "a thread of the runtime could not be started: {error}; raise the limit of \
                 processes (`ulimit -u`, pids.max of the control group) or use fewer shards"
            ),
            StartError::InvalidConfiguration(what) => f.write_str(what),
            StartError::Other(error) => write!(f, "io_uring could not be set up: {error}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::Thread(error) | StartError::Other(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_old_kernel_is_said_to_be_too_old() {
        let is_too_old = |release: &str| {
            matches!(StartError::unknown_flags(release.into()), StartError::KernelTooOld { .. })
        };
        for release in ["5.10.0-28-amd64", "6.0.19", "6.0", "4.4.0", "unknown", ""] {
            assert!(is_too_old(release), "{release}");
        }
        for release in ["6.1.0-40-amd64", "6.1", "6.18.44", "6.10.2-rc1", "7.0-rc3", "10.0.1"] {
            assert!(!is_too_old(release), "{release}");
        }
    }
}
