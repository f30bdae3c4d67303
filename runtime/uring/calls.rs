//! The threads that run cold calls: a few of the kernel's own, which no user work can occupy.

#![allow(unsafe_code)] // It follows the pointer of a call.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ringhold_buffers::sync::{StaticCondvar, StaticMutex, StaticMutexGuard};

use crate::call::CallPointer;
use crate::kernel::{Cqe, Unpark};
use crate::threads;
use crate::uring::run_call::run;
use crate::uring::wake::Waking;

const THREADS_MAX: usize = 4;
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Where a ring finds what its cold calls came to.
pub(super) struct Answers {
    list: StaticMutex<Vec<Cqe>>,
    count: AtomicUsize,
    wake: Arc<Waking>,
}

impl Answers {
    pub(super) fn new(wake: Arc<Waking>) -> Answers {
        Answers { list: StaticMutex::new(Vec::new()), count: AtomicUsize::new(0), wake }
    }

    #[inline]
    pub(super) fn are_there(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    fn lock(&self) -> StaticMutexGuard<'_, Vec<Cqe>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, cqe: Cqe) {
        self.lock().push(cqe);
        self.count.fetch_add(1, Ordering::Release);
        self.wake.unpark();
    }

    /// Moves answers to the end of `batch`, as many as it has room for.
    #[cold]
    pub(super) fn take(&self, batch: &mut Vec<Cqe>) {
        let mut list = self.lock();
        let taken = list.len().min(batch.capacity() - batch.len());
        batch.extend(list.drain(..taken));
        self.count.fetch_sub(taken, Ordering::Release);
    }
}

struct Job {
    call: CallPointer,
    user_data: u64,
    answers: Arc<Answers>,
}

impl Job {
    fn run(self) {
        let Job { call: CallPointer(mut call), user_data, answers } = self;
        // SAFETY: the call is the kernel's, which is us, until the answer below (S1), and stays in
        // place (S2).
        let result = run(unsafe { call.as_mut() });
        answers.put(Cqe { user_data, result, flags: 0 });
    }
}

struct Pool {
    state: StaticMutex<State>,
    arrived: StaticCondvar,
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

static POOL: Pool = Pool {
    state: StaticMutex::new(State { jobs: VecDeque::new(), threads: 0, idle: 0 }),
    arrived: StaticCondvar::new(),
};

fn lock() -> StaticMutexGuard<'static, State> {
    POOL.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Queues a call, whose answer will go to `answers`.
pub(super) fn start(call: CallPointer, user_data: u64, answers: &Arc<Answers>) {
    let job = Job { call, user_data, answers: answers.clone() };
    let mut state = lock();
    state.jobs.push_back(job);
    if state.idle >= state.jobs.len() {
        POOL.arrived.notify_one();
        return;
    }
    if state.threads == THREADS_MAX {
        return;
    }
    state.threads += 1;
    drop(state);
    if threads::start("ringhold-call".to_owned(), None, work).is_ok() {
        return;
    }
    let mut state = lock();
    state.threads -= 1;
    if state.threads == 0 {
        // No thread is to be had: the calls run here. That holds the shard up, and loses nothing.
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        jobs.into_iter().for_each(Job::run);
    }
}

fn work() {
    let mut state = lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            job.run();
            state = lock();
            continue;
        }
        state.idle += 1;
        let (woken, timeout) =
            POOL.arrived.wait_timeout(state, KEEP_ALIVE).unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.idle -= 1;
        if timeout.timed_out() && state.jobs.is_empty() {
            state.threads -= 1;
            return;
        }
    }
}
