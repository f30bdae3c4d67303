//! A TCP socket that is neither a listener nor a stream yet.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::address::inet;
use crate::setters::{flags, numbers};
use crate::socket::Socket;
use crate::tcp::{TcpListener, TcpStream};

/// A TCP socket whose options are set before it listens or connects.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::TcpSocket;
///
/// // Two listeners at one address share the connections that arrive there.
/// let first = TcpSocket::new_v4()?;
/// first.set_reuseport(true)?;
/// first.bind("127.0.0.1:0".parse().unwrap())?;
/// let address = first.local_addr()?;
/// let first = first.listen(1024)?;
/// let second = TcpSocket::new_v4()?;
/// second.set_reuseport(true)?;
/// second.bind(address)?;
/// let second = second.listen(1024)?;
/// assert_eq!(first.local_addr()?, second.local_addr()?);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct TcpSocket(Socket);

flags! {
    TcpSocket,
    keepalive, set_keepalive, SOL_SOCKET, SO_KEEPALIVE, "an idle connection is probed";
    reuseaddr, set_reuseaddr, SOL_SOCKET, SO_REUSEADDR,
        "an address can be had whose connections fade away";
    reuseport, set_reuseport, SOL_SOCKET, SO_REUSEPORT, "others may be bound to the same address";
    nodelay, set_nodelay, IPPROTO_TCP, TCP_NODELAY, "small writes are sent at once";
}

numbers! {
    TcpSocket,
    send_buffer_size, set_send_buffer_size, SOL_SOCKET, SO_SNDBUF,
        "room for what is to be sent, in bytes; the kernel doubles what is set";
    recv_buffer_size, set_recv_buffer_size, SOL_SOCKET, SO_RCVBUF,
        "room for what has arrived, in bytes; the kernel doubles what is set";
    tos_v4, set_tos_v4, IPPROTO_IP, IP_TOS, "type of service of IPv4";
    tos, set_tos, IPPROTO_IP, IP_TOS, "type of service of IPv4, by its older name";
    tclass_v6, set_tclass_v6, IPPROTO_IPV6, IPV6_TCLASS, "traffic class of IPv6";
}

impl TcpSocket {
    /// A socket of IPv4.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOBUFS`.
    pub fn new_v4() -> io::Result<TcpSocket> {
        Socket::open(libc::AF_INET, libc::SOCK_STREAM, 0).map(TcpSocket)
    }

    /// A socket of IPv6.
    ///
    /// # Errors
    ///
    /// As for [`new_v4`](TcpSocket::new_v4); `EAFNOSUPPORT` where there is no IPv6.
    pub fn new_v6() -> io::Result<TcpSocket> {
        Socket::open(libc::AF_INET6, libc::SOCK_STREAM, 0).map(TcpSocket)
    }

    /// How long closing goes on sending (`SO_LINGER`).
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.0.linger()
    }

    /// Sets how long closing goes on sending (`SO_LINGER`), in whole seconds.
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn set_linger(&self, dur: Option<Duration>) -> io::Result<()> {
        self.0.set_linger(dur)
    }

    /// Makes closing reset the connection, and lose what is not sent yet.
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.0.set_linger(Some(Duration::ZERO))
    }

    /// The network interface that it is bound to (`SO_BINDTODEVICE`).
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn device(&self) -> io::Result<Option<Vec<u8>>> {
        self.0.device()
    }

    /// Binds it to a network interface, or to none (`SO_BINDTODEVICE`).
    ///
    /// # Errors
    ///
    /// `ENODEV`; `PermissionDenied` for who may not.
    pub fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
        self.0.bind_device(interface)
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` of a kernel that is out of memory.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.0.local_address()?)
    }

    /// The error that the socket has met and no call has returned yet.
    ///
    /// # Errors
    ///
    /// As for any option.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    /// Binds it to an address. Port 0 is one that the kernel picks.
    ///
    /// # Errors
    ///
    /// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.0.bind(&addr.into())
    }

    /// Connects it.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused`, `TimedOut`, `NetworkUnreachable`, `HostUnreachable`.
    ///
    /// # Cancel safety
    ///
    /// Safe: the socket is closed.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_CONNECT`, since 5.5.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        self.0.connect(&addr.into()).await?;
        Ok(TcpStream::new(self.0))
    }

    /// Lets peers connect, of which at most `backlog` wait to be accepted.
    ///
    /// # Errors
    ///
    /// `AddrInUse`.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.0.listen(backlog)?;
        Ok(TcpListener::new(self.0))
    }

    /// Takes over a socket of std's, whatever std calls it.
    ///
    /// # Panics
    ///
    /// In a simulation, which has no way to std's sockets.
    #[track_caller]
    pub fn from_std_stream(std_stream: StdStream) -> TcpSocket {
        // A socket can always be told not to block; std makes it fallible for other systems.
        let _ = std_stream.set_nonblocking(true);
        TcpSocket(Socket::adopt(std_stream.into()))
    }
}

/// A simulated socket has no descriptor, and panics.
impl AsFd for TcpSocket {
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.borrow()
    }
}

/// A simulated socket has no descriptor, and panics.
impl AsRawFd for TcpSocket {
    #[track_caller]
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
