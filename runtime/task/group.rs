//! Groups of tasks, which share a shard's time by their weights.

mod counts;

use std::fmt;
use std::future::Future;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ringhold_buffers::{LeaseGroup, Reserve};

use crate::context::{self, GroupScope};
use crate::task::{self, JoinHandle};

pub(crate) use counts::LaneCounts;
pub use counts::TaskGroupCounts;

/// The most shares that a group can have, and what the default group has.
pub(crate) const SHARES_MAX: u32 = 1000;

/// The latency goal of a group that was given none.
pub(crate) const DEFAULT_GOAL: Duration = Duration::from_millis(10);

/// A named group of tasks, with its shares of each shard's time and its latency goal.
///
/// Tasks of one shard take turns, and the groups decide whose turn it is: so a compaction, which
/// could keep a core busy for minutes, delays the reads beside it by one poll at a time. Groups
/// hold on every shard on its own; no task moves for their sake. A task that is spawned by a task
/// of a group is of that group as well. All other tasks are in the default group, which has 1000
/// shares and no goal of its own.
///
/// Cloning a `TaskGroup` gives another handle of the same group. A shard to which no task of any
/// group has come yet, or whose groups have neither tasks nor handles any more, doesn't pay for
/// them. On others each poll costs a reading of the clock and a look at each group: they are made
/// for a handful of classes, and not for one a request.
///
/// # Shares
///
/// While several groups of a shard have tasks that are ready, each gets CPU time in proportion to
/// its shares, a number from 1 to 1000: beside a group of 900 one of 100 gets a tenth. Time that
/// nobody else wants goes to whoever wants it. It is not saved up: a group that comes back from a
/// pause takes part from then on, and gets nothing for the time that it was away.
///
/// The time is that from the beginning of a poll to its end, at least 100 ns a poll; what the
/// kernel does between polls, and closures on threads for blocking, don't count. A poll is never
/// interrupted, so others wait for all of it: a task that computes for long awaits
/// [`yield_now`](super::yield_now) every 100 µs, say.
///
/// # The latency goal
///
/// Among groups that are within their shares, those with the smallest goal are polled first; a
/// group without a goal counts as one of 10 ms. In exact terms, a group is due at what it has used,
/// divided by its share of 1000, plus its goal, and who is due first is polled. So a group with a
/// goal of 1 ms and 500 shares can be ahead of the others by (10 ms − 1 ms) × 500/1000, which is
/// 4.5 ms of CPU time in one piece, before its shares hold it back.
///
/// Before each poll of a task whose group has a larger goal than another that has tasks, the shard
/// looks whether completions, messages of other threads or timers have come, which takes no system
/// call; only if something has, it enters the kernel. What a task of the group with the goal has
/// begun is handed to the kernel first. So a task with a small goal that is woken waits for one
/// poll of another group at most, as long as its group is within its shares.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_runtime::task::{TaskGroup, yield_now};
/// use std::time::Duration;
///
/// let reads =
///     TaskGroup::builder("reads").shares(900).latency_goal(Duration::from_millis(1)).build();
/// let compaction = TaskGroup::builder("compaction").shares(100).build();
///
/// let merged = compaction.spawn(async {
///     let mut merged = 0_u64;
///     for block in 0..1000 {
///         merged += block;
///         yield_now().await;
///     }
///     merged
/// });
/// let read = reads.spawn(async { "a value" });
///
/// assert_eq!(read.await.unwrap(), "a value");
/// assert!(!merged.is_finished());
/// assert_eq!(merged.await.unwrap(), 499_500);
/// # }).unwrap();
/// ```
///
/// # Leases
///
/// A task that asks for a lease while others wait stands in the queue of its group. Of the groups
/// that wait, the one that was given the fewest bytes for its shares comes next. So a compaction of
/// 100 shares that waits for large buffers doesn't stand before the reads of 900.
///
/// What is leased is not taken back, so shares alone don't help where a compaction has leased
/// everything. A group with a latency goal therefore has a reserve, of a sixteenth of the pool, or
/// what [`lease_reserve`](TaskGroupBuilder::lease_reserve) says: others get nothing that it has not
/// used. The reserves of all groups together are at most half of a pool, and a lease that could not
/// be had otherwise may take of them.
///
/// # What is of no group
///
/// The future of `#[runtime::main]`, `Builder::run` or `block_on` is no task. It is polled once a
/// turn, which is after 500 µs of polls at most.
#[derive(Clone)]
pub struct TaskGroup {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    shares: AtomicU32,
    goal: Option<Duration>,
    leasing: Arc<LeaseGroup>,
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("name", &self.name())
            .field("shares", &self.shares())
            .field("latency_goal", &self.latency_goal())
            .finish()
    }
}

/// Two handles are equal if they are of the same group, whatever it is called.
impl PartialEq for TaskGroup {
    fn eq(&self, other: &TaskGroup) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for TaskGroup {}

/// Configures a [`TaskGroup`].
#[derive(Clone, Debug)]
#[must_use = "a builder makes no group before `build`"]
pub struct TaskGroupBuilder {
    name: Arc<str>,
    shares: u32,
    goal: Option<Duration>,
    reserve: Option<usize>,
}

impl TaskGroupBuilder {
    /// How much of each shard's time the group gets beside others: 1 to 1000, by default 1000.
    ///
    /// # Panics
    ///
    /// If `shares` is not in that range.
    #[track_caller]
    pub fn shares(mut self, shares: u32) -> TaskGroupBuilder {
        check(shares);
        self.shares = shares;
        self
    }

    /// How soon a task of the group that is woken should be polled. See
    /// [the group](TaskGroup#the-latency-goal) for what that means; without one it is 10 ms.
    pub fn latency_goal(mut self, goal: Duration) -> TaskGroupBuilder {
        self.goal = Some(goal);
        self
    }

    /// How many bytes of each pool stay free for leases of the group. See
    /// [the group](TaskGroup#leases); without it, it is a sixteenth of the pool for a group with a
    /// latency goal, and nothing for others.
    pub fn lease_reserve(mut self, bytes: usize) -> TaskGroupBuilder {
        self.reserve = Some(bytes);
        self
    }

    /// Makes the group. Its reserve holds from now on in the pools of the runtime that is entered,
    /// and elsewhere from its first lease on.
    pub fn build(self) -> TaskGroup {
        let TaskGroupBuilder { name, shares, goal, reserve } = self;
        let reserve = match reserve {
            Some(0) => Reserve::Nothing,
            Some(bytes) => Reserve::Bytes(bytes),
            None if goal.is_some() => Reserve::Sixteenth,
            None => Reserve::Nothing,
        };
        let leasing = LeaseGroup::new(shares, reserve);
        if reserve != Reserve::Nothing
            && let Some(handle) = context::handle()
        {
            handle.shared().pools.welcome(&leasing);
        }
        TaskGroup { inner: Arc::new(Inner { name, shares: AtomicU32::new(shares), goal, leasing }) }
    }
}

#[track_caller]
fn check(shares: u32) {
    let range = 1..=SHARES_MAX;
    assert!(range.contains(&shares), "a group has 1 to {SHARES_MAX} shares, and not {shares}");
}

impl TaskGroup {
    /// Configures a group of this name, which doesn't have to be unique: it is for whoever reads
    /// the metrics.
    pub fn builder(name: impl Into<String>) -> TaskGroupBuilder {
        TaskGroupBuilder {
            name: Arc::from(name.into()),
            shares: SHARES_MAX,
            goal: None,
            reserve: None,
        }
    }

    /// The group of the task that is running, or of the innermost [`scope`](TaskGroup::scope)
    /// around the call; `None` for the default group, and where there is neither.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use ringhold_runtime::task::{TaskGroup, spawn};
    ///
    /// let scrub = TaskGroup::builder("scrub").shares(50).build();
    /// let of_child = scrub.spawn(async { spawn(async { TaskGroup::current() }).await.unwrap() });
    /// assert_eq!(of_child.await.unwrap(), Some(scrub));
    /// assert_eq!(TaskGroup::current(), None);
    /// # }).unwrap();
    /// ```
    pub fn current() -> Option<TaskGroup> {
        context::group()
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The group's shares.
    pub fn shares(&self) -> u32 {
        self.inner.shares.load(Ordering::Relaxed)
    }

    /// Changes the group's shares, 1 to 1000, from the next poll of each of its tasks on: a
    /// controller gives a compaction that falls behind more, and takes it back later. What was used
    /// before counts as it did.
    ///
    /// ```
    /// use ringhold_runtime::task::TaskGroup;
    ///
    /// let compaction = TaskGroup::builder("compaction").shares(100).build();
    /// compaction.set_shares(400);
    /// assert_eq!(compaction.shares(), 400);
    /// ```
    ///
    /// # Panics
    ///
    /// If `shares` is not in that range.
    #[track_caller]
    pub fn set_shares(&self, shares: u32) {
        check(shares);
        self.inner.shares.store(shares, Ordering::Relaxed);
        self.inner.leasing.set_shares(shares);
    }

    /// The group's latency goal, if it was given one.
    pub fn latency_goal(&self) -> Option<Duration> {
        self.inner.goal
    }

    /// Calls `f`, and makes everything that it spawns, by whatever function, a member of the group.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use ringhold_runtime::task::{JoinSet, TaskGroup};
    ///
    /// let scrub = TaskGroup::builder("scrub").shares(50).build();
    /// let mut set = JoinSet::new();
    /// scrub.scope(|| set.spawn(async { TaskGroup::current().unwrap().name().to_owned() }));
    /// assert_eq!(set.join_next().await.unwrap().unwrap(), "scrub");
    /// # }).unwrap();
    /// ```
    pub fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        let _scope = GroupScope::enter(Some(self));
        f()
    }

    /// Spawns a task of the group, as [`spawn`](super::spawn) does.
    ///
    /// # Panics
    ///
    /// Where no runtime is entered.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let _scope = GroupScope::enter(Some(self));
        task::spawn(future)
    }

    /// Spawns a task of the group that doesn't have to be `Send`, as
    /// [`spawn_local`](super::spawn_local) does.
    ///
    /// # Panics
    ///
    /// Where no shard is running.
    #[track_caller]
    pub fn spawn_local<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let _scope = GroupScope::enter(Some(self));
        task::spawn_local(future)
    }

    /// Spawns on shard number `shard` what `make` returns there, as a task of the group, as
    /// [`spawn_on`](super::spawn_on) does.
    ///
    /// # Panics
    ///
    /// Where no runtime is entered, or where it has no such shard.
    #[track_caller]
    pub fn spawn_on<M, F>(&self, shard: usize, make: M) -> JoinHandle<F::Output>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let _scope = GroupScope::enter(Some(self));
        task::spawn_on(shard, make)
    }

    /// As the pools know it.
    pub(crate) fn leasing(&self) -> &Arc<LeaseGroup> {
        &self.inner.leasing
    }

    pub(crate) fn trace(&self) -> Trace {
        Trace(Arc::downgrade(&self.inner))
    }

    /// Fresh counts for a lane of the group.
    pub(crate) fn lane_counts(&self) -> Arc<LaneCounts> {
        LaneCounts::new(self.inner.name.clone(), self.shares())
    }

    /// The goal as lanes count it, in nanoseconds.
    pub(crate) fn goal_nanos(&self) -> u64 {
        let goal = self.inner.goal.unwrap_or(DEFAULT_GOAL).as_nanos();
        u64::try_from(goal).unwrap_or(u64::MAX)
    }
}

/// Knows a group without keeping it alive.
pub(crate) struct Trace(Weak<Inner>);

impl Trace {
    pub(crate) fn is_of(&self, group: &TaskGroup) -> bool {
        ptr::eq(self.0.as_ptr(), Arc::as_ptr(&group.inner))
    }

    /// Whether the group has neither a handle nor a task any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}
