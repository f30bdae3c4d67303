//! UDP sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use ringhold_runtime::SocketAddress;
use tokio::io::ReadBuf;

use crate::address::{ToSocketAddrs, family, first_bound, inet, resolve, targets};
use crate::datagrams::datagrams;
use crate::readiness::{Interest, Ready};
use crate::setters::descriptors;
use crate::sides::Direction;
use crate::socket::Socket;
use crate::uninit::read_into;

/// A UDP socket.
///
/// Nothing is lost by what is dropped while it waits: a dropped receive has taken no datagram, and
/// a dropped send has sent none. Any number of tasks may receive and send at once.
///
/// Dropped, it is closed when the drop returns, on any thread and whatever waited for it: its
/// address can be bound again.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::UdpSocket;
///
/// let left = UdpSocket::bind("127.0.0.1:0").await?;
/// let right = UdpSocket::bind("127.0.0.1:0").await?;
/// left.send_to(b"hello", right.local_addr()?).await?;
/// let mut bytes = [0; 64];
/// let (count, from) = right.recv_from(&mut bytes).await?;
/// assert_eq!((&bytes[..count], from), (&b"hello"[..], left.local_addr()?));
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct UdpSocket(Socket);

impl UdpSocket {
    /// Makes a socket at the first of the addresses that can be had. Port 0 is one that the kernel
    /// picks.
    ///
    /// # Errors
    ///
    /// That of the last address: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`; `EMFILE`; and
    /// what the resolver says.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing stays open.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        let targets = targets(&addr);
        first_bound(targets, |address| {
            let socket = Socket::open(family(address), libc::SOCK_DGRAM, 0)?;
            socket.bind(&address.into())?;
            Ok(UdpSocket(socket))
        })
        .await
    }

    /// Sends to, and receives from, the first of the addresses that can be had, and no other.
    ///
    /// # Errors
    ///
    /// That of the last address: `NetworkUnreachable`; and what the resolver says.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: it may be connected or not.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_CONNECT`, since 5.5.
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        let targets = targets(&addr);
        crate::address::first_that(targets, |address| async move {
            self.0.connect(&address.into()).await
        })
        .await
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` of a kernel that is out of memory.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.0.local_address()?)
    }

    /// The address that it is connected to.
    ///
    /// # Errors
    ///
    /// `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.0.peer_address()?)
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
        inet(from)
    }

    datagrams!(SocketAddr, StdSocket);

    /// Sends a datagram to the first of the addresses, and gives the count of bytes.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` for what is too long; `ConnectionRefused` for an earlier one that no socket took.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped send has sent nothing.
    ///
    /// # Kernel
    ///
    /// `sendto`, and `IORING_OP_POLL_ADD` (since 5.1) where there is no room.
    pub async fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let targets = targets(&addr);
        let Some(&address) = resolve(targets).await?.first() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no addresses to send data to",
            ));
        };
        let to = SocketAddress::from(address);
        self.0.io(Interest::WRITABLE, || self.send_now(buf, Some(&to))).await
    }

    /// As [`send_to`](UdpSocket::send_to), for the one task that polls last.
    ///
    /// # Errors
    ///
    /// As for [`send_to`](UdpSocket::send_to).
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let to = SocketAddress::from(target);
        self.0.poll_io(Direction::Out, cx, || self.send_now(buf, Some(&to)))
    }

    /// Sends a datagram, if there is room for it now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room; and as for [`send_to`](UdpSocket::send_to).
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.send_now(buf, Some(&target.into()))
    }

    /// Waits for a datagram and leaves it there. Returns the count of bytes, and who sent it.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` for an earlier datagram that no socket took.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is taken.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.io(Interest::READABLE, || self.try_peek_from(buf)).await
    }

    /// As [`peek_from`](UdpSocket::peek_from), for the one task that polls last.
    ///
    /// # Errors
    ///
    /// As for [`peek_from`](UdpSocket::peek_from).
    pub fn poll_peek_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let room = buf.initialize_unfilled();
        let attempt = || self.try_peek_from(room);
        let outcome = ready!(self.0.poll_io(Direction::In, cx, attempt));
        Poll::Ready(outcome.map(|(count, from)| {
            buf.advance(count);
            from
        }))
    }

    /// Looks at the next datagram, if there is one now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; and as for [`peek_from`](UdpSocket::peek_from).
    pub fn try_peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (count, from) = self.receive_now(buf, libc::MSG_PEEK)?;
        Ok((count, inet(&from)?))
    }

    /// As [`peek_from`](UdpSocket::peek_from), without who sent it.
    ///
    /// # Errors
    ///
    /// As for [`peek_from`](UdpSocket::peek_from).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is taken.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.io(Interest::READABLE, || self.try_peek(buf)).await
    }

    /// As [`peek`](UdpSocket::peek), for the one task that polls last.
    ///
    /// # Errors
    ///
    /// As for [`peek_from`](UdpSocket::peek_from).
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.initialize_unfilled();
        let attempt = || self.try_peek(room);
        let outcome = ready!(self.0.poll_io(Direction::In, cx, attempt));
        Poll::Ready(outcome.map(|count| buf.advance(count)))
    }

    /// Looks at the next datagram, if there is one now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; and as for [`peek_from`](UdpSocket::peek_from).
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive_now(buf, libc::MSG_PEEK).map(|(count, _)| count)
    }

    /// Waits for a datagram, leaves it there, and says who sent it.
    ///
    /// # Errors
    ///
    /// As for [`peek_from`](UdpSocket::peek_from).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is taken.
    pub async fn peek_sender(&self) -> io::Result<SocketAddr> {
        self.0.io(Interest::READABLE, || self.try_peek_sender()).await
    }

    /// As [`peek_sender`](UdpSocket::peek_sender), for the one task that polls last.
    ///
    /// # Errors
    ///
    /// As for [`peek_from`](UdpSocket::peek_from).
    pub fn poll_peek_sender(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        self.0.poll_io(Direction::In, cx, || self.try_peek_sender())
    }

    /// Says who sent the next datagram, if there is one now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; and as for [`peek_from`](UdpSocket::peek_from).
    pub fn try_peek_sender(&self) -> io::Result<SocketAddr> {
        self.try_peek_from(&mut []).map(|(_, from)| from)
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

    /// Receives what is sent to a group, by the interface of an address.
    ///
    /// # Errors
    ///
    /// `AddrInUse` for who has joined already; `ENODEV`; `InvalidInput` for what is no group.
    pub fn join_multicast_v4(&self, multiaddr: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.0.set_group_v4(libc::IP_ADD_MEMBERSHIP, multiaddr, interface)
    }

    /// Receives what is sent to a group, by the interface of a number.
    ///
    /// # Errors
    ///
    /// As for [`join_multicast_v4`](UdpSocket::join_multicast_v4).
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.set_group_v6(libc::IPV6_ADD_MEMBERSHIP, multiaddr, interface)
    }

    /// Receives no longer what is sent to a group.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` for who has not joined it.
    pub fn leave_multicast_v4(&self, multiaddr: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.0.set_group_v4(libc::IP_DROP_MEMBERSHIP, multiaddr, interface)
    }

    /// Receives no longer what is sent to a group.
    ///
    /// # Errors
    ///
    /// As for [`leave_multicast_v4`](UdpSocket::leave_multicast_v4).
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.set_group_v6(libc::IPV6_DROP_MEMBERSHIP, multiaddr, interface)
    }
}

crate::setters::flags! {
    UdpSocket,
    broadcast, set_broadcast, SOL_SOCKET, SO_BROADCAST, "it may send to broadcast addresses";
    multicast_loop_v4, set_multicast_loop_v4, IPPROTO_IP, IP_MULTICAST_LOOP,
        "what it sends to a group of IPv4 comes back to this host";
    multicast_loop_v6, set_multicast_loop_v6, IPPROTO_IPV6, IPV6_MULTICAST_LOOP,
        "what it sends to a group of IPv6 comes back to this host";
}

crate::setters::numbers! {
    UdpSocket,
    ttl, set_ttl, IPPROTO_IP, IP_TTL, "hops that what is sent may take";
    multicast_ttl_v4, set_multicast_ttl_v4, IPPROTO_IP, IP_MULTICAST_TTL,
        "hops that what is sent to a group may take";
    tos_v4, set_tos_v4, IPPROTO_IP, IP_TOS, "type of service of IPv4";
    tos, set_tos, IPPROTO_IP, IP_TOS, "type of service of IPv4, by its older name";
    tclass_v6, set_tclass_v6, IPPROTO_IPV6, IPV6_TCLASS, "traffic class of IPv6";
}

descriptors!(UdpSocket, StdSocket, 0);
