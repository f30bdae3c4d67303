//! A kernel that is watched: it keeps an account of its own of every operation, and misbehaves on
//! request, as Linux may.

#![allow(unsafe_code)] // It implements the kernel's seam, by handing everything on to Linux.
#![allow(dead_code, unused_imports)] // Each test file is a program of its own that uses a part.

mod dropping;
mod tools;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use ringhold_buffers::sync::{Mutex, MutexGuard};
use ringhold_runtime::{
    ArenaEntry, Builder, Call, Capacity, Cqe, Donor, Kernel, KernelConfig, Provided, QueueFull,
    Sqe, System, Unpark, Wait,
};
use runtime::runtime::StartError;

use crate::common::{Altered, AlteredSystem};

pub use dropping::*;
pub use tools::*;

/// The user data of a cancel is that of its operation with this bit.
const CANCEL: u64 = 1 << 31;

/// The user data of a pause after a cancel in vain. The kernel may have it when it ends, so it is
/// in no account.
const PAUSE: u64 = u64::MAX;

/// `IORING_OP_ASYNC_CANCEL`.
const ASYNC_CANCEL: u8 = 14;

/// What is done with requests to cancel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cancels {
    /// They reach Linux.
    #[default]
    Pass,
    /// They find nothing, as one does that comes too early or too late.
    Refuse,
    /// So many give this error; the others reach Linux.
    Fail { times: u64, errno: i32 },
    /// They reach Linux this many enters later.
    Delay(u64),
}

/// An error that an enter gives.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which enter of a shard is the first to fail, from 1.
    pub first: u64,
    /// How many fail in a row.
    pub times: u64,
    /// The error.
    pub errno: i32,
    /// Whether Linux is entered all the same, so that it has taken entries when the error comes.
    pub after: bool,
}

#[derive(Default)]
struct Book {
    /// Operations in the kernel, by shard and user data, with their opcodes.
    inside: HashMap<(u64, u64), u8>,
    /// Operations that the kernel took, by opcode.
    taken_of: HashMap<u8, u64>,
    cancels: Cancels,
    fault: Option<Fault>,
    /// What registering fails with.
    refusal: Option<i32>,
    /// A completion of nobody's.
    stray: Option<Cqe>,
    /// What went wrong with the account, in words.
    wrong: Vec<String>,
}

/// The account of all shards of the runtimes that were started with it.
#[derive(Default)]
pub struct Watch {
    book: Mutex<Book>,
    shards: AtomicU64,
    /// Operations that the kernel took, but for cancels.
    pub taken: AtomicU64,
    /// Operations whose final completion was given back.
    pub resolved: AtomicU64,
    /// Requests to cancel that were made.
    pub cancels: AtomicU64,
    /// Pauses after cancels in vain.
    pub pauses: AtomicU64,
    /// Completions of operations with `ECANCELED`.
    pub cancelled: AtomicU64,
    /// Entries in the kernel, cancels included.
    entries: AtomicI64,
    /// The most entries that were in the kernel at once.
    pub most_entries: AtomicI64,
    /// Enters that failed on request.
    pub failed_enters: AtomicU64,
    /// Shards that have unregistered what was pinned for them.
    unregistered: AtomicU64,
    /// The most bytes that one completion has brought in buffers of a group.
    pub most_picked: AtomicI64,
}

impl Watch {
    pub fn new() -> Arc<Watch> {
        Arc::default()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_cancels(&self, cancels: Cancels) {
        self.book().cancels = cancels;
    }

    pub fn set_fault(&self, fault: Fault) {
        self.book().fault = Some(fault);
    }

    /// From now on no group of buffers is made, and no arena detached.
    pub fn refuse_tables(&self, errno: i32) {
        self.book().refusal = Some(errno);
    }

    /// A shard is given this completion beside what Linux has for it.
    pub fn give_stray(&self, cqe: Cqe) {
        self.book().stray = Some(cqe);
    }

    /// Operations that the kernel has at this moment, but for cancels.
    pub fn inside(&self) -> usize {
        self.book().inside.len()
    }

    /// Entries that the kernel has at this moment, cancels included.
    pub fn entries(&self) -> i64 {
        self.entries.load(Ordering::SeqCst)
    }

    /// How often the kernel took an operation so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// As [`taken`](Watch::taken), of one opcode.
    pub fn taken_of(&self, opcode: u8) -> u64 {
        self.book().taken_of.get(&opcode).copied().unwrap_or(0)
    }

    /// Every operation that was taken was resolved exactly once, and so was every cancel.
    #[track_caller]
    pub fn balance(&self) {
        let book = self.book();
        assert!(book.wrong.is_empty(), "{:?}", book.wrong);
        assert!(book.inside.is_empty(), "still in the kernel: {:?}", book.inside);
        assert_eq!(self.taken.load(Ordering::SeqCst), self.resolved.load(Ordering::SeqCst));
        assert_eq!(self.entries(), 0, "cancels without completions");
    }

    /// Every shard that was started has given back what was pinned for it, rather than leave that
    /// to the end of its ring, which the kernel sees to in its own time.
    #[track_caller]
    pub fn all_have_unregistered(&self) {
        let counts = [&self.shards, &self.unregistered].map(|it| it.load(Ordering::SeqCst));
        assert_eq!(counts[0], counts[1], "shards, and those that have unregistered");
    }

    fn take(&self, shard: u64, user_data: u64, opcode: u8) {
        if user_data == PAUSE {
            self.pauses.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let entries = self.entries.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_entries.fetch_max(entries, Ordering::SeqCst);
        if user_data & CANCEL != 0 {
            self.cancels.fetch_add(1, Ordering::SeqCst);
            return;
        }
        self.taken.fetch_add(1, Ordering::SeqCst);
        let mut book = self.book();
        *book.taken_of.entry(opcode).or_default() += 1;
        if book.inside.insert((shard, user_data), opcode).is_some() {
            book.wrong.push(format!("{user_data:#x} was used twice at once on shard {shard}"));
        }
    }

    fn resolve(&self, shard: u64, cqe: &Cqe) {
        if cqe.user_data == PAUSE {
            return;
        }
        self.entries.fetch_sub(1, Ordering::SeqCst);
        if cqe.user_data & CANCEL != 0 {
            return;
        }
        self.resolved.fetch_add(1, Ordering::SeqCst);
        if cqe.result == -libc::ECANCELED {
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        let mut book = self.book();
        if book.inside.remove(&(shard, cqe.user_data)).is_none() {
            let words = format!("{:#x} completed and was not in flight", cqe.user_data);
            book.wrong.push(words);
        }
    }
}

/// A builder of runtimes that this account watches.
pub fn watched(watch: &Arc<Watch>, rings: (u32, u32)) -> Builder {
    let mut builder = Builder::new_current_thread();
    let linux = Builder::default_system();
    builder.system(Arc::new(AlteredSystem(WatchedSystem { linux, watch: watch.clone() })));
    builder.ring_entries(rings.0, rings.1);
    builder
}

struct WatchedSystem {
    linux: Arc<dyn System>,
    watch: Arc<Watch>,
}

impl Altered for WatchedSystem {
    fn linux(&self) -> &Arc<dyn System> {
        &self.linux
    }

    fn boot(&self, config: &KernelConfig) -> Result<Box<dyn Kernel>, StartError> {
        Ok(Box::new(WatchedKernel {
            linux: self.linux.boot(config)?,
            watch: self.watch.clone(),
            shard: self.watch.shards.fetch_add(1, Ordering::SeqCst),
            enters: 0,
            delayed: VecDeque::new(),
            answers: VecDeque::new(),
        }))
    }
}

struct WatchedKernel {
    linux: Box<dyn Kernel>,
    watch: Arc<Watch>,
    shard: u64,
    enters: u64,
    /// Cancels that are held back, and until which enter.
    delayed: VecDeque<(Sqe, u64)>,
    /// Completions that Linux knows nothing of.
    answers: VecDeque<Cqe>,
}

impl WatchedKernel {
    fn pass_delayed(&mut self) {
        while let Some((sqe, until)) = self.delayed.front()
            && *until <= self.enters
        {
            // SAFETY: a cancel points to nothing (S1).
            if unsafe { self.linux.push(sqe) }.is_err() {
                return;
            }
            self.delayed.pop_front();
        }
    }

    fn refusal(&self) -> io::Result<()> {
        match self.watch.book().refusal {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    fn fault(&self) -> Option<Fault> {
        let fault = self.watch.book().fault?;
        (fault.first..fault.first + fault.times).contains(&self.enters).then_some(fault)
    }
}

// SAFETY: every entry but a cancel goes to Linux unchanged, and its completion comes from there; a
// cancel points to nothing and is completed once, by Linux or here.
unsafe impl Kernel for WatchedKernel {
    unsafe fn push(&mut self, sqe: &Sqe) -> Result<(), QueueFull> {
        let cancels = self.watch.book().cancels;
        match cancels {
            Cancels::Refuse if sqe.opcode == ASYNC_CANCEL => {
                let result = -libc::ENOENT;
                self.answers.push_back(Cqe { user_data: sqe.user_data, result, flags: 0 });
            }
            Cancels::Fail { times, errno } if sqe.opcode == ASYNC_CANCEL && times > 0 => {
                self.watch.set_cancels(Cancels::Fail { times: times - 1, errno });
                let result = -errno;
                self.answers.push_back(Cqe { user_data: sqe.user_data, result, flags: 0 });
            }
            Cancels::Delay(enters) if sqe.opcode == ASYNC_CANCEL => {
                self.delayed.push_back((*sqe, self.enters + enters));
            }
            // SAFETY: passed on to the caller (S1, S2).
            _ => unsafe { self.linux.push(sqe) }?,
        }
        self.watch.take(self.shard, sqe.user_data, sqe.opcode);
        Ok(())
    }

    unsafe fn call(&mut self, user_data: u64, call: NonNull<Call>) {
        self.watch.take(self.shard, user_data, u8::MAX);
        // SAFETY: passed on to the caller (S1, S2).
        unsafe { self.linux.call(user_data, call) };
    }

    fn needs_enter(&self) -> bool {
        self.linux.needs_enter() || !self.answers.is_empty() || !self.delayed.is_empty()
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.enters += 1;
        self.pass_delayed();
        let idle = self.answers.is_empty() && self.delayed.is_empty();
        let wait = if idle { wait } else { Wait::No };
        let Some(fault) = self.fault() else { return self.linux.enter(wait) };
        self.watch.failed_enters.fetch_add(1, Ordering::SeqCst);
        if fault.after {
            self.linux.enter(Wait::No)?;
        }
        Err(io::Error::from_raw_os_error(fault.errno))
    }

    fn reap(&mut self, batch: &mut Vec<Cqe>) {
        batch.extend(self.watch.book().stray.take());
        let before = batch.len();
        self.linux.reap(batch);
        while batch.len() < batch.capacity()
            && let Some(answer) = self.answers.pop_front()
        {
            batch.push(answer);
        }
        for cqe in batch[before..].iter().filter(|cqe| cqe.buffer().is_some()) {
            self.watch.most_picked.fetch_max(cqe.result.into(), Ordering::SeqCst);
        }
        for cqe in batch[before..].iter().filter(|cqe| !cqe.has_more()) {
            self.watch.resolve(self.shard, cqe);
        }
    }

    fn capacity(&self) -> Capacity {
        self.linux.capacity()
    }

    fn now(&self) -> Instant {
        self.linux.now()
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        self.linux.unparker()
    }

    fn set_file(&mut self, slot: u32, descriptor: Option<RawFd>) -> io::Result<()> {
        self.linux.set_file(slot, descriptor)
    }

    fn attach_arenas(&mut self, donor: &dyn Donor, arenas: &[ArenaEntry]) -> io::Result<()> {
        self.linux.attach_arenas(donor, arenas)
    }

    fn detach_arena(&mut self, slot: u16) -> io::Result<()> {
        self.refusal()?;
        self.linux.detach_arena(slot)
    }

    fn add_group(&mut self, group: u16, entries: u16) -> io::Result<()> {
        self.refusal()?;
        self.linux.add_group(group, entries)
    }

    unsafe fn provide(&mut self, group: u16, buffer: Provided) {
        // SAFETY: passed on to the caller (S1, S2).
        unsafe { self.linux.provide(group, buffer) };
    }

    fn picks_bundles(&self) -> bool {
        self.linux.picks_bundles()
    }

    fn remove_group(&mut self, group: u16) {
        self.linux.remove_group(group);
    }

    fn unregister(&mut self) {
        self.watch.unregistered.fetch_add(1, Ordering::SeqCst);
        self.linux.unregister();
    }
}
