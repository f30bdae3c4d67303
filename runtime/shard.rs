//! A shard: an executor and a driver, as a value that is turned.

mod ending;
mod lanes;
mod pace;
mod settling;
#[cfg(all(test, not(loom)))]
mod tests;

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringhold_buffers::foreign::{self, ForeignWaker};
use slab::Slab;

use crate::arenas::{ArenaTable, Arenas};
use crate::context::{self, ShardScope};
use crate::driver::{Driver, DriverCounts, Due, Reclaimed};
use crate::inbox::Message;
use crate::local::Locals;
use crate::random::Random;
use crate::registry::{Remote, ShardId, Standing};
use crate::task::{Id, JoinHandle, Ran, RunQueue, TaskRef, budget, new_task, spawn};
use crate::time::clock::Clock;
use crate::time::wheel::{TimerKey, Wheel};
use lanes::{DEFAULT_LANE, Lanes};
use pace::{Pace, TURN_MAX};
use ringhold_kernel::{Kernel, Wait};
use settling::Settled;

pub(crate) use settling::{is_ending, settle};

/// How many tasks are polled before the kernel is entered again: enough to make one enter serve
/// many operations, and few enough that tasks that are always ready can't keep completions waiting.
/// Where polls take long there are fewer: see [`pace`].
const POLLS_A_TURN: u32 = 256;

/// Operations on cached data complete while they are submitted. As long as they do, a turn hands
/// over what is queued without getting ready to sleep, which saves two clock readings and two
/// fences; where nothing came at once twice in a row, turns submit and wait in one system call, and
/// look again every so many turns whether that still holds.
const TURNS_BETWEEN_EAGER: u32 = 64;
const EAGER_TURNS_IN_VAIN: u32 = 2;

/// As long as operations complete while they are submitted, rounds follow each other within a turn,
/// until there were this many polls: where few tasks are ready at once, what a turn does besides is
/// shared by as many polls as where many are.
const POLLS_BETWEEN_TURNS: u32 = 32;

/// While tasks are ready, timers are looked at after this many polls, since reading the clock costs
/// as much as a poll. Before a shard waits they always are, and before a task that has yielded is
/// polled again.
const POLLS_BETWEEN_TIMERS: u32 = 32;

/// How many timers fire, and how many messages are received, before the rest waits for the next
/// turn: who comes in crowds must not keep what else there is waiting.
const TIMERS_A_TURN: usize = 1024;
const MESSAGES_A_TURN: u32 = 1024;

/// A message may be a closure, which takes as long as it does: the clock is read after so many.
const MESSAGES_A_READING: u32 = 32;

/// Waits end at multiples of this, so that timers that are close together share a wake-up. A timer
/// is never early.
const TIMER_SLACK_NANOS: u64 = 1 << 16;

/// One core's part of a runtime.
pub struct Shard {
    id: ShardId,
    remote: Arc<Remote>,
    driver: RefCell<Driver>,
    ready: RunQueue,
    lanes: Lanes,
    pace: Pace,
    /// One reference to every task that is not complete.
    tasks: RefCell<Slab<TaskRef>>,
    timers: RefCell<Wheel>,
    clock: Arc<Clock>,
    due: RefCell<Vec<ForeignWaker>>,
    stopping: Cell<bool>,
    turns: Cell<u32>,
    /// How many more eager turns may be in vain.
    eager: Cell<u32>,
    polls_since_timers: Cell<u32>,
    random: Random,
    locals: Locals,
    settled: Settled,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Shard {
    pub(crate) fn new(
        kernel: Box<dyn Kernel>,
        arenas: Arc<Arenas>,
        clock: Arc<Clock>,
        seed: u64,
    ) -> Shard {
        let remote = Remote::new(kernel.unparker());
        clock.set_shard(&remote);
        let driver = Driver::new(kernel, ArenaTable::new(arenas), remote.clone());
        Shard {
            id: remote.id(),
            remote,
            driver: RefCell::new(driver),
            ready: RunQueue::default(),
            lanes: Lanes::default(),
            pace: Pace::default(),
            tasks: RefCell::new(Slab::with_capacity(64)),
            timers: RefCell::new(Wheel::new()),
            clock,
            due: RefCell::new(Vec::new()),
            stopping: Cell::new(false),
            turns: Cell::new(0),
            eager: Cell::new(EAGER_TURNS_IN_VAIN),
            polls_since_timers: Cell::new(0),
            random: Random::new(seed),
            locals: Locals::default(),
            settled: Settled::default(),
        }
    }

    /// The shard's name.
    #[inline]
    pub fn id(&self) -> ShardId {
        self.id
    }

    pub(crate) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    #[inline]
    pub(crate) fn driver(&self) -> &RefCell<Driver> {
        &self.driver
    }

    #[inline]
    pub(crate) fn random(&self) -> &Random {
        &self.random
    }

    #[inline]
    pub(crate) fn locals(&self) -> &Locals {
        &self.locals
    }

    /// What the driver counted since the shard started.
    pub fn counts(&self) -> DriverCounts {
        self.driver.borrow().counts()
    }

    #[inline]
    pub(crate) fn push_ready(&self, task: TaskRef) {
        self.ready.push(task);
    }

    /// Queues a task that has woken itself: it is polled again when the shard has looked what came.
    #[inline]
    pub(crate) fn push_yielded(&self, task: TaskRef) {
        self.ready.push_yielded(task);
    }

    /// Ends the loop that turns this shard.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    #[inline(always)]
    pub(crate) fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        let (queued, listed, joined) = new_task(future, Id::next(), self.remote.clone());
        self.remote.tasks.fetch_add(1, Ordering::Relaxed);
        if context::has_group() {
            self.join_current(&listed);
        }
        self.adopt(queued, listed);
        JoinHandle::new(joined)
    }

    /// Takes a task in, which is counted already.
    fn adopt(&self, queued: TaskRef, listed: TaskRef) {
        if self.remote.standing() != Standing::Running {
            self.remote.tasks.fetch_sub(1, Ordering::Relaxed);
            listed.shut_down();
            return;
        }
        let place = {
            let mut tasks = self.tasks.borrow_mut();
            let entry = tasks.vacant_entry();
            let place = entry.key();
            listed.set_place(place);
            entry.insert(listed);
            place
        };
        debug_assert!(place < usize::MAX);
        self.push_ready(queued);
    }

    /// One turn: messages, timers, then rounds of ready tasks, one enter, one batch of completions.
    /// There is one round, or as many as completions come at once.
    ///
    /// It waits for something to do if there is nothing, unless `is_awake` says that the caller has
    /// something.
    pub(crate) fn turn(&self, is_awake: &dyn Fn() -> bool) {
        let _scope = ShardScope::enter(self);
        self.turns.set(self.turns.get().wrapping_add(1));
        if self.turns.get().is_multiple_of(TURNS_BETWEEN_EAGER) {
            self.eager.set(self.eager.get().max(1));
            self.remote.publish(self.counts());
            self.sweep_lanes();
        }
        self.receive();
        self.fire_timers();
        self.ready.begin_round();
        self.pace.begin_turn();
        let before = spawn::set_running(None);
        let mut polls = 0;
        while self.round(is_awake, &mut polls) && polls < POLLS_BETWEEN_TURNS {}
        spawn::set_running(before);
        self.pace.end_turn(polls);
        // A turn without a poll counts as one: the caller's own future was polled, or completions
        // came.
        self.polls_since_timers.set(self.polls_since_timers.get().saturating_add(polls.max(1)));
    }

    /// Says whether another round may follow: operations completed while they were submitted, and
    /// tasks are ready.
    #[inline(always)]
    fn round(&self, is_awake: &dyn Fn() -> bool, polls: &mut u32) -> bool {
        self.run_ready(polls);
        let mut driver = self.driver.borrow_mut();
        let queued = driver.has_queued();
        let is_eager = queued && self.eager.get() > 0;
        if !is_eager && !self.has_ready() && !self.stopping.get() {
            drop(driver);
            self.wait(is_awake);
            self.reap(self.driver.borrow_mut());
            return false;
        }
        if !queued && !driver.kernel().needs_enter() {
            return false;
        }
        driver.enter(Wait::No);
        let woke_others = self.reap(driver);
        if self.has_ready() {
            self.eager.set(EAGER_TURNS_IN_VAIN);
            // Before those that yielded go on, the turn's beginning looks what else there is.
            return !self.ready.have_yielded();
        }
        let in_vain = self.eager.get().saturating_sub(1);
        self.eager.set(if woke_others { EAGER_TURNS_IN_VAIN } else { in_vain });
        false
    }

    #[inline]
    fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.lanes.have_ready()
    }

    #[inline]
    fn receive(&self) {
        if self.remote.has_messages() {
            self.receive_messages();
        }
    }

    fn receive_messages(&self) {
        // A message that is sent while these run waits for the next turn, so that messages can't
        // starve tasks.
        let mut received = 0;
        let mut began = None;
        while received < MESSAGES_A_TURN
            && let Some(message) = self.remote.receive()
        {
            received += 1;
            match message {
                Message::Wake(task) if task.is_aborted() => self.push_yielded(task),
                Message::Wake(task) => self.push_ready(task),
                Message::Adopt(adoption) => {
                    let (queued, listed, group) = adoption.accept();
                    self.join_lane(&listed, group);
                    self.adopt(queued, listed);
                }
                Message::Run(work) => work(self),
            }
            if received.is_multiple_of(MESSAGES_A_READING) {
                let now = self.driver.borrow().kernel().now();
                if now.saturating_duration_since(*began.get_or_insert(now)) >= TURN_MAX {
                    return;
                }
            }
        }
    }

    /// Polls the tasks that are ready, and counts the polls.
    #[inline(always)]
    fn run_ready(&self, polls: &mut u32) {
        if self.lanes.are_used() {
            *polls += self.run_lanes();
            return;
        }
        loop {
            let until = self.pace.until();
            while *polls < until {
                let Some(task) = self.ready.pop() else { return };
                *polls += 1;
                budget::refill();
                spawn::set_running(Some(task.id()));
                if let Ran::Complete { place } = task.run() {
                    self.forget(place);
                }
            }
            if !self.may_poll_on(polls) {
                return;
            }
        }
    }

    /// The future that is no task was polled.
    pub(crate) fn note_root_poll(&self, has_woken_itself: bool) {
        if self.pace.count_one() {
            self.read_clock();
        }
        if has_woken_itself {
            self.polls_since_timers.set(POLLS_BETWEEN_TIMERS);
        }
    }

    #[inline(always)]
    fn forget(&self, place: usize) {
        let task = self.tasks.borrow_mut().remove(place);
        if task.lane() != DEFAULT_LANE {
            self.lanes.leave(&task);
        }
        self.remote.tasks.fetch_sub(1, Ordering::Relaxed);
        // Freeing the task may run its output's destructor, so the borrow is over.
        drop(task);
    }

    /// The time, as the shard's clock has it.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Whether a test has moved the clock beyond what timers can count.
    pub(crate) fn time_is_over(&self) -> bool {
        self.clock.is_over()
    }

    /// Wakes who waits for a time that has come, unless it is too early to look again.
    #[inline]
    fn fire_timers(&self) {
        let look = self.polls_since_timers.get()
            >= self.pace.polls_between_timers().min(POLLS_BETWEEN_TIMERS)
            || self.ready.asks_for_a_look()
            || self.clock.is_altered();
        let has_timers = look && !self.timers.borrow().is_empty();
        if has_timers || self.pace.asks_for_a_reading() {
            let now = self.read_clock();
            if has_timers {
                self.fire_due_timers(now);
            }
        }
    }

    #[inline(never)]
    fn fire_due_timers(&self, now: Instant) {
        let altered = self.clock.is_altered();
        let now = if altered { self.clock.nanos_now() } else { self.clock.nanos_at(now) };
        let mut due = self.due.take();
        let is_all = self.timers.borrow_mut().expire(now, TIMERS_A_TURN, &mut due);
        self.polls_since_timers.set(if is_all { 0 } else { POLLS_BETWEEN_TIMERS });
        if !due.is_empty() {
            foreign::wake_all(due.drain(..));
        }
        self.due.replace(due);
    }

    pub(crate) fn insert_timer(&self, deadline: Instant, waker: ForeignWaker) -> TimerKey {
        self.timers.borrow_mut().insert(self.clock.nanos_at(deadline), waker)
    }

    pub(crate) fn set_timer_waker(
        &self,
        key: TimerKey,
        waker: ForeignWaker,
    ) -> Result<ForeignWaker, ForeignWaker> {
        self.timers.borrow_mut().set_waker(key, waker)
    }

    pub(crate) fn remove_timer(&self, key: TimerKey) {
        let waker = self.timers.borrow_mut().remove(key);
        drop(waker);
    }

    /// Nothing is ready: enters the kernel and waits for a completion, a message or the next timer.
    #[inline(never)]
    fn wait(&self, is_awake: &dyn Fn() -> bool) {
        // After a wait timers are always looked at.
        self.polls_since_timers.set(POLLS_BETWEEN_TIMERS);
        self.pace.forget();
        self.remote.publish(self.counts());
        self.sweep_lanes();
        self.remote.prepare_to_sleep();
        let wait = if self.has_work(is_awake) { Wait::No } else { self.wait_for(is_awake) };
        self.driver.borrow_mut().enter(wait);
        self.remote.awake();
    }

    fn has_work(&self, is_awake: &dyn Fn() -> bool) -> bool {
        self.remote.has_messages() || is_awake()
    }

    fn wait_for(&self, is_awake: &dyn Fn() -> bool) -> Wait {
        let idle = self.driver.borrow().in_flight() == 0;
        let Some(next) = self.timers.borrow().next() else {
            return Wait::For { timeout: None, idle };
        };
        if self.clock.is_paused() {
            return self.skip_to(next, idle, is_awake);
        }
        let now = self.clock.nanos_now();
        let wake_at = next.div_ceil(TIMER_SLACK_NANOS).saturating_mul(TIMER_SLACK_NANOS);
        match wake_at.saturating_sub(now) {
            0 => Wait::No,
            left => Wait::For { timeout: Some(Duration::from_nanos(left)), idle },
        }
    }

    /// A paused clock goes to the next timer at once, if nothing else could happen before it.
    fn skip_to(&self, next: u64, idle: bool, is_awake: &dyn Fn() -> bool) -> Wait {
        let is_due = next <= self.clock.nanos_now();
        let busy = self.driver.borrow().in_flight_bounded() > 0 || self.clock.is_held();
        if busy && !is_due {
            return Wait::For { timeout: None, idle };
        }
        // Who held the clock may have sent something before it let go.
        if !self.has_work(is_awake) {
            self.clock.advance_to(next);
        }
        Wait::No
    }

    /// Takes the completions that arrived. Tasks that waited for them are ready then; says whether
    /// others did.
    #[inline(always)]
    fn reap<'a>(&'a self, mut driver: RefMut<'a, Driver>) -> bool {
        let mut woke_others = false;
        loop {
            let more = driver.fetch();
            while let Some(due) = driver.next_due(self.ready.woken()) {
                woke_others |= matches!(due, Due::Wake(_));
                drop(driver);
                self.settle(due);
                driver = self.driver.borrow_mut();
            }
            if !more {
                return woke_others;
            }
        }
    }

    /// Does what the driver left to be done. It is free: foreign code may run, whose panic must not
    /// cost another its wake-up.
    #[inline(never)]
    fn settle(&self, due: Due) {
        // No task is running; between the rounds of tasks only what is called here could ask.
        spawn::set_running(None);
        match due {
            Due::Wake(waker) => waker.wake(),
            Due::Forget(task) => drop(task),
            Due::Release(reclaimed) => self.release(reclaimed),
        }
    }

    /// Finishes an operation whose future is gone, whatever a destructor of what it brought does.
    pub(crate) fn release(&self, (orphan, cqe): Reclaimed) {
        orphan.release(cqe.outcome());
    }

    /// Whether a turn would find something to do without any completion, message or timer to come.
    pub(crate) fn has_work_now(&self) -> bool {
        let driver = self.driver.borrow();
        let entered = !driver.has_queued() && !driver.kernel().needs_enter();
        self.remote.has_messages() || self.has_ready() || !entered
    }
}
