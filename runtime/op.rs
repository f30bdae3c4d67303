//! Operations, and the only future there is for them.
//!
//! ```text
//!          first poll                       final CQE                  next poll
//!   Idle ─────1────► Started (slot waiting) ────2────► (slot done) ────3────► Finished
//!    │                  │ dropped: 4                       │ dropped: 5
//!    ▼                  ▼                                  ▼
//!  dropped        slot orphaned: keeps the resources   finished and dropped at once
//!                 until 2, then finished and dropped
//! ```
//!
//! A poll or a drop away from the shard that started the operation goes through [`crate::away`].

#![allow(unsafe_code)] // Declares an unsafe trait; there is no unsafe block in here.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ringhold_buffers::foreign::{self, ForeignWaker};
use ringhold_kernel::{ArenaId, CallPointer, Cqe, MAY_HANG, Sqe};

use crate::away::{self, Away};
use crate::collector::Collector;
use crate::context;
use crate::driver::{Key, Request, Taken, Waiter};
use crate::fd::Fd;
use crate::operation_error::OperationError;
use crate::registry::ShardId;

/// What goes to the kernel: an opcode, or a cold call.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// An entry for the submission queue.
    Sqe(Sqe),
    /// A system call that has no opcode.
    Call(CallPointer),
}

impl Entry {
    /// An entry that may wait for a server or a peer that never answers.
    pub(crate) fn may_hang(entry: io_uring::squeue::Entry) -> Entry {
        let mut sqe = Sqe::from(entry);
        sqe.flags |= MAY_HANG;
        Entry::Sqe(sqe)
    }
}

impl From<io_uring::squeue::Entry> for Entry {
    fn from(entry: io_uring::squeue::Entry) -> Entry {
        Entry::Sqe(entry.into())
    }
}

/// How to write one submission and how to read its completion: all there is to say of an opcode.
///
/// The implementing value holds everything that the submission points to: buffers, paths, the file.
/// An operation that was dropped in flight is finished all the same when its completion comes, and
/// the output is dropped: an output that owns what the kernel brought (an [`Fd`], a lease) thereby
/// releases it, and nothing is leaked.
///
/// # Safety
///
/// Every pointer in [`entry`](Operation::entry) points to memory that the value owns (or that is
/// `'static`), that keeps its address while the value moves, and that neither the value's methods
/// nor anything else touches or frees until `finish` is called or the value is dropped (invariants
/// S1 and S2).
pub unsafe trait Operation: Send + Sized + 'static {
    /// What the operation's future gives.
    type Output;

    /// Whether a dropped operation is cancelled. An operation that must run to its end (close) says
    /// no.
    const CANCELLABLE: bool = true;

    /// Whether it may wait for something other than a device: a peer, a pipe. A paused clock runs
    /// on past such ones, and they take no place in the completion queue from others.
    const UNBOUNDED: bool = false;

    /// Whether it is an error if the arena can't be attached. An operation that takes any buffer
    /// says no, and goes on by the plain opcode; one that is called fixed never does.
    const FIXED_ONLY: bool = false;

    /// Refuses arguments that must not reach the kernel.
    ///
    /// # Errors
    ///
    /// The error is given to [`finish`](Operation::finish) as the outcome; the kernel sees nothing.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    /// The file that the entry's `fd` names, so that a shard can put its registered slot there
    /// instead.
    fn file(&self) -> Option<&Fd> {
        None
    }

    /// The arena that the entry's `buffer_index` names, so that the shard has it attached.
    fn arena(&self) -> Option<ArenaId> {
        None
    }

    /// What takes in the completions of an operation that completes more than once.
    fn collector(&self) -> Option<&Arc<dyn Collector>> {
        None
    }

    /// The submission. Called once, right before the operation is started.
    fn entry(&mut self) -> Entry;

    /// Reads the completion and gives the resources back.
    fn finish(self, outcome: io::Result<u32>) -> Self::Output;
}

/// What a slot keeps for a dropped operation until its completion comes.
pub(crate) trait Orphan: Send {
    /// Takes in a completion before the last one.
    fn collect(&self, cqe: Cqe);

    /// The file that it is on, which it holds open.
    fn on(&self) -> Option<&Fd> {
        None
    }

    /// Finishes the operation, and drops what it brought.
    fn release(self: Box<Self>, outcome: io::Result<u32>);
}

impl<T: Operation> Orphan for T {
    fn collect(&self, cqe: Cqe) {
        if let Some(collector) = self.collector() {
            collector.collect(cqe);
        }
    }

    fn on(&self) -> Option<&Fd> {
        self.file()
    }

    fn release(self: Box<Self>, outcome: io::Result<u32>) {
        drop((*self).finish(outcome));
    }
}

/// The resources of an operation whose future is gone, for as long as the kernel may use them.
///
/// Whoever has it must say what becomes of it. To drop it, on whichever way out, a panic's
/// included, leaks it: what the kernel may still write to is never freed by accident (S1).
pub(crate) struct Custody(ManuallyDrop<Box<dyn Orphan>>);

impl Custody {
    pub(crate) fn new(orphan: impl Orphan + 'static) -> Custody {
        Custody(ManuallyDrop::new(Box::new(orphan)))
    }

    /// Takes in a completion before the last one.
    pub(crate) fn collect(&self, cqe: Cqe) {
        self.0.collect(cqe);
    }

    /// Whether it is an operation on `file`.
    pub(crate) fn is_on(&self, file: &Fd) -> bool {
        self.0.on().is_some_and(|known| known.serial() == file.serial())
    }

    /// The file that it is on, if nothing else has that any more.
    pub(crate) fn last_of(&self) -> Option<Fd> {
        self.0.on().filter(|file| !file.is_shared()).cloned()
    }

    /// The final completion came, or the kernel never had the operation: finishes it, and drops
    /// what it brought. Whose destructor panics is its own affair.
    pub(crate) fn release(self, outcome: io::Result<u32>) {
        let orphan = ManuallyDrop::into_inner(self.0);
        foreign::contain(|| orphan.release(outcome));
    }

    /// The kernel may use the resources for good.
    pub(crate) fn leak(self) {}
}

/// Where an operation stands that is not finished.
enum State {
    Idle,
    Started { shard: ShardId, key: Key },
    Away(Arc<Away>),
}

/// An operation as a future.
///
/// Nothing happens before the first poll. `Op` is `Send`; the fast path is the shard that polled it
/// first.
///
/// # Cancel safety
///
/// Dropping it in flight asks the kernel to cancel it. Its resources stay with the runtime until
/// the kernel is done with them, and whatever the operation still brings is released. Whether it
/// took effect is unknown.
///
/// # Panics
///
/// When polled where no runtime is entered, or again after it was ready.
#[must_use = "an operation does nothing unless it is polled"]
pub struct Op<T: Operation> {
    // Neither field drops itself: one look at the resources tells that there is nothing to be done,
    // and all that is left of a finished operation's drop is that look.
    state: ManuallyDrop<State>,
    /// The resources; `None` says that the operation is finished. Its state then is `Idle`.
    operation: ManuallyDrop<Option<T>>,
}

impl<T: Operation> fmt::Debug for Op<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.state {
            _ if self.operation.is_none() => "finished",
            State::Idle => "idle",
            State::Started { .. } => "started",
            State::Away(_) => "away",
        };
        f.debug_struct("Op").field("state", &state).finish_non_exhaustive()
    }
}

// The operation is never pinned: what the kernel sees keeps its address while the value moves (S2).
impl<T: Operation> Unpin for Op<T> {}

impl<T: Operation> Op<T> {
    /// An operation that starts when it is polled.
    #[inline]
    pub fn new(operation: T) -> Op<T> {
        Op { state: ManuallyDrop::new(State::Idle), operation: ManuallyDrop::new(Some(operation)) }
    }

    /// Starts the operation now, on the shard that is running, and lets it run to its end
    /// unobserved.
    ///
    /// Returns the operation where no shard is running, or one that is past starting anything.
    pub(crate) fn detach(mut self) -> Result<(), T> {
        let mut operation = self.operation.take().expect("a fresh operation has its resources");
        context::with_shard(|shard| match shard {
            Some(shard) if shard.driver().borrow().is_open() => {
                let entry = operation.entry();
                let orphan = Custody::new(operation);
                shard.driver().borrow_mut().start_orphan(entry, orphan, T::CANCELLABLE);
                Ok(())
            }
            _ => Err(operation),
        })
    }

    #[inline(always)]
    fn finish(&mut self, outcome: io::Result<u32>) -> Poll<T::Output> {
        let operation = self.operation.take().expect("an operation finishes once");
        Poll::Ready(operation.finish(outcome))
    }

    #[inline]
    fn start(&mut self, cx: &mut Context<'_>) -> Poll<T::Output> {
        let Op { state, operation } = self;
        let Some(operation) = operation.as_mut() else { polled_after_ready() };
        if let Err(error) = operation.check() {
            return self.finish(Err(error));
        }
        let started = context::with_shard(|shard| {
            let mut entry = operation.entry();
            // What is replaced is `Idle`, and needs no drop.
            *state = ManuallyDrop::new(match shard {
                Some(shard) => {
                    // Made before the driver is borrowed: cloning a waker runs foreign code.
                    let waiter = Waiter::of(cx.waker(), shard.id());
                    let request = Request::of(operation);
                    // Released before the waiter is dropped, where nothing is started.
                    let mut driver = shard.driver().borrow_mut();
                    driver.prepare(&mut entry, request)?;
                    let key = driver.start(&mut entry, request, waiter);
                    State::Started { key, shard: shard.id() }
                }
                None => {
                    let request = Request::of(operation);
                    State::Away(away::start(entry, request, ForeignWaker::of(cx.waker()))?)
                }
            });
            Ok(())
        });
        match started {
            Ok(()) => Poll::Pending,
            Err(error) => self.finish(Err(error)),
        }
    }

    #[inline]
    fn poll_started(&mut self, shard: ShardId, key: Key, cx: &mut Context<'_>) -> Poll<T::Output> {
        let taken = context::with_shard(|current| match current {
            Some(current) if current.id() == shard => {
                let first = current.driver().borrow_mut().take(key, cx.waker());
                Some(match first {
                    Taken::NewWaiter => {
                        let waiter = Waiter::of(cx.waker(), shard);
                        let old = current.driver().borrow_mut().set_waiter(key, waiter);
                        drop(old);
                        Taken::Pending
                    }
                    taken => taken,
                })
            }
            _ => None,
        });
        match taken {
            Some(Taken::Done(cqe)) => {
                // `Started` needs no drop either.
                self.state = ManuallyDrop::new(State::Idle);
                self.finish(cqe.outcome().map_err(OperationError::explain))
            }
            Some(_) => Poll::Pending,
            None => {
                let away = away::follow(shard, key, ForeignWaker::of(cx.waker()));
                *self.state = State::Away(away);
                self.poll_away(cx)
            }
        }
    }

    #[cold]
    fn poll_away(&mut self, cx: &mut Context<'_>) -> Poll<T::Output> {
        let State::Away(away) = &*self.state else {
            panic!("an operation at home was polled away")
        };
        match away.poll(cx) {
            Poll::Ready(outcome) => {
                *self.state = State::Idle;
                self.finish(outcome)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Operation> Future for Op<T> {
    type Output = T::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        let this = self.get_mut();
        match &*this.state {
            State::Started { shard, key } => {
                let (shard, key) = (*shard, *key);
                this.poll_started(shard, key, cx)
            }
            State::Idle => this.start(cx),
            State::Away(_) => this.poll_away(cx),
        }
    }
}

impl<T: Operation> Drop for Op<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(operation) = self.operation.take() {
            let state = mem::replace(&mut *self.state, State::Idle);
            abandon(state, operation);
        }
    }
}

/// Edges 4 and 5: the kernel may still use the resources, so they move to where its completion will
/// be seen.
#[cold]
fn abandon<T: Operation>(state: State, operation: T) {
    match state {
        State::Idle => drop(operation),
        State::Started { shard, key } => {
            away::abandon(shard, key, Custody::new(operation), T::CANCELLABLE);
        }
        State::Away(away) => away.abandon(Custody::new(operation), T::CANCELLABLE),
    }
}

#[cold]
fn polled_after_ready() -> ! {
    panic!("an operation was polled after it was ready")
}
