//! Setting a ring up: the ladder of flags, the registered descriptor, and what a refusal means.

#![allow(unsafe_code)] // System calls that the crate has no wrapper for.

use std::io;
use std::num::NonZero;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};
use std::{ptr, thread};

use io_uring::types::SubmitArgs;
use io_uring::{EnterFlags, IoUring};
use ringhold_kernel::{KernelConfig, StartError};

use crate::limits;

/// How long locked memory that another ring has just given back may take to arrive.
const LATE_MEMORY: Duration = Duration::from_millis(500);

/// The length of a completion queue that is made larger than asked, and of those that are tried
/// where that is too much. The kernel finds what is to be cancelled in as many lists as a 32nd of
/// it (docs/decisions/0031-cancels-go-newest-first-and-a-few-at-a-time.md).
const ROOMY: [u32; 3] = [4096, 2048, 1024];

/// The part of the user's locked memory that all shards of such a runtime may have for it.
const ROOMY_SHARE: u64 = 32;

/// A ring with every flag that this kernel has of: single issuer, deferred task work with its flag,
/// no array of submission indices (6.6), and submitting on after an error.
pub(super) fn ring(config: &KernelConfig) -> Result<IoUring, StartError> {
    if let Some(ring) = roomy_completions(config).and_then(|completions| {
        let roomy = KernelConfig { completions, ..*config };
        build(&roomy, true).or_else(|_| build(&roomy, false)).ok()
    }) {
        return enterable(ring, config);
    }
    let deadline = Instant::now() + LATE_MEMORY;
    let mut pause = Duration::from_millis(1);
    loop {
        let error = match build(config, true) {
            Ok(ring) => return enterable(ring, config),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                match build(config, false) {
                    Ok(ring) => return enterable(ring, config),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        // A ring that was closed gives its locked memory back some milliseconds later.
        if error.raw_os_error() != Some(libc::ENOMEM) || Instant::now() >= deadline {
            return Err(explain(error, config));
        }
        thread::sleep(pause);
        pause *= 2;
    }
}

/// How long the queue of completions may be made beyond what was asked for.
fn roomy_completions(config: &KernelConfig) -> Option<u32> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let may_take = limits::locked_memory_limit().map(|limit| limit / ROOMY_SHARE / cores as u64);
    let fits = |completions: &u32| {
        let bytes = ring_bytes(&KernelConfig { completions: *completions, ..*config });
        *completions > config.completions && may_take.is_none_or(|most| bytes <= most)
    };
    ROOMY.into_iter().filter(|_| config.roomy).find(fits)
}

/// A filter may let rings be made and not entered: that is to be found at the start, and not by the
/// first turn.
fn enterable(ring: IoUring, config: &KernelConfig) -> Result<IoUring, StartError> {
    let enter_with = EnterWith::Descriptor(ring.as_raw_fd());
    let entered = enter_with.enter(0, 0, EnterFlags::empty(), None);
    entered.map(|()| ring).map_err(|error| explain(error, config))
}

/// Sets how many threads of the ring's own there may be at once. Where that can't be set (before
/// 5.15) they stay as few as the kernel likes, which is less at a time, and nothing else.
pub(super) fn limit_workers(ring: &IoUring, config: &KernelConfig) {
    let mut limits = [config.bounded_workers, config.unbounded_workers];
    let _ = ring.submitter().register_iowq_max_workers(&mut limits);
}

fn build(config: &KernelConfig, no_sqarray: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(config.completions);
    if no_sqarray {
        builder.setup_no_sqarray();
    }
    builder.build(config.submissions)
}

/// What the kernel's refusal means, and what the user can do about it.
pub(super) fn explain(error: io::Error, config: &KernelConfig) -> StartError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => StartError::NotInKernel { release: limits::kernel_release() },
        Some(libc::EPERM | libc::EACCES) => match limits::io_uring_disabled() {
            // The value 1 lets the privileged through, so what stops those is something else.
            Some(value) if value > 1 || (value == 1 && !limits::is_administrator()) => {
                StartError::ForbiddenBySysctl { value }
            }
            _ => StartError::ForbiddenBySeccomp,
        },
        // The sizes are powers of two within bounds, so what is invalid are the flags.
        Some(libc::EINVAL) => StartError::unknown_flags(limits::kernel_release()),
        Some(libc::ENOMEM) => StartError::LockedMemory {
            limit: limits::locked_memory_limit(),
            needed: ring_bytes(config),
        },
        Some(libc::EMFILE | libc::ENFILE) => {
            StartError::TooManyOpenFiles { limit: limits::open_files_limit() }
        }
        _ => StartError::Other(error),
    }
}

/// About what Linux 6.18 charges a ring: its entries, its completions and a page each for the rest.
pub(super) fn ring_bytes(config: &KernelConfig) -> u64 {
    let submissions = u64::from(config.submissions) * 64;
    let completions = u64::from(config.completions) * 16 + 4096;
    submissions.next_multiple_of(4096) + completions.next_multiple_of(4096)
}

/// What names the ring in `io_uring_enter`.
#[derive(Clone, Copy, Debug)]
pub(super) enum EnterWith {
    Descriptor(RawFd),
    /// The index among the thread's registered rings: saves the kernel a look-up of the descriptor,
    /// 13 to 15 ns an enter.
    Registered(u32),
}

const IORING_REGISTER_RING_FDS: libc::c_uint = 20;
const IORING_UNREGISTER_RING_FDS: libc::c_uint = 21;

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// Registers the ring for the calling thread. The crate's own call is forgotten with its temporary
/// submitter, and it keeps no index that could be asked for, so the two system calls are made here.
pub(super) fn register_ring(ring: &IoUring) -> EnterWith {
    let descriptor = ring.as_raw_fd();
    let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data: descriptor as u64 };
    match register(descriptor, IORING_REGISTER_RING_FDS, &mut update) {
        Ok(1) => EnterWith::Registered(update.offset),
        _ => EnterWith::Descriptor(descriptor),
    }
}

fn register(descriptor: RawFd, code: libc::c_uint, update: &mut RingUpdate) -> io::Result<i64> {
    // SAFETY: the kernel reads and writes one `io_uring_rsrc_update`, during the call (S1).
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, descriptor, code, ptr::from_mut(update), 1)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl EnterWith {
    pub(super) fn flags(self) -> EnterFlags {
        match self {
            EnterWith::Descriptor(_) => EnterFlags::empty(),
            EnterWith::Registered(_) => EnterFlags::from_bits_retain(1 << 4),
        }
    }

    /// `io_uring_enter(2)`.
    pub(super) fn enter(
        self,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arguments: Option<&SubmitArgs<'_, '_>>,
    ) -> io::Result<()> {
        let ring = match self {
            EnterWith::Descriptor(descriptor) => descriptor as u32,
            EnterWith::Registered(index) => index,
        };
        let (flags, address, size) = match arguments {
            // `SubmitArgs` is the kernel's `struct io_uring_getevents_arg`, 24 bytes.
            Some(arguments) => (flags | EnterFlags::EXT_ARG, ptr::from_ref(arguments), 24_usize),
            None => (flags, ptr::null(), 8_usize),
        };
        // SAFETY: entries that are submitted were pushed under `Kernel::push`'s contract (S1, S2);
        // the arguments are read during the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring,
                to_submit,
                min_complete,
                flags.bits(),
                address,
                size,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Frees the thread's index; a thread has sixteen.
    pub(super) fn unregister(self, descriptor: RawFd) {
        if let EnterWith::Registered(offset) = self {
            let mut update = RingUpdate { offset, reserved: 0, data: 0 };
            let _ = register(descriptor, IORING_UNREGISTER_RING_FDS, &mut update);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_made_larger_only_where_that_was_left_open() {
        let default = KernelConfig::default();
        let exact = KernelConfig { roomy: false, ..default };
        assert_eq!(ring(&exact).unwrap().params().cq_entries(), 512);
        let roomy = ring(&default).unwrap().params().cq_entries();
        match limits::locked_memory_limit() {
            None => assert_eq!(roomy, 4096),
            Some(_) => assert!([512, 1024, 2048, 4096].contains(&roomy), "{roomy}"),
        }
    }

    #[test]
    fn the_ring_is_entered_by_its_registered_index() {
        let ring = ring(&KernelConfig::default()).unwrap();
        let enter_with = register_ring(&ring);
        assert!(matches!(enter_with, EnterWith::Registered(_)), "{enter_with:?}");
        let flags = EnterFlags::GETEVENTS | enter_with.flags();
        enter_with.enter(0, 0, flags, None).unwrap();
        // The index names the ring only while it is registered: that the enter above worked is
        // not for the descriptor's sake.
        enter_with.unregister(ring.as_raw_fd());
        let error = enter_with.enter(0, 0, flags, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}
