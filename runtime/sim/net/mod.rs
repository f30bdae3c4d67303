//! The simulated network: the sockets of all hosts, and what is on its way between them.
//!
//! A stream's parts go as numbered segments, each with a latency of its own; whoever receives them
//! puts them in order again, as TCP does. What is lost is sent again, later. Where the way is cut,
//! or the host at its end has no power, segments are held; they go on when the way is open again,
//! or the sender gives up. A receiver that doesn't read fills its window, and then the sender
//! waits. Datagrams are lost, late, or there; nobody sends them again.
//!
//! # What is as on Linux
//!
//! - A connection is made in three steps, and waits in its listener's queue after the third. A
//!   queue that is full lets connections wait, who try again each second.
//! - A port without a listener refuses; so does a host whose service was killed, since its kernel
//!   closed its sockets. A host that lost power says nothing until it is on again, and then it
//!   resets what it knows nothing of.
//! - A socket that is closed with bytes unread resets its connection.
//! - What was received before a reset is read before the reset is told, and that is told once.
//!
//! # What isn't
//!
//! There is no congestion, no keep-alive, no urgent data, no multicast, and no time that a port
//! rests after its connection. A socket with a path is a regular file to whoever looks at its name.

mod binding;
mod connecting;
mod datagram;
mod link;
mod name;
mod options;
mod stream;

use std::collections::{BTreeMap, VecDeque};

pub(crate) use datagram::Received;
pub use link::Link;
pub(crate) use link::Links;
pub(crate) use name::{Name, addresses};

use crate::dice::Dice;
use datagram::Datagrams;
use options::Options;
use stream::Stream;

/// Names a socket of all there ever were.
pub(crate) type SocketId = u64;

/// An errno.
pub(crate) type Refused = i32;

/// For how long a connection tries to come about, in nanoseconds: Linux's six retries.
const CONNECT_NANOS: u64 = 127_000_000_000;

/// For how long what was sent is sent again, in nanoseconds: Linux's fifteen retries.
const RETRY_NANOS: u64 = 924_600_000_000;

/// How a socket's names look, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) domain: i32,
    pub(crate) is_stream: bool,
}

impl Kind {
    pub(crate) fn is_tcp(self) -> bool {
        self.is_stream && self.domain != libc::AF_UNIX
    }
}

/// What a connection that is about to be made has of its socket.
#[derive(Debug)]
pub(crate) enum State {
    /// Neither connected nor listening.
    Fresh,
    Listening {
        most: usize,
        queue: VecDeque<SocketId>,
    },
    /// On its way to its peer.
    Connecting {
        to: Name,
    },
    Stream(Stream),
    Datagrams(Datagrams),
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) host: usize,
    pub(crate) kind: Kind,
    pub(crate) local: Option<Name>,
    options: Options,
    state: State,
    /// What went wrong and was not told yet.
    error: Option<Refused>,
    /// The operations that wait for this socket, as their rings and numbers, in their order.
    pub(crate) waiting: Vec<(usize, u64)>,
}

/// What comes with what arrives.
const INBOUND: u32 = (libc::POLLIN | libc::POLLRDNORM | libc::POLLRDHUP) as u32;
/// What comes with room for more.
const OUTBOUND: u32 = (libc::POLLOUT | libc::POLLWRNORM) as u32;
/// What comes with a connection's end, and its beginning.
const ALL: u32 = u32::MAX;

/// What goes from one socket to another.
#[derive(Clone, Debug)]
enum Packet {
    /// Asks for a connection with whoever listens at `to`.
    Open {
        to: Name,
        since: u64,
    },
    /// Says that nobody does.
    Refuse,
    /// The answer; the connection's other end is the sender.
    Accept,
    /// The third step.
    Confirm,
    /// Bytes of a stream, or its end.
    Segment {
        number: u64,
        bytes: Vec<u8>,
        end: bool,
    },
    /// So many bytes were taken out of the receiver's window.
    Taken {
        bytes: usize,
    },
    Reset,
    Datagram {
        from: Name,
        to: Name,
        bytes: Vec<u8>,
    },
}

/// A packet on its way.
#[derive(Clone, Debug)]
struct Sent {
    from: SocketId,
    from_host: usize,
    /// The socket, where the sender knows it.
    to: SocketId,
    to_host: usize,
    packet: Packet,
}

impl Sent {
    /// When whoever sent it, and can't get through since then, stops trying. What only answers is
    /// not sent again: its sender doesn't notice.
    fn gives_up_at(&self, since: u64) -> Option<u64> {
        match self.packet {
            Packet::Open { since, .. } => Some(since + CONNECT_NANOS),
            Packet::Segment { .. } => Some(since + RETRY_NANOS),
            _ => None,
        }
    }
}

/// What the network wants to be reminded of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A packet arrives, or tries to.
    Packet(u64),
    /// Somebody has tried for long enough.
    Expiry(SocketId),
}

/// What an arrival was, for the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) what: &'static str,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Network {
    dice: Dice,
    pub(crate) links: Links,
    sockets: BTreeMap<SocketId, Socket>,
    made: SocketId,
    packets: BTreeMap<u64, Sent>,
    sent: u64,
    /// What couldn't arrive, in its order, and since when.
    held: Vec<(u64, Sent)>,
    /// The sockets with paths and abstract names, by host.
    unix: BTreeMap<(usize, UnixName), SocketId>,
    ephemeral: BTreeMap<usize, u16>,
    /// Sockets for which something has changed, and the events (`POLL*`) that have come thereby.
    changed: BTreeMap<SocketId, u32>,
    due: Vec<(u64, Due)>,
    hosts: usize,
}

/// By what a Unix socket is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UnixName {
    Abstract(Vec<u8>),
    /// The file that its path leads to.
    File(u64),
}

impl Network {
    pub(crate) fn new(dice: Dice) -> Network {
        Network {
            dice,
            links: Links::default(),
            sockets: BTreeMap::new(),
            made: 0,
            packets: BTreeMap::new(),
            sent: 0,
            held: Vec::new(),
            unix: BTreeMap::new(),
            ephemeral: BTreeMap::new(),
            changed: BTreeMap::new(),
            due: Vec::new(),
            hosts: 0,
        }
    }

    pub(crate) fn add_host(&mut self) {
        self.hosts += 1;
    }

    pub(crate) fn open(&mut self, host: usize, kind: Kind) -> SocketId {
        let state = match kind.is_stream {
            true => State::Fresh,
            false => State::Datagrams(Datagrams::default()),
        };
        self.add(host, kind, state)
    }

    fn add(&mut self, host: usize, kind: Kind, state: State) -> SocketId {
        self.made += 1;
        let socket = Socket {
            host,
            kind,
            local: None,
            options: Options::default(),
            state,
            error: None,
            waiting: Vec::new(),
        };
        self.sockets.insert(self.made, socket);
        self.made
    }

    /// Two Unix sockets that are each other's peers.
    pub(crate) fn pair(&mut self, host: usize, kind: Kind) -> [SocketId; 2] {
        let ends = [(); 2].map(|()| self.open(host, kind));
        for (end, peer) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            let socket = self.socket(end);
            socket.local = Some(Name::UNNAMED);
            match &mut socket.state {
                State::Datagrams(datagrams) => datagrams.peer = Some((Name::UNNAMED, Some(peer))),
                state => *state = State::Stream(Stream::new(peer, host, Name::UNNAMED)),
            }
        }
        ends
    }

    pub(crate) fn socket(&mut self, id: SocketId) -> &mut Socket {
        self.sockets.get_mut(&id).expect("a descriptor's socket is there")
    }

    pub(crate) fn has(&self, id: SocketId) -> bool {
        self.sockets.contains_key(&id)
    }

    /// What the network wants to be reminded of, and after how long; each is told once.
    pub(crate) fn take_due(&mut self) -> Vec<(u64, Due)> {
        std::mem::take(&mut self.due)
    }

    /// The sockets for which something has changed, and which events have come.
    pub(crate) fn take_changed(&mut self) -> BTreeMap<SocketId, u32> {
        std::mem::take(&mut self.changed)
    }

    /// What is left of what has arrived counts as if it arrived now.
    pub(crate) fn note_arrival(&mut self, id: SocketId) {
        self.note(id, INBOUND);
    }

    fn note(&mut self, id: SocketId, events: u32) {
        *self.changed.entry(id).or_default() |= events;
    }

    /// Sends a packet of a connection.
    fn send_packet(&mut self, from: SocketId, to: (SocketId, usize), packet: Packet) {
        let Some(socket) = self.sockets.get(&from) else { return };
        let sent = Sent { from, from_host: socket.host, to: to.0, to_host: to.1, packet };
        self.dispatch(sent);
    }

    fn dispatch(&mut self, sent: Sent) {
        let after = self.links.draw_segment(sent.from_host, sent.to_host, &mut self.dice);
        self.schedule(sent, after);
    }

    fn schedule(&mut self, sent: Sent, after: u64) {
        self.sent += 1;
        self.packets.insert(self.sent, sent);
        self.due.push((after, Due::Packet(self.sent)));
    }

    /// A packet's time has come: it arrives, or it is held.
    pub(crate) fn arrive(&mut self, number: u64, now: u64) -> Option<Arrival> {
        let sent = self.packets.remove(&number)?;
        if !self.links.is_open(sent.from_host, sent.to_host) {
            self.hold(sent, now);
            return None;
        }
        let (from, to) = (sent.from_host, sent.to_host);
        let (what, bytes) = match &sent.packet {
            Packet::Open { .. } => ("open", 0),
            Packet::Refuse => ("refuse", 0),
            Packet::Accept => ("accept", 0),
            Packet::Confirm => ("confirm", 0),
            Packet::Segment { bytes, end: false, .. } => ("segment", bytes.len()),
            Packet::Segment { .. } => ("end", 0),
            Packet::Taken { bytes } => ("taken", *bytes),
            Packet::Reset => ("reset", 0),
            Packet::Datagram { bytes, .. } => ("datagram", bytes.len()),
        };
        self.deliver(sent, now);
        Some(Arrival { from, to, what, bytes })
    }

    fn hold(&mut self, sent: Sent, now: u64) {
        if matches!(sent.packet, Packet::Datagram { .. }) {
            return;
        }
        if let Some(end) = sent.gives_up_at(now) {
            self.due.push((end.saturating_sub(now), Due::Expiry(sent.from)));
        }
        self.held.push((now, sent));
    }

    /// What was held and can go on now does so, in its order.
    pub(crate) fn release(&mut self) {
        for (since, sent) in std::mem::take(&mut self.held) {
            if self.links.is_open(sent.from_host, sent.to_host) {
                self.schedule(sent, 0);
            } else {
                self.held.push((since, sent));
            }
        }
    }

    /// Whoever has something on the way that was held for too long gives up.
    pub(crate) fn expire(&mut self, id: SocketId, now: u64) {
        let is_over = |(since, sent): &(u64, Sent)| {
            sent.from == id && sent.gives_up_at(*since).is_some_and(|end| now >= end)
        };
        if !self.held.iter().any(is_over) {
            return;
        }
        self.held.retain(|(_, sent)| sent.from != id);
        self.break_off(id, libc::ETIMEDOUT);
    }

    fn deliver(&mut self, sent: Sent, now: u64) {
        let Sent { from, from_host, to, to_host, packet } = sent;
        match packet {
            Packet::Open { to, since } => {
                self.be_asked((from, from_host), to_host, to, since, now);
            }
            Packet::Refuse => self.break_off(to, libc::ECONNREFUSED),
            Packet::Accept => self.be_accepted(to, (from, from_host)),
            Packet::Confirm => self.be_confirmed(to, (from, from_host)),
            Packet::Segment { number, bytes, end } => {
                self.receive_segment(to, to_host, (from, from_host), number, (bytes, end));
            }
            Packet::Taken { bytes } => self.be_taken(to, bytes),
            Packet::Reset => self.be_reset(to),
            Packet::Datagram { from: name, to: at, bytes } => {
                self.receive_datagram((from, from_host), to_host, name, at, bytes);
            }
        }
    }

    /// Answers who speaks of a connection that isn't there.
    fn answer_unknown(&mut self, at: (SocketId, usize), to: (SocketId, usize)) {
        let sent =
            Sent { from: at.0, from_host: at.1, to: to.0, to_host: to.1, packet: Packet::Reset };
        self.dispatch(sent);
    }

    /// The kernel closes all sockets of a host whose service is gone.
    pub(crate) fn close_all(&mut self, host: usize) {
        for id in self.of_host(host) {
            self.close(id);
        }
    }

    /// A host lost power: nobody is told.
    pub(crate) fn vanish(&mut self, host: usize) {
        for id in self.of_host(host) {
            self.forget(id);
        }
        self.packets.retain(|_, sent| sent.from_host != host || sent.to_host != host);
        self.held.retain(|(_, sent)| sent.from_host != host);
    }

    /// Everybody who is connected to a socket of the host is told that it is reset, and so is the
    /// host's own end.
    pub(crate) fn reset_all(&mut self, host: usize) {
        for id in self.of_host(host) {
            self.reset(id);
        }
    }

    fn of_host(&self, host: usize) -> Vec<SocketId> {
        let of_host = self.sockets.iter().filter(|(_, socket)| socket.host == host);
        of_host.map(|(id, _)| *id).collect()
    }

    fn forget(&mut self, id: SocketId) {
        self.sockets.remove(&id);
        self.unix.retain(|_, named| *named != id);
        self.changed.remove(&id);
    }

    /// A descriptor's last owner is gone.
    pub(crate) fn close(&mut self, id: SocketId) {
        match std::mem::replace(&mut self.socket(id).state, State::Fresh) {
            State::Listening { queue, .. } => {
                for waiting in queue {
                    self.reset(waiting);
                    self.forget(waiting);
                }
            }
            State::Stream(stream) => self.close_stream(id, stream),
            State::Fresh | State::Connecting { .. } | State::Datagrams(_) => {}
        }
        self.forget(id);
    }
}
