//! Operations that are started, polled or dropped away from their shard.
//!
//! The request goes to a shard as a message, and the outcome comes back through a small shared
//! cell. Only this path allocates, and only this path locks.

#[cfg(all(test, not(loom)))]
mod tests;

use std::io;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use ringhold_buffers::foreign::ForeignWaker;
use ringhold_kernel::sync::{Mutex, MutexGuard};

use crate::collector::Collector;
use crate::context;
use crate::driver::{Key, Nature, Request, Taken, Waiter, shut_down};
use crate::fd::Fd;
use crate::inbox::Message;
use crate::op::{Custody, Entry};
use crate::operation_error::OperationError;
use crate::registry::{self, Remote, ShardId, Standing};
use crate::shard::Shard;

/// The cell between an operation's future and the shard where the operation runs.
pub(crate) struct Away {
    remote: Arc<Remote>,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// Known once the shard has started the operation.
    key: Option<Key>,
    outcome: Option<io::Result<u32>>,
    waker: Option<ForeignWaker>,
}

/// Starts an operation on a shard of the entered runtime.
///
/// # Errors
///
/// Where the shard has ended and refuses it at once. Whoever begins another operation after each
/// that failed, as [`Waiting`](crate::waiting::Waiting) does, would never hear of the end else.
pub(crate) fn start(
    entry: Entry,
    request: Request<'_>,
    waker: ForeignWaker,
) -> io::Result<Arc<Away>> {
    let remote = context::handle_or_panic().any_shard();
    let progress = Progress { waker: Some(waker), ..Progress::default() };
    let away = Arc::new(Away { remote, progress: Mutex::new(progress) });
    let mut parcel = Parcel::new(entry, request);
    let mut unstarted = Unstarted(Some(away.clone()));
    away.remote.send(Message::Run(Box::new(move |shard| {
        let away = unstarted.0.take().expect("a message runs once");
        let waiter = Waiter::Other(Waker::from(away.clone()).into());
        let started = parcel.start(shard, waiter);
        match started {
            Ok(key) => away.lock().key = Some(key),
            Err(error) => away.resolve(Err(error)),
        }
    })));
    if matches!(away.remote.standing(), Standing::Drained | Standing::Leaked)
        && let Some(Err(error)) = away.lock().outcome.take_if(|outcome| outcome.is_err())
    {
        return Err(error);
    }
    Ok(away)
}

/// Follows an operation that was started on `shard` and is now polled elsewhere.
pub(crate) fn follow(shard: ShardId, key: Key, waker: ForeignWaker) -> Arc<Away> {
    let found = registry::find(shard);
    let ended = found.is_none();
    let remote = found.unwrap_or_else(|| context::handle_or_panic().any_shard());
    let progress = Progress { key: Some(key), waker: Some(waker), outcome: None };
    let away = Arc::new(Away { remote, progress: Mutex::new(progress) });
    if ended {
        away.resolve(Err(shut_down()));
        return away;
    }
    let mut unfollowed = Unfollowed { away: Some(away.clone()), key };
    away.remote.send(Message::Run(Box::new(move |shard| {
        let away = unfollowed.away.take().expect("a message runs once");
        let waiter = Waiter::Other(Waker::from(away.clone()).into());
        let (old, collects) = {
            let mut driver = shard.driver().borrow_mut();
            (driver.set_waiter(key, waiter), driver.collects(key))
        };
        drop(old);
        // The completion may have come first.
        away.look(shard);
        if collects {
            // And so may others before it, which have woken who polled before.
            away.wake_future();
        }
    })));
    away
}

/// Sends the resources of a dropped operation home, where its slot keeps them until the final
/// completion.
pub(crate) fn abandon(shard: ShardId, key: Key, orphan: Custody, cancellable: bool) {
    let orphan = context::with_shard(|current| match current {
        Some(current) if current.id() == shard => {
            abandon_here(current, key, orphan, cancellable);
            None
        }
        _ => Some(orphan),
    });
    let Some(orphan) = orphan else { return };
    match registry::find(shard) {
        Some(remote) => send_home(&remote, key, orphan, cancellable),
        // The shard ended, and the operation's final completion was seen there.
        None => orphan.release(Err(shut_down())),
    }
}

fn abandon_here(shard: &Shard, key: Key, orphan: Custody, cancellable: bool) {
    let closing = orphan.last_of();
    let (due, waiter) = shard.driver().borrow_mut().abandon(key, orphan, cancellable);
    drop(waiter);
    if let Some(due) = due {
        shard.release(due);
    }
    // Whoever had the file has dropped it: it is closed as soon as the kernel lets go of it.
    if let Some(file) = closing {
        file.settle();
    }
}

fn send_home(remote: &Arc<Remote>, key: Key, orphan: Custody, cancellable: bool) {
    let mut parcel = Homeward { remote: remote.clone(), key, orphan: Some(orphan) };
    remote.send(Message::Run(Box::new(move |shard| {
        let orphan = parcel.orphan.take().expect("a message runs once");
        abandon_here(shard, key, orphan, cancellable);
    })));
}

impl Away {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<io::Result<u32>> {
        let waker = ForeignWaker::of(cx.waker());
        let mut progress = self.lock();
        if let Some(outcome) = progress.outcome.take() {
            return Poll::Ready(outcome);
        }
        let old = progress.waker.replace(waker);
        drop(progress);
        drop(old);
        Poll::Pending
    }

    /// The future is gone.
    pub(crate) fn abandon(self: Arc<Away>, orphan: Custody, cancellable: bool) {
        let (outcome, _waker) = {
            let mut progress = self.lock();
            (progress.outcome.take(), progress.waker.take())
        };
        if let Some(outcome) = outcome {
            orphan.release(outcome);
            return;
        }
        let mut parcel = Stranded { away: self.clone(), orphan: Some(orphan) };
        self.remote.send(Message::Run(Box::new(move |shard| {
            let away = parcel.away.clone();
            let orphan = parcel.orphan.take().expect("a message runs once");
            // The message that started the operation came before this one, so it has a key or an
            // outcome.
            let (key, outcome) = {
                let mut progress = away.lock();
                (progress.key, progress.outcome.take())
            };
            match (outcome, key) {
                (Some(outcome), _) => orphan.release(outcome),
                (None, Some(key)) => abandon_here(shard, key, orphan, cancellable),
                (None, None) => panic!("an operation was dropped before its shard had heard of it"),
            }
        })));
    }

    fn resolve(&self, outcome: io::Result<u32>) {
        self.lock().outcome.get_or_insert(outcome);
        self.wake_future();
    }

    fn wake_future(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// On the operation's shard: carries the completion over, if it is there.
    fn look(self: &Arc<Away>, shard: &Shard) {
        let Some(key) = self.lock().key else { return };
        if self.lock().outcome.is_some() {
            return;
        }
        let mine = Waker::from(self.clone());
        let taken = shard.driver().borrow_mut().try_take(key, &mine);
        match taken {
            Some(Taken::Done(cqe)) => {
                self.resolve(cqe.outcome().map_err(OperationError::explain));
            }
            // A completion before the last one has taken the waker.
            Some(Taken::NewWaiter) => {
                let old = shard.driver().borrow_mut().set_waiter(key, Waiter::Other(mine.into()));
                drop(old);
                self.wake_future();
            }
            Some(Taken::Pending) | None => {}
        }
    }
}

/// Woken by the driver on the operation's shard when the completion is there.
impl Wake for Away {
    fn wake(self: Arc<Away>) {
        context::with_shard(|shard| {
            if let Some(shard) = shard
                && shard.id() == self.remote.id()
            {
                self.look(shard);
            }
        });
    }
}

/// A request that can wait in an inbox.
struct Parcel {
    entry: Entry,
    file: Option<Fd>,
    arena: Option<ringhold_buffers::ArenaId>,
    nature: Nature,
    fixed_only: bool,
    collector: Option<Arc<dyn Collector>>,
}

impl Parcel {
    fn new(entry: Entry, request: Request<'_>) -> Parcel {
        let Request { file, arena, nature, fixed_only, collector } = request;
        let (file, collector) = (file.cloned(), collector.cloned());
        Parcel { entry, file, arena, nature, fixed_only, collector }
    }

    fn start(&mut self, shard: &Shard, waiter: Waiter) -> io::Result<Key> {
        let Parcel { entry, file, arena, nature, fixed_only, collector } = self;
        let request = Request {
            file: file.as_ref(),
            arena: *arena,
            nature: *nature,
            fixed_only: *fixed_only,
            collector: collector.as_ref(),
        };
        // Released before the waiter is dropped, where nothing is started.
        let mut driver = shard.driver().borrow_mut();
        driver.prepare(entry, request)?;
        Ok(driver.start(entry, request, waiter))
    }
}

/// An operation whose start was refused was never the kernel's.
struct Unstarted(Option<Arc<Away>>);

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(away) = self.0.take() {
            away.resolve(Err(shut_down()));
        }
    }
}

/// An operation whose shard ended before it could be followed there is owed what the shard left
/// behind.
struct Unfollowed {
    away: Option<Arc<Away>>,
    key: Key,
}

impl Drop for Unfollowed {
    fn drop(&mut self) {
        let Some(away) = self.away.take() else { return };
        let left = away.remote.take_leftover(self.key);
        if left.is_none() && away.remote.standing() == Standing::Leaked {
            // The kernel may still have the buffer: the future stays pending, and leaks it when it
            // is dropped.
            return;
        }
        away.resolve(left.unwrap_or_else(|| Err(shut_down())));
    }
}

/// Resources on their way home. If the shard ended meanwhile, they are free if it drained, and
/// leaked if not.
struct Homeward {
    remote: Arc<Remote>,
    key: Key,
    orphan: Option<Custody>,
}

impl Drop for Homeward {
    fn drop(&mut self) {
        if let Some(orphan) = self.orphan.take() {
            release_or_leak(orphan, self.remote.take_leftover(self.key), &self.remote);
        }
    }
}

/// As [`Homeward`], for an operation that was away: the key is in the cell.
struct Stranded {
    away: Arc<Away>,
    orphan: Option<Custody>,
}

impl Drop for Stranded {
    fn drop(&mut self) {
        let Some(orphan) = self.orphan.take() else { return };
        let (key, outcome) = {
            let mut progress = self.away.lock();
            (progress.key, progress.outcome.take())
        };
        let remote = &self.away.remote;
        release_or_leak(orphan, outcome.or_else(|| remote.take_leftover(key?)), remote);
    }
}

/// What the ended shard left behind is the outcome; without one, the kernel is done with the
/// operation exactly if the shard drained.
fn release_or_leak(orphan: Custody, left: Option<io::Result<u32>>, remote: &Remote) {
    match left {
        Some(outcome) => orphan.release(outcome),
        None if remote.standing() == Standing::Leaked => orphan.leak(),
        None => orphan.release(Err(shut_down())),
    }
}
