//! Waiting until a descriptor is ready, for whoever polls what it belongs to.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};

use ringhold_buffers::sync::Mutex;

use crate::fd::Fd;
use crate::op::Op;
use crate::ops::PollReady;
use crate::task::budget;

/// The one operation that waits until a descriptor is ready for one thing. It outlives the futures
/// that wait, takes nothing from the descriptor, and holds a count of it.
///
/// One task waits at a time: whoever polled last is woken.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<Option<Op<PollReady>>>);

impl Waiting {
    /// Waits until one of the events is there. It may be gone again.
    ///
    /// # Errors
    ///
    /// What the kernel says of the descriptor, or that the runtime has ended.
    pub fn poll(&self, file: &Fd, events: u32, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_known = known.is_some();
        let fresh = || Op::new(PollReady { file: file.clone(), events });
        let mut operation = known.unwrap_or_else(fresh);
        // Polled without the lock: wakers are foreign code.
        match Pin::new(&mut operation).poll(cx) {
            // One that was begun for an earlier poll may have ended with the runtime of then; what
            // is tried next says how it is now.
            Poll::Ready(outcome) if !is_known => Poll::Ready(outcome.map(drop)),
            Poll::Ready(_) => Poll::Ready(Ok(())),
            Poll::Pending => {
                let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let replaced = place.replace(operation);
                drop(place);
                drop(replaced);
                Poll::Pending
            }
        }
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
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll(file, events, cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}
