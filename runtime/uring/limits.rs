//! The limits that the system sets, and the cores that it grants.

use std::fs;
use std::io;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, CpuSet, capabilities, sched_getaffinity, sched_setaffinity};

/// What this user may lock in bytes, over all processes. `None` without a limit, or with the
/// capability to ignore it.
pub(super) fn locked_memory_limit() -> Option<u64> {
    let privileged =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if privileged { None } else { getrlimit(Resource::Memlock).current }
}

/// Whether the process has CAP_SYS_ADMIN.
pub(super) fn is_administrator() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// How many descriptors the process may have.
pub(crate) fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// `kernel.io_uring_disabled`; `None` before 6.6.
pub(super) fn io_uring_disabled() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

pub(super) fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Pins the calling thread to one of the cores that it may run on, counted round.
pub(crate) fn pin_this_thread(index: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let mut one = CpuSet::new();
    one.set(cores[index % cores.len()]);
    sched_setaffinity(None, &one)?;
    Ok(())
}
