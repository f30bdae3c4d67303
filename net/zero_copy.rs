//! Sends that read a buffer where it lies.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use ringhold_buffers::IoBuf;
use ringhold_buffers::sync::Mutex;
use ringhold_runtime::ops::{SendZeroCopy, Sent};
use ringhold_runtime::{Failed, Op};

use crate::sides::{Awaiting, Direction, Ticket};
use crate::stream::Stream;

/// The turn that a send has on its side of the stream: until its bytes are queued, or, if nobody
/// sees that, until the kernel is done with it.
type Turn = Arc<Mutex<Option<Ticket>>>;

type Operation<B> = Op<SendZeroCopy<B, Turn>>;

/// A buffer that the network still reads, as a future of the buffer: it is ready when the kernel is
/// done with it, which is when the peer has acknowledged the bytes.
///
/// # Cancel safety
///
/// Safe: the bytes are on their way, and dropping this doesn't stop them. The buffer is dropped,
/// and a lease thereby goes back to its pool, when the kernel is done with it.
#[must_use = "the buffer comes back by awaiting this"]
pub struct Sending<B: IoBuf>(State<B>);

enum State<B: IoBuf> {
    InKernel(Operation<B>),
    Free(Option<B>),
}

impl<B: IoBuf> fmt::Debug for Sending<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_free = matches!(self.0, State::Free(_));
        f.debug_struct("Sending").field("is_free", &is_free).finish_non_exhaustive()
    }
}

// A buffer is never pinned: what the kernel sees keeps its address while the buffer moves.
impl<B: IoBuf> Unpin for Sending<B> {}

impl<B: IoBuf> Future for Sending<B> {
    type Output = B;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<B> {
        match &mut self.0 {
            State::InKernel(operation) => Pin::new(operation).poll(cx).map(|(_, buffer)| buffer),
            State::Free(buffer) => Poll::Ready(buffer.take().expect("it is ready once")),
        }
    }
}

/// How a send has begun.
enum Begun<B> {
    /// The bytes are queued, or an error says why not. The kernel still has the buffer.
    Queued(io::Result<u32>),
    /// The kernel is done with it already.
    Over(io::Result<u32>, B),
}

impl Stream {
    pub(crate) async fn send_zero_copy<B: IoBuf>(
        &self,
        buffer: B,
    ) -> Result<(usize, Sending<B>), Failed<B>> {
        self.settle(Direction::Out).await;
        let turn = Turn::new(Mutex::new(Some(Ticket::new(&self.sides, Direction::Out))));
        let file = self.socket.file().clone();
        let (operation, sent) = SendZeroCopy::new(file, buffer, turn.clone());
        let mut operation = Op::new(operation);
        // Dropped before the operation, which thereby is an orphan.
        let mut awaiting = Awaiting::new(self.side(Direction::Out));
        let begun = poll_fn(|cx| poll_begun(&mut operation, &sent, cx)).await;
        let ticket = turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        awaiting.finish(ticket.expect("it is taken here alone"));
        match begun {
            Begun::Queued(Ok(count)) => Ok((count as usize, Sending(State::InKernel(operation)))),
            Begun::Queued(Err(error)) => Err(Failed { error, buffer: operation.await.1 }),
            Begun::Over(Ok(count), buffer) => {
                Ok((count as usize, Sending(State::Free(Some(buffer)))))
            }
            Begun::Over(Err(error), buffer) => Err(Failed { error, buffer }),
        }
    }
}

fn poll_begun<B: IoBuf>(
    operation: &mut Operation<B>,
    sent: &Sent,
    cx: &mut Context<'_>,
) -> Poll<Begun<B>> {
    match Pin::new(operation).poll(cx) {
        Poll::Ready((outcome, buffer)) => {
            let queued = sent.take().unwrap_or_else(|| outcome.map(|()| 0));
            Poll::Ready(Begun::Over(queued, buffer))
        }
        Poll::Pending => match sent.take() {
            Some(outcome) => Poll::Ready(Begun::Queued(outcome)),
            None => Poll::Pending,
        },
    }
}

/// Methods of what a TCP stream can be written by.
macro_rules! zero_copy {
    () => {
        /// Sends `buffer` without copying its bytes: the network reads them where they lie. Returns
        /// the count of bytes that are queued, which is all of them unless the connection broke in
        /// the middle or they are 2 GiB or more, and a [`Sending`](crate::Sending), which gives the
        /// buffer back when the peer has acknowledged them. The next write doesn't wait for that.
        ///
        /// It saves the copy of large buffers on their way to a network card. Where the card can't
        /// do it, and on the loopback interface, the kernel copies all the same, and the two
        /// completions cost more than they save: measure before using it.
        ///
        /// # Errors
        ///
        /// `BrokenPipe`, `ConnectionReset`; `ENOMEM` and `ENOBUFS` where the socket's share of
        /// locked memory is used up (`net.core.optmem_max`); `InvalidInput` for an empty lease.
        ///
        /// # Cancel safety
        ///
        /// Outcome unknown: some, all or none of the bytes may be sent, and never others. The
        /// buffer is given up once the kernel is done with it.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_SEND_ZC`, since 6.0; of a lease of the registered pool, with
        /// `IORING_RECVSEND_FIXED_BUF`.
        ///
        /// ```
        /// # ringhold_runtime::Builder::new_current_thread().run(async {
        /// use bytes::BufMut;
        /// use ringhold_net::{TcpListener, TcpStream};
        /// # use ringhold_runtime::lease;
        /// use tokio::io::AsyncReadExt;
        ///
        /// let listener = TcpListener::bind("127.0.0.1:0").await?;
        /// let mut client = TcpStream::connect(listener.local_addr()?).await?;
        /// let (server, _) = listener.accept().await?;
        ///
        /// let mut lease = lease(64 * 1024).await?;
        /// lease.put_bytes(7, 64 * 1024);
        /// let (count, sending) = server.send_zero_copy(lease).await?;
        /// assert_eq!(count, 64 * 1024);
        /// // More can be written, while the network still reads the first bytes.
        /// server.write_all_owned("the end").await?;
        /// let mut received = vec![0; 64 * 1024 + 7];
        /// client.read_exact(&mut received).await?;
        /// assert_eq!((received[0], &received[64 * 1024..]), (7, &b"the end"[..]));
        /// let lease = sending.await;
        /// assert_eq!(lease.len(), 64 * 1024);
        /// # std::io::Result::Ok(()) })??;
        /// # std::io::Result::Ok(())
        /// ```
        pub async fn send_zero_copy<B: IoBuf>(
            &self,
            buffer: B,
        ) -> Result<(usize, $crate::Sending<B>), Failed<B>> {
            self.stream().send_zero_copy(buffer).await
        }
    };
}

pub(crate) use zero_copy;
