//! The options of sockets, as bytes.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::socket::Socket;

/// As long as the name of a network interface can be, with the NUL that ends it.
const INTERFACE_BYTES: usize = 16;

impl Socket {
    fn set(&self, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        let (sockets, number) = self.now();
        sockets.set_option(number, level, name, value)
    }

    fn get<const N: usize>(&self, level: i32, name: i32) -> io::Result<([u8; N], usize)> {
        let (sockets, number) = self.now();
        let mut value = [0; N];
        let length = sockets.option(number, level, name, &mut value)?;
        Ok((value, length.min(N)))
    }

    pub(crate) fn set_number(&self, level: i32, name: i32, value: u32) -> io::Result<()> {
        self.set(level, name, &value.to_ne_bytes())
    }

    pub(crate) fn number(&self, level: i32, name: i32) -> io::Result<u32> {
        match self.get::<4>(level, name)? {
            // Some options of IPv4 are answered in one byte.
            (value, 1) => Ok(u32::from(value[0])),
            (value, _) => Ok(u32::from_ne_bytes(value)),
        }
    }

    pub(crate) fn set_flag(&self, level: i32, name: i32, on: bool) -> io::Result<()> {
        self.set_number(level, name, u32::from(on))
    }

    pub(crate) fn flag(&self, level: i32, name: i32) -> io::Result<bool> {
        self.number(level, name).map(|value| value != 0)
    }

    /// The error that the socket has met and no call has returned yet.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let number = self.number(libc::SOL_SOCKET, libc::SO_ERROR)?;
        Ok((number != 0).then(|| io::Error::from_raw_os_error(number as i32)))
    }

    /// `struct linger`: whether, and for how many seconds.
    pub(crate) fn linger(&self) -> io::Result<Option<Duration>> {
        let (value, _) = self.get::<8>(libc::SOL_SOCKET, libc::SO_LINGER)?;
        let [on, seconds] = [0, 4]
            .map(|at| u32::from_ne_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]));
        Ok((on != 0).then(|| Duration::from_secs(seconds.into())))
    }

    pub(crate) fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        let seconds = linger.map_or(0, |it| i32::try_from(it.as_secs()).unwrap_or(i32::MAX));
        let mut value = [0; 8];
        value[..4].copy_from_slice(&u32::from(linger.is_some()).to_ne_bytes());
        value[4..].copy_from_slice(&seconds.to_ne_bytes());
        self.set(libc::SOL_SOCKET, libc::SO_LINGER, &value)
    }

    /// The interface that the socket is bound to.
    pub(crate) fn device(&self) -> io::Result<Option<Vec<u8>>> {
        let (value, length) =
            self.get::<INTERFACE_BYTES>(libc::SOL_SOCKET, libc::SO_BINDTODEVICE)?;
        let name = value[..length].split(|&byte| byte == 0).next().unwrap_or_default();
        Ok((!name.is_empty()).then(|| name.to_vec()))
    }

    pub(crate) fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, interface.unwrap_or_default())
    }

    /// `struct ip_mreq`.
    pub(crate) fn set_group_v4(
        &self,
        name: i32,
        group: Ipv4Addr,
        interface: Ipv4Addr,
    ) -> io::Result<()> {
        let value = [group.octets(), interface.octets()].concat();
        self.set(libc::IPPROTO_IP, name, &value)
    }

    /// `struct ipv6_mreq`.
    pub(crate) fn set_group_v6(
        &self,
        name: i32,
        group: &Ipv6Addr,
        interface: u32,
    ) -> io::Result<()> {
        let value = [&group.octets()[..], &interface.to_ne_bytes()].concat();
        self.set(libc::IPPROTO_IPV6, name, &value)
    }

    /// `struct ucred`: process, user and group of the peer.
    pub(crate) fn peer_credentials(&self) -> io::Result<[u32; 3]> {
        let (value, _) = self.get::<12>(libc::SOL_SOCKET, libc::SO_PEERCRED)?;
        Ok([0, 4, 8]
            .map(|at| u32::from_ne_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]])))
    }
}
