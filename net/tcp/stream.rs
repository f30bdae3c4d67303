//! A TCP connection.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut;
use ringhold_buffers::{FixedBuf, FixedBufMut, IoBuf, IoBufMut};
use ringhold_runtime::{Failed, SocketAddress};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::address::{ToSocketAddrs, family, first_that, inet as address, targets};
use crate::leases::leasing;
use crate::macros::{asking, async_read, async_write, owning, reading, writing};
use crate::readiness::{Interest, Ready};
use crate::setters::descriptors;
use crate::sides::Direction;
use crate::socket::Socket;
use crate::stream::{Stream, give_away};
use crate::zero_copy::zero_copy;

/// A TCP connection.
///
/// It is read and written in tokio's ways (`AsyncRead`, `AsyncWrite`, `try_read`, `readable`, …),
/// none of which loses anything when it is dropped; and by operations that take a buffer and give
/// it back (`read_owned`, `write_owned`, `read_fixed`, `write_fixed`). What arrives for a dropped
/// one of those is given to the next read. One read and one write at a time is what it is made for:
/// of several reads that wait at once, any may be served first.
///
/// Dropped, it is closed when the drop returns, and its peer sees the end, also where a read of it
/// was dropped just before. Where another shard still has such a read in flight, the socket is shut
/// down at once, unless it came from std or was borrowed as a descriptor, and closed when that
/// shard comes round. A socket that [lingers](TcpStream::set_linger) keeps the thread that drops
/// it, as everywhere.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::{TcpListener, TcpStream};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
///
/// client.write_all(b"hello").await?;
/// let (count, buffer) = server.read_owned(Vec::with_capacity(64)).await?;
/// assert_eq!((count, &buffer[..]), (5, &b"hello"[..]));
/// server.write_all_owned(buffer).await?;
/// drop(server);
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert_eq!(answer, "hello");
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct TcpStream(Stream);

impl TcpStream {
    pub(crate) fn new(socket: Socket) -> TcpStream {
        // Only urgent data, which nothing here sends, ends a read before the queue is empty.
        TcpStream(Stream::new(socket, true))
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.0
    }

    /// Connects to the first of the addresses that takes the connection.
    ///
    /// # Errors
    ///
    /// That of the last address: `ConnectionRefused`, `TimedOut`, `NetworkUnreachable`,
    /// `HostUnreachable`; `EMFILE`; and what the resolver says.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing stays open. The peer may see a connection that ends at once.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_CONNECT`, since 5.5.
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        let targets = targets(&addr);
        first_that(targets, |address| async move {
            let socket = Socket::open(family(address), libc::SOCK_STREAM, 0)?;
            socket.connect(&address.into()).await?;
            Ok(TcpStream::new(socket))
        })
        .await
    }

    /// Reads what comes next and leaves it there. Returns the count of bytes.
    ///
    /// # Errors
    ///
    /// `ConnectionReset`.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is taken.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.peek(buf).await
    }

    /// As [`peek`](TcpStream::peek), for the one task that polls last.
    ///
    /// # Errors
    ///
    /// As for [`peek`](TcpStream::peek).
    pub fn poll_peek(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buf, libc::MSG_PEEK)
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// As for any option: `EINVAL` once the connection is gone.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.0.socket.flag(libc::IPPROTO_TCP, libc::TCP_NODELAY)
    }

    /// Sets whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// As for any option: `EINVAL` once the connection is gone.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.socket.set_flag(libc::IPPROTO_TCP, libc::TCP_NODELAY, nodelay)
    }

    /// Whether what arrives is acknowledged at once (`TCP_QUICKACK`).
    ///
    /// # Errors
    ///
    /// As for any option: `EINVAL` once the connection is gone.
    pub fn quickack(&self) -> io::Result<bool> {
        self.0.socket.flag(libc::IPPROTO_TCP, libc::TCP_QUICKACK)
    }

    /// Sets whether what arrives is acknowledged at once (`TCP_QUICKACK`). The kernel may change it
    /// later.
    ///
    /// # Errors
    ///
    /// As for any option: `EINVAL` once the connection is gone.
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.0.socket.set_flag(libc::IPPROTO_TCP, libc::TCP_QUICKACK, quickack)
    }

    /// How long closing goes on sending (`SO_LINGER`).
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.0.socket.linger()
    }

    /// Sets how long closing goes on sending (`SO_LINGER`), in whole seconds. Dropping a
    /// stream that lingers keeps its shard waiting, as in tokio.
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn set_linger(&self, dur: Option<Duration>) -> io::Result<()> {
        self.0.socket.set_linger(dur)
    }

    /// Makes closing reset the connection, and lose what is not sent yet.
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.0.socket.set_linger(Some(Duration::ZERO))
    }

    /// Ends the connection at once, for every handle of it: the peer is told that it is reset, what
    /// was sent and has not arrived is dropped, and so is what has arrived and was not read. What
    /// waits for the stream ends with an error, and buffers that a send without a copy has out come
    /// back, which a peer that never reads would keep for ever.
    ///
    /// # Errors
    ///
    /// Those of the kernel; there are none for a stream, even if it is reset already.
    ///
    /// # Kernel
    ///
    /// `connect(2)` to no address (`AF_UNSPEC`), which never waits.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use std::io::ErrorKind;
    /// use ringhold_net::{TcpListener, TcpStream};
    /// use tokio::io::AsyncReadExt;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let mut client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (server, _) = listener.accept().await?;
    /// server.reset()?;
    /// let error = client.read_u8().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn reset(&self) -> io::Result<()> {
        self.0.socket.connect_now(&SocketAddress::none())
    }

    /// How many hops what is sent may take (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn ttl(&self) -> io::Result<u32> {
        self.0.socket.number(libc::IPPROTO_IP, libc::IP_TTL)
    }

    /// Sets how many hops what is sent may take (`IP_TTL`): 1 to 255.
    ///
    /// # Errors
    ///
    /// `InvalidInput` beyond that.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.socket.set_number(libc::IPPROTO_IP, libc::IP_TTL, ttl)
    }

    asking!(SocketAddr);
    reading!();
    writing!();
    zero_copy!();
    leasing!();
    owning!(StdStream);
}

impl AsRef<TcpStream> for TcpStream {
    fn as_ref(&self) -> &TcpStream {
        self
    }
}

async_read!(TcpStream);
async_write!(TcpStream, |_| ());
descriptors!(TcpStream, StdStream, 0.socket);
