//! The threads that run what may block: the kernel's own, for all runtimes of the process, which no
//! user work can occupy.
//!
//! *Lanes.* A call belongs to the lane of the mount that it is about. Four calls of each lane have
//! a thread at once, so that no lane waits for another.
//!
//! *Growth.* What comes beyond waits for one of the four. When it has waited for half a
//! millisecond, they are stuck: then one thread more, the watcher, takes the call over, and another
//! one watches. A burst of short calls is thereby done by a few threads, and calls that hang cost a
//! late start each. A lane may take half of what the other lanes leave of 512 threads; what comes
//! beyond waits.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use ringhold_kernel::sync::{StaticCondvar, StaticMutex, StaticMutexGuard};
use ringhold_kernel::threads;

use crate::calls::Job;

/// How many threads there may be, but for the four that every lane has.
const THREADS_MAX: usize = 512;
/// How many calls of a lane have a thread at once.
const AT_ONCE: usize = 4;
/// How long a thread without work stays.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a call waits for the threads of its lane before there is another one.
const PATIENCE: Duration = Duration::from_micros(500);

/// Which calls keep each other waiting: the number of their mount, or 0 where that isn't known or
/// wasn't asked.
pub(super) type LaneId = u64;

struct Workers {
    state: StaticMutex<State>,
    /// There is a call for a thread that has none.
    arrived: StaticCondvar,
    /// There is a call that may come to wait too long.
    watched: StaticCondvar,
}

struct State {
    lanes: BTreeMap<LaneId, Lane>,
    /// Calls that run, of all lanes.
    running: usize,
    /// Threads, without the watcher.
    threads: usize,
    /// Those of them that have no call, or are about to begin.
    idle: usize,
    watcher: Watcher,
}

/// The calls of a mount. There is one while there are calls.
#[derive(Default)]
struct Lane {
    running: usize,
    /// What waits for a thread, and since when.
    queue: VecDeque<(Instant, Job)>,
}

impl Lane {
    /// How many calls are to have a thread at once.
    fn asks(&self) -> usize {
        self.queue.len().min(AT_ONCE.saturating_sub(self.running))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Watcher {
    None,
    Asleep,
    Awake,
}

static WORKERS: Workers = Workers {
    state: StaticMutex::new(State {
        lanes: BTreeMap::new(),
        running: 0,
        threads: 0,
        idle: 0,
        watcher: Watcher::None,
    }),
    arrived: StaticCondvar::new(),
    watched: StaticCondvar::new(),
};

fn lock() -> StaticMutexGuard<'static, State> {
    WORKERS.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has to be done when the lock is free again.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
enum Start {
    Nothing,
    Thread,
    Watcher,
    /// Nothing: a thread without work is to hear of its call.
    Call,
    /// Nothing: the watcher is to look.
    Look,
}

impl State {
    /// Sees to it that the last call of this lane finds a thread.
    fn call_up(&mut self, id: LaneId) -> Start {
        let asks: usize = self.lanes.values().map(Lane::asks).sum();
        if self.lanes.get(&id).is_some_and(|lane| lane.asks() == lane.queue.len()) {
            if self.idle >= asks {
                return Start::Call;
            }
            self.threads += 1;
            self.idle += 1;
            return Start::Thread;
        }
        self.watch()
    }

    /// Sees to it that there is a watcher, and that it looks.
    fn watch(&mut self) -> Start {
        match mem::replace(&mut self.watcher, Watcher::Awake) {
            Watcher::None => Start::Watcher,
            Watcher::Asleep => Start::Look,
            Watcher::Awake => Start::Nothing,
        }
    }

    fn take(&mut self, id: LaneId) -> Option<(LaneId, Job)> {
        let lane = self.lanes.get_mut(&id)?;
        let (_, job) = lane.queue.pop_front()?;
        lane.running += 1;
        self.running += 1;
        Some((id, job))
    }

    /// The next call that is to have a thread at once, of the lane that has the fewest.
    fn next(&mut self) -> Option<(LaneId, Job)> {
        let asking = self.lanes.iter().filter(|(_, lane)| lane.asks() > 0);
        let (id, _) = asking.min_by_key(|(_, lane)| lane.running)?;
        self.take(*id)
    }

    /// When the call that has waited the longest has come, of those lanes that may have one more.
    fn oldest(&self) -> Option<(Instant, LaneId)> {
        let lanes = self.lanes.iter().filter(|(_, lane)| {
            let others = self.running - lane.running;
            lane.running < (THREADS_MAX.saturating_sub(others) / 2).max(AT_ONCE)
        });
        lanes.filter_map(|(id, lane)| Some((lane.queue.front()?.0, *id))).min()
    }

    /// A call of this lane is over. Returns the next of the same lane, if that has waited too long:
    /// to end calls is what the threads of a slow lane are there for.
    fn finish(&mut self, id: LaneId) -> Option<(LaneId, Job)> {
        self.running -= 1;
        let lane = self.lanes.get_mut(&id).expect("a lane stays while it has calls");
        lane.running -= 1;
        if lane.running == 0 && lane.queue.is_empty() {
            self.lanes.remove(&id);
            return None;
        }
        let is_late = lane.queue.front().is_some_and(|(since, _)| since.elapsed() >= PATIENCE);
        if is_late { self.take(id) } else { None }
    }
}

/// Whether so few calls are about that none of them can keep another waiting, whatever its lane.
pub(super) fn are_few() -> bool {
    let state = lock();
    state.lanes.values().map(|lane| lane.running + lane.queue.len()).sum::<usize>() < AT_ONCE
}

/// Queues a call. `false` if there is no thread and none is to be had: then the caller has to do
/// what it has just queued, by [`run_all`].
pub(super) fn start(id: LaneId, job: Job) -> bool {
    let mut state = lock();
    state.lanes.entry(id).or_default().queue.push_back((Instant::now(), job));
    let start = state.call_up(id);
    drop(state);
    carry_out(start)
}

/// Must be called without the lock: on one core, whom it wakes runs in its place at once, and would
/// meet the lock and go back to sleep.
fn carry_out(start: Start) -> bool {
    let started = match start {
        Start::Nothing => return true,
        Start::Call => {
            WORKERS.arrived.notify_one();
            return true;
        }
        Start::Look => {
            WORKERS.watched.notify_one();
            return true;
        }
        Start::Thread => threads::start("ringhold-call".to_owned(), None, begin),
        Start::Watcher => threads::start("ringhold-call".to_owned(), None, watch),
    };
    if started.is_ok() {
        return true;
    }
    let mut state = lock();
    if start == Start::Thread {
        state.threads -= 1;
        state.idle -= 1;
    } else {
        state.watcher = Watcher::None;
    }
    state.threads > 0 || state.watcher != Watcher::None
}

/// Runs what is queued here, where no thread is to be had. That holds the caller up, and loses
/// nothing.
#[cold]
pub(super) fn run_all() {
    let mut state = lock();
    let mut next = state.next();
    while let Some((id, job)) = next {
        drop(state);
        (state, next) = run(id, job);
        next = next.or_else(|| state.next());
    }
}

fn begin() {
    let mut state = lock();
    state.idle -= 1;
    work(state, None);
}

fn work(mut state: StaticMutexGuard<'static, State>, mut next: Option<(LaneId, Job)>) {
    loop {
        if let Some((id, job)) = next.take().or_else(|| state.next()) {
            drop(state);
            (state, next) = run(id, job);
            continue;
        }
        state.idle += 1;
        let waited = WORKERS.arrived.wait_timeout(state, KEEP_ALIVE);
        let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.idle -= 1;
        if timeout.timed_out() {
            next = state.next();
            if next.is_none() {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// Runs a call, and says which one comes next, if one has to be of the same lane.
///
/// The ring is woken when the thread is free again, and without the lock: on one core the shard
/// runs in its place at once, and what it asks for next finds this thread, and not a second one.
fn run(id: LaneId, job: Job) -> (StaticMutexGuard<'static, State>, Option<(LaneId, Job)>) {
    let answers = job.run();
    let mut state = lock();
    let next = state.finish(id);
    if !answers.are_slept_on() {
        return (state, next);
    }
    state.idle += usize::from(next.is_none());
    drop(state);
    answers.wake();
    state = lock();
    state.idle -= usize::from(next.is_none());
    (state, next)
}

/// Waits until a call has waited too long, and then is one thread more.
fn watch() {
    let mut state = lock();
    let taken = loop {
        let oldest = state.oldest();
        let rest = match oldest {
            Some((since, id)) => match PATIENCE.checked_sub(since.elapsed()) {
                None | Some(Duration::ZERO) => break state.take(id),
                Some(rest) => rest,
            },
            None => KEEP_ALIVE,
        };
        state.watcher = if oldest.is_some() { Watcher::Awake } else { Watcher::Asleep };
        let waited = WORKERS.watched.wait_timeout(state, rest);
        let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.watcher = Watcher::Awake;
        if oldest.is_none() && timeout.timed_out() && state.oldest().is_none() {
            state.watcher = Watcher::None;
            return;
        }
    };
    state.watcher = Watcher::None;
    state.threads += 1;
    let start = if state.oldest().is_some() { state.watch() } else { Start::Nothing };
    drop(state);
    // Without another watcher the rest waits for a thread of its lane, or for the next call.
    carry_out(start);
    if let Some((id, job)) = taken {
        let (state, next) = run(id, job);
        work(state, next);
    }
}
