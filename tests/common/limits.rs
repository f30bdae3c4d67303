//! What a test does to its own process: limits, users, filters of system calls, mounts over
//! `/proc`.

#![allow(unsafe_code)] // The system calls for it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A resource of `setrlimit(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of locked memory, by user.
    LockedMemory,
    /// One more than the highest descriptor.
    OpenFiles,
    /// Threads and processes, by user.
    Processes,
    /// Bytes of address space.
    AddressSpace,
}

fn checked(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets both limits of a resource.
///
/// # Errors
///
/// `PermissionDenied` for more than the hard limit, without root.
pub fn set(resource: Resource, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    let code = match resource {
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
        Resource::OpenFiles => libc::RLIMIT_NOFILE,
        Resource::Processes => libc::RLIMIT_NPROC,
        Resource::AddressSpace => libc::RLIMIT_AS,
    };
    // SAFETY: the kernel reads a local during the call; none of the runtime's memory is involved.
    checked(unsafe { libc::setrlimit(code, &limit) }.into())
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    // SAFETY: it reads and writes no memory.
    unsafe { libc::geteuid() == 0 }
}

/// From root to a user that no other process is: of its own number, without groups and
/// capabilities.
pub fn become_unprivileged() {
    let user = 20_000 + std::process::id() % 40_000;
    // SAFETY: none of these reads or writes memory, except for the empty list of groups.
    unsafe {
        checked(libc::setgroups(0, std::ptr::null()).into()).expect("root may drop its groups");
        checked(libc::setresgid(user, user, user).into()).expect("root may change its group");
        checked(libc::setresuid(user, user, user).into()).expect("root may change its user");
        // A process that has changed its user may otherwise not look into its own `/proc/self/fd`.
        checked(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0).into()).expect("it may be dumped");
    }
}

/// The system calls of io_uring.
pub const URING_SETUP: i64 = libc::SYS_io_uring_setup;
/// See [`URING_SETUP`].
pub const URING_ENTER: i64 = libc::SYS_io_uring_enter;
/// See [`URING_SETUP`].
pub const URING_REGISTER: i64 = libc::SYS_io_uring_register;

/// From now on the calling thread, and the threads that it starts, get `errno` from these system
/// calls: what a container's filter does. It can't be undone.
pub fn forbid(calls: &[i64], errno: i32) {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The number of the call is at offset 0 of what a filter sees. Compared with each; the first
    // that is equal jumps over the ones that follow, and over the return that allows.
    let mut program = vec![statement(BPF_LD | BPF_W | BPF_ABS, 0)];
    for (index, call) in calls.iter().enumerate() {
        let mut compare = statement(BPF_JMP | BPF_JEQ | BPF_K, *call as u32);
        compare.jt = (calls.len() - index) as u8;
        program.push(compare);
    }
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program during the call, and `program` outlives it.
    unsafe {
        checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())
            .expect("privileges may be given up");
        checked(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter).into())
            .expect("a filter may be set");
    }
}

/// Gives the calling thread, and the threads that it starts, mounts of their own.
///
/// # Errors
///
/// `PermissionDenied` without root.
pub fn own_mounts() -> io::Result<()> {
    // SAFETY: no memory but static strings is read.
    unsafe {
        checked(libc::unshare(libc::CLONE_NEWNS).into())?;
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        let (none, root) = (std::ptr::null(), c"/".as_ptr());
        checked(libc::mount(none, root, none, flags, none.cast()).into())
    }
}

/// Shows `shown` where `covered` is. Call [`own_mounts`] before.
///
/// # Errors
///
/// What `mount(2)` says.
pub fn cover(covered: &str, shown: &Path) -> io::Result<()> {
    let shown = CString::new(shown.as_os_str().as_bytes()).expect("a path has no zero byte");
    let covered = CString::new(covered).expect("a path has no zero byte");
    let none = std::ptr::null();
    // SAFETY: the strings outlive the call, and a bind mount reads nothing else.
    checked(
        unsafe { libc::mount(shown.as_ptr(), covered.as_ptr(), none, libc::MS_BIND, none.cast()) }
            .into(),
    )
}

/// Lets the calling thread, and the threads that it starts, run on one core only.
pub fn run_on_one_core() {
    // SAFETY: a set of cores is plain bits, for which zero is valid; the calls read and write
    // locals.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        checked(libc::sched_getaffinity(0, size, &mut allowed).into()).expect("it can be asked");
        let first = (0..libc::CPU_SETSIZE as usize).find(|core| libc::CPU_ISSET(*core, &allowed));
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(first.expect("a thread runs on some core"), &mut one);
        checked(libc::sched_setaffinity(0, size, &one).into()).expect("less is always allowed");
    }
}
