//! Waiting until a descriptor is ready, for whoever polls what it belongs to.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

use ringhold_kernel::sync::{Mutex, MutexGuard, OnceLock};

use crate::fd::Fd;
use crate::op::Op;
use crate::ops::{PollReady, Told};
use crate::task::budget;

/// From which wait on the operation stays armed. One that waits this often most likely goes on;
/// one that is short-lived is spared the cancel of what is still armed when it is closed.
const ARMED_FROM: u8 = 8;

/// After these events a read may take less than there was room for and leave something: the end, or
/// the error, which the kernel won't tell again.
const LAST_EVENTS: u32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32;

/// The one operation that waits until a descriptor is ready for one thing. It outlives the futures
/// that wait, takes nothing from the descriptor, and holds a count of it.
///
/// It is one that completes once, and looks at the descriptor first; or, where that was done often,
/// one that stays armed and tells of what comes only. Whoever waits by the latter has tried since
/// it told last.
///
/// One task waits at a time: whoever polled last is woken.
#[derive(Debug, Default)]
pub struct Waiting {
    place: Mutex<Place>,
    /// What was told by operations that stay armed, once there was one.
    told: OnceLock<Arc<Told>>,
    /// No operation stays armed.
    looks: bool,
}

#[derive(Debug, Default)]
struct Place {
    watch: Option<Watch>,
    /// How many were started, up to [`ARMED_FROM`].
    started: u8,
}

#[derive(Debug)]
struct Watch {
    operation: Op<PollReady>,
    stays_armed: bool,
}

/// What whoever waits has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing: it may be ready now.
    Nothing,
    /// It was tried, and it was too early; that often something had been told before.
    TooEarly(u32),
    /// It was read, and there was less than there was room for; as above.
    ShortRead(u32),
}

impl Waiting {
    /// One whose operations always look first and never stay armed: for what has to be closed as
    /// soon as it is dropped.
    pub fn looking() -> Waiting {
        Waiting { looks: true, ..Waiting::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often an operation that stays armed has told something. Who is going to wait after a
    /// short read asks before the read.
    pub fn told(&self) -> u32 {
        self.told.get().map_or(0, |told| told.count())
    }

    fn start(&self, file: &Fd, events: u32, stays_armed: bool) -> Watch {
        let file = file.clone();
        let operation = match stays_armed {
            true => PollReady::armed(file, events, self.told.get_or_init(Arc::default).clone()),
            false => PollReady::new(file, events),
        };
        Watch { operation: Op::new(operation), stays_armed }
    }

    /// Whether there is something to be tried for already.
    fn is_due(&self, watch: &Watch, seen: Seen) -> bool {
        let Some(told) = self.told.get().filter(|_| watch.stays_armed) else { return false };
        match seen {
            Seen::Nothing => false,
            Seen::TooEarly(count) => told.count() != count,
            Seen::ShortRead(count) => told.count() != count || told.has_told(LAST_EVENTS),
        }
    }

    /// Waits until one of the events is there. It may be gone again.
    ///
    /// # Errors
    ///
    /// What the kernel says of the descriptor, or that the runtime has ended.
    pub fn poll(&self, file: &Fd, events: u32, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_after(Seen::Nothing, file, events, cx)
    }

    /// As [`poll`](Waiting::poll), after a read that took less than there was room for, of a file
    /// of which such a read leaves nothing. `told` is how often something [had been
    /// told](Waiting::told) before it.
    ///
    /// # Errors
    ///
    /// As for [`poll`](Waiting::poll).
    pub fn poll_after_short_read(
        &self,
        told: u32,
        file: &Fd,
        events: u32,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_after(Seen::ShortRead(told), file, events, cx)
    }

    /// Tries until it isn't too early, and waits in between.
    ///
    /// # Errors
    ///
    /// Those of the attempt, and those of [`poll`](Waiting::poll).
    pub fn poll_io<R>(
        &self,
        file: &Fd,
        events: u32,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        ready!(budget::poll_step(cx));
        loop {
            let told = self.told();
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_after(Seen::TooEarly(told), file, events, cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_after(
        &self,
        seen: Seen,
        file: &Fd,
        events: u32,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let (known, stays_armed) = self.take(seen);
        if known.as_ref().is_some_and(|watch| self.is_due(watch, seen)) {
            self.put(known);
            return Poll::Ready(Ok(()));
        }
        let is_known = known.is_some();
        let mut watch = Some(known.unwrap_or_else(|| self.start(file, events, stays_armed)));
        // Polled without the lock: wakers are foreign code.
        match (Polling { waiting: self, watch: &mut watch }).poll(cx) {
            // One that was begun for an earlier poll may have ended with the runtime of then; what
            // is tried next says how it is now.
            Poll::Ready(outcome) if !is_known => Poll::Ready(outcome.map(drop)),
            Poll::Ready(_) => Poll::Ready(Ok(())),
            Poll::Pending => {
                // What was told since the look above has woken no task.
                let is_due = watch.as_ref().is_some_and(|watch| self.is_due(watch, seen));
                self.put(watch);
                if is_due { Poll::Ready(Ok(())) } else { Poll::Pending }
            }
        }
    }

    /// Takes the operation that is known, if it answers to what was seen; and whether the next one
    /// stays armed.
    fn take(&self, seen: Seen) -> (Option<Watch>, bool) {
        let mut place = self.lock();
        // How it is now can't be told by one that tells of changes only.
        let answers = |watch: &mut Watch| seen != Seen::Nothing || !watch.stays_armed;
        let known = place.watch.take_if(answers);
        if known.is_some() {
            return (known, false);
        }
        let known = place.watch.take();
        place.started = if seen == Seen::Nothing { 0 } else { (place.started + 1).min(ARMED_FROM) };
        let stays_armed = place.started == ARMED_FROM && !self.looks;
        drop(place);
        drop(known);
        (None, stays_armed)
    }

    fn put(&self, watch: Option<Watch>) {
        let replaced = std::mem::replace(&mut self.lock().watch, watch);
        drop(replaced);
    }
}

/// A poll of an operation that is out of its place. Where cloning the waker panics it goes back: to
/// wake whoever waited before.
struct Polling<'a> {
    waiting: &'a Waiting,
    watch: &'a mut Option<Watch>,
}

impl Polling<'_> {
    fn poll(self, cx: &mut Context<'_>) -> Poll<io::Result<u32>> {
        let watch = self.watch.as_mut().expect("it is polled once");
        let polled = Pin::new(&mut watch.operation).poll(cx);
        std::mem::forget(self);
        polled
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.waiting.put(self.watch.take());
    }
}
