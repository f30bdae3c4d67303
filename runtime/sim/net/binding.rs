//! Names: which socket has which, and who is found by one.

use std::net::{IpAddr, SocketAddr};

use super::name::host_at;
use super::{Name, Network, Refused, Socket, SocketId, State, UnixName};
use crate::Choose;

/// The first port that is given out, and how many follow it.
const EPHEMERAL: u16 = 32_768;
const EPHEMERAL_PORTS: u16 = 28_232;

impl Network {
    /// Gives a socket its name; `file` is what its path made, if it has one.
    pub(crate) fn bind(
        &mut self,
        id: SocketId,
        name: Name,
        file: Option<u64>,
    ) -> Result<(), Refused> {
        if self.socket(id).local.is_some() {
            return Err(libc::EINVAL);
        }
        let host = self.socket(id).host;
        let name = match name {
            Name::Inet(address) => Name::Inet(self.bind_inet(id, host, address)?),
            Name::Unix(path) if path.is_empty() => {
                // The kernel draws a name of five digits.
                let name = format!("\0{:05x}", self.made).into_bytes();
                self.unix.insert((host, UnixName::Abstract(name.clone())), id);
                Name::Unix(name)
            }
            Name::Unix(path) => {
                let known = match file {
                    Some(inode) => UnixName::File(inode),
                    None => UnixName::Abstract(path.clone()),
                };
                if self.unix.contains_key(&(host, known.clone())) {
                    return Err(libc::EADDRINUSE);
                }
                self.unix.insert((host, known), id);
                Name::Unix(path)
            }
        };
        self.socket(id).local = Some(name);
        Ok(())
    }

    fn bind_inet(
        &mut self,
        id: SocketId,
        host: usize,
        mut address: SocketAddr,
    ) -> Result<SocketAddr, Refused> {
        let kind = self.socket(id).kind;
        if (kind.domain == libc::AF_INET) != address.is_ipv4() || kind.domain == libc::AF_UNIX {
            return Err(libc::EAFNOSUPPORT);
        }
        if host_at(address.ip(), host, self.hosts) != Some(host) {
            return Err(libc::EADDRNOTAVAIL);
        }
        if address.port() != 0 {
            return if self.is_taken(id, address) { Err(libc::EADDRINUSE) } else { Ok(address) };
        }
        for _ in 0..EPHEMERAL_PORTS {
            let next = self.ephemeral.entry(host).or_insert(0);
            address.set_port(EPHEMERAL + *next);
            *next = (*next + 1) % EPHEMERAL_PORTS;
            if !self.is_in_use(id, address) {
                return Ok(address);
            }
        }
        Err(libc::EADDRINUSE)
    }

    fn others_at(&self, id: SocketId, address: SocketAddr) -> impl Iterator<Item = &Socket> {
        let asking = &self.sockets[&id];
        self.sockets
            .iter()
            .filter(move |(other, socket)| {
                let local = socket.local.as_ref().and_then(Name::inet);
                **other != id
                    && socket.host == asking.host
                    && socket.kind == asking.kind
                    && local.is_some_and(|local| overlap(local, address))
            })
            .map(|(_, socket)| socket)
    }

    fn is_in_use(&self, id: SocketId, address: SocketAddr) -> bool {
        self.others_at(id, address).next().is_some()
    }

    /// Whether another socket keeps this one from having the address.
    fn is_taken(&self, id: SocketId, address: SocketAddr) -> bool {
        let options = &self.sockets[&id].options;
        let reuses = options.is_on(libc::SOL_SOCKET, libc::SO_REUSEADDR);
        let shares = options.is_on(libc::SOL_SOCKET, libc::SO_REUSEPORT);
        self.others_at(id, address).any(|other| {
            let listens = matches!(other.state, State::Listening { .. });
            let also_reuses = other.options.is_on(libc::SOL_SOCKET, libc::SO_REUSEADDR);
            let also_shares = other.options.is_on(libc::SOL_SOCKET, libc::SO_REUSEPORT);
            let is_allowed = (shares && also_shares) || (reuses && also_reuses && !listens);
            !is_allowed
        })
    }

    /// The address of `file`, or of an abstract name, for who connects or sends.
    pub(super) fn find_unix(
        &self,
        host: usize,
        name: &[u8],
        file: Option<u64>,
    ) -> Option<SocketId> {
        let known = match file {
            Some(inode) => UnixName::File(inode),
            None => UnixName::Abstract(name.to_vec()),
        };
        self.unix.get(&(host, known)).copied()
    }

    /// The host that an address leads to.
    pub(super) fn route(&self, to: IpAddr, from: usize) -> Result<usize, Refused> {
        host_at(to, from, self.hosts).ok_or(libc::ENETUNREACH)
    }

    /// Whoever has the address and `is_wanted`: one of several who share it.
    pub(super) fn find_inet(
        &mut self,
        host: usize,
        address: SocketAddr,
        is_wanted: impl Fn(&Socket) -> bool,
    ) -> Option<SocketId> {
        let has = |socket: &Socket| {
            let local = socket.local.as_ref().and_then(Name::inet);
            socket.host == host && local.is_some_and(|local| overlap(local, address))
        };
        let found = self.sockets.iter().filter(|(_, socket)| has(socket) && is_wanted(socket));
        let found: Vec<SocketId> = found.map(|(id, _)| *id).collect();
        match found.len() {
            0 => None,
            1 => Some(found[0]),
            several => Some(found[self.dice.pick(several)]),
        }
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}
