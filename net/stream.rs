//! What TCP and Unix streams have in common.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use ringhold_buffers::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ringhold_runtime::poll_budget;
use tokio::io::ReadBuf;

use crate::readiness::{Interest, Ready};
use crate::sides::{Direction, Side, Sides};
use crate::socket::Socket;
use crate::uninit::read_into;

/// In the place of a count of 32 bits.
const NOT_DRAINED: u64 = u64::MAX;

/// A connected socket that carries bytes.
///
/// Reads first take what a dropped owned read has brought. Reads and writes wait for the end of
/// owned ones of their direction that were dropped, so that the bytes keep their order.
pub(crate) struct Stream {
    pub(crate) socket: Socket,
    pub(crate) sides: Arc<Sides>,
    /// A read that takes less than there was room for has taken all.
    is_emptied_by_short_reads: bool,
    /// The last poll for bytes took all that there was, and that often something had been told
    /// before it; [`NOT_DRAINED`] if it did not. The next one waits before it tries, since a try
    /// would most likely be in vain.
    drained: AtomicU64,
    /// The kernel can't write registered buffers without raising `SIGPIPE`: they are sent.
    pub(crate) sends_fixed: AtomicBool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl Stream {
    pub(crate) fn new(socket: Socket, is_emptied_by_short_reads: bool) -> Stream {
        Stream {
            socket,
            sides: Arc::default(),
            is_emptied_by_short_reads,
            drained: AtomicU64::new(NOT_DRAINED),
            sends_fixed: AtomicBool::new(false),
        }
    }

    pub(crate) fn side(&self, direction: Direction) -> &Side {
        self.sides.of(direction)
    }

    /// Hands the socket over to std, unless that would lose what a dropped read has brought.
    #[allow(clippy::result_large_err, reason = "the error is the stream")]
    pub(crate) fn into_owned(self) -> Result<io::Result<OwnedFd>, Stream> {
        if self.side(Direction::In).may_hold_something() {
            return Err(self);
        }
        Ok(self.socket.into_owned())
    }

    /// Whether an orphan stands in the way of a direction.
    fn check_turn(&self, direction: Direction) -> io::Result<()> {
        match self.side(direction).has_orphan() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    }

    fn receive(&self, buffers: &mut [IoSliceMut<'_>], flags: i32) -> io::Result<usize> {
        let (sockets, number) = self.socket.now();
        sockets.receive_now(number, buffers, None, flags)
    }

    fn send(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let (sockets, number) = self.socket.now();
        sockets.send_now(number, buffers, None, 0)
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        self.try_read_vectored(&mut [IoSliceMut::new(buffer)], flags)
    }

    pub(crate) fn try_read_vectored(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        flags: i32,
    ) -> io::Result<usize> {
        self.read_now(buffers, flags).map(|(count, _)| count)
    }

    /// Reads what is kept here, or what has arrived, and says whether that was all.
    fn read_now(&self, buffers: &mut [IoSliceMut<'_>], flags: i32) -> io::Result<(usize, bool)> {
        self.check_turn(Direction::In)?;
        let leave = flags & libc::MSG_PEEK != 0;
        let kept = self.side(Direction::In).deliver(leave, |bytes| scatter(bytes, buffers));
        if let Some(outcome) = kept {
            return outcome.map(|count| (count, false));
        }
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        let count = self.receive(buffers, flags)?;
        let is_short = !leave && 0 < count && count < room;
        Ok((count, is_short && self.is_emptied_by_short_reads))
    }

    pub(crate) fn try_read_buf<B: BufMut>(&self, buffer: &mut B) -> io::Result<usize> {
        let read = |room: &mut [u8]| Ok((self.try_read(room, 0)?, ()));
        read_into(buffer, read).map(|(count, ())| count)
    }

    pub(crate) fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.check_turn(Direction::Out)?;
        self.send(buffers)
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        flags: i32,
    ) -> Poll<io::Result<usize>> {
        ready!(self.side(Direction::In).poll_turn(cx));
        if let Ok(told) = u32::try_from(self.drained.load(Ordering::Relaxed))
            && !self.side(Direction::In).holds_something()
        {
            // What is wrong with waiting the read itself says.
            let _ = ready!(self.socket.poll_more(told, cx));
            self.drained.store(NOT_DRAINED, Ordering::Relaxed);
        }
        let told = self.socket.told();
        let room = buffer.initialize_unfilled();
        let attempt = || self.read_now(&mut [IoSliceMut::new(room)], flags);
        let (count, is_all) = ready!(self.socket.poll_io(Direction::In, cx, attempt))?;
        buffer.advance(count);
        let drained = if is_all { u64::from(told) } else { NOT_DRAINED };
        self.drained.store(drained, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.side(Direction::Out).poll_turn(cx));
        self.socket.poll_io(Direction::Out, cx, || self.send(buffers))
    }

    /// Ends the outgoing direction, after what is being written. A connection that is gone already
    /// needs no end, as in tokio.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.side(Direction::Out).poll_turn(cx));
        Poll::Ready(self.shutdown(Shutdown::Write))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let (sockets, number) = self.socket.now();
        match sockets.shutdown(number, shutdown_number(how)) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        }
    }

    pub(crate) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.settle(Direction::In).await;
        let attempt = || self.try_read(buffer, libc::MSG_PEEK);
        self.socket.io(Interest::READABLE, attempt).await
    }

    /// Waits for the orphans of a direction.
    pub(crate) async fn settle(&self, direction: Direction) {
        poll_fn(|cx| self.side(direction).poll_turn(cx)).await;
    }

    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        if interest.is_readable() {
            self.settle(Direction::In).await;
            if self.side(Direction::In).holds_something() {
                return Ok(Ready::READABLE);
            }
        }
        if interest.is_writable() {
            self.settle(Direction::Out).await;
        }
        self.socket.ready(interest).await
    }

    pub(crate) fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(poll_budget(cx));
        ready!(self.side(direction).poll_turn(cx));
        if self.side(direction).holds_something() {
            return Poll::Ready(Ok(()));
        }
        self.socket.poll_ready(direction, cx)
    }

    /// Lets `attempt` use the descriptor by itself, unless it would read past kept bytes.
    pub(crate) fn try_io<R>(
        &self,
        interest: Interest,
        attempt: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        if interest.is_readable() {
            self.check_turn(Direction::In)?;
            if self.side(Direction::In).holds_something() {
                return Err(io::Error::other(
                    "a read_owned or read_fixed that was dropped has brought bytes: take them by \
                     one of the stream's own reads before reading from its descriptor",
                ));
            }
        }
        if interest.is_writable() {
            self.check_turn(Direction::Out)?;
        }
        attempt()
    }

    pub(crate) async fn async_io<R>(
        &self,
        interest: Interest,
        mut attempt: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            self.ready(interest).await?;
            match self.try_io(interest, &mut attempt) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
        }
    }
}

/// Copies from the start of `bytes` as much as there is room for.
fn scatter(mut bytes: &[u8], buffers: &mut [IoSliceMut<'_>]) -> usize {
    let before = bytes.len();
    for buffer in buffers {
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
    }
    before - bytes.len()
}

/// `SHUT_*`.
pub(crate) fn shutdown_number(how: Shutdown) -> i32 {
    match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    }
}

/// Why a stream could not be given to std: a `read_owned` or `read_fixed` that was dropped has
/// brought bytes that were not taken yet, or may still bring some. It gives the stream back.
///
/// It comes within an [`io::Error`]: [`io::Error::downcast`] finds it.
pub struct Undelivered<S>(pub S);

impl<S> fmt::Debug for Undelivered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undelivered").finish_non_exhaustive()
    }
}

impl<S> fmt::Display for Undelivered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a read that was dropped has brought bytes, or may still do so, and std's stream would \
             not see them: read from the stream before giving it away",
        )
    }
}

impl<S> std::error::Error for Undelivered<S> {}

/// Hands a stream over to std, or back within an error.
pub(crate) fn give_away<S, T: From<OwnedFd>>(
    stream: Stream,
    back: impl FnOnce(Stream) -> S,
) -> io::Result<T>
where
    S: Send + Sync + 'static,
{
    match stream.into_owned() {
        Ok(owned) => owned.map(T::from),
        Err(stream) => Err(io::Error::other(Undelivered(back(stream)))),
    }
}
