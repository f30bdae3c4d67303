//! Many tasks that are waited for together, in the order in which they end.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem::replace;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use ringhold_buffers::foreign::{self, ForeignWaker};
use ringhold_kernel::sync::atomic::{AtomicBool, Ordering};
use ringhold_kernel::sync::{Mutex, MutexGuard};
use slab::Slab;

use crate::handle::Handle;
use crate::task::{AbortHandle, Id, JoinError, JoinHandle, spawn, spawn_blocking, spawn_local};

/// A set of tasks with the same type of output, whose results come in the order in which they end.
///
/// An end costs the same however many tasks there are. Dropping the set aborts its tasks.
///
/// ```
/// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
/// use ringhold_runtime::task::JoinSet;
///
/// let mut set = JoinSet::new();
/// for number in [1, 2, 3] {
///     set.spawn(async move { number * 10 });
/// }
/// let mut sum = 0;
/// while let Some(result) = set.join_next().await {
///     sum += result.unwrap();
/// }
/// assert_eq!(sum, 60);
/// # });
/// ```
pub struct JoinSet<T> {
    members: Slab<Member<T>>,
    ended: Arc<Ended>,
}

enum Member<T> {
    Running {
        handle: JoinHandle<T>,
        bell: Arc<Bell>,
    },
    /// It had ended by the time it was put into the set.
    Early {
        id: Id,
        result: Result<T, JoinError>,
    },
}

/// Which members may have ended.
#[derive(Default)]
struct Ended {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    places: VecDeque<usize>,
    /// Who waits in `poll_join_next`.
    waker: Option<ForeignWaker>,
}

/// One member's waker: puts the member's place into the queue.
struct Bell {
    place: usize,
    /// Whether the place is in the queue: a second wake-up has nothing to add.
    queued: AtomicBool,
    ended: Arc<Ended>,
}

impl Ended {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, place: usize) {
        let waker = {
            let mut queue = self.lock();
            queue.places.push_back(place);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn pop(&self) -> Option<usize> {
        self.lock().places.pop_front()
    }

    /// The next place, or `waker` is woken when there is one.
    fn pop_or_wait(&self, waker: &Waker) -> Option<usize> {
        // Wakers are cloned and dropped outside of the lock, since that is foreign code.
        let new = Some(ForeignWaker::of(waker));
        let mut queue = self.lock();
        let place = queue.places.pop_front();
        let unneeded = if place.is_none() { replace(&mut queue.waker, new) } else { new };
        drop(queue);
        drop(unneeded);
        place
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ended.push(self.place);
        }
    }
}

impl<T> JoinSet<T> {
    /// An empty set.
    pub fn new() -> JoinSet<T> {
        JoinSet { members: Slab::new(), ended: Arc::default() }
    }

    /// How many tasks are in the set, ended or not, whose results were not taken yet.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Aborts all tasks. They stay in the set, and their results are cancellations.
    pub fn abort_all(&mut self) {
        for (_, member) in &self.members {
            if let Member::Running { handle, .. } = member {
                handle.abort();
            }
        }
    }

    /// Takes all tasks out of the set and lets them go on.
    pub fn detach_all(&mut self) {
        let mut members = std::mem::take(&mut self.members);
        self.ended.lock().places.clear();
        members.drain().for_each(foreign::discard);
    }
}

impl<T: 'static> JoinSet<T> {
    /// Spawns a task into the set, as [`spawn`] does.
    ///
    /// # Panics
    ///
    /// Where no runtime is entered.
    #[track_caller]
    pub fn spawn<F>(&mut self, task: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        self.insert(spawn(task))
    }

    /// Spawns a task of another runtime, or of this one from outside of it, into the set.
    pub fn spawn_on<F>(&mut self, task: F, handle: &Handle) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        self.insert(handle.spawn(task))
    }

    /// Spawns a task that doesn't have to be `Send` into the set, as [`spawn_local`] does.
    ///
    /// # Panics
    ///
    /// Where no shard is running.
    #[track_caller]
    pub fn spawn_local<F>(&mut self, task: F) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        self.insert(spawn_local(task))
    }

    /// Runs a closure that blocks on a thread for such, as [`spawn_blocking`] does.
    ///
    /// ```
    /// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
    /// use ringhold_runtime::task::JoinSet;
    ///
    /// let mut set = JoinSet::new();
    /// set.spawn_blocking(|| 6 * 7);
    /// assert_eq!(set.join_next().await.unwrap().unwrap(), 42);
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// Where no runtime is entered.
    #[track_caller]
    pub fn spawn_blocking<F>(&mut self, work: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        self.insert(spawn_blocking(work))
    }

    /// As [`spawn_blocking`](JoinSet::spawn_blocking), on a runtime that doesn't have to be
    /// entered.
    #[track_caller]
    pub fn spawn_blocking_on<F>(&mut self, work: F, handle: &Handle) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        self.insert(handle.spawn_blocking(work))
    }

    fn insert(&mut self, mut handle: JoinHandle<T>) -> AbortHandle {
        let abort = handle.abort_handle();
        let entry = self.members.vacant_entry();
        let place = entry.key();
        let ended = self.ended.clone();
        let bell = Arc::new(Bell { place, queued: AtomicBool::new(false), ended });
        let waker = Waker::from(bell.clone());
        match Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                entry.insert(Member::Running { handle, bell });
            }
            Poll::Ready(result) => {
                entry.insert(Member::Early { id: abort.id(), result });
                bell.wake_by_ref();
            }
        }
        abort
    }

    /// Waits for the next task to end, and takes it out of the set. `None` if the set is empty.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if the task was aborted or panicked.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped wait takes no task out.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// As [`join_next`](JoinSet::join_next), with the task's id; an error has it by itself.
    ///
    /// # Errors
    ///
    /// As [`join_next`](JoinSet::join_next).
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped wait takes no task out.
    pub async fn join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        poll_fn(|cx| self.poll_join_next_with_id(cx)).await
    }

    /// Takes a task that has ended out of the set. `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`join_next`](JoinSet::join_next).
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.try_take().map(|(_, result)| result)
    }

    /// As [`try_join_next`](JoinSet::try_join_next), with the task's id.
    ///
    /// # Errors
    ///
    /// As [`join_next`](JoinSet::join_next).
    pub fn try_join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        self.try_take().map(|(id, result)| result.map(|output| (id, output)))
    }

    /// As [`join_next`](JoinSet::join_next), by polls: `Ready(None)` if the set is empty.
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        self.poll_take(cx).map(|taken| taken.map(|(_, result)| result))
    }

    /// As [`join_next_with_id`](JoinSet::join_next_with_id), by polls.
    pub fn poll_join_next_with_id(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(Id, T), JoinError>>> {
        let with_id = |(id, result): (Id, Result<T, JoinError>)| result.map(|output| (id, output));
        self.poll_take(cx).map(|taken| taken.map(with_id))
    }

    /// Aborts all tasks and waits until they have ended; their results are dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe: all are aborted with the first poll, and those that have not ended stay in the set.
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }

    /// Waits for all tasks, and returns their outputs in the order in which they ended.
    ///
    /// ```
    /// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
    /// use ringhold_runtime::task::JoinSet;
    ///
    /// let set: JoinSet<u32> = (0..4).map(|number| async move { number }).collect();
    /// let mut outputs = set.join_all().await;
    /// outputs.sort();
    /// assert_eq!(outputs, [0, 1, 2, 3]);
    /// # });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Loses progress: the outputs that were there are gone, and the tasks that have not ended are
    /// aborted.
    ///
    /// # Panics
    ///
    /// If a task panicked, with what it panicked with; if one was aborted. The others are aborted.
    pub async fn join_all(mut self) -> Vec<T> {
        let mut outputs = Vec::with_capacity(self.len());
        while let Some(result) = self.join_next().await {
            match result.map_err(JoinError::try_into_panic) {
                Ok(output) => outputs.push(output),
                Err(panicked) => {
                    // While the panic unwinds, theirs would end the process.
                    outputs.into_iter().for_each(foreign::discard);
                    match panicked {
                        Ok(payload) => resume_unwind(payload),
                        Err(cancelled) => panic!("{cancelled}"),
                    }
                }
            }
        }
        outputs
    }

    fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Option<(Id, Result<T, JoinError>)>> {
        while let Some(place) = self.ended.pop_or_wait(cx.waker()) {
            if let Some(taken) = self.take(place) {
                return Poll::Ready(Some(taken));
            }
        }
        if self.members.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }

    fn try_take(&mut self) -> Option<(Id, Result<T, JoinError>)> {
        while let Some(place) = self.ended.pop() {
            if let Some(taken) = self.take(place) {
                return Some(taken);
            }
        }
        None
    }

    /// Takes the member at `place` out, if there is one and it has ended.
    fn take(&mut self, place: usize) -> Option<(Id, Result<T, JoinError>)> {
        let taken = match self.members.get_mut(place)? {
            Member::Early { .. } => None,
            Member::Running { handle, bell } => {
                // Cleared before the poll, so that an end that the poll doesn't see queues it
                // again.
                bell.queued.store(false, Ordering::Release);
                let waker = Waker::from(bell.clone());
                match Pin::new(&mut *handle).poll(&mut Context::from_waker(&waker)) {
                    Poll::Pending => return None,
                    Poll::Ready(result) => Some((handle.id(), result)),
                }
            }
        };
        match (self.members.remove(place), taken) {
            (Member::Early { id, result }, _) => Some((id, result)),
            (Member::Running { .. }, taken) => taken,
        }
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.abort_all();
        // One by one: two whose drop panics would end the process together.
        self.members.drain().for_each(foreign::discard);
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> JoinSet<T> {
        JoinSet::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish()
    }
}

/// Spawns every future into a new set.
impl<T, F> FromIterator<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> JoinSet<T> {
        let mut set = JoinSet::new();
        set.extend(futures);
        set
    }
}

/// Spawns every future into the set.
impl<T, F> Extend<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    fn extend<I: IntoIterator<Item = F>>(&mut self, futures: I) {
        for future in futures {
            self.spawn(future);
        }
    }
}
