//! A task: a future, its result, and who may touch which of them when, in one allocation.
//!
//! ```text
//!            spawn                 run                      Ready, panic, abort
//!   (new) ────────► SCHEDULED ────────────► (running) ─────────────────────────► COMPLETE
//!                       ▲                       │
//!                       └──── woken ────────────┘ Pending
//! ```
//!
//! `SCHEDULED` means that the task is in a ready queue, or on its way into one. It is cleared
//! before the poll, so a wake-up during the poll queues the task anew, and nothing is left to do
//! when the poll returns.
//!
//! The future is polled and dropped by the home shard only, which marks it as running meanwhile.
//! The result belongs to the shard until it sets `COMPLETE`, and from then on to the join handle
//! while there is one (`JOIN`). The join waker's cell belongs to the handle while `JOIN_WAKER` is
//! clear, and to the shard while it is set (S6).

#![allow(unsafe_code)] // The cells of a task are guarded by its state bits.

mod home;
mod nested;
mod waker;

use std::any::Any;
use std::future::Future;
use std::mem::{ManuallyDrop, forget, needs_drop, replace};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, Waker};

use ringhold_buffers::foreign::{self, ForeignWaker};

use crate::registry::Remote;
use crate::task::{Id, JoinError};

pub(super) use home::Last;
use ringhold_kernel::sync::atomic::{AtomicUsize, Ordering};
use ringhold_kernel::sync::{Cell, UnsafeCell};
use waker::{WAKER, schedule_aborted};

/// It is in a ready queue, or is being put there.
const SCHEDULED: usize = 1;
/// The future is gone, and the result is there or was taken.
const COMPLETE: usize = 1 << 1;
/// The future is to be dropped.
const ABORTED: usize = 1 << 2;
/// There is a join handle.
const JOIN: usize = 1 << 3;
/// The join waker's cell is filled, and is the shard's.
const JOIN_WAKER: usize = 1 << 4;
/// One count of ownership; the counts fill the bits above.
const REFERENCE: usize = 1 << 5;

/// Everything about a task that doesn't depend on its future's type.
pub(crate) struct Header {
    state: AtomicUsize,
    table: &'static Table,
    id: Id,
    remote: Arc<Remote>,
    /// Where the home shard keeps its own count. Touched by that shard only.
    place: Cell<usize>,
    /// Which of the home shard's lanes is its group's. Touched by that shard only.
    lane: Cell<u32>,
    /// The future is being polled or dropped. Touched by who does that only.
    running: Cell<bool>,
    /// What stands behind the task in the list that is the shard's ready queue. Touched by the home
    /// shard only.
    next: Cell<Option<TaskRef>>,
    join_waker: UnsafeCell<Option<ForeignWaker>>,
}

struct Table {
    poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> bool,
    cancel: unsafe fn(NonNull<Header>),
    take_output: unsafe fn(NonNull<Header>, *mut ()),
    drop_output: unsafe fn(NonNull<Header>),
    /// Whether an output may hold join handles.
    nests: bool,
    free: unsafe fn(NonNull<Header>),
}

enum Stage<F: Future> {
    Future(F),
    Output(Result<F::Output, JoinError>),
    Empty,
}

#[repr(C)] // The header comes first, so that a pointer to it is a pointer to the task.
struct Task<F: Future> {
    header: Header,
    stage: UnsafeCell<Stage<F>>,
}

/// One counted reference to a task.
pub(crate) struct TaskRef {
    header: NonNull<Header>,
}

// SAFETY: through a reference only the atomics, the immutable fields, and what the state bits grant
// can be reached (S6); the future itself is reached on the home shard alone. The last reference may
// free the task anywhere: by then the future is gone, and an output that is not `Send` was dropped
// at home or belongs to a join handle that is not `Send` either.
unsafe impl Send for TaskRef {}
// SAFETY: as above (S6, S10).
unsafe impl Sync for TaskRef {}

/// Makes a task that is scheduled once. The references are for the ready queue, for the shard's
/// list, and for the join handle.
pub(crate) fn new_task<F: Future + 'static>(
    future: F,
    id: Id,
    remote: Arc<Remote>,
) -> (TaskRef, TaskRef, TaskRef) {
    let task = Box::new(Task {
        header: Header {
            state: AtomicUsize::new(SCHEDULED | JOIN | (3 * REFERENCE)),
            table: const {
                &Table {
                    poll: poll::<F>,
                    cancel: cancel::<F>,
                    take_output: take_output::<F>,
                    drop_output: drop_output::<F>,
                    nests: needs_drop::<F::Output>(),
                    free: free::<F>,
                }
            },
            id,
            remote,
            place: Cell::new(usize::MAX),
            lane: Cell::new(0),
            running: Cell::new(false),
            next: Cell::new(None),
            join_waker: UnsafeCell::new(None),
        },
        stage: UnsafeCell::new(Stage::Future(future)),
    });
    let header = NonNull::from(Box::leak(task)).cast::<Header>();
    (TaskRef { header }, TaskRef { header }, TaskRef { header })
}

unsafe fn poll<F: Future + 'static>(header: NonNull<Header>, cx: &mut Context<'_>) -> bool {
    let task = header.cast::<Task<F>>();
    // SAFETY: the caller is the home shard and runs the task, so the stage is its own (S6); the
    // header is reached through its own field only, so no reference overlaps.
    let stage = unsafe { &mut *(*task.as_ptr()).stage.get() };
    let Stage::Future(future) = stage else { panic!("a complete task was polled") };
    // SAFETY: the future lives in the task's allocation and is dropped in place, by who runs
    // the task (S6), so it never moves.
    let future = unsafe { Pin::new_unchecked(future) };
    let output = match foreign::run(|| future.poll(cx)) {
        Ok(Poll::Pending) => return false,
        Ok(Poll::Ready(output)) => Ok(output),
        Err(payload) => Err(payload),
    };
    // SAFETY: as above: the caller is the home shard and runs the task (S6).
    unsafe { finish::<F>(header, output) };
    true
}

unsafe fn cancel<F: Future + 'static>(header: NonNull<Header>) {
    let task = header.cast::<Task<F>>();
    // SAFETY: the caller is the home shard and runs the task (S6).
    let (stage, id) = unsafe { ((*task.as_ptr()).stage.get(), (*header.as_ptr()).id) };
    // The future is dropped before anybody can see that the task was cancelled.
    // SAFETY: as above (S6); dropping in place by assignment.
    let dropped = foreign::run(|| unsafe { *stage = Stage::Empty });
    let error = match dropped {
        Ok(()) => JoinError::cancelled(id),
        Err(payload) => JoinError::panicked(id, payload),
    };
    // SAFETY: as above (S6). If the drop panicked the stage was overwritten by the unwinding
    // assignment or still holds a future whose fields were dropped: it is written over without
    // being dropped again.
    unsafe { std::ptr::write(stage, Stage::Output(Err(error))) };
}

/// Replaces the future by its output.
unsafe fn finish<F: Future + 'static>(
    header: NonNull<Header>,
    output: Result<F::Output, Box<dyn Any + Send>>,
) {
    let task = header.cast::<Task<F>>();
    // SAFETY: the caller is the home shard and runs the task (S6).
    let (stage, id) = unsafe { ((*task.as_ptr()).stage.get(), (*header.as_ptr()).id) };
    let output = output.map_err(|payload| JoinError::panicked(id, payload));
    // SAFETY: as above (S6); dropping in place by assignment.
    let dropped = foreign::run(|| unsafe { *stage = Stage::Empty });
    let output = match dropped {
        Ok(()) => output,
        // The output is lost to its own future's destructor; its drop may panic as well.
        Err(payload) => {
            foreign::discard(output);
            Err(JoinError::panicked(id, payload))
        }
    };
    // SAFETY: as in `cancel` (S6).
    unsafe { std::ptr::write(stage, Stage::Output(output)) };
}

unsafe fn take_output<F: Future + 'static>(header: NonNull<Header>, into: *mut ()) {
    let task = header.cast::<Task<F>>();
    let into = into.cast::<Poll<Result<F::Output, JoinError>>>();
    // SAFETY: COMPLETE is set and the caller is the join handle, so the stage is its own (S6).
    let stage = unsafe { &mut *(*task.as_ptr()).stage.get() };
    let Stage::Output(output) = replace(stage, Stage::Empty) else {
        panic!("a join handle was polled after it was ready");
    };
    // SAFETY: the join handle, which owns the output (S6), passes a pointer to a value of this very
    // type, on its stack.
    unsafe { *into = Poll::Ready(output) };
}

unsafe fn drop_output<F: Future + 'static>(header: NonNull<Header>) {
    let task = header.cast::<Task<F>>();
    // SAFETY: COMPLETE is set and the caller owns the output (S6).
    let stage = unsafe { &mut *(*task.as_ptr()).stage.get() };
    let output = replace(stage, Stage::Empty);
    foreign::discard(output);
}

unsafe fn free<F: Future + 'static>(header: NonNull<Header>) {
    // SAFETY: the caller gave up the last reference (S10); the pointer came from `Box::leak` of
    // this type.
    drop(unsafe { Box::from_raw(header.cast::<Task<F>>().as_ptr()) });
}

/// What running a task came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It waits to be woken, or was woken and is in the queue again.
    Pending,
    /// It is complete: the shard gives up its own reference at `place`.
    Complete { place: usize },
}

impl TaskRef {
    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: this reference is counted, so the task is there (S10); a `Header` is only ever
        // shared.
        unsafe { self.header.as_ref() }
    }

    pub(crate) fn id(&self) -> Id {
        self.header().id
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.header().state.load(Ordering::Acquire) & COMPLETE != 0
    }

    /// Polls the future once, on the home shard, with the reference that the ready queue held.
    #[inline]
    pub(crate) fn run(self) -> Ran {
        let header = self.header;
        // One step takes the task out of the queue and gives up the queue's reference.
        let before = self.header().state.fetch_sub(SCHEDULED + REFERENCE, Ordering::AcqRel);
        debug_assert!(before & SCHEDULED != 0);
        forget(self);
        if before & COMPLETE != 0 {
            given_up(header, before);
            return Ran::Pending;
        }
        // The shard's list holds another one until the task is complete.
        debug_assert!(before >= 2 * REFERENCE);
        Listed(header).run(before)
    }

    /// Runs a task that is ready at its first poll, on the thread that stands in for its shard. It
    /// stays SCHEDULED meanwhile, so that an abort doesn't queue it at home.
    pub(crate) fn run_away(self) {
        let before = self.header().state.load(Ordering::Acquire);
        if before & COMPLETE == 0 {
            Listed(self.header).run(before);
        }
    }

    /// Drops the future of a task of a shard that ends. Called on the home shard, outside of any
    /// poll.
    pub(crate) fn shut_down(self) -> Option<usize> {
        // As if it were queued: what its destructor wakes must not queue it.
        let before = self.header().state.fetch_or(SCHEDULED | ABORTED, Ordering::AcqRel);
        if before & COMPLETE != 0 {
            return None;
        }
        let task = Listed(self.header);
        task.begin();
        // SAFETY: this is the home shard, which has just begun to run the task (S6).
        unsafe { (self.header().table.cancel)(self.header) };
        match task.complete() {
            Ran::Complete { place } => Some(place),
            Ran::Pending => None,
        }
    }

    /// Asks for the future to be dropped, from any thread.
    pub(crate) fn abort(&self) {
        let state = &self.header().state;
        let before = state.fetch_or(ABORTED | SCHEDULED, Ordering::AcqRel);
        if before & (SCHEDULED | COMPLETE) == 0 {
            schedule_aborted(self.clone());
        }
    }

    /// Whether its future is to be dropped.
    pub(crate) fn is_aborted(&self) -> bool {
        self.header().state.load(Ordering::Relaxed) & ABORTED != 0
    }

    /// The output, if it is there; else `waker` is woken when it is.
    pub(crate) fn poll_join<T>(&self, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
        let mut output = Poll::Pending;
        if self.is_complete() || !self.set_join_waker(cx.waker()) {
            // SAFETY: COMPLETE is set, and the caller is the join handle, whose type parameter is
            // the output's (S6).
            unsafe {
                (self.header().table.take_output)(self.header, (&raw mut output).cast::<()>());
            }
        }
        output
    }

    /// `false` if the task completed meanwhile.
    fn set_join_waker(&self, waker: &Waker) -> bool {
        let header = self.header();
        let state = header.state.load(Ordering::Acquire);
        if state & JOIN_WAKER != 0 {
            // The shard may take the waker at the completion, so the cell is taken back from it
            // before it is touched.
            if !self.reclaim_join_waker() {
                return false;
            }
        }
        // SAFETY: JOIN_WAKER is clear, so the cell is the join handle's, and there is one of those
        // (S6).
        unsafe {
            let cell = &mut *header.join_waker.get();
            match cell {
                Some(known) if known.will_wake(waker) => {}
                _ => *cell = Some(ForeignWaker::of(waker)),
            }
        }
        let set = header.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state & COMPLETE == 0).then_some(state | JOIN_WAKER)
        });
        set.is_ok()
    }

    /// Takes the join waker's cell back from the shard; `false` if the task completed first.
    fn reclaim_join_waker(&self) -> bool {
        let cleared =
            self.header().state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state & COMPLETE == 0).then_some(state & !JOIN_WAKER)
            });
        cleared.is_ok()
    }

    /// The join handle is gone: a complete task's output is dropped here, a running one's when it
    /// is there.
    pub(crate) fn detach(&self) {
        let header = self.header();
        // Only the handle sets JOIN_WAKER. What waited holds its task, so it goes with the handle:
        // kept until this task goes, it would hold a chain of them.
        if header.state.load(Ordering::Relaxed) & (JOIN_WAKER | COMPLETE) == JOIN_WAKER {
            self.forget_join_waker();
        }
        // Setting JOIN to 0 before COMPLETE hands the output to the shard, after COMPLETE it is
        // ours to drop.
        let before = header.state.fetch_and(!JOIN, Ordering::AcqRel);
        if before & COMPLETE != 0 {
            // SAFETY: COMPLETE was set while there was a join handle, so the output is the
            // handle's: ours (S6).
            unsafe { nested::drop_output(self.header) };
        }
    }

    #[cold]
    fn forget_join_waker(&self) {
        if self.reclaim_join_waker() {
            // SAFETY: JOIN_WAKER is clear, so the cell is the join handle's, which is the caller
            // (S6).
            let waker = unsafe { (*self.header().join_waker.get()).take() };
            drop(waker);
        }
    }
}

/// A task as the home shard runs it, which lists it and so holds a reference to it meanwhile.
struct Listed(NonNull<Header>);

impl Listed {
    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the shard's own reference keeps the task there until it is complete and the shard
        // has forgotten it, which it does after this value's last use (S10); a `Header` is only
        // ever shared.
        unsafe { self.0.as_ref() }
    }

    /// Polls the future once, or drops it if the task was aborted.
    #[inline]
    fn run(&self, state: usize) -> Ran {
        self.begin();
        if state & ABORTED != 0 {
            // SAFETY: this is the home shard, or stands in for it, and has just begun to run the
            // task (S6).
            unsafe { (self.header().table.cancel)(self.0) };
            return self.complete();
        }
        let waker = ManuallyDrop::new(self.borrowed_waker());
        let mut cx = Context::from_waker(&waker);
        // SAFETY: as above (S6); the table is the one of this task's type.
        if unsafe { (self.header().table.poll)(self.0, &mut cx) } {
            return self.complete();
        }
        self.header().running.set(false);
        Ran::Pending
    }

    /// Marks the task as running. What would poll it within its own poll stops here.
    #[inline]
    fn begin(&self) {
        if self.header().running.replace(true) {
            runs_already(self.header().id);
        }
    }

    #[inline]
    fn borrowed_waker(&self) -> Waker {
        // SAFETY: the table's functions keep the contract of `RawWaker`, with counted references
        // (S10); the caller keeps the waker from being dropped, so that it needs no count of its
        // own.
        unsafe { Waker::from_raw(RawWaker::new(self.0.as_ptr().cast(), &WAKER)) }
    }

    /// The task is COMPLETE: the output is the join handle's, or nobody's.
    #[inline]
    fn complete(&self) -> Ran {
        let header = self.header();
        let place = header.place.get();
        header.running.set(false);
        let before = header.state.fetch_or(COMPLETE, Ordering::AcqRel);
        if before & JOIN == 0 {
            // SAFETY: there is no join handle and never will be again, so the output is ours (S6).
            unsafe { nested::drop_output(self.0) };
        } else if before & JOIN_WAKER != 0 {
            // SAFETY: JOIN_WAKER was set before COMPLETE, so the cell is ours until we clear the
            // bit (S6).
            let waker = unsafe { (*header.join_waker.get()).take() };
            let after = header.state.fetch_and(!JOIN_WAKER, Ordering::AcqRel);
            debug_assert!(after & COMPLETE != 0);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        Ran::Complete { place }
    }
}

#[cold]
fn runs_already(id: Id) -> ! {
    panic!("task {id} was run within its own poll")
}

impl Clone for TaskRef {
    fn clone(&self) -> TaskRef {
        let before = self.header().state.fetch_add(REFERENCE, Ordering::Relaxed);
        // Half of the range is left: far more references than there is memory for are a leak in a
        // loop.
        assert!(before <= usize::MAX / 2, "a task has too many references");
        TaskRef { header: self.header }
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        let before = self.header().state.fetch_sub(REFERENCE, Ordering::Release);
        given_up(self.header, before);
    }
}

/// Frees the task if the reference that was given up was its last. `before` is the state that it
/// was counted in.
#[inline]
fn given_up(header: NonNull<Header>, before: usize) {
    if before < 2 * REFERENCE {
        // SAFETY: that was the last reference, so nobody but us reaches the task, and nobody else
        // frees it (S10).
        unsafe {
            // The acquire load orders every other owner's last access before the freeing.
            header.as_ref().state.load(Ordering::Acquire);
            (header.as_ref().table.free)(header);
        }
    }
}
