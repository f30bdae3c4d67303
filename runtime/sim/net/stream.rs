//! Streams: bytes in order, windows, ends and resets.

use std::collections::{BTreeMap, VecDeque};

use super::{ALL, INBOUND, Name, Network, OUTBOUND, Packet, Refused, SocketId, State};

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The other end, and its host.
    peer: (SocketId, usize),
    pub(super) peer_name: Name,
    /// Who is told when the connection is made.
    pub(super) listener: Option<SocketId>,
    received: VecDeque<u8>,
    /// The peer sends nothing after what was received.
    ended: bool,
    /// Segments that overtook others, by their numbers.
    early: BTreeMap<u64, (Vec<u8>, bool)>,
    /// The number of the segment that is next.
    next: u64,
    /// How many segments were sent.
    sent: u64,
    /// Bytes that were sent and that the peer's service has not taken.
    outstanding: usize,
    /// Nothing more is sent, or taken.
    shut: [bool; 2],
    /// Nothing comes from the peer any more, and nothing gets there.
    gone: bool,
}

const SENDING: usize = 0;
const RECEIVING: usize = 1;

impl Stream {
    pub(super) fn new(peer: SocketId, peer_host: usize, peer_name: Name) -> Stream {
        Stream {
            peer: (peer, peer_host),
            peer_name,
            listener: None,
            received: VecDeque::new(),
            ended: false,
            early: BTreeMap::new(),
            next: 0,
            sent: 0,
            outstanding: 0,
            shut: [false; 2],
            gone: false,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }
}

impl Network {
    /// The stream of a socket, unless it is none.
    pub(super) fn stream(&mut self, id: SocketId) -> Option<&mut Stream> {
        match self.sockets.get_mut(&id).map(|socket| &mut socket.state) {
            Some(State::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    /// How many bytes may be sent and not taken.
    fn window(&self, id: SocketId) -> usize {
        let socket = &self.sockets[&id];
        let own = socket.options.buffer_bytes(libc::SO_SNDBUF);
        let State::Stream(stream) = &socket.state else { return own };
        let peer = self.sockets.get(&stream.peer.0);
        own + peer.map_or(0, |peer| peer.options.buffer_bytes(libc::SO_RCVBUF))
    }

    /// Sends what there is room for; `None` if there is none.
    pub(super) fn send_stream(
        &mut self,
        id: SocketId,
        bytes: &[u8],
    ) -> Result<Option<usize>, Refused> {
        let window = self.window(id);
        if let Some(error) = self.socket(id).error.take() {
            return Err(error);
        }
        let Some(stream) = self.stream(id) else { return Err(libc::EPIPE) };
        if stream.gone || stream.shut[SENDING] {
            return Err(libc::EPIPE);
        }
        if bytes.is_empty() {
            return Ok(Some(0));
        }
        let room = window.saturating_sub(stream.outstanding);
        // As TCP, which waits until a good part of the buffer is free again.
        if room < bytes.len().min(window / 3) {
            return Ok(None);
        }
        let count = room.min(bytes.len());
        stream.outstanding += count;
        let (peer, number) = (stream.peer, stream.sent);
        stream.sent += 1;
        let bytes = bytes[..count].to_vec();
        self.send_packet(id, peer, Packet::Segment { number, bytes, end: false });
        Ok(Some(count))
    }

    /// Takes up to `most` bytes, or looks at them; `None` if there are none yet.
    pub(super) fn receive_stream(
        &mut self,
        id: SocketId,
        most: usize,
        peek: bool,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let Some(stream) = self.stream(id) else { return Err(libc::ENOTCONN) };
        if !stream.received.is_empty() {
            let count = most.min(stream.received.len());
            if peek {
                return Ok(Some(stream.received.iter().take(count).copied().collect()));
            }
            let bytes = stream.received.drain(..count).collect();
            let peer = stream.peer;
            self.send_packet(id, peer, Packet::Taken { bytes: count });
            return Ok(Some(bytes));
        }
        let over = stream.ended || stream.gone || stream.shut[RECEIVING] || most == 0;
        match self.socket(id).error.take() {
            Some(error) => Err(error),
            None if over => Ok(Some(Vec::new())),
            None => Ok(None),
        }
    }

    pub(super) fn receive_segment(
        &mut self,
        id: SocketId,
        host: usize,
        from: (SocketId, usize),
        number: u64,
        segment: (Vec<u8>, bool),
    ) {
        let Some(stream) = self.stream(id) else {
            if !segment.1 {
                self.answer_unknown((id, host), from);
            }
            return;
        };
        stream.early.insert(number, segment);
        let before = stream.next;
        while let Some((bytes, end)) = stream.early.remove(&stream.next) {
            stream.next += 1;
            stream.ended |= end;
            if stream.shut[RECEIVING] {
                continue;
            }
            stream.received.extend(bytes);
        }
        if stream.next > before {
            self.note(id, INBOUND);
        }
    }

    pub(super) fn be_taken(&mut self, id: SocketId, bytes: usize) {
        if let Some(stream) = self.stream(id) {
            stream.outstanding = stream.outstanding.saturating_sub(bytes);
            self.note(id, OUTBOUND);
        }
    }

    /// `how` is `SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`.
    pub(crate) fn shutdown(&mut self, id: SocketId, how: i32) -> Result<(), Refused> {
        let Some(stream) = self.stream(id) else { return self.shutdown_datagrams(id) };
        if stream.gone {
            return Err(libc::ENOTCONN);
        }
        if how != libc::SHUT_WR {
            stream.shut[RECEIVING] = true;
        }
        let ends = how != libc::SHUT_RD && !stream.shut[SENDING];
        if ends {
            stream.shut[SENDING] = true;
            let (peer, number) = (stream.peer, stream.sent);
            stream.sent += 1;
            self.send_packet(id, peer, Packet::Segment { number, bytes: Vec::new(), end: true });
        }
        self.note(id, ALL);
        Ok(())
    }

    /// The socket's last owner is gone: the peer is told the end, or that its bytes were not read.
    pub(super) fn close_stream(&mut self, id: SocketId, stream: Stream) {
        if stream.gone {
            return;
        }
        let unread = !stream.received.is_empty() || !stream.early.is_empty();
        if unread || self.socket(id).options.resets_at_close() {
            self.send_packet(id, stream.peer, Packet::Reset);
        } else if !stream.shut[SENDING] {
            let packet = Packet::Segment { number: stream.sent, bytes: Vec::new(), end: true };
            self.send_packet(id, stream.peer, packet);
        }
    }

    /// This end and the other are told that the connection is reset.
    pub(crate) fn reset(&mut self, id: SocketId) {
        if let Some(stream) = self.stream(id)
            && !stream.gone
        {
            let peer = stream.peer;
            self.send_packet(id, peer, Packet::Reset);
            self.break_off(id, libc::ECONNRESET);
        }
    }

    pub(super) fn be_reset(&mut self, id: SocketId) {
        // One whose own end was sent has nothing to lose but what it might receive.
        self.break_off(id, libc::ECONNRESET);
    }

    /// Nothing comes of a connection any more, for this reason.
    pub(super) fn break_off(&mut self, id: SocketId, why: Refused) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        match &mut socket.state {
            State::Connecting { .. } => socket.state = State::Fresh,
            State::Stream(stream) if !stream.gone => {
                stream.gone = true;
                if stream.listener.is_some() {
                    // Nobody knows of it yet.
                    self.forget(id);
                    return;
                }
            }
            State::Datagrams(_) => {}
            _ => return,
        }
        socket.error = Some(why);
        self.note(id, ALL);
    }

    /// What a poll finds (`POLL*`).
    pub(crate) fn readiness(&mut self, id: SocketId) -> u32 {
        let window = self.window(id);
        let socket = self.socket(id);
        let mut events = if socket.error.is_some() { libc::POLLERR } else { 0 };
        match &socket.state {
            State::Fresh if socket.kind.is_stream => events |= libc::POLLOUT | libc::POLLHUP,
            State::Fresh | State::Connecting { .. } => {}
            State::Listening { queue, .. } => {
                events |= if queue.is_empty() { 0 } else { libc::POLLIN };
            }
            State::Stream(stream) => {
                let over = stream.ended || stream.gone || stream.shut[RECEIVING];
                if over {
                    events |= libc::POLLRDHUP;
                }
                if over || !stream.received.is_empty() {
                    events |= libc::POLLIN | libc::POLLRDNORM;
                }
                if stream.gone || (over && stream.shut[SENDING]) {
                    events |= libc::POLLHUP;
                }
                let room = window.saturating_sub(stream.outstanding) >= window / 3;
                if room || stream.gone || stream.shut[SENDING] {
                    events |= libc::POLLOUT | libc::POLLWRNORM;
                }
            }
            State::Datagrams(datagrams) => {
                events |= libc::POLLOUT | libc::POLLWRNORM;
                if datagrams.has_some() {
                    events |= libc::POLLIN | libc::POLLRDNORM;
                }
            }
        }
        events as u32
    }
}
