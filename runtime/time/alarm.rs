//! One timer in the wheel of some shard, for a future that may be polled and dropped anywhere.
//!
//! ```text
//!              polled on a shard                 polled on another: cleared there, set here
//!   Nowhere ───────────────────────► Here{shard} ──────────────────────────────► Here{shard}
//!     │  ▲         fired, cleared         │  ▲
//!     │  ├────────────────────────────────┤  │ polled on a shard
//!     │  │                                ▼  │
//!     └──┴────────────────────────────► Away(cell)     polled, or reset, elsewhere
//!              polled off any shard
//! ```
//!
//! An alarm is in the wheel of the shard where it was polled last. A poll off any shard sends a
//! bell to a shard of the entered runtime, which puts it into its own wheel; only that path
//! allocates.

use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use ringhold_buffers::foreign::ForeignWaker;
use ringhold_kernel::sync::{Mutex, MutexGuard};

use crate::context;
use crate::inbox::Message;
use crate::registry::{self, Remote, ShardId};
use crate::shard::Shard;
use crate::time::wheel::TimerKey;

/// Wakes whoever polled it last, once its time has come.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    place: Place,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Nowhere,
    Here {
        shard: ShardId,
        key: TimerKey,
    },
    Away(Arc<Away>),
}

impl Alarm {
    pub(super) fn new() -> Alarm {
        Alarm::default()
    }

    /// Sets the alarm if it is not set, or wakes another waker if it is. Ready once the alarm that
    /// was set has gone off; the next poll sets it anew.
    ///
    /// # Panics
    ///
    /// Where no runtime is entered, or where it has shut down.
    pub(super) fn poll(&mut self, deadline: Instant, cx: &Context<'_>) -> Poll<()> {
        let on_shard = context::with_shard(|shard| {
            shard.map(|shard| self.poll_on(shard, deadline, ForeignWaker::of(cx.waker())))
        });
        on_shard.unwrap_or_else(|| self.poll_away(deadline, ForeignWaker::of(cx.waker())))
    }

    fn poll_on(&mut self, shard: &Shard, deadline: Instant, waker: ForeignWaker) -> Poll<()> {
        let waker = match self.place {
            Place::Here { shard: home, key } if home == shard.id() => {
                match shard.set_timer_waker(key, waker) {
                    Ok(before) => drop(before),
                    Err(_stale) => {
                        self.place = Place::Nowhere;
                        return Poll::Ready(());
                    }
                }
                return Poll::Pending;
            }
            Place::Nowhere => waker,
            Place::Here { .. } | Place::Away(_) => {
                self.clear();
                waker
            }
        };
        let key = shard.insert_timer(deadline, waker);
        self.place = Place::Here { shard: shard.id(), key };
        Poll::Pending
    }

    fn poll_away(&mut self, deadline: Instant, waker: ForeignWaker) -> Poll<()> {
        if let Place::Away(away) = &self.place {
            let polled = away.poll(waker);
            if polled.is_ready() {
                self.place = Place::Nowhere;
            }
            return polled;
        }
        self.clear();
        let remote = context::handle_or_panic().any_shard();
        self.place = Place::Away(Away::set(remote, deadline, waker));
        Poll::Pending
    }

    /// Moves an alarm that is set to another time; who polled it last is woken then.
    pub(super) fn reset(&mut self, deadline: Instant) {
        let home = match std::mem::take(&mut self.place) {
            Place::Nowhere => return,
            Place::Away(away) => {
                self.place = away.reset(deadline);
                return;
            }
            Place::Here { shard, key } => (shard, key),
        };
        let here = context::with_shard(|shard| {
            shard.filter(|shard| shard.id() == home.0).map(|shard| {
                take_waker(shard, home.1).map(|waker| shard.insert_timer(deadline, waker))
            })
        });
        self.place = match here {
            Some(Some(key)) => Place::Here { shard: home.0, key },
            Some(None) => Place::Nowhere,
            None => match registry::find(home.0) {
                Some(remote) => Place::Away(Away::carry(remote, home.1, deadline)),
                None => Place::Nowhere,
            },
        };
    }

    /// Takes the alarm out of the wheel, wherever that is.
    pub(super) fn clear(&mut self) {
        match std::mem::take(&mut self.place) {
            Place::Nowhere => {}
            Place::Here { shard, key } => remove(shard, key),
            Place::Away(away) => away.clear(),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Takes a timer out of the wheel of `shard`; a shard that has ended has none any more.
fn remove(shard: ShardId, key: TimerKey) {
    let removed = context::with_shard(|current| match current {
        Some(current) if current.id() == shard => {
            current.remove_timer(key);
            true
        }
        _ => false,
    });
    if !removed && let Some(remote) = registry::find(shard) {
        remote.send(Message::Run(Box::new(move |shard| shard.remove_timer(key))));
    }
}

/// Takes a timer of this shard out and its waker with it; `None` if it has fired.
fn take_waker(shard: &Shard, key: TimerKey) -> Option<ForeignWaker> {
    let waker = shard.set_timer_waker(key, ForeignWaker::noop()).ok();
    shard.remove_timer(key);
    waker
}

/// The cell between an alarm that is polled off any shard and the shard that has its timer.
#[derive(Debug)]
struct Away {
    remote: Arc<Remote>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The waker to wake, and the timer once the shard has it.
    Set { waker: ForeignWaker, key: Option<TimerKey> },
    /// The time has come.
    Fired,
    /// The shard ended first.
    Lost,
    /// There is no waiter any more.
    Cleared,
}

impl Away {
    fn new(remote: Arc<Remote>, waker: ForeignWaker) -> Arc<Away> {
        let state = Mutex::new(State::Set { waker, key: None });
        Arc::new(Away { remote, state })
    }

    /// Sends an alarm to a shard.
    fn set(remote: Arc<Remote>, deadline: Instant, waker: ForeignWaker) -> Arc<Away> {
        let away = Away::new(remote, waker);
        let bell = away.bell();
        away.remote.send(Message::Run(Box::new(move |shard| hang(bell, shard, deadline))));
        away
    }

    /// As `set`, for the shard that has the timer `key`, which this one replaces.
    fn carry(remote: Arc<Remote>, key: TimerKey, deadline: Instant) -> Arc<Away> {
        let away = Away::new(remote, ForeignWaker::noop());
        let bell = away.bell();
        away.remote.send(Message::Run(Box::new(move |shard| {
            if let Some(before) = take_waker(shard, key) {
                bell.away.inherit(before);
            }
            hang(bell, shard, deadline);
        })));
        away
    }

    fn bell(self: &Arc<Away>) -> Arc<Bell> {
        Arc::new(Bell { away: self.clone() })
    }

    /// Takes over the waker of a replaced timer, unless it was polled since.
    fn inherit(&self, before: ForeignWaker) {
        let mut unneeded = before;
        if let State::Set { waker, .. } = &mut *self.lock()
            && waker.will_wake(Waker::noop())
        {
            std::mem::swap(waker, &mut unneeded);
        }
        drop(unneeded);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once the alarm has gone off.
    fn poll(&self, new: ForeignWaker) -> Poll<()> {
        let mut state = self.lock();
        match &mut *state {
            State::Set { waker, .. } => {
                let before = std::mem::replace(waker, new);
                drop(state);
                // A waker's drop is foreign code, so it runs when the lock is free again.
                drop(before);
                Poll::Pending
            }
            State::Fired => Poll::Ready(()),
            State::Lost => {
                drop(state);
                panic!("the runtime shut down while a thread outside of it waited for a timer");
            }
            State::Cleared => panic!("a cleared timer was polled"),
        }
    }

    /// Leaves the state `Set` for good, and hands out the waker and the timer.
    fn leave(&self, to: State) -> Option<(ForeignWaker, Option<TimerKey>)> {
        let mut state = self.lock();
        if !matches!(*state, State::Set { .. }) {
            return None;
        }
        match std::mem::replace(&mut *state, to) {
            State::Set { waker, key } => Some((waker, key)),
            _ => None,
        }
    }

    fn clear(&self) {
        drop(self.take());
    }

    /// Ends the alarm, and hands out the waker if it had not gone off.
    fn take(&self) -> Option<ForeignWaker> {
        let (waker, key) = self.leave(State::Cleared)?;
        // Without a key the shard has yet to see the bell, and will find the state cleared.
        if let Some(key) = key {
            remove(self.remote.id(), key);
        }
        Some(waker)
    }

    fn reset(&self, deadline: Instant) -> Place {
        match self.take() {
            Some(waker) => Place::Away(Away::set(self.remote.clone(), deadline, waker)),
            None => Place::Nowhere,
        }
    }
}

/// On the shard: puts the bell into the wheel, unless it is not waited for any more.
fn hang(bell: Arc<Bell>, shard: &Shard, deadline: Instant) {
    let away = bell.away.clone();
    if !matches!(*away.lock(), State::Set { .. }) {
        return;
    }
    let timer = shard.insert_timer(deadline, Waker::from(bell).into());
    if let State::Set { key, .. } = &mut *away.lock() {
        *key = Some(timer);
        return;
    }
    // It was cleared in between, by a poll that knew of no timer.
    shard.remove_timer(timer);
}

/// What the shard has of an away alarm: rings when its time has come, and also when it is dropped
/// before, so that nothing waits for a shard that has ended.
#[derive(Debug)]
struct Bell {
    away: Arc<Away>,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        if let Some((waker, _)) = self.away.leave(State::Fired) {
            waker.wake();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        if let Some((waker, _)) = self.away.leave(State::Lost) {
            waker.wake();
        }
    }
}
