//! A kernel for models: it completes what it is told to, and waits as io_uring does.

#![allow(unsafe_code)] // It implements the unsafe trait of kernels, and does nothing unsafe.

use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::opcode;
use ringhold_kernel::sync::{Condvar, Mutex, MutexGuard};
use ringhold_kernel::{
    ArenaEntry, CQE_MORE, Call, Capacity, Cqe, Donor, Kernel, KernelConfig, OpenFiles, Processes,
    QueueFull, SignalCounts, SignalEvents, Sockets, Sqe, StartError, System, Unpark, Wait, threads,
};

/// What a [`ModelKernel`] shares with the threads that wake it, and with its device.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    counts: SignalCounts,
}

#[derive(Default)]
struct State {
    unparked: bool,
    /// Operations stay in flight until [`Gate::finish`], or until they are cancelled.
    holding: bool,
    held: Vec<u64>,
    /// What the event of a signal has counted. Whoever polls it waits while that is nothing.
    event: u64,
    polls: Vec<u64>,
    done: Vec<Cqe>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// From now on operations wait for the device.
    pub(super) fn hold(&self) {
        self.lock().holding = true;
    }

    /// The device has done all that it was given so far.
    pub(super) fn finish(&self) {
        self.finish_with(|| ());
    }

    /// The device tells something of all that it has, and goes on with it.
    pub(super) fn tell(&self) {
        let mut state = self.lock();
        let told = |&user_data: &u64| Cqe { user_data, result: 1, flags: CQE_MORE };
        let told: Vec<Cqe> = state.held.iter().map(told).collect();
        state.done.extend(told);
        self.changed.notify_one();
    }

    /// As [`Gate::finish`]. `look` looks at what the kernel has, if it has anything.
    pub(super) fn finish_with(&self, look: impl FnOnce()) {
        let mut state = self.lock();
        if !state.held.is_empty() {
            look();
        }
        let held = mem::take(&mut state.held);
        state.done.extend(held.into_iter().map(|user_data| complete(user_data, 0)));
        self.changed.notify_one();
    }

    /// The handler of a signal runs.
    pub(super) fn raise(&self) {
        let mut state = self.lock();
        self.counts.come();
        state.event += 1;
        let polls = mem::take(&mut state.polls);
        state.done.extend(polls.into_iter().map(is_readable));
        self.changed.notify_one();
    }
}

impl Unpark for Gate {
    fn unpark(&self) {
        self.lock().unparked = true;
        self.changed.notify_one();
    }
}

fn complete(user_data: u64, result: i32) -> Cqe {
    Cqe { user_data, result, flags: 0 }
}

fn is_readable(user_data: u64) -> Cqe {
    complete(user_data, i32::from(libc::POLLIN))
}

pub(super) struct ModelKernel {
    gate: Arc<Gate>,
    queue: Vec<Sqe>,
    now: Instant,
}

impl ModelKernel {
    pub(super) fn new(gate: Arc<Gate>, now: Instant) -> ModelKernel {
        ModelKernel { gate, queue: Vec::new(), now }
    }
}

impl State {
    fn take(&mut self, sqe: &Sqe) {
        if sqe.opcode == opcode::AsyncCancel::CODE {
            for waiting in [&mut self.held, &mut self.polls] {
                if let Some(place) = waiting.iter().position(|&held| held == sqe.address) {
                    self.done.push(complete(waiting.remove(place), -libc::ECANCELED));
                }
            }
            self.done.push(complete(sqe.user_data, 0));
        } else if sqe.opcode == opcode::PollAdd::CODE {
            match self.event {
                0 => self.polls.push(sqe.user_data),
                _ => self.done.push(is_readable(sqe.user_data)),
            }
        } else if self.holding {
            self.held.push(sqe.user_data);
        } else {
            self.done.push(complete(sqe.user_data, 0));
        }
    }
}

// SAFETY: each entry is completed once; what it points to is never touched (S1).
unsafe impl Kernel for ModelKernel {
    unsafe fn push(&mut self, sqe: &Sqe) -> Result<(), QueueFull> {
        self.queue.push(*sqe);
        Ok(())
    }

    unsafe fn call(&mut self, _: u64, _: NonNull<Call>) {
        panic!("no model makes cold calls");
    }

    fn needs_enter(&self) -> bool {
        !self.queue.is_empty()
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let mut state = self.gate.lock();
        self.queue.drain(..).for_each(|sqe| state.take(&sqe));
        if matches!(wait, Wait::For { .. }) {
            while !state.unparked && state.done.is_empty() {
                state = self.gate.changed.wait(state).expect("no holder panics");
            }
        }
        // Every enter takes what woke it, also if it did not wait.
        state.unparked = false;
        Ok(())
    }

    fn reap(&mut self, batch: &mut Vec<Cqe>) {
        batch.append(&mut self.gate.lock().done);
    }

    fn capacity(&self) -> Capacity {
        Capacity { submissions: 8, operations: 8, files: 0 }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        self.gate.clone()
    }

    fn set_file(&mut self, _: u32, _: Option<RawFd>) -> io::Result<()> {
        Ok(())
    }

    fn attach_arenas(&mut self, _: &dyn Donor, _: &[ArenaEntry]) -> io::Result<()> {
        Ok(())
    }

    fn detach_arena(&mut self, _: u16) -> io::Result<()> {
        Ok(())
    }

    fn unregister(&mut self) {}
}

/// The event of the only signal that there is.
struct ModelEvent {
    gate: Arc<Gate>,
}

impl SignalEvents for ModelEvent {
    fn take(&self) -> bool {
        mem::take(&mut self.gate.lock().event) > 0
    }

    fn counts(&self) -> &SignalCounts {
        &self.gate.counts
    }
}

/// A machine whose time stands still, and which has one signal.
pub(super) struct ModelSystem {
    pub(super) epoch: Instant,
    pub(super) refuses_threads: bool,
    pub(super) gate: Arc<Gate>,
}

impl ModelSystem {
    pub(super) fn new() -> ModelSystem {
        // Long enough after the beginning of time for a test to go back.
        let epoch = Instant::now() + Duration::from_secs(1);
        ModelSystem { epoch, refuses_threads: false, gate: Arc::default() }
    }
}

impl System for ModelSystem {
    fn boot(&self, _: &KernelConfig) -> Result<Box<dyn Kernel>, StartError> {
        panic!("a model makes its kernels by itself");
    }

    fn donor(&self) -> io::Result<Box<dyn Donor>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn close(&self, _: RawFd) {}

    fn now(&self) -> Instant {
        self.epoch
    }

    fn locked_memory_limit(&self) -> Option<u64> {
        None
    }

    fn seed(&self) -> u64 {
        0
    }

    fn open_files_limit(&self) -> u64 {
        u64::MAX
    }

    fn open_files(&self) -> &dyn OpenFiles {
        panic!("a model has no files");
    }

    fn sockets(&self) -> &dyn Sockets {
        panic!("a model has no sockets");
    }

    fn on_signal(&self, _: i32) -> io::Result<(Box<dyn SignalEvents>, RawFd)> {
        Ok((Box::new(ModelEvent { gate: self.gate.clone() }), 0))
    }

    fn processes(&self) -> io::Result<&dyn Processes> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn start_thread(
        &self,
        name: String,
        stack_bytes: Option<usize>,
        work: Box<dyn FnOnce() + Send>,
    ) -> io::Result<()> {
        match self.refuses_threads {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => threads::start(name, stack_bytes, work).map(drop),
        }
    }
}
