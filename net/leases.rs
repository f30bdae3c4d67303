//! What arrives, as a stream of leases that the kernel fills.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream as FuturesStream;
use ringhold_buffers::{Lease, LeaseError};
use ringhold_runtime::ops::{Keeper, Kept, ReceiveMany, Received, fill};
use ringhold_runtime::{Group, Leasing, Op, lease, poll_budget, try_lease};

use crate::sides::{Awaiting, Direction, Side, Ticket};
use crate::stream::Stream;

/// How many leases the kernel has of one stream at most: enough to go on receiving while the
/// service takes some, and few enough that a stream can't drain the pool.
const PROVIDED_MAX: u16 = 4;

/// Leases up to this are filled several at once, where the kernel can. Of larger ones that saves
/// nothing, and the receive ends more often for want of leases.
const BUNDLED_BYTES_MAX: usize = 16 * 1024;

/// What arrives at a stream, in leases that the kernel picks; made by `leases`.
///
/// It is a `Stream`, and has [`next`](Leases::next) for those who want nothing else. It ends where
/// the peer's bytes do, or with the first error.
pub struct Leases<'a> {
    stream: &'a Stream,
    length: usize,
    /// Dropped before `receiving`, which thereby is an orphan.
    awaiting: Option<Awaiting<'a>>,
    receiving: Option<Op<Kept<ReceiveMany, Ticket>>>,
    received: Option<Arc<Received>>,
    group: Option<Arc<Group>>,
    /// Waits for a lease.
    leasing: Option<Pin<Box<Leasing>>>,
    /// A lease that is to be filled without the kernel's picking it.
    spare: Option<Lease>,
    /// How the receive ended.
    ended: Option<io::Result<u32>>,
    is_over: bool,
}

impl fmt::Debug for Leases<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases")
            .field("length", &self.length)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// What an abandoned receive brings is the stream's.
impl Keeper<(io::Result<u32>, Arc<Received>)> for Ticket {
    fn keep(self, (outcome, received): (io::Result<u32>, Arc<Received>)) {
        keep(self.side(), &received, outcome);
    }
}

fn keep(side: &Side, received: &Received, outcome: io::Result<u32>) {
    while let Some(lease) = received.take() {
        side.add(&lease);
    }
    match outcome {
        // That the kernel stopped is of no interest to who reads in another way.
        Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => side.add_error(error),
        _ => {}
    }
}

impl<'a> Leases<'a> {
    pub(crate) fn new(stream: &'a Stream, length: usize) -> Leases<'a> {
        Leases {
            stream,
            length,
            awaiting: None,
            receiving: None,
            received: None,
            group: None,
            leasing: None,
            spare: None,
            ended: None,
            is_over: false,
        }
    }

    /// What arrived next: a lease with at least one byte. `None` when the peer has sent its last.
    ///
    /// # Errors
    ///
    /// `ConnectionReset`; what the pool says, where there is no lease to be had. Nothing follows.
    ///
    /// # Cancel safety
    ///
    /// Safe: what arrives meanwhile is the next one's.
    pub async fn next(&mut self) -> Option<io::Result<Lease>> {
        poll_fn(|cx| self.poll_lease(cx)).await
    }

    fn poll_lease(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lease>>> {
        ready!(poll_budget(cx));
        let outcome = ready!(self.poll_step(cx));
        self.is_over = !matches!(outcome, Some(Ok(_)));
        Poll::Ready(outcome)
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lease>>> {
        loop {
            if let Some(lease) = self.received.as_ref().and_then(|received| received.take()) {
                self.provide_more();
                return Poll::Ready(Some(Ok(lease)));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            if self.receiving.is_some() {
                if self.poll_receiving(cx).is_pending() {
                    // What came since the look above has woken no task.
                    let Some(lease) = self.received.as_ref().and_then(|it| it.take()) else {
                        return Poll::Pending;
                    };
                    self.provide_more();
                    return Poll::Ready(Some(Ok(lease)));
                }
                // It has ended, and may have brought something before.
                continue;
            }
            match self.ended.take() {
                Some(Ok(0)) => return Poll::Ready(None),
                Some(Err(error)) if error.raw_os_error() != Some(libc::ENOBUFS) => {
                    return Poll::Ready(Some(Err(error)));
                }
                // The kernel has stopped, as it may, or because it had no lease left.
                _ => {}
            }
            if let Err(outcome) = ready!(self.poll_arm(cx)) {
                return Poll::Ready(outcome);
            }
        }
    }

    /// Waits for what arrives, which is then where it was received; ready when the receive has
    /// ended.
    fn poll_receiving(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(receiving) = &mut self.receiving else { return Poll::Ready(()) };
        let ((outcome, _), ticket) = ready!(Pin::new(receiving).poll(cx)).take();
        self.receiving = None;
        self.ended = Some(outcome);
        if let Some(mut awaiting) = self.awaiting.take() {
            awaiting.finish(ticket);
        }
        Poll::Ready(())
    }

    /// Begins to receive; or, where that can't be, gives what there is to be said at once.
    #[allow(clippy::type_complexity, reason = "what the stream gives, as the error")]
    fn poll_arm(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Option<io::Result<Lease>>>> {
        let side = self.stream.side(Direction::In);
        ready!(side.poll_turn(cx));
        if side.holds_something()
            && let Some(kept) = ready!(self.poll_kept(cx))
        {
            return Poll::Ready(Err(Some(kept)));
        }
        let Some(group) = self.group_here() else { return self.poll_plain(cx).map(Err) };
        if group.provided() == 0 {
            match ready!(self.poll_spare(cx)) {
                Ok(lease) => drop(group.provide(lease)),
                Err(error) => return Poll::Ready(Err(Some(Err(error.into())))),
            }
        }
        let ticket = Ticket::new(&self.stream.sides, Direction::In);
        let file = self.stream.socket.file().clone();
        let in_bundles = self.length <= BUNDLED_BYTES_MAX;
        let (operation, received) = ReceiveMany::new(file, group, in_bundles);
        self.receiving = Some(Op::new(Kept { operation, keeper: ticket }));
        self.received = Some(received);
        self.awaiting = Some(Awaiting::new(side));
        Poll::Ready(Ok(()))
    }

    /// The group of the shard that is running, where there can be one.
    fn group_here(&mut self) -> Option<Arc<Group>> {
        if !self.group.as_ref().is_some_and(|group| group.is_here()) {
            self.group = Group::new(PROVIDED_MAX).ok();
        }
        self.group.clone()
    }

    /// As long as more has arrived, the kernel has leases for it, if the pool has; otherwise one.
    fn provide_more(&self) {
        let Some(group) = self.group.as_ref().filter(|group| group.is_here()) else { return };
        let has_more = self.received.as_ref().is_some_and(|received| received.has_more());
        let wanted = if has_more { usize::from(PROVIDED_MAX) } else { 1 };
        while group.provided() < wanted
            && let Ok(lease) = try_lease(self.length)
            && group.provide(lease).is_ok()
        {}
    }

    fn poll_spare(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, LeaseError>> {
        if let Some(lease) = self.spare.take() {
            return Poll::Ready(Ok(lease));
        }
        let leasing = self.leasing.get_or_insert_with(|| Box::pin(lease(self.length)));
        let outcome = ready!(leasing.as_mut().poll(cx));
        self.leasing = None;
        Poll::Ready(outcome)
    }

    /// What a dropped read has brought comes first.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lease>>> {
        let mut lease = match ready!(self.poll_spare(cx)) {
            Ok(lease) => lease,
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        let side = self.stream.side(Direction::In);
        let outcome = side.deliver(false, |bytes| fill(&mut lease, bytes));
        Poll::Ready(outcome.map(|outcome| outcome.map(|_| lease)))
    }

    /// Where the kernel picks no leases: waits for the socket, and receives into one.
    fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lease>>> {
        let mut lease = match ready!(self.poll_spare(cx)) {
            Ok(lease) => lease,
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        lease.resize(self.length, 0);
        let stream = self.stream;
        let attempt = || stream.try_read(&mut lease, 0);
        let Poll::Ready(outcome) = stream.socket.poll_io(Direction::In, cx, attempt) else {
            self.spare = Some(lease);
            return Poll::Pending;
        };
        Poll::Ready(match outcome {
            Ok(0) => None,
            Ok(count) => {
                lease.truncate(count);
                Some(Ok(lease))
            }
            Err(error) => Some(Err(error)),
        })
    }
}

impl FuturesStream for Leases<'_> {
    type Item = io::Result<Lease>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_lease(cx)
    }
}

impl Drop for Leases<'_> {
    fn drop(&mut self) {
        // A receive that is still going on gives the stream what it brings by its keeper.
        if self.receiving.is_none()
            && let Some(received) = self.received.take()
        {
            let outcome = self.ended.take().unwrap_or(Ok(0));
            keep(self.stream.side(Direction::In), &received, outcome);
        }
    }
}

/// The method that makes [`Leases`].
macro_rules! leasing {
    () => {
        /// What arrives, in leases of `length` bytes that the kernel picks when something is there:
        /// no copy is made. What was not taken when this is dropped is the next read's.
        ///
        /// One lease waits for a peer that says little at a time; up to four are with the kernel
        /// while more arrives than one holds, and until they are filled. Where the pool is empty
        /// the stream waits its turn for one, and all others go on.
        ///
        /// # Panics
        ///
        /// When polled where no runtime is entered.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_RECV` with `IORING_RECV_MULTISHOT`, since 6.0, from a ring of provided
        /// buffers, since 5.19. Off a shard, and where locked memory doesn't suffice for such a
        /// ring, it waits with `IORING_OP_POLL_ADD` and receives into a lease then.
        ///
        /// ```
        /// # ringhold_runtime::Builder::new_current_thread().run(async {
        /// use ringhold_net::{TcpListener, TcpStream};
        /// use tokio::io::AsyncWriteExt;
        ///
        /// let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// let mut client = TcpStream::connect(listener.local_addr()?).await?;
        /// let (mut server, _) = listener.accept().await?;
        ///
        /// client.write_all(b"hello").await?;
        /// drop(client);
        /// let mut leases = server.leases(4096);
        /// let mut seen = Vec::new();
        /// while let Some(lease) = leases.next().await {
        ///     seen.extend_from_slice(&lease?);
        /// }
        /// assert_eq!(seen, b"hello");
        /// # std::io::Result::Ok(()) })??;
        /// # std::io::Result::Ok(())
        /// ```
        pub fn leases(&mut self, length: usize) -> $crate::Leases<'_> {
            $crate::Leases::new(self.stream(), length)
        }
    };
}

pub(crate) use leasing;
