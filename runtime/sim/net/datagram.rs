//! Datagrams: there, lost or late, and whole or not at all.

use std::collections::VecDeque;

use super::name::source_towards;
use super::{
    ALL, INBOUND, Name, Network, OUTBOUND, Packet, Refused, Sent, Socket, SocketId, State,
};

/// The longest datagram, in bytes.
const LENGTH_MOST: usize = 65_507;

/// How many datagrams wait at most where each is short: about what a buffer of Linux's holds.
const WAITING_MOST: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    /// Whom it is connected to; the socket itself only for one of a pair.
    pub(super) peer: Option<(Name, Option<SocketId>)>,
    waiting: VecDeque<(Name, Vec<u8>)>,
    ended: bool,
}

impl Datagrams {
    pub(super) fn has_some(&self) -> bool {
        !self.waiting.is_empty() || self.ended
    }
}

/// A datagram, who sent it, and how long it was before it was cut.
pub(crate) type Received = (Vec<u8>, Name, usize);

impl Network {
    fn datagrams(&mut self, id: SocketId) -> Option<&mut Datagrams> {
        match self.sockets.get_mut(&id).map(|socket| &mut socket.state) {
            Some(State::Datagrams(datagrams)) => Some(datagrams),
            _ => None,
        }
    }

    pub(super) fn connect_datagrams(
        &mut self,
        id: SocketId,
        to: &Name,
        file: Option<u64>,
    ) -> Result<(), Refused> {
        let host = self.socket(id).host;
        let peer = match to {
            Name::Inet(address) => {
                self.route(address.ip(), host)?;
                if self.socket(id).local.is_none() {
                    let source = source_towards(address.ip(), host);
                    self.bind(id, Name::Inet((source, 0).into()), None)?;
                }
                None
            }
            Name::Unix(name) => Some(self.find_unix(host, name, file).ok_or(libc::ECONNREFUSED)?),
        };
        if let Some(datagrams) = self.datagrams(id) {
            datagrams.peer = Some((to.clone(), peer));
        }
        Ok(())
    }

    pub(super) fn shutdown_datagrams(&mut self, id: SocketId) -> Result<(), Refused> {
        match self.datagrams(id) {
            Some(datagrams) if datagrams.peer.is_some() => {
                datagrams.ended = true;
                self.note(id, ALL);
                Ok(())
            }
            _ => Err(libc::ENOTCONN),
        }
    }

    /// Sends a datagram; `None` if its receiver's queue is full, which only Unix sockets are told.
    pub(super) fn send_datagram(
        &mut self,
        id: SocketId,
        bytes: &[u8],
        to: Option<(&Name, Option<u64>)>,
    ) -> Result<Option<usize>, Refused> {
        if let Some(error) = self.socket(id).error.take() {
            return Err(error);
        }
        if bytes.len() > LENGTH_MOST {
            return Err(libc::EMSGSIZE);
        }
        let host = self.socket(id).host;
        let connected = self.datagrams(id).and_then(|datagrams| datagrams.peer.clone());
        let (to, known) = match (to, connected) {
            (Some((Name::Unix(name), file)), _) => {
                let known = self.find_unix(host, name, file).ok_or(libc::ECONNREFUSED)?;
                (Name::Unix(name.clone()), Some(known))
            }
            (Some((to, _)), _) => (to.clone(), None),
            (None, Some((to, known))) => (to, known),
            (None, None) => return Err(libc::EDESTADDRREQ),
        };
        match (to, known) {
            (Name::Inet(address), _) => {
                let to_host = self.route(address.ip(), host)?;
                if self.socket(id).local.is_none() {
                    let any =
                        if address.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
                    self.bind(id, Name::Inet(any), None)?;
                }
                self.send_inet((id, host), address, to_host, bytes);
                Ok(Some(bytes.len()))
            }
            (Name::Unix(_), Some(known)) => self.send_unix(id, known, bytes),
            (Name::Unix(_), None) => Err(libc::ENOTCONN),
        }
    }

    fn send_inet(
        &mut self,
        (id, host): (SocketId, usize),
        to: std::net::SocketAddr,
        to_host: usize,
        bytes: &[u8],
    ) {
        let Some(Name::Inet(mut from)) = self.socket(id).local.clone() else { return };
        if from.ip().is_unspecified() {
            from.set_ip(source_towards(to.ip(), host));
        }
        let Some(after) = self.links.draw_datagram(host, to_host, &mut self.dice) else { return };
        let (from, to) = (Name::Inet(from), Name::Inet(to));
        let packet = Packet::Datagram { from, to, bytes: bytes.to_vec() };
        self.schedule(Sent { from: id, from_host: host, to: 0, to_host, packet }, after);
    }

    /// Between two Unix sockets nothing is lost and no time passes.
    fn send_unix(
        &mut self,
        id: SocketId,
        to: SocketId,
        bytes: &[u8],
    ) -> Result<Option<usize>, Refused> {
        let from = self.socket(id).local.clone().unwrap_or(Name::UNNAMED);
        let Some(datagrams) = self.datagrams(to) else { return Err(libc::ECONNREFUSED) };
        if datagrams.ended {
            return Err(libc::EPIPE);
        }
        if datagrams.waiting.len() >= WAITING_MOST {
            return Ok(None);
        }
        datagrams.waiting.push_back((from, bytes.to_vec()));
        self.note(to, INBOUND);
        Ok(Some(bytes.len()))
    }

    /// Leaves an empty datagram with a socket that has none.
    pub(crate) fn tell(&mut self, id: SocketId) {
        if let Some(datagrams) = self.datagrams(id)
            && datagrams.waiting.is_empty()
        {
            datagrams.waiting.push_back((Name::UNNAMED, Vec::new()));
            self.note(id, INBOUND);
        }
    }

    pub(super) fn receive_datagram(
        &mut self,
        sender: (SocketId, usize),
        host: usize,
        from: Name,
        to: Name,
        bytes: Vec<u8>,
    ) {
        let Name::Inet(address) = to else { return };
        let is_wanted = |state: &State| match state {
            State::Datagrams(datagrams) => {
                datagrams.peer.as_ref().is_none_or(|(peer, _)| *peer == from)
            }
            _ => false,
        };
        let Some(id) = self.find_inet(host, address, |socket| is_wanted(&socket.state)) else {
            // A connected sender is told that nobody is there.
            let connected = self.datagrams(sender.0).is_some_and(|sender| sender.peer.is_some());
            if connected {
                let (from, to) = ((0, host), sender);
                let packet = Packet::Refuse;
                self.dispatch(Sent {
                    from: from.0,
                    from_host: from.1,
                    to: to.0,
                    to_host: to.1,
                    packet,
                });
            }
            return;
        };
        let capacity = self.socket(id).options.buffer_bytes(libc::SO_RCVBUF);
        let Some(datagrams) = self.datagrams(id) else { return };
        let held: usize = datagrams.waiting.iter().map(|(_, bytes)| bytes.len()).sum();
        // One that finds no room is dropped, as by every kernel.
        if datagrams.waiting.len() < WAITING_MOST && held + bytes.len() <= capacity.max(LENGTH_MOST)
        {
            datagrams.waiting.push_back((from, bytes));
            self.note(id, INBOUND);
        }
    }

    /// Takes a datagram, or looks at it; `None` if there is none yet.
    pub(super) fn take_datagram(
        &mut self,
        id: SocketId,
        most: usize,
        peek: bool,
    ) -> Result<Option<Received>, Refused> {
        if let Some(error) = self.socket(id).error.take() {
            return Err(error);
        }
        let datagrams = self.datagrams(id).ok_or(libc::ENOTCONN)?;
        let next =
            if peek { datagrams.waiting.front().cloned() } else { datagrams.waiting.pop_front() };
        match next {
            Some((from, mut bytes)) => {
                let length = bytes.len();
                bytes.truncate(most);
                if !peek {
                    // Whoever found the queue full may send now.
                    self.note_room(id);
                }
                Ok(Some((bytes, from, length)))
            }
            None if datagrams.ended => Ok(Some((Vec::new(), Name::UNNAMED, 0))),
            None => Ok(None),
        }
    }

    /// Whoever found a Unix socket's queue full may send now.
    fn note_room(&mut self, id: SocketId) {
        let Socket { host, kind, .. } = self.sockets[&id];
        let others = self.sockets.iter().filter(|(_, other)| {
            other.host == host && other.kind == kind && kind.domain == libc::AF_UNIX
        });
        let others: Vec<SocketId> = others.map(|(other, _)| *other).collect();
        others.into_iter().for_each(|other| self.note(other, OUTBOUND));
    }

    /// Sends on a socket of either kind; `None` if it has to wait. `to` is a name, and what its
    /// path leads to.
    pub(crate) fn send(
        &mut self,
        id: SocketId,
        bytes: &[u8],
        to: Option<(&Name, Option<u64>)>,
    ) -> Result<Option<usize>, Refused> {
        match (&self.socket(id).state, to) {
            (State::Datagrams(_), to) => self.send_datagram(id, bytes, to),
            (State::Connecting { .. }, _) => Ok(None),
            _ => self.send_stream(id, bytes),
        }
    }

    /// Receives on a socket of either kind; `None` if there is nothing yet.
    pub(crate) fn receive(
        &mut self,
        id: SocketId,
        most: usize,
        peek: bool,
    ) -> Result<Option<Received>, Refused> {
        match &self.socket(id).state {
            State::Datagrams(_) => self.take_datagram(id, most, peek),
            State::Connecting { .. } => Ok(None),
            _ => {
                let received = self.receive_stream(id, most, peek)?;
                Ok(received.map(|bytes| {
                    let length = bytes.len();
                    (bytes, Name::UNNAMED, length)
                }))
            }
        }
    }
}
