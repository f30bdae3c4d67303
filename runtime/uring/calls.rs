//! What a ring has done by threads that may block: cold calls, and operations on what may never
//! answer.

#![allow(unsafe_code)] // It follows the pointer of a call.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use ringhold_kernel::sync::{StaticMutex, StaticMutexGuard};
use ringhold_kernel::{Call, CallPointer, Cqe, Sqe, Unpark};

use crate::mounts::{Manner, manner_of, mount_of, mount_towards};
use crate::run_call::run;
use crate::run_entry::{self, Subject};
use crate::wake::Waking;
use crate::workers;

/// Where a ring finds what its cold calls came to.
pub(super) struct Answers {
    list: StaticMutex<Vec<Cqe>>,
    count: AtomicUsize,
    /// Whether the ring waits, or is about to.
    sleeps: AtomicBool,
    wake: Arc<Waking>,
}

impl Answers {
    pub(super) fn new(wake: Arc<Waking>) -> Answers {
        Answers {
            list: StaticMutex::new(Vec::new()),
            count: AtomicUsize::new(0),
            sleeps: AtomicBool::new(false),
            wake,
        }
    }

    #[inline]
    pub(super) fn are_there(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Says that the ring sleeps, unless there are answers.
    pub(super) fn may_sleep(&self) -> bool {
        self.sleeps.store(true, Ordering::SeqCst);
        let may = self.count.load(Ordering::SeqCst) == 0;
        if !may {
            self.woke();
        }
        may
    }

    pub(super) fn woke(&self) {
        self.sleeps.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> StaticMutexGuard<'_, Vec<Cqe>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, cqe: Cqe) {
        self.lock().push(cqe);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the ring sleeps, so that who has put an answer in has to wake it. A ring that
    /// doesn't sleep looks by itself.
    pub(super) fn are_slept_on(&self) -> bool {
        // In one order with `may_sleep`: either this sees that the ring sleeps, or the ring sees
        // that there is an answer.
        self.sleeps.load(Ordering::SeqCst)
    }

    pub(super) fn wake(&self) {
        self.wake.unpark();
    }

    /// Moves answers to the end of `batch`, as many as it has room for, and says how many.
    #[cold]
    pub(super) fn take(&self, batch: &mut Vec<Cqe>) -> usize {
        let mut list = self.lock();
        let taken = list.len().min(batch.capacity() - batch.len());
        batch.extend(list.drain(..taken));
        self.count.fetch_sub(taken, Ordering::Release);
        taken
    }
}

/// Something to do for a ring.
pub(super) struct Job {
    work: Work,
    user_data: u64,
    answers: Arc<Answers>,
}

enum Work {
    Call(CallPointer),
    Entry(Sqe),
}

impl Job {
    /// Does it, and puts the answer in. If the ring sleeps on its answers, the caller has to wake
    /// it.
    #[must_use]
    pub(super) fn run(self) -> Arc<Answers> {
        let result = match self.work {
            // SAFETY: the call is the kernel's, which is us, until the answer below (S1), and stays
            // in place (S2).
            Work::Call(CallPointer(mut call)) => run(unsafe { call.as_mut() }),
            // SAFETY: what the entry points to is the kernel's, which is us, until the answer below
            // (S1, S2).
            Work::Entry(sqe) => unsafe { run_entry::run(&sqe) },
        };
        self.answers.put(Cqe { user_data: self.user_data, result, flags: 0 });
        self.answers
    }
}

/// Starts a call, whose answer will go to `answers`.
pub(super) fn start(call: CallPointer, user_data: u64, answers: &Arc<Answers>) {
    // SAFETY: the call is the kernel's, which is us, from now on (S1), and no thread has it yet.
    let lane = if workers::are_few() { 0 } else { lane_of(unsafe { call.0.as_ref() }) };
    let job = Job { work: Work::Call(call), user_data, answers: answers.clone() };
    if !workers::start(lane, job) {
        workers::run_all();
    }
}

/// Starts an operation that may hang, if it is about a file system that answers by asking a server.
/// `false` leaves it to the ring.
///
/// # Safety
///
/// As for [`Kernel::push`](ringhold_kernel::Kernel::push).
#[cold]
pub(super) unsafe fn start_entry(sqe: &Sqe, answers: &Arc<Answers>) -> bool {
    // SAFETY: passed on to the caller (S1, S2).
    let mount = match unsafe { run_entry::subject(sqe) } {
        Some(Subject::File(file)) => mount_of(file),
        Some(Subject::Path(directory, path)) => mount_towards(directory, path),
        None => None,
    };
    let Some(mount) = mount.filter(|&mount| manner_of(mount) == Manner::Remote) else {
        return false;
    };
    let user_data = sqe.user_data;
    let job = Job { work: Work::Entry(*sqe), user_data, answers: answers.clone() };
    if !workers::start(mount, job) {
        workers::run_all();
    }
    true
}

/// The lane of a call: the mount of what it is about.
fn lane_of(call: &Call) -> workers::LaneId {
    let mount = match call {
        Call::ReadLink { path, .. }
        | Call::Canonicalize { path, .. }
        | Call::SetMode { path, .. }
        | Call::Metadata { path, .. }
        | Call::OpenDirectory { path, .. }
        | Call::WriteWhole { path, .. } => mount_towards(libc::AT_FDCWD, path),
        Call::MetadataWithin { directory, name, .. } => mount_towards(*directory, name),
        Call::ReadDirectory { directory: file, .. }
        | Call::SetModeOf { file, .. }
        | Call::Duplicate { file, .. }
        | Call::Truncate { file, .. }
        | Call::Seek { file, .. }
        | Call::MetadataOf { file, .. }
        | Call::SetTimesOf { file, .. } => mount_of(*file),
        Call::WriteHere { file, .. } => mount_of(file.descriptor()),
        Call::ReadHere { ahead, .. } => ahead.file().and_then(mount_of),
        Call::CopyRange { source, target, .. } => {
            let is_remote =
                |file: RawFd| mount_of(file).filter(|&mount| manner_of(mount) == Manner::Remote);
            is_remote(source.descriptor()).or_else(|| mount_of(target.descriptor()))
        }
    };
    mount.unwrap_or(0)
}
