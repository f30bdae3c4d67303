//! Unix sockets of datagrams.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixDatagram as StdSocket;
use std::path::Path;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use ringhold_runtime::SocketAddress;
use tokio::io::ReadBuf;

use crate::datagrams::datagrams;
use crate::readiness::{Interest, Ready};
use crate::setters::descriptors;
use crate::sides::Direction;
use crate::socket::Socket;
use crate::stream::shutdown_number;
use crate::uninit::read_into;
use crate::unix::SocketAddr;
use crate::unix::address::{address, named};

/// A Unix socket of datagrams, which arrive whole and in order.
///
/// Nothing is lost by what is dropped while it waits: a dropped receive has taken no datagram, and
/// a dropped send has sent none.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::UnixDatagram;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("socket");
/// let server = UnixDatagram::bind(&path)?;
/// let client = UnixDatagram::unbound()?;
/// client.send_to(b"hello", &path).await?;
/// let mut bytes = [0; 64];
/// let (count, from) = server.recv_from(&mut bytes).await?;
/// assert_eq!(&bytes[..count], b"hello");
/// assert!(from.is_unnamed());
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct UnixDatagram(Socket);

impl UnixDatagram {
    pub(super) fn new(socket: Socket) -> UnixDatagram {
        UnixDatagram(socket)
    }

    /// A socket at a path, or at an abstract name if the path begins with a NUL.
    ///
    /// # Errors
    ///
    /// `AddrInUse` where there is a file already; `NotFound`, `PermissionDenied`; `InvalidInput`
    /// for a path that is too long; `EMFILE`.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.0.bind(&named(path.as_ref())?)?;
        Ok(socket)
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOBUFS`.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let [left, right] = Socket::pair(libc::SOCK_DGRAM)?;
        Ok((UnixDatagram(left), UnixDatagram(right)))
    }

    /// A socket without a name, to which no answer can be sent.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOBUFS`.
    pub fn unbound() -> io::Result<UnixDatagram> {
        Socket::open(libc::AF_UNIX, libc::SOCK_DGRAM, 0).map(UnixDatagram)
    }

    /// Sends to, and receives from, the socket at a path, and no other.
    ///
    /// # Errors
    ///
    /// `NotFound`, `ConnectionRefused`, `PermissionDenied`.
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.0.connect_now(&named(path.as_ref())?)
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` of a kernel that is out of memory.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address(&self.0.local_address()?)
    }

    /// The address that it is connected to.
    ///
    /// # Errors
    ///
    /// `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address(&self.0.peer_address()?)
    }

    /// Ends one direction, or both.
    ///
    /// # Errors
    ///
    /// `NotConnected`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let (sockets, number) = self.0.now();
        sockets.shutdown(number, shutdown_number(how))
    }

    fn send_now(&self, bytes: &[u8], to: Option<&SocketAddress>) -> io::Result<usize> {
        let (sockets, number) = self.0.now();
        sockets.send_now(number, &[IoSlice::new(bytes)], to, 0)
    }

    fn receive_now(&self, into: &mut [u8], flags: i32) -> io::Result<(usize, SocketAddress)> {
        let (sockets, number) = self.0.now();
        let mut from = SocketAddress::new();
        let into = &mut [IoSliceMut::new(into)];
        let count = sockets.receive_now(number, into, Some(&mut from), flags)?;
        Ok((count, from))
    }

    fn name(from: &SocketAddress) -> io::Result<SocketAddr> {
        address(from)
    }

    datagrams!(SocketAddr, StdSocket);

    /// Sends a datagram to the socket at a path, and gives the count of bytes.
    ///
    /// # Errors
    ///
    /// `NotFound`, `ConnectionRefused`, `PermissionDenied`; `EMSGSIZE` for what is too long.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped send has sent nothing.
    ///
    /// # Kernel
    ///
    /// `sendto`, and `IORING_OP_POLL_ADD` (since 5.1) where there is no room. A socket that is not
    /// connected is always ready for the kernel, so a peer that takes nothing is asked again and
    /// again, once a turn.
    pub async fn send_to<P: AsRef<Path>>(&self, buf: &[u8], target: P) -> io::Result<usize> {
        let to = named(target.as_ref())?;
        self.0.io(Interest::WRITABLE, || self.send_now(buf, Some(&to))).await
    }

    /// As [`send_to`](UnixDatagram::send_to), for the one task that polls last.
    ///
    /// # Errors
    ///
    /// As for [`send_to`](UnixDatagram::send_to).
    pub fn poll_send_to<P: AsRef<Path>>(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: P,
    ) -> Poll<io::Result<usize>> {
        let to = named(target.as_ref())?;
        // An attempt that finds the queue of another full gives its own bytes back, of which Linux
        // tells this socket as of room: so it is asked again, once a turn, also by an armed poll.
        self.0.poll_io(Direction::Out, cx, || self.send_now(buf, Some(&to)))
    }

    /// Sends a datagram, if there is room for it now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room; and as for [`send_to`](UnixDatagram::send_to).
    pub fn try_send_to<P: AsRef<Path>>(&self, buf: &[u8], target: P) -> io::Result<usize> {
        self.send_now(buf, Some(&named(target.as_ref())?))
    }
}

descriptors!(UnixDatagram, StdSocket, 0);
