//! A kernel that knows which memory it was lent, and buffers that notice when they are freed before
//! their time.

#![allow(unsafe_code)] // It implements the kernel's seam, by handing everything on to Linux.
#![allow(dead_code)] // Each test file is a program of its own and uses a part of this.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use ringhold_buffers::sync::{Mutex, MutexGuard};
use ringhold_runtime::{
    ArenaEntry, Builder, Call, Capacity, Cqe, Donor, Kernel, KernelConfig, Provided, QueueFull,
    Sqe, System, Unpark, Wait,
};
use runtime::buffers::{IoBuf, IoBufMut};
use runtime::runtime::StartError;

use crate::common::{Altered, AlteredSystem};

/// `IORING_OP_ASYNC_CANCEL`.
const ASYNC_CANCEL: u8 = 14;

/// `IORING_OP_TIMEOUT`, by which the driver measures its pauses. The kernel may have one when its
/// ring goes.
const PAUSE: u8 = 11;

/// `IORING_OP_READ_FIXED`.
const READ_FIXED: u8 = 4;

/// `IORING_OP_WRITE_FIXED`.
const WRITE_FIXED: u8 = 5;

/// What the kernels of a runtime hold, and how they misbehave.
#[derive(Debug, Default)]
pub struct Account {
    /// The addresses of the operations in the kernel, by shard and user data.
    inside: Mutex<HashMap<(usize, u64), u64>>,
    shards: AtomicUsize,
    /// Cancels find nothing, so that an operation whose time doesn't come is stuck.
    pub refuses_cancels: AtomicBool,
    /// How many completions one enter lets arrive; 0 for all that there are.
    pub completions_an_enter: AtomicUsize,
    /// The next enter fails with an error that no kernel gives.
    pub breaks: AtomicBool,
    /// Buffers that were freed while the kernel had them.
    pub freed_inside: AtomicUsize,
    /// Buffers that exist.
    pub alive: AtomicUsize,
    /// Kernels that were closed, and such as were told to unregister.
    pub closed: AtomicUsize,
    pub unregistered: AtomicUsize,
    /// Arenas that were pinned for all shards, and tables that a shard took over.
    pub registered: AtomicUsize,
    pub attached: AtomicUsize,
    /// By which shard, and to which address, each fixed read was, and from where each fixed write.
    fixed_reads: Mutex<Vec<(usize, usize)>>,
    fixed_writes: Mutex<Vec<(usize, usize)>>,
}

impl Account {
    pub fn new() -> Arc<Account> {
        Arc::default()
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<(usize, u64), u64>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations that the kernels have at this moment.
    pub fn inside(&self) -> usize {
        self.addresses().len()
    }

    /// The fixed reads so far, in their order, by shard and address. Shards are numbered as they
    /// booted.
    pub fn fixed_reads(&self) -> Vec<(usize, usize)> {
        self.fixed_reads.lock().unwrap().clone()
    }

    /// As the fixed reads, the fixed writes.
    pub fn fixed_writes(&self) -> Vec<(usize, usize)> {
        self.fixed_writes.lock().unwrap().clone()
    }

    fn note_fixed(&self, shard: usize, sqe: &Sqe) {
        let noted = match sqe.opcode {
            READ_FIXED => &self.fixed_reads,
            WRITE_FIXED => &self.fixed_writes,
            _ => return,
        };
        noted.lock().unwrap().push((shard, sqe.address as usize));
    }

    /// A builder of runtimes with such kernels.
    pub fn builder(self: &Arc<Account>, shards: usize, rings: (u32, u32)) -> Builder {
        let mut builder = Builder::new_multi_thread();
        let linux = Builder::default_system();
        builder.system(Arc::new(AlteredSystem(HeldSystem { linux, account: self.clone() })));
        builder.shards(shards).ring_entries(rings.0, rings.1);
        builder
    }

    /// A buffer of the heap.
    pub fn buffer(self: &Arc<Account>, length: usize) -> Buffer {
        self.alive.fetch_add(1, Ordering::SeqCst);
        Buffer { bytes: vec![0; length].into_boxed_slice(), account: self.clone() }
    }

    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// Nothing is in the kernels, nothing was freed too early, and nothing was leaked.
    #[track_caller]
    pub fn balances(&self) {
        assert_eq!(self.inside(), 0, "operations are in the kernel");
        assert_eq!(self.freed_inside.load(Ordering::SeqCst), 0, "buffers were freed in flight");
        assert_eq!(self.alive(), 0, "buffers were leaked");
    }
}

/// Memory that counts, when it is freed, whether the kernel still has it.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    account: Arc<Account>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let address = self.bytes.as_ptr() as u64;
        self.account.alive.fetch_sub(1, Ordering::SeqCst);
        if self.account.addresses().values().any(|inside| *inside == address) {
            self.account.freed_inside.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// SAFETY: the bytes are on the heap, where they stay as the box moves (S2), and all are initialised
// (S9).
unsafe impl IoBuf for Buffer {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes.len()
    }

    fn bytes_total(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above, and the box is the only way to its bytes (S5).
unsafe impl IoBufMut for Buffer {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, _position: usize) {}
}

struct HeldSystem {
    linux: Arc<dyn System>,
    account: Arc<Account>,
}

impl Altered for HeldSystem {
    fn linux(&self) -> &Arc<dyn System> {
        &self.linux
    }

    fn boot(&self, config: &KernelConfig) -> Result<Box<dyn Kernel>, StartError> {
        Ok(Box::new(HeldKernel {
            linux: self.linux.boot(config)?,
            account: self.account.clone(),
            shard: self.account.shards.fetch_add(1, Ordering::SeqCst),
            answers: VecDeque::new(),
            left: usize::MAX,
        }))
    }

    fn donor(&self) -> io::Result<Box<dyn Donor>> {
        let (linux, account) = (self.linux.donor()?, self.account.clone());
        Ok(Box::new(HeldDonor { linux, account }))
    }
}

struct HeldDonor {
    linux: Box<dyn Donor>,
    account: Arc<Account>,
}

impl Donor for HeldDonor {
    fn register(&self, arena: &ArenaEntry) -> io::Result<()> {
        self.account.registered.fetch_add(1, Ordering::SeqCst);
        self.linux.register(arena)
    }

    fn clear(&self, slot: u16) -> io::Result<()> {
        self.linux.clear(slot)
    }

    fn descriptor(&self) -> RawFd {
        self.linux.descriptor()
    }

    fn can_be_cloned(&self) -> bool {
        self.linux.can_be_cloned()
    }

    fn close(&self) {
        self.linux.close();
    }
}

struct HeldKernel {
    linux: Box<dyn Kernel>,
    account: Arc<Account>,
    shard: usize,
    /// Completions of refused cancels, which Linux knows nothing of; and those that are kept back.
    answers: VecDeque<Cqe>,
    /// How many may arrive before the next enter.
    left: usize,
}

// SAFETY: every entry but a cancel goes to Linux unchanged, and its completion comes from there; a
// cancel points to nothing and is completed once, by Linux or here (S3).
unsafe impl Kernel for HeldKernel {
    unsafe fn push(&mut self, sqe: &Sqe) -> Result<(), QueueFull> {
        let cancels = sqe.opcode == ASYNC_CANCEL;
        if cancels && self.account.refuses_cancels.load(Ordering::SeqCst) {
            let result = -libc::ENOENT;
            self.answers.push_back(Cqe { user_data: sqe.user_data, result, flags: 0 });
            return Ok(());
        }
        // SAFETY: passed on to the caller (S1, S2).
        unsafe { self.linux.push(sqe) }?;
        if !cancels && sqe.opcode != PAUSE {
            self.account.addresses().insert((self.shard, sqe.user_data), sqe.address);
            self.account.note_fixed(self.shard, sqe);
        }
        Ok(())
    }

    unsafe fn call(&mut self, user_data: u64, call: NonNull<Call>) {
        // SAFETY: passed on to the caller (S1, S2).
        unsafe { self.linux.call(user_data, call) };
    }

    fn needs_enter(&self) -> bool {
        self.linux.needs_enter() || !self.answers.is_empty()
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if self.account.breaks.swap(false, Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::EBADFD));
        }
        self.left = match self.account.completions_an_enter.load(Ordering::SeqCst) {
            0 => usize::MAX,
            limit => limit,
        };
        self.linux.enter(if self.answers.is_empty() { wait } else { Wait::No })
    }

    fn reap(&mut self, batch: &mut Vec<Cqe>) {
        let before = batch.len();
        self.linux.reap(batch);
        if self.left < usize::MAX {
            self.answers.extend(batch.drain(before..));
        }
        while batch.len() < batch.capacity()
            && self.left > 0
            && let Some(answer) = self.answers.pop_front()
        {
            batch.push(answer);
            self.left -= usize::from(self.left < usize::MAX);
        }
        let mut addresses = self.account.addresses();
        for cqe in batch[before..].iter().filter(|cqe| !cqe.has_more()) {
            addresses.remove(&(self.shard, cqe.user_data));
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
        self.account.attached.fetch_add(1, Ordering::SeqCst);
        self.linux.attach_arenas(donor, arenas)
    }

    fn detach_arena(&mut self, slot: u16) -> io::Result<()> {
        self.linux.detach_arena(slot)
    }

    fn add_group(&mut self, group: u16, entries: u16) -> io::Result<()> {
        self.linux.add_group(group, entries)
    }

    unsafe fn provide(&mut self, group: u16, buffer: Provided) {
        // SAFETY: passed on to the caller (S1, S2).
        unsafe { self.linux.provide(group, buffer) };
    }

    fn remove_group(&mut self, group: u16) {
        self.linux.remove_group(group);
    }

    fn unregister(&mut self) {
        self.account.unregistered.fetch_add(1, Ordering::SeqCst);
        self.linux.unregister();
    }
}

impl Drop for HeldKernel {
    fn drop(&mut self) {
        self.account.closed.fetch_add(1, Ordering::SeqCst);
    }
}
