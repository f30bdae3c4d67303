//! A socket that TCP connections arrive at.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};

use crate::address::{ToSocketAddrs, family, first_bound, inet, targets};
use crate::incoming::incoming;
use crate::readiness::Interest;
use crate::setters::descriptors;
use crate::sides::Direction;
use crate::socket::Socket;
use crate::tcp::TcpStream;

/// How many connections wait to be accepted unless another number is asked for: tokio's.
const BACKLOG: u32 = 1024;

/// A socket that TCP connections arrive at.
///
/// Connections that have not been accepted yet wait in the kernel: a dropped
/// [`accept`](TcpListener::accept) has taken none. Any number of tasks and shards may accept from
/// one listener.
///
/// Dropped, it is closed when the drop returns, on any thread and whatever waited for it: its
/// address can be bound again. Other owners of the same socket, a process or a clone, go on.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
/// assert_eq!(server.peer_addr()?, peer);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct TcpListener(Socket);

impl TcpListener {
    pub(super) fn new(socket: Socket) -> TcpListener {
        TcpListener(socket)
    }

    /// Listens at the first of the addresses that can be had. Port 0 is one that the kernel picks.
    ///
    /// # Errors
    ///
    /// That of the last address: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`; `EMFILE`; and
    /// what the resolver says.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing stays open.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        let targets = targets(&addr);
        first_bound(targets, |address| {
            let socket = Socket::open(family(address), libc::SOCK_STREAM, 0)?;
            // Without it a server could not be started again while old connections fade away.
            socket.set_flag(libc::SOL_SOCKET, libc::SO_REUSEADDR, true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(TcpListener(socket))
        })
        .await
    }

    fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = self.0.accept_now()?;
        Ok((TcpStream::new(socket), inet(&peer)?))
    }

    /// Waits for a connection, and gives it and the peer's address.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM` leave the connection where it is, to be accepted
    /// later; `ConnectionAborted` is about one that is gone. The listener goes on after any of
    /// them.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped accept has taken no connection.
    ///
    /// # Kernel
    ///
    /// `accept4`, and `IORING_OP_POLL_ADD` (since 5.1) where no connection waits.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.io(Interest::READABLE, || self.accept_now()).await
    }

    /// As [`accept`](TcpListener::accept), for the one task that polls last.
    ///
    /// # Errors
    ///
    /// As for [`accept`](TcpListener::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
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
    pub fn from_std(listener: StdListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(TcpListener(Socket::adopt(listener.into()).named()))
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
        inet(&self.0.local_address()?)
    }

    /// How many hops what is sent may take (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn ttl(&self) -> io::Result<u32> {
        self.0.number(libc::IPPROTO_IP, libc::IP_TTL)
    }

    /// Sets how many hops what is sent may take (`IP_TTL`): 1 to 255.
    ///
    /// # Errors
    ///
    /// `InvalidInput` beyond that.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.set_number(libc::IPPROTO_IP, libc::IP_TTL, ttl)
    }
}

descriptors!(TcpListener, StdListener, 0);
incoming!(TcpListener, TcpStream);
