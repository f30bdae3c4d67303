//! A Unix socket that connections arrive at.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::task::{Context, Poll};

use ringhold_runtime::SocketAddress;

use crate::incoming::incoming;
use crate::readiness::Interest;
use crate::setters::descriptors;
use crate::sides::Direction;
use crate::socket::Socket;
use crate::unix::address::{address, named};
use crate::unix::{SocketAddr, UnixStream};

/// How many connections wait to be accepted unless another number is asked for: tokio's.
const BACKLOG: u32 = 1024;

/// A Unix socket that connections arrive at. A dropped [`accept`](UnixListener::accept) has taken
/// none.
///
/// A path stays in the file system when the listener is dropped, as everywhere.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::{UnixListener, UnixStream};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("socket");
/// let listener = UnixListener::bind(&path)?;
/// let client = UnixStream::connect(&path).await?;
/// let (server, peer) = listener.accept().await?;
/// assert!(peer.is_unnamed());
/// assert_eq!(server.local_addr()?.as_pathname(), Some(&*path));
/// # drop(client);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct UnixListener(Socket);

impl UnixListener {
    pub(super) fn new(socket: Socket) -> UnixListener {
        UnixListener(socket)
    }

    /// Listens at a path, or at an abstract name if the path begins with a NUL.
    ///
    /// # Errors
    ///
    /// `AddrInUse` where there is a file already; `NotFound`, `PermissionDenied`; `InvalidInput`
    /// for a path that is too long; `EMFILE`.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::bind_to(&named(path.as_ref())?)
    }

    /// As [`bind`](UnixListener::bind), to an address that is there already.
    ///
    /// # Errors
    ///
    /// As for [`bind`](UnixListener::bind).
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::bind_to(&socket_addr.0)
    }

    fn bind_to(address: &SocketAddress) -> io::Result<UnixListener> {
        let socket = Socket::open(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?;
        Ok(UnixListener(socket))
    }

    fn accept_now(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (socket, peer) = self.0.accept_now()?;
        Ok((UnixStream::new(socket), address(&peer)?))
    }

    /// Waits for a connection, and gives it and the peer's address.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM` leave the connection where it is, to be accepted
    /// later. The listener goes on after any of them.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped accept has taken no connection.
    ///
    /// # Kernel
    ///
    /// `accept4`, and `IORING_OP_POLL_ADD` (since 5.1) where no connection waits.
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.0.io(Interest::READABLE, || self.accept_now()).await
    }

    /// As [`accept`](UnixListener::accept), for the one task that polls last.
    ///
    /// # Errors
    ///
    /// As for [`accept`](UnixListener::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        self.0.poll_io(Direction::In, cx, || self.accept_now())
    }

    /// Takes over a listener of std's, which doesn't block from then on.
    ///
    /// # Errors
    ///
    /// If that can't be had.
    ///
    /// # Panics
    ///
    /// In a simulation, which has no way to std's sockets.
    #[track_caller]
    pub fn from_std(listener: StdListener) -> io::Result<UnixListener> {
        listener.set_nonblocking(true)?;
        Ok(UnixListener(Socket::adopt(listener.into()).named()))
    }

    /// Hands the listener over to std, as one that doesn't block.
    ///
    /// # Errors
    ///
    /// `EMFILE` where an operation that was dropped still holds the socket, and there is no
    /// descriptor left for another one of it.
    ///
    /// # Panics
    ///
    /// In a simulation, whose sockets std has no way to.
    pub fn into_std(self) -> io::Result<StdListener> {
        self.0.into_owned().map(StdListener::from)
    }

    /// The address that it listens at.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` of a kernel that is out of memory.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address(&self.0.local_address()?)
    }

    /// The error that the socket has met and no call has returned yet.
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }
}

descriptors!(UnixListener, StdListener, 0);
incoming!(UnixListener, UnixStream);
