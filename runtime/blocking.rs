//! The pool of threads for closures that block.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use ringhold_kernel::System;
use ringhold_kernel::sync::{Condvar, Mutex, MutexGuard, thread_local};

use crate::builder::ThreadHooks;
use crate::context::{self, GroupScope, HandleScope};
use crate::handle::Handle;
use crate::task::{Id, JoinHandle, TaskGroup, TaskRef, new_task};
use crate::telling::tell;
use crate::time::clock::Hold;

thread_local! {
    /// Which pool's thread this is, by the address of its state; 0 for none.
    static POOL: Cell<usize> = const { Cell::new(0) };
}

/// A bounded set of threads, started when there is work and retired when there has been none for a
/// while.
pub(crate) struct BlockingPool {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    arrived: Condvar,
    retired: Condvar,
    threads_max: usize,
    keep_alive: Duration,
    hooks: ThreadHooks,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// A closure that waits for a thread, as a task that is polled once.
struct Job {
    queued: TaskRef,
    listed: TaskRef,
    handle: Handle,
    /// What the closure spawns is of this group.
    group: Option<TaskGroup>,
    /// From the call to the closure's end a paused clock stands still.
    _hold: Hold,
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingPool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl BlockingPool {
    pub(crate) fn new(
        threads_max: usize,
        keep_alive: Duration,
        hooks: ThreadHooks,
    ) -> BlockingPool {
        BlockingPool {
            inner: Arc::new(Inner {
                state: Mutex::default(),
                arrived: Condvar::new(),
                retired: Condvar::new(),
                threads_max,
                keep_alive,
                hooks,
            }),
        }
    }

    pub(crate) fn threads(&self) -> usize {
        self.inner.lock().threads
    }

    #[track_caller]
    pub(crate) fn spawn<F, R>(&self, handle: &Handle, work: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let mut work = Some(work);
        let future = poll_fn(move |_| Poll::Ready(work.take().expect("polled once")()));
        let home = handle.shared().shards[0].clone();
        let (queued, listed, joined) = new_task(future, Id::next(), home);
        let hold = handle.clock().held();
        let group = context::group();
        let job = Job { queued, listed, handle: handle.clone(), group, _hold: hold };
        self.inner.enqueue(job, &**handle.system());
        JoinHandle::new(joined)
    }

    /// Takes no more closures, and drops those that have not begun. Says whether the others ended
    /// before `deadline`.
    pub(crate) fn shut_down(&self, deadline: Option<Instant>) -> bool {
        let dropped = {
            let mut state = self.inner.lock();
            state.closed = true;
            self.inner.arrived.notify_all();
            std::mem::take(&mut state.queue)
        };
        dropped.into_iter().for_each(Job::cancel);
        // A closure that drops its own runtime can't wait for itself.
        let own = usize::from(POOL.with(Cell::get) == self.inner.address());
        let mut state = self.inner.lock();
        while state.threads > own {
            state = match deadline {
                None => self.inner.retired.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                        return false;
                    };
                    let retired = &self.inner.retired;
                    retired.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }
}

impl Job {
    /// The closure is dropped, and its join handle sees it cancelled.
    fn cancel(self) {
        self.listed.shut_down();
    }

    fn run(self) {
        // The closure runs inside the runtime: it may spawn, and ask for the handle.
        let _scope = HandleScope::enter(&self.handle);
        let _group = GroupScope::enter(self.group.as_ref());
        self.queued.run_away();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Inner>, job: Job, system: &dyn System) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            job.cancel();
            return;
        }
        state.queue.push_back(job);
        if state.idle >= state.queue.len() {
            self.arrived.notify_one();
            return;
        }
        if state.threads == self.threads_max {
            return;
        }
        state.threads += 1;
        drop(state);
        let inner = self.clone();
        let work = Box::new(move || {
            inner.hooks.on_start();
            inner.work();
            inner.hooks.on_stop();
        });
        let started =
            system.start_thread(self.hooks.name("blocking"), self.hooks.stack_bytes, work);
        if let Err(error) = started {
            self.no_thread(&error);
        }
    }

    /// With no thread at all the queue would wait for ever, so its closures end as cancelled.
    fn no_thread(&self, error: &std::io::Error) {
        let mut state = self.lock();
        state.threads -= 1;
        // A shutdown may have begun to wait for the thread that never was.
        self.retired.notify_all();
        if state.threads > 0 {
            return;
        }
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        tell!(error, %error, "no thread could be started for blocking closures");
        dropped.into_iter().for_each(Job::cancel);
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn work(&self) {
        POOL.with(|pool| pool.set(self.address()));
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                job.run();
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let waited = self.arrived.wait_timeout(state, self.keep_alive);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        self.retired.notify_all();
    }
}
