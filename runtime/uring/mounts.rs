//! Which mount something lies on, and whether its file system answers by itself: asked without
//! ever waiting for the file system.
//!
//! A path is looked up as far as the kernel has it in memory (`RESOLVE_CACHED`), and opened as a
//! mere name (`O_PATH`), of which no file system hears. The mount's number comes with a file handle
//! for which there is no room, and what is mounted there from `statmount`. All three leave the file
//! system alone; `statfs` and `stat`, which ask it, wait for a server that doesn't answer. The
//! numbers are those that no later mount gets (since 6.12), so what was learned of one stays true.

#![allow(unsafe_code)] // System calls without a wrapper.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::PoisonError;

use ringhold_kernel::sync::StaticMutex;

/// A mount's number, among all that there have been since the machine started.
pub(super) type MountId = u64;

/// What is known of mounts, at most so many; then it is learned anew.
const KNOWN_MAX: usize = 1024;

/// How far up a path's mount is looked for: each step is a system call.
const ANCESTORS_MAX: usize = 8;

static KNOWN: StaticMutex<BTreeMap<MountId, Option<Magic>>> = StaticMutex::new(BTreeMap::new());

thread_local! {
    /// What was asked for last: mostly it is the same again.
    static LAST: Cell<(MountId, Option<Magic>)> = const { Cell::new((0, None)) };
}

/// What kind of file system it is, from linux/magic.h.
type Magic = u32;

/// How the file system of a mount answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// By itself: from memory, or from its own device.
    Local,
    /// By asking a server, or another file system, that may never answer.
    Remote,
    /// Not known: no file system's (a pipe, an event), or a kernel that doesn't say.
    Unknown,
}

/// File systems whose inodes are complete in memory, so that what is asked of a cached inode is
/// answered at once, and that ask nothing but a block device.
const LOCAL: [Magic; 6] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
];

/// File systems whose files ask a server when they are closed.
const SERVED: [Magic; 14] = [
    0x6573_5546, // FUSE
    0x0000_6969, // NFS
    0x0000_517b, // SMB, of three kinds
    0xff53_4d42,
    0xfe53_4d42,
    0x00c3_6400, // Ceph
    0x0102_1997, // 9P
    0x5346_414f, // AFS, of two kinds
    0x6b41_4653,
    0x7375_7245, // Coda
    0x0bd0_0bd0, // Lustre
    0x2003_0528, // OrangeFS
    0x1983_0326, // BeeGFS
    0x786f_4256, // a VirtualBox host's
];

/// Opens a name without waiting and without its file system. `None` where it isn't all in memory,
/// or no descriptor is left.
pub(super) fn name_in_memory(
    directory: RawFd,
    path: &CStr,
    follow: bool,
) -> Option<io::Result<OwnedFd>> {
    let follow = if follow { 0 } else { libc::O_NOFOLLOW };
    open_in_memory(directory, path, libc::O_PATH | follow)
}

/// `openat2(2)` as far as it doesn't look at a device.
pub(super) fn open_in_memory(
    directory: RawFd,
    path: &CStr,
    flags: i32,
) -> Option<io::Result<OwnedFd>> {
    // SAFETY: integers only, for which zero is a value (S9).
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_CACHED;
    let size = size_of::<libc::open_how>();
    // SAFETY: both pointers are borrowed during the call (S1).
    let opened =
        unsafe { libc::syscall(libc::SYS_openat2, directory, path.as_ptr(), &raw const how, size) };
    if opened >= 0 {
        // SAFETY: the kernel has just made it, and nothing else knows it (S10).
        return Some(Ok(unsafe { OwnedFd::from_raw_fd(opened as RawFd) }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // What a walk that may wait would say is not known.
        Some(
            libc::ENOENT
            | libc::ENOTDIR
            | libc::EACCES
            | libc::ELOOP
            | libc::ENAMETOOLONG
            | libc::EISDIR,
        ) => Some(Err(error)),
        _ => None,
    }
}

/// The mount that an open file, or an open name, lies on.
pub(super) fn mount_of(file: RawFd) -> Option<MountId> {
    const UNIQUE: i32 = 1;
    // Any file system can make a handle that only identifies.
    const IDENTIFIES_ONLY: i32 = 0x200;
    let mut handle = [0_u32; 2];
    let mut mount = 0_u64;
    let flags = libc::AT_EMPTY_PATH | UNIQUE | IDENTIFIES_ONLY;
    // SAFETY: the handle has no room for anything but its length and kind, as its length says, and
    // both it and the number are borrowed during the call (S1).
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            file,
            c"".as_ptr(),
            handle.as_mut_ptr(),
            &raw mut mount,
            flags,
        )
    };
    // There is no room for a handle, and the mount is told all the same.
    let told = result == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EOVERFLOW);
    (told && mount != 0).then_some(mount)
}

/// The mount that a path leads to, or, of what isn't in memory, the nearest ancestor's that is.
pub(super) fn mount_towards(directory: RawFd, path: &CStr) -> Option<MountId> {
    if path.is_empty() {
        return mount_of(directory);
    }
    let mut bytes = path.to_bytes().to_vec();
    for _ in 0..ANCESTORS_MAX {
        let name = CString::new(bytes.as_slice()).ok()?;
        if let Some(Ok(found)) = name_in_memory(directory, &name, true) {
            return mount_of(found.as_raw_fd());
        }
        match bytes.iter().rposition(|&byte| byte == b'/') {
            Some(0) if bytes.len() > 1 => bytes.truncate(1),
            Some(end) if end > 0 => bytes.truncate(end),
            None if bytes != b"." => bytes = b".".to_vec(),
            _ => return None,
        }
    }
    None
}

/// How a mount's file system answers.
pub(super) fn manner_of(mount: MountId) -> Manner {
    match magic_of(mount) {
        None => Manner::Unknown,
        Some(magic) if LOCAL.contains(&magic) => Manner::Local,
        Some(_) => Manner::Remote,
    }
}

/// How the file system of an open file answers.
pub(super) fn manner_of_file(file: RawFd) -> Manner {
    mount_of(file).map_or(Manner::Unknown, manner_of)
}

/// Whether a file's close may wait for a server.
pub(super) fn close_waits(file: BorrowedFd<'_>) -> bool {
    // Where mounts have no such numbers only the file system itself can say, though that may wait.
    let magic = mount_of(file.as_raw_fd()).and_then(magic_of);
    magic
        .or_else(|| Some(rustix::fs::fstatfs(file).ok()?.f_type as Magic))
        .is_some_and(|magic| SERVED.contains(&magic))
}

fn magic_of(mount: MountId) -> Option<Magic> {
    let (last, magic) = LAST.get();
    if last == mount {
        return magic;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    let magic = *known.entry(mount).or_insert_with(|| learn(mount));
    drop(known);
    LAST.set((mount, magic));
    magic
}

/// Asks the kernel, and not the file system, what is mounted.
fn learn(mount: MountId) -> Option<Magic> {
    const STATMOUNT: libc::c_long = 457;
    const OF_THE_SUPERBLOCK: u64 = 1;
    /// `struct mnt_id_req` and the beginning of `struct statmount`.
    const REQUEST_BYTES: u32 = 24;
    const ANSWER_WORDS: usize = 128;
    const MAGIC_WORD: usize = 3;
    let request = [u64::from(REQUEST_BYTES), mount, OF_THE_SUPERBLOCK];
    let mut answer = [0_u64; ANSWER_WORDS];
    let size = size_of_val(&answer);
    // SAFETY: the request is read and the answer, which is as long as is said, written during the
    // call (S1).
    let result =
        unsafe { libc::syscall(STATMOUNT, request.as_ptr(), answer.as_mut_ptr(), size, 0) };
    if result < 0 || answer[1] & OF_THE_SUPERBLOCK == 0 {
        return None;
    }
    Some(answer[MAGIC_WORD] as Magic)
}
