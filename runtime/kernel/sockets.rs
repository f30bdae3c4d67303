//! The part of the seam that is asked of sockets without ever waiting, and their addresses.
//!
//! What may wait goes through the ring as any other operation does. What is here answers at once:
//! it makes sockets, names them, sets their options, and takes or gives what is there now.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;

/// As many bytes as the kernel's longest address has (`struct sockaddr_storage`).
const MOST_BYTES: usize = 128;

/// Where the name of a Unix socket begins, and how long it may be with the NUL that ends a path.
const UNIX_NAME: usize = 2;
const UNIX_NAME_BYTES: usize = 108;

/// How long the kernel's addresses of the two Internet families are.
const V4_BYTES: usize = 16;
const V6_BYTES: usize = 28;

/// A socket's address as the kernel has it (`struct sockaddr_*`), at most 128 bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct SocketAddress {
    bytes: [u8; MOST_BYTES],
    length: u32,
}

impl SocketAddress {
    /// An empty one, to be filled by the kernel.
    pub fn new() -> SocketAddress {
        SocketAddress { bytes: [0; MOST_BYTES], length: 0 }
    }

    /// No address (`AF_UNSPEC`): to connect to it is to disconnect.
    pub fn none() -> SocketAddress {
        SocketAddress::of_family(libc::AF_UNSPEC, V4_BYTES)
    }

    /// The address that these bytes are; what is beyond the longest address is cut off.
    pub fn from_bytes(bytes: &[u8]) -> SocketAddress {
        let mut address = SocketAddress::new();
        let length = bytes.len().min(MOST_BYTES);
        address.bytes[..length].copy_from_slice(&bytes[..length]);
        address.length = length as u32;
        address
    }

    /// The address of a Unix socket: a path, an abstract name if it begins with a NUL, or none at
    /// all if it is empty.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name that is too long (a path of more than 107 bytes, an abstract name
    /// of more than 108), and for a path with a NUL in it.
    pub fn unix(name: &[u8]) -> io::Result<SocketAddress> {
        let is_path = name.first().is_some_and(|&first| first != 0);
        if is_path && name.contains(&0) {
            return Err(invalid("the path of a Unix socket has a NUL byte in it"));
        }
        // A path ends with a NUL; the length alone ends an abstract name.
        let length = UNIX_NAME + name.len() + usize::from(is_path);
        if length > UNIX_NAME + UNIX_NAME_BYTES {
            return Err(invalid(
                "the name of a Unix socket is too long: a path has at most 107 bytes, an abstract \
                 name 108",
            ));
        }
        let mut address = SocketAddress::of_family(libc::AF_UNIX, length);
        address.bytes[UNIX_NAME..UNIX_NAME + name.len()].copy_from_slice(name);
        Ok(address)
    }

    fn of_family(family: i32, length: usize) -> SocketAddress {
        let mut address = SocketAddress { bytes: [0; MOST_BYTES], length: length as u32 };
        address.bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        address
    }

    /// `AF_*`; 0 (`AF_UNSPEC`) for an empty one.
    pub fn family(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[0], self.bytes[1]])
    }

    /// The bytes that the kernel is given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length as usize]
    }

    /// All the room there is, for the kernel to fill.
    pub fn room(&mut self) -> &mut [u8; MOST_BYTES] {
        &mut self.bytes
    }

    /// Notes how much of the room the kernel has filled. It may say more than there was room for.
    pub fn set_length(&mut self, length: usize) {
        self.length = length.min(MOST_BYTES) as u32;
        if i32::from(self.family()) == libc::AF_UNIX {
            // Of a path that takes all the room for one Linux counts a NUL that it has no room for,
            // and that it would refuse to be given.
            self.length = self.length.min((UNIX_NAME + UNIX_NAME_BYTES) as u32);
        }
    }

    /// The address in std's words, if it is one of the Internet's.
    pub fn to_inet(&self) -> Option<SocketAddr> {
        let bytes = self.as_bytes();
        let port = u16::from_be_bytes(part(bytes, 2)?);
        match i32::from(self.family()) {
            libc::AF_INET if bytes.len() >= V4_BYTES => {
                let ip = Ipv4Addr::from(part::<4>(bytes, 4)?);
                Some(SocketAddrV4::new(ip, port).into())
            }
            libc::AF_INET6 if bytes.len() >= V6_BYTES => {
                let flow = u32::from_be_bytes(part(bytes, 4)?);
                let ip = Ipv6Addr::from(part::<16>(bytes, 8)?);
                let scope = u32::from_ne_bytes(part(bytes, 24)?);
                Some(SocketAddrV6::new(ip, port, flow, scope).into())
            }
            _ => None,
        }
    }

    /// The name of a Unix socket: its path without the NUL that ends it, its abstract name with
    /// the NUL that it begins with, or nothing if it has no name. `None` for another family.
    pub fn unix_name(&self) -> Option<&[u8]> {
        if i32::from(self.family()) != libc::AF_UNIX {
            return None;
        }
        let name = self.as_bytes().get(UNIX_NAME..)?;
        match name.first() {
            Some(0) | None => Some(name),
            Some(_) => name.split(|&byte| byte == 0).next(),
        }
    }
}

/// `N` bytes from `begin` on.
fn part<const N: usize>(bytes: &[u8], begin: usize) -> Option<[u8; N]> {
    bytes.get(begin..begin + N)?.try_into().ok()
}

#[cold]
fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl Default for SocketAddress {
    fn default() -> SocketAddress {
        SocketAddress::new()
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(from: SocketAddr) -> SocketAddress {
        let mut address = match from {
            SocketAddr::V4(v4) => {
                let mut address = SocketAddress::of_family(libc::AF_INET, V4_BYTES);
                address.bytes[4..8].copy_from_slice(&v4.ip().octets());
                address
            }
            SocketAddr::V6(v6) => {
                let mut address = SocketAddress::of_family(libc::AF_INET6, V6_BYTES);
                address.bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                address.bytes[8..24].copy_from_slice(&v6.ip().octets());
                address.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                address
            }
        };
        address.bytes[2..4].copy_from_slice(&from.port().to_be_bytes());
        address
    }
}

impl PartialEq for SocketAddress {
    fn eq(&self, other: &SocketAddress) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SocketAddress {}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.to_inet(), self.unix_name()) {
            (Some(inet), _) => write!(f, "SocketAddress({inet})"),
            (None, Some(name)) => write!(f, "SocketAddress(\"{}\")", name.escape_ascii()),
            (None, None) => write!(f, "SocketAddress({:?})", self.as_bytes()),
        }
    }
}

/// What is asked of sockets without ever waiting.
///
/// Flags, options and families are Linux's numbers. An error is the errno that Linux would give.
pub trait Sockets: Send + Sync {
    /// Makes a socket, which is closed on `exec` and doesn't block.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `EAFNOSUPPORT`, `EPROTONOSUPPORT`, `EACCES`, `ENOBUFS`.
    fn open(&self, domain: i32, kind: i32, protocol: i32) -> io::Result<RawFd>;

    /// Makes two Unix sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// As for [`open`](Sockets::open).
    fn pair(&self, kind: i32) -> io::Result<[RawFd; 2]>;

    /// Binds the socket to an address.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, `EINVAL`; for a path what a file system says.
    fn bind(&self, socket: RawFd, address: &SocketAddress) -> io::Result<()>;

    /// Connects a socket of datagrams, which sends nothing and never waits; or resets a stream, if
    /// there is no address.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED`, `EACCES`, `ENOENT`, `ENETUNREACH`.
    fn connect_now(&self, socket: RawFd, address: &SocketAddress) -> io::Result<()>;

    /// Lets peers connect, of which at most `backlog` wait to be accepted.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE`, `EOPNOTSUPP`.
    fn listen(&self, socket: RawFd, backlog: i32) -> io::Result<()>;

    /// The socket's own address.
    ///
    /// # Errors
    ///
    /// `ENOBUFS`.
    fn local_address(&self, socket: RawFd) -> io::Result<SocketAddress>;

    /// The address of who it is connected to.
    ///
    /// # Errors
    ///
    /// `ENOTCONN`, `ENOBUFS`.
    fn peer_address(&self, socket: RawFd) -> io::Result<SocketAddress>;

    /// Sets an option.
    ///
    /// # Errors
    ///
    /// `ENOPROTOOPT`, `EINVAL`, `EPERM`, `EDOM`.
    fn set_option(&self, socket: RawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()>;

    /// Asks for an option, and says how many bytes of `value` the answer has.
    ///
    /// # Errors
    ///
    /// `ENOPROTOOPT`, `EINVAL`.
    fn option(&self, socket: RawFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize>;

    /// Makes a descriptor that can be read while one of `events` (`POLL*`) is there of
    /// `descriptor`, a socket or a pipe, and that doesn't hold that open.
    ///
    /// # Errors
    ///
    /// `Unsupported` where there are none; `EMFILE`, `ENFILE`, `ENOMEM`, `ENOSPC`.
    fn gate(&self, descriptor: RawFd, events: u32) -> io::Result<RawFd> {
        let _ = (descriptor, events);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Which of `events` (`POLL*`) are there now, or of those that are always told.
    fn readiness(&self, descriptor: RawFd, events: u32) -> u32 {
        let _ = descriptor;
        events
    }

    /// Ends one direction of a connection, or both (`SHUT_*`).
    ///
    /// # Errors
    ///
    /// `ENOTCONN`, `EINVAL`.
    fn shutdown(&self, socket: RawFd, how: i32) -> io::Result<()>;

    /// Takes a connection that waits; as [`open`](Sockets::open), it makes a descriptor.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if none waits; `EMFILE`, `ENFILE`, `ENOBUFS`, `ECONNABORTED`.
    fn accept_now(&self, socket: RawFd) -> io::Result<(RawFd, SocketAddress)>;

    /// Takes what has arrived (`recvfrom`, or `recvmsg` for several buffers, with `MSG_DONTWAIT`
    /// and `flags`), and says from whom where that is asked: for a stream it costs something and
    /// says nothing.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing has; `ECONNRESET`, `ECONNREFUSED`, `ENOTCONN`.
    fn receive_now(
        &self,
        socket: RawFd,
        buffers: &mut [IoSliceMut<'_>],
        from: Option<&mut SocketAddress>,
        flags: i32,
    ) -> io::Result<usize>;

    /// Sends what there is room for (`sendto`, or `sendmsg` for several buffers, with
    /// `MSG_DONTWAIT`, `MSG_NOSIGNAL` and `flags`).
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room; `EPIPE`, `ECONNRESET`, `EMSGSIZE`, `EDESTADDRREQ`.
    fn send_now(
        &self,
        socket: RawFd,
        buffers: &[IoSlice<'_>],
        to: Option<&SocketAddress>,
        flags: i32,
    ) -> io::Result<usize>;

    /// The addresses of a host. Unlike everything else here it may block, and is called where
    /// blocking is allowed.
    ///
    /// # Errors
    ///
    /// What the resolver says.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_addresses_are_laid_out_as_the_kernel_has_them() {
        let v4 = SocketAddress::from(SocketAddr::from(([127, 0, 0, 1], 0x1234)));
        let family = (libc::AF_INET as u16).to_ne_bytes();
        let begin = [family[0], family[1], 0x12, 0x34, 127, 0, 0, 1];
        assert_eq!(v4.as_bytes(), [begin.as_slice(), &[0; 8]].concat());

        let ip = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
        let from = SocketAddr::from(SocketAddrV6::new(ip, 80, 0x0102_0304, 5));
        let v6 = SocketAddress::from(from);
        assert_eq!(v6.as_bytes().len(), 28);
        assert_eq!(v6.as_bytes()[2..8], [0, 80, 1, 2, 3, 4]);
        assert_eq!(v6.as_bytes()[24..], 5u32.to_ne_bytes());
        assert_eq!(v6.to_inet(), Some(from));
        assert_eq!(SocketAddress::from_bytes(v6.as_bytes()), v6);
    }

    #[test]
    fn unix_names_are_paths_abstract_or_none() {
        let path = SocketAddress::unix(b"/run/it").expect("a path");
        assert_eq!((path.as_bytes().len(), path.unix_name()), (10, Some(&b"/run/it"[..])));
        let hidden = SocketAddress::unix(b"\0it").expect("an abstract name");
        assert_eq!((hidden.as_bytes().len(), hidden.unix_name()), (5, Some(&b"\0it"[..])));
        let none = SocketAddress::unix(b"").expect("no name");
        assert_eq!((none.as_bytes().len(), none.unix_name()), (2, Some(&b""[..])));
        assert_eq!(none.to_inet(), None);

        for refused in [&b"/run\0/it"[..], &[b'a'; 108], &[0; 109]] {
            let error = SocketAddress::unix(refused).expect_err("it is no name");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert!(
            SocketAddress::unix(&[b'a'; 107]).is_ok() && SocketAddress::unix(&[0; 108]).is_ok()
        );
    }

    #[test]
    fn an_empty_address_is_of_no_family() {
        let empty = SocketAddress::new();
        assert_eq!((empty.family(), empty.as_bytes()), (0, &[][..]));
        assert_eq!((empty.to_inet(), empty.unix_name()), (None, None));
    }
}
