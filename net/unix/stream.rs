//! A connection between Unix sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BufMut;
use ringhold_buffers::{FixedBuf, FixedBufMut, IoBuf, IoBufMut};
use ringhold_runtime::{Failed, SocketAddress};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::leases::leasing;
use crate::macros::{asking, async_read, async_write, owning, reading, writing};
use crate::readiness::{Interest, Ready};
use crate::setters::descriptors;
use crate::sides::Direction;
use crate::socket::Socket;
use crate::stream::{Stream, give_away};
use crate::unix::address::{address, named};
use crate::unix::{SocketAddr, UCred};

/// A connection between Unix sockets. It is used as a [`TcpStream`](crate::TcpStream) is.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::UnixStream;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let (mut left, mut right) = UnixStream::pair()?;
/// left.write_all(b"hello").await?;
/// drop(left);
/// let mut text = String::new();
/// right.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct UnixStream(Stream);

impl UnixStream {
    pub(super) fn new(socket: Socket) -> UnixStream {
        // A read ends where descriptors or credentials came with the bytes, and leaves the rest.
        UnixStream(Stream::new(socket, false))
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.0
    }

    /// Connects to the listener at a path, or at an abstract name if the path begins with a NUL.
    ///
    /// # Errors
    ///
    /// `NotFound`, `ConnectionRefused`, `PermissionDenied`; `WouldBlock`, as in tokio, if too many
    /// wait to be accepted there already; `InvalidInput` for a path that is too long; `EMFILE`.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing stays open. The peer may see a connection that ends at once.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_CONNECT`, since 5.5.
    pub async fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        let address = named(path.as_ref())?;
        UnixStream::connect_to(&address).await
    }

    /// As [`connect`](UnixStream::connect), to an address that is there already.
    ///
    /// # Errors
    ///
    /// As for [`connect`](UnixStream::connect).
    ///
    /// # Cancel safety
    ///
    /// Safe: as for [`connect`](UnixStream::connect).
    pub async fn connect_addr(socket_addr: &SocketAddr) -> io::Result<UnixStream> {
        UnixStream::connect_to(&socket_addr.0).await
    }

    async fn connect_to(address: &SocketAddress) -> io::Result<UnixStream> {
        let socket = Socket::open(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
        socket.connect(address).await?;
        Ok(UnixStream::new(socket))
    }

    /// Two ends that are connected to each other.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOBUFS`.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let [left, right] = Socket::pair(libc::SOCK_STREAM)?;
        Ok((UnixStream::new(left), UnixStream::new(right)))
    }

    /// Who made the other end.
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn peer_cred(&self) -> io::Result<UCred> {
        self.0.socket.peer_credentials().map(UCred::new)
    }

    asking!(SocketAddr);
    reading!();
    writing!();
    leasing!();
    owning!(StdStream);
}

impl AsRef<UnixStream> for UnixStream {
    fn as_ref(&self) -> &UnixStream {
        self
    }
}

async_read!(UnixStream);
async_write!(UnixStream, |_| ());
descriptors!(UnixStream, StdStream, 0.socket);
