//! What of a shard is known to other threads, and outlives it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, PoisonError};

use ringhold_kernel::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};
use ringhold_kernel::sync::{Mutex, MutexGuard, Queue, StaticMutex, StaticMutexGuard};
use ringhold_kernel::{Cqe, Unpark};

use crate::driver::{DriverCounts, Key};
use crate::inbox::Message;
use crate::operation_error::OperationError;
use crate::task::TaskGroupCounts;
use crate::task::group::LaneCounts;

/// Names a shard, once and for all of the process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(u32);

impl ShardId {
    /// A name that no shard had before.
    pub(crate) fn next() -> ShardId {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ShardId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a shard stands. It only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Standing {
    Running = 0,
    /// It takes no more tasks, and drains.
    Stopping = 1,
    /// Every operation's final completion was seen.
    Drained = 2,
    /// The deadline of the drain passed: the kernel may still write, so what it may write to is
    /// leaked.
    Leaked = 3,
}

impl Standing {
    fn of(value: u8) -> Standing {
        match value {
            0 => Standing::Running,
            1 => Standing::Stopping,
            2 => Standing::Drained,
            3 => Standing::Leaked,
            other => panic!("a shard's standing is {other}"),
        }
    }
}

/// The side of a shard that every thread may reach: its inbox, and how to wake it.
pub(crate) struct Remote {
    id: ShardId,
    inbox: Queue<Message>,
    /// Set by the shard before it waits, cleared by who wakes it: only one of many senders makes
    /// the system call.
    asleep: AtomicBool,
    standing: AtomicU8,
    unparker: Arc<dyn Unpark>,
    /// Tasks that the shard has; others read it to choose where to spawn, and for the metrics.
    pub(crate) tasks: AtomicUsize,
    /// What the driver had counted when the shard last published it.
    counts: Mutex<DriverCounts>,
    /// What the shard counts of groups, the default group first; empty where there are none.
    lanes: Mutex<Vec<Arc<LaneCounts>>>,
    /// Completions that were not taken when the shard ended, for futures that outlive it.
    leftovers: Mutex<HashMap<Key, Cqe>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("id", &self.id)
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

impl Remote {
    pub(crate) fn new(unparker: Arc<dyn Unpark>) -> Arc<Remote> {
        let remote = Arc::new(Remote {
            id: ShardId::next(),
            inbox: Queue::new(),
            asleep: AtomicBool::new(false),
            standing: AtomicU8::new(Standing::Running as u8),
            unparker,
            tasks: AtomicUsize::new(0),
            counts: Mutex::default(),
            lanes: Mutex::default(),
            leftovers: Mutex::new(HashMap::new()),
        });
        shards().insert(remote.id, remote.clone());
        remote
    }

    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing::of(self.standing.load(Ordering::SeqCst))
    }

    /// Puts a message into the shard's inbox and wakes the shard if it sleeps.
    ///
    /// A shard that has ended takes nothing any more: then the message is refused here, by being
    /// dropped. Each message's drop does what is right for one that never arrived.
    pub(crate) fn send(&self, message: Message) {
        self.inbox.push(message);
        if matches!(self.standing(), Standing::Drained | Standing::Leaked) {
            // Whoever sees the end after having pushed empties the inbox: either the shard's own
            // last look found the message, or this one does.
            self.refuse_messages();
            return;
        }
        self.wake();
    }

    /// Ends the shard's current or next wait, unless it is known to be awake.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `prepare_to_sleep`: either the shard sees what was sent, or this
        // sees it asleep.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::SeqCst) {
            self.unparker.unpark();
        }
    }

    /// Takes a file out of the shard's table, and says whether it is out already.
    pub(crate) fn evict_file(&self, slot: u32) -> bool {
        self.unparker.evict(slot)
    }

    /// Tells the other threads what the driver has counted.
    pub(crate) fn publish(&self, counts: DriverCounts) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    pub(crate) fn counts(&self) -> DriverCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_lanes(&self) -> MutexGuard<'_, Vec<Arc<LaneCounts>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_lane(&self, counts: Arc<LaneCounts>) {
        self.lock_lanes().push(counts);
    }

    pub(crate) fn remove_lane(&self, counts: &Arc<LaneCounts>) {
        self.lock_lanes().retain(|known| !Arc::ptr_eq(known, counts));
    }

    pub(crate) fn remove_lanes(&self) {
        self.lock_lanes().clear();
    }

    pub(crate) fn group_counts(&self) -> Vec<TaskGroupCounts> {
        let mut counts: Vec<_> = self.lock_lanes().iter().map(|lane| lane.read()).collect();
        if let [default, others @ ..] = &mut counts[..] {
            let of_groups = others.iter().map(|group| group.alive).sum();
            default.alive = self.tasks.load(Ordering::Relaxed).saturating_sub(of_groups);
        }
        counts
    }

    pub(crate) fn receive(&self) -> Option<Message> {
        self.inbox.pop()
    }

    pub(crate) fn has_messages(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// The shard is about to wait. It must look for messages once more after this, and wait only if
    /// there are none.
    pub(crate) fn prepare_to_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// The shard takes no more tasks.
    pub(crate) fn stop(&self) {
        self.advance(Standing::Stopping);
    }

    fn advance(&self, to: Standing) {
        self.standing.fetch_max(to as u8, Ordering::SeqCst);
    }

    /// The shard has ended. Its record stays for as long as futures may come back to it.
    pub(crate) fn end(&self, standing: Standing, leftovers: Vec<(Key, Cqe)>) {
        self.lock_leftovers().extend(leftovers);
        self.advance(standing);
        self.refuse_messages();
        let nothing_owed = self.lock_leftovers().is_empty();
        if standing == Standing::Drained && nothing_owed {
            shards().remove(&self.id);
        }
    }

    fn refuse_messages(&self) {
        while let Some(message) = self.inbox.pop() {
            drop(message);
        }
    }

    fn lock_leftovers(&self) -> MutexGuard<'_, HashMap<Key, Cqe>> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The completion that a future of an ended shard is still owed.
    pub(crate) fn take_leftover(&self, key: Key) -> Option<io::Result<u32>> {
        let mut leftovers = self.lock_leftovers();
        let taken = leftovers.remove(&key);
        if leftovers.is_empty() && self.standing() == Standing::Drained {
            drop(leftovers);
            shards().remove(&self.id);
        }
        taken.map(|cqe| cqe.outcome().map_err(OperationError::explain_end))
    }
}

fn shards() -> StaticMutexGuard<'static, BTreeMap<ShardId, Arc<Remote>>> {
    static SHARDS: StaticMutex<BTreeMap<ShardId, Arc<Remote>>> = StaticMutex::new(BTreeMap::new());
    SHARDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shard of that name. `None` means that it ended, every final completion was seen, and nothing
/// is owed.
pub(crate) fn find(shard: ShardId) -> Option<Arc<Remote>> {
    shards().get(&shard).cloned()
}
