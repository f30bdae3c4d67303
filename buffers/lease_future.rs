//! The future of a lease.
#![forbid(unsafe_code)]

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    Lease, LeaseGroup,
    block::Block,
    error::LeaseError,
    foreign::ForeignWaker,
    pool::Shared,
    request::{Request, Step},
};

/// A request for a lease that waits its turn; made by [`Pool::lease`](crate::Pool::lease).
///
/// It joins the queue when it is first polled. Where the pool is too small, another arena is mapped
/// and registered beside it, and it is woken when that is there.
///
/// # Cancel safety
/// Safe: dropped, it leaves the queue, and what it was granted passes on to the next.
#[must_use = "a future does nothing unless it is polled"]
pub struct LeaseFuture {
    shared: Arc<Shared>,
    length: usize,
    group: Option<Arc<LeaseGroup>>,
    /// `None` before the first poll, and after the last.
    request: Option<Request>,
    finished: bool,
}

impl LeaseFuture {
    pub(crate) fn new(
        shared: Arc<Shared>,
        length: usize,
        group: Option<Arc<LeaseGroup>>,
    ) -> LeaseFuture {
        LeaseFuture { shared, length, group, request: None, finished: false }
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Poll<Result<Lease, LeaseError>> {
        let request = match &mut self.request {
            Some(request) => request,
            none => none.insert(self.shared.request(self.length, self.group.take())?),
        };
        let mut fresh = None;
        loop {
            match self.shared.with(|state| state.step(request, context.waker(), &mut fresh)) {
                Step::Done(answer) => {
                    let block = Block::new(self.shared.clone(), answer?);
                    return Poll::Ready(Ok(Lease::new(block, self.length)));
                }
                Step::Grow(growth) => self.shared.start_growth(growth),
                Step::Retire(arenas) => self.shared.retire(arenas),
                Step::NeedWaker => fresh = Some(ForeignWaker::of(context.waker())),
                Step::Wait => return Poll::Pending,
            }
        }
    }

    fn leave(&mut self) {
        if let Some(ticket) = self.request.take().and_then(|request| request.ticket) {
            self.shared.with(|state| state.leave(ticket));
        }
    }
}

impl Future for LeaseFuture {
    type Output = Result<Lease, LeaseError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.finished, "a lease future was polled after it had finished");
        let poll = self.advance(context);
        if poll.is_ready() {
            self.finished = true;
            // One that failed to grow still stands in the queue.
            self.leave();
        }
        poll
    }
}

impl Drop for LeaseFuture {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for LeaseFuture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.request.as_ref().is_some_and(|request| request.ticket.is_some());
        formatter
            .debug_struct("LeaseFuture")
            .field("length", &self.length)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
