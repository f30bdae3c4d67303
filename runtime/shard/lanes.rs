//! The lanes of a shard: one for each group of tasks, and who is polled next.
//!
//! A shard without groups has no lanes: its tasks wait in its ready queue, first come, first
//! served. The first task of a group makes a lane for its group and one for all others. From then
//! on the ready queue is where woken tasks arrive, and before each poll they are sorted into their
//! lanes.
//!
//! Each lane has a virtual time: the time that its polls took, over its share of 1000. It is due at
//! that plus its goal, and the one that is due first is polled. A lane in which nothing was ready
//! takes part from where the others are when something is again (`floor`), so that nobody saves up
//! time; one that had used more than its share still waits for the others. Where the others are is
//! told by when they are due, and not by their time alone: a lane whose small goal let it run ahead
//! must not keep one that wakes often waiting as long each time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;

use crate::context::{self, GroupScope};
use crate::registry::{Remote, Standing};
use crate::shard::pace::TURN_MAX;
use crate::shard::{POLLS_A_TURN, Shard};
use crate::task::budget;
use crate::task::group::{DEFAULT_GOAL, LaneCounts, SHARES_MAX, Trace};
use crate::task::{Ran, ReadyQueue, RunQueue, TaskGroup, TaskRef, spawn};

/// The lane of the tasks that are in no group: the first one that is made, and the last to go.
pub(super) const DEFAULT_LANE: u32 = 0;
const DEFAULT: usize = DEFAULT_LANE as usize;

/// What a poll counts at least, so that groups whose polls are shorter than the clock can tell, or
/// whose clock stands still while they run, share polls.
const POLL_NANOS_MIN: u64 = 100;

/// The longest that polls follow each other before the kernel is entered.
const ROUND_NANOS_MAX: u64 = TURN_MAX.as_nanos() as u64;

/// What a poll counts for how long ago messages and timers were looked at: a poll that takes longer
/// counts as several.
const NANOS_A_POLL: u64 = 2000;

impl Shard {
    /// As [`Shard::run_ready`], where there are groups.
    #[inline(never)]
    pub(super) fn run_lanes(&self) -> u32 {
        let began = self.clock.nanos_now();
        let (mut now, mut polls) = (began, 0);
        // The smallest goal of those that were polled.
        let mut least_goal = u64::MAX;
        self.lanes.begin_round(&self.ready);
        while polls < POLLS_A_TURN && now.saturating_sub(began) < ROUND_NANOS_MAX {
            self.lanes.sort(&self.ready);
            let Some(turn) = self.lanes.next() else { break };
            if !turn.may_begin || (polls > 0 && self.gives_way(turn, least_goal, now)) {
                return POLLS_A_TURN;
            }
            least_goal = least_goal.min(turn.goal_nanos);
            polls += 1;
            let (task, group) = self.lanes.take(turn);
            let ran = run(task, group.as_deref());
            let after = self.clock.nanos_now();
            self.lanes.charge(turn, after.saturating_sub(now));
            now = after;
            if let Ran::Complete { place } = ran {
                self.forget(place);
            }
            if self.clock.is_altered() && self.is_over_though_time_is_altered() {
                return POLLS_A_TURN;
            }
        }
        let as_polls = now.saturating_sub(began) / NANOS_A_POLL;
        polls.max(as_polls.min(u64::from(POLLS_A_TURN)) as u32)
    }

    /// Whether the round ends before this turn, since something may be there for a lane with a
    /// smaller goal, or such a one has something for the kernel.
    ///
    /// Each round has one poll at least, so this keeps nobody waiting for ever.
    fn gives_way(&self, turn: Turn, least_goal: u64, now: u64) -> bool {
        let driver = self.driver.borrow();
        if least_goal < turn.goal_nanos && driver.has_queued() {
            return true;
        }
        turn.may_be_preempted
            && (driver.kernel().has_arrived()
                || self.remote.has_messages()
                || self.timers.borrow().next().is_some_and(|due| due <= now))
    }

    /// Puts a task that is about to be adopted into the lane of the group that is current.
    #[cold]
    pub(super) fn join_current(&self, task: &TaskRef) {
        self.join_lane(task, context::group());
    }

    /// Puts a task that is about to be adopted into its group's lane.
    pub(super) fn join_lane(&self, task: &TaskRef, group: Option<TaskGroup>) {
        if let Some(group) = group
            && self.remote.standing() == Standing::Running
        {
            self.lanes.join(task, group, &self.remote);
        }
    }

    pub(super) fn sweep_lanes(&self) {
        if self.lanes.are_used() {
            self.lanes.sweep(&self.ready, &self.remote);
        }
    }
}

/// Polls a task with its group as the current one.
fn run(task: TaskRef, group: Option<&TaskGroup>) -> Ran {
    budget::refill();
    spawn::set_running(Some(task.id()));
    let _scope = GroupScope::enter(group);
    task.run()
}

struct Lane {
    /// `None` for the default group.
    trace: Option<Trace>,
    /// Kept for as long as it has tasks here.
    group: Option<Rc<TaskGroup>>,
    ready: RunQueue,
    /// Nanoseconds that were used, times [`SHARES_MAX`], over the shares.
    virtual_nanos: u128,
    goal_nanos: u64,
    counts: Arc<LaneCounts>,
}

impl Lane {
    fn due(&self) -> u128 {
        self.virtual_nanos + u128::from(self.goal_nanos)
    }
}

/// Which lane's turn it is.
#[derive(Clone, Copy)]
struct Turn {
    lane: usize,
    goal_nanos: u64,
    /// A lane with a smaller goal has tasks, none of which is ready.
    may_be_preempted: bool,
    /// Not all of its tasks have yielded in this round.
    may_begin: bool,
}

#[derive(Default)]
pub(super) struct Lanes {
    lanes: RefCell<Slab<Lane>>,
    are_used: Cell<bool>,
    /// How many tasks are in the lanes.
    queued: Cell<usize>,
    /// The virtual time at which a lane without a goal would be due with the first.
    floor: Cell<u128>,
}

impl Lanes {
    /// Whether there are groups.
    #[inline]
    pub(super) fn are_used(&self) -> bool {
        self.are_used.get()
    }

    #[inline]
    pub(super) fn have_ready(&self) -> bool {
        self.queued.get() > 0
    }

    /// Takes in a task of a group.
    fn join(&self, task: &TaskRef, group: TaskGroup, remote: &Remote) {
        let mut lanes = self.lanes.borrow_mut();
        let is_its = |lane: &Lane| lane.trace.as_ref().is_some_and(|trace| trace.is_of(&group));
        let known = lanes.iter().find(|(_, lane)| is_its(lane)).map(|(index, _)| index);
        let index = known.unwrap_or_else(|| self.make(&mut lanes, &group, remote));
        let lane = &mut lanes[index];
        lane.counts.set_alive(lane.counts.alive() + 1);
        lane.group.get_or_insert_with(|| Rc::new(group));
        task.set_lane(u32::try_from(index).expect("there are fewer groups than that"));
    }

    fn make(&self, lanes: &mut Slab<Lane>, group: &TaskGroup, remote: &Remote) -> usize {
        sweep(lanes, remote);
        if lanes.is_empty() {
            let counts = LaneCounts::new(Arc::from("default"), SHARES_MAX);
            let goal_nanos = DEFAULT_GOAL.as_nanos() as u64;
            let index = self.insert(lanes, None, goal_nanos, counts, remote);
            assert_eq!(index, DEFAULT, "the first lane is the default group's");
            self.are_used.set(true);
        }
        self.insert(lanes, Some(group.trace()), group.goal_nanos(), group.lane_counts(), remote)
    }

    fn insert(
        &self,
        lanes: &mut Slab<Lane>,
        trace: Option<Trace>,
        goal_nanos: u64,
        counts: Arc<LaneCounts>,
        remote: &Remote,
    ) -> usize {
        remote.add_lane(counts.clone());
        let virtual_nanos = self.floor.get();
        let ready = RunQueue::default();
        lanes.insert(Lane { trace, group: None, ready, virtual_nanos, goal_nanos, counts })
    }

    /// A task of a group is complete.
    #[cold]
    pub(super) fn leave(&self, task: &TaskRef) {
        let mut lanes = self.lanes.borrow_mut();
        let lane = &mut lanes[task.lane() as usize];
        let left = lane.counts.alive() - 1;
        lane.counts.set_alive(left);
        if left == 0 {
            lane.group = None;
        }
    }

    /// Forgets the groups that are gone; without any the shard is as if there had never been one.
    #[cold]
    fn sweep(&self, arrivals: &RunQueue, remote: &Remote) {
        let mut lanes = self.lanes.borrow_mut();
        sweep(&mut lanes, remote);
        if lanes.len() == 1 {
            // What is in the default lane came before what arrived since.
            let default = lanes.remove(DEFAULT);
            lanes.clear();
            default.ready.take_all(arrivals);
            arrivals.take_all(&default.ready);
            remote.remove_lane(&default.counts);
            self.queued.set(0);
            self.are_used.set(false);
        }
    }

    /// Sorts the tasks that have arrived into their lanes.
    fn sort(&self, arrivals: &RunQueue) {
        self.sort_list(arrivals.woken(), RunQueue::push);
        for yielded in arrivals.yielded() {
            self.sort_list(yielded, RunQueue::push_yielded);
        }
    }

    fn sort_list(&self, arrivals: &ReadyQueue, push: fn(&RunQueue, TaskRef)) {
        if arrivals.is_empty() {
            return;
        }
        let mut lanes = self.lanes.borrow_mut();
        while let Some(task) = arrivals.pop() {
            // A complete task may come when its group is gone.
            let index = task.lane() as usize;
            let index = if lanes.contains(index) { index } else { DEFAULT };
            let lane = &mut lanes[index];
            if lane.ready.is_empty() {
                lane.virtual_nanos = lane.virtual_nanos.max(self.floor.get());
            }
            push(&lane.ready, task);
            lane.counts.set_ready(lane.counts.ready() + 1);
            self.queued.set(self.queued.get() + 1);
        }
    }

    /// The shard has looked what came.
    fn begin_round(&self, arrivals: &RunQueue) {
        self.sort(arrivals);
        self.lanes.borrow().iter().for_each(|(_, lane)| lane.ready.begin_round());
    }

    /// Whose turn it is; `None` if nothing is ready.
    fn next(&self) -> Option<Turn> {
        let lanes = self.lanes.borrow();
        let mut first: Option<(usize, &Lane)> = None;
        let mut least_goal = u64::MAX;
        for (index, lane) in lanes.iter() {
            if lane.ready.is_empty() {
                if lane.counts.alive() > 0 {
                    least_goal = least_goal.min(lane.goal_nanos);
                }
                continue;
            }
            if first.is_none_or(|(_, first)| lane.due() < first.due()) {
                first = Some((index, lane));
            }
        }
        let (index, lane) = first?;
        let floor = lane.due().saturating_sub(DEFAULT_GOAL.as_nanos());
        self.floor.set(self.floor.get().max(floor));
        Some(Turn {
            lane: index,
            goal_nanos: lane.goal_nanos,
            may_be_preempted: least_goal < lane.goal_nanos,
            may_begin: lane.ready.has_turn(),
        })
    }

    /// Takes the task whose turn it is, and its group.
    fn take(&self, turn: Turn) -> (TaskRef, Option<Rc<TaskGroup>>) {
        let lanes = self.lanes.borrow();
        let lane = &lanes[turn.lane];
        let task = lane.ready.pop().expect("a lane whose turn it is has a task");
        lane.counts.set_ready(lane.counts.ready() - 1);
        if let Some(group) = &lane.group {
            lane.counts.set_shares(group.shares());
        }
        self.queued.set(self.queued.get() - 1);
        (task, lane.group.clone())
    }

    /// The poll of the task whose turn it was took this long.
    fn charge(&self, turn: Turn, nanos: u64) {
        let mut lanes = self.lanes.borrow_mut();
        // A task that was complete already may have been the last to know of its lane.
        let Some(lane) = lanes.get_mut(turn.lane) else { return };
        let used = u128::from(nanos.max(POLL_NANOS_MIN)) * u128::from(SHARES_MAX);
        lane.virtual_nanos += used / u128::from(lane.counts.shares());
        lane.counts.note_poll(nanos);
    }

    /// Drops all that is queued.
    pub(super) fn clear(&self) {
        if !self.are_used() {
            return;
        }
        while let Some(task) = self.pop_any() {
            // Its destructor may queue others.
            drop(task);
        }
    }

    fn pop_any(&self) -> Option<TaskRef> {
        let task = self.lanes.borrow().iter().find_map(|(_, lane)| lane.ready.take_any());
        self.queued.set(self.queued.get() - usize::from(task.is_some()));
        task
    }
}

fn sweep(lanes: &mut Slab<Lane>, remote: &Remote) {
    lanes.retain(|_, lane| {
        let is_gone = lane.trace.as_ref().is_some_and(Trace::is_gone);
        let stays = !is_gone || lane.counts.alive() > 0 || !lane.ready.is_empty();
        if !stays {
            remote.remove_lane(&lane.counts);
        }
        stays
    });
}
