//! How a connection comes about: three steps, and the queue of its listener.

use std::collections::VecDeque;

use super::name::source_towards;
use super::stream::Stream;
use super::{
    ALL, CONNECT_NANOS, INBOUND, Kind, Name, Network, Packet, Refused, Sent, SocketId, State,
};

/// After what a connection that found its listener's queue full tries again, in nanoseconds.
const AGAIN_NANOS: u64 = 1_000_000_000;

/// How long a queue is at most: Linux's `somaxconn`.
const QUEUE_MOST: usize = 4096;

impl Network {
    pub(crate) fn listen(&mut self, id: SocketId, backlog: i32) -> Result<(), Refused> {
        let most = usize::try_from(backlog).unwrap_or(QUEUE_MOST).clamp(1, QUEUE_MOST);
        let kind = self.socket(id).kind;
        if !kind.is_stream {
            return Err(libc::EOPNOTSUPP);
        }
        match &mut self.socket(id).state {
            State::Listening { most: before, .. } => *before = most,
            state @ State::Fresh => *state = State::Listening { most, queue: VecDeque::new() },
            _ => return Err(libc::EINVAL),
        }
        if self.socket(id).local.is_none() {
            let any = self.any_name(kind)?;
            self.bind(id, any, None)?;
        }
        Ok(())
    }

    fn any_name(&self, kind: Kind) -> Result<Name, Refused> {
        match kind.domain {
            libc::AF_INET => Ok(Name::Inet(([0; 4], 0).into())),
            libc::AF_INET6 => Ok(Name::Inet(([0_u16; 8], 0).into())),
            _ => Err(libc::EINVAL),
        }
    }

    /// Begins to connect, or says how it stands: `true` if it is connected.
    ///
    /// `file` is what the path of a Unix socket leads to.
    pub(crate) fn connect(
        &mut self,
        id: SocketId,
        to: &Name,
        file: Option<u64>,
        now: u64,
    ) -> Result<bool, Refused> {
        if let Some(error) = self.socket(id).error.take() {
            return Err(error);
        }
        match &self.socket(id).state {
            State::Datagrams(_) => return self.connect_datagrams(id, to, file).map(|()| true),
            State::Stream(_) => return Ok(true),
            State::Connecting { .. } => return Ok(false),
            State::Listening { .. } => return Err(libc::EISCONN),
            State::Fresh => {}
        }
        let host = self.socket(id).host;
        let (target, to_host) = match to {
            Name::Inet(address) => {
                let to_host = self.route(address.ip(), host)?;
                if self.socket(id).local.is_none() {
                    let source = source_towards(address.ip(), host);
                    self.bind(id, Name::Inet((source, 0).into()), None)?;
                }
                self.settle_source(id, address.ip());
                (0, to_host)
            }
            Name::Unix(name) => {
                let listener = self.find_unix(host, name, file);
                let missing = if file.is_none() && name.first() != Some(&0) {
                    libc::ENOENT
                } else {
                    libc::ECONNREFUSED
                };
                (listener.ok_or(missing)?, host)
            }
        };
        self.socket(id).state = State::Connecting { to: to.clone() };
        let packet = Packet::Open { to: to.clone(), since: now };
        self.send_packet(id, (target, to_host), packet);
        Ok(false)
    }

    /// A socket that is bound to every address has one of them once it is connected.
    fn settle_source(&mut self, id: SocketId, to: std::net::IpAddr) {
        let host = self.socket(id).host;
        if let Some(Name::Inet(local)) = &mut self.socket(id).local
            && local.ip().is_unspecified()
        {
            local.set_ip(source_towards(to, host));
        }
    }

    /// The first step arrives at its host.
    pub(super) fn be_asked(
        &mut self,
        from: (SocketId, usize),
        host: usize,
        to: Name,
        since: u64,
        now: u64,
    ) {
        let Some(asking) = self.sockets.get(&from.0) else { return };
        if !matches!(asking.state, State::Connecting { .. }) {
            return;
        }
        let peer_name = asking.local.clone().unwrap_or(Name::UNNAMED);
        let listens = |state: &State| matches!(state, State::Listening { .. });
        let listener = match &to {
            Name::Inet(address) => self.find_inet(host, *address, |socket| listens(&socket.state)),
            Name::Unix(_) => self.find_listener_of(&to, host),
        };
        let Some(listener) = listener else {
            let refusal = Sent {
                from: 0,
                from_host: host,
                to: from.0,
                to_host: from.1,
                packet: Packet::Refuse,
            };
            self.dispatch(refusal);
            return;
        };
        let kind = self.sockets[&listener].kind;
        let State::Listening { most, queue } = &self.sockets[&listener].state else {
            unreachable!("it was found because it listens");
        };
        if queue.len() >= *most {
            if now >= since + CONNECT_NANOS {
                self.break_off(from.0, libc::ETIMEDOUT);
                return;
            }
            let packet = Packet::Open { to, since };
            let again = Sent { from: from.0, from_host: from.1, to: 0, to_host: host, packet };
            self.schedule(again, AGAIN_NANOS);
            return;
        }
        let options = self.sockets[&listener].options.clone();
        let mut stream = Stream::new(from.0, from.1, peer_name);
        stream.listener = Some(listener);
        let id = self.add(host, kind, State::Stream(stream));
        let socket = self.socket(id);
        socket.local = Some(to);
        socket.options = options;
        self.send_packet(id, from, Packet::Accept);
    }

    fn find_listener_of(&self, to: &Name, host: usize) -> Option<SocketId> {
        let mut named = self.sockets.iter().filter(|(_, socket)| {
            socket.host == host
                && socket.local.as_ref() == Some(to)
                && matches!(socket.state, State::Listening { .. })
        });
        named.next().map(|(id, _)| *id)
    }

    /// The second step arrives: whoever connects is connected.
    pub(super) fn be_accepted(&mut self, id: SocketId, peer: (SocketId, usize)) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            let gone = Sent {
                from: id,
                from_host: peer.1,
                to: peer.0,
                to_host: peer.1,
                packet: Packet::Reset,
            };
            self.dispatch(gone);
            return;
        };
        let State::Connecting { to } = &socket.state else { return };
        socket.state = State::Stream(Stream::new(peer.0, peer.1, to.clone()));
        self.note(id, ALL);
        self.send_packet(id, peer, Packet::Confirm);
    }

    /// The third step arrives: the connection goes into its listener's queue.
    pub(super) fn be_confirmed(&mut self, id: SocketId, from: (SocketId, usize)) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            let host = from.1;
            self.answer_unknown((id, host), from);
            return;
        };
        let State::Stream(stream) = &mut socket.state else { return };
        let Some(listener) = stream.listener.take() else { return };
        match self.sockets.get_mut(&listener).map(|socket| &mut socket.state) {
            Some(State::Listening { queue, .. }) => {
                queue.push_back(id);
                self.note(listener, INBOUND);
            }
            // It stopped listening meanwhile.
            _ => {
                self.reset(id);
                self.forget(id);
            }
        }
    }

    /// The connection that waits longest, whose descriptor is to be made.
    pub(crate) fn accept(&mut self, id: SocketId) -> Result<Option<SocketId>, Refused> {
        match &mut self.socket(id).state {
            State::Listening { queue, .. } => Ok(queue.pop_front()),
            State::Datagrams(_) => Err(libc::EOPNOTSUPP),
            _ => Err(libc::EINVAL),
        }
    }

    /// There was no descriptor for a connection: it waits on, as the next one.
    pub(crate) fn wait_on(&mut self, id: SocketId, connection: SocketId) {
        if let State::Listening { queue, .. } = &mut self.socket(id).state {
            queue.push_front(connection);
        }
    }

    /// Who connected; told also if the connection has been reset since.
    pub(crate) fn connected_from(&self, id: SocketId) -> Name {
        match self.sockets.get(&id).map(|socket| &socket.state) {
            Some(State::Stream(stream)) => stream.peer_name.clone(),
            _ => Name::UNNAMED,
        }
    }

    pub(crate) fn peer_name(&self, id: SocketId) -> Option<Name> {
        match &self.sockets.get(&id)?.state {
            State::Stream(stream) if !stream.is_gone() => Some(stream.peer_name.clone()),
            State::Datagrams(datagrams) => datagrams.peer.as_ref().map(|(name, _)| name.clone()),
            _ => None,
        }
    }
}
