//! Operations on sockets: tried when their time has come, and again when something has changed for
//! their socket.

use crate::Choose;
use crate::disk::Errno;
use crate::faults::Fault;
use crate::memory::Span;
use crate::net::{Due, Name, Received, SocketId};
use crate::request::Request;
use crate::ring::InFlight;
use crate::trace::What;
use crate::world::World;

/// A socket's name with the file that its path leads to; or why there is none.
pub(crate) type Named = (Name, Option<u64>);

/// What every poll waits for.
const ALWAYS: u32 = (libc::POLLERR | libc::POLLHUP) as u32;

impl World {
    /// The socket that an operation is about, if it is about one.
    pub(crate) fn socket_of(&self, host: usize, operation: &InFlight) -> Option<SocketId> {
        let descriptor = operation.file?.descriptor;
        self.machines[host].sockets.get(&descriptor).copied()
    }

    /// Tries an operation on a socket; `None` if it has to wait.
    pub(crate) fn attempt_on_socket(
        &mut self,
        host: usize,
        ring: usize,
        operation: &InFlight,
        socket: SocketId,
    ) -> Option<i32> {
        let answer = match &operation.request {
            Request::PollReady { events, .. } => {
                let ready = self.readiness(socket, *events);
                Ok((ready != 0).then_some(ready as i32))
            }
            Request::Connect { address, .. } => match self.name(host, Name::of(address)) {
                Ok((name, file)) => {
                    let now = self.now;
                    let connected = self.network.connect(socket, &name, file, now);
                    connected.map(|connected| connected.then_some(0))
                }
                Err(errno) => Err(errno),
            },
            Request::Shutdown { how, .. } => self.network.shutdown(socket, *how).map(|()| Some(0)),
            Request::Receive { span, flags, .. } => {
                return self.receive(host, ring, operation, socket, (&[*span], *flags));
            }
            Request::Read(transfer) => {
                return self.receive(host, ring, operation, socket, (&transfer.spans, 0));
            }
            Request::Send { spans, .. } => self.send(host, socket, spans),
            Request::Write(transfer) => self.send(host, socket, &transfer.spans),
            Request::Sync { .. } | Request::Allocate { .. } | Request::Truncate { .. } => {
                Err(libc::EINVAL)
            }
            _ => Err(libc::EOPNOTSUPP),
        };
        let result = match answer {
            Ok(None) => return None,
            Ok(Some(result)) => result,
            Err(errno) => -errno,
        };
        let intact = self.take_back(host, ring, operation);
        Some(if intact { result } else { -libc::EFAULT })
    }

    /// Which of these events are there, or of those that are always waited for.
    pub(crate) fn readiness(&mut self, socket: SocketId, events: u32) -> u32 {
        self.network.readiness(socket) & (events | ALWAYS)
    }

    pub(crate) fn strikes(&mut self, host: usize, fault: Fault) -> bool {
        let strikes = self.machines[host].faults.strikes(fault, &mut self.dice);
        if strikes {
            self.record(host, What::Struck { fault });
        }
        strikes
    }

    /// How many of `length` bytes are moved at most, if the connection isn't reset just now.
    pub(crate) fn draw_moved(&mut self, host: usize, socket: SocketId, length: usize) -> usize {
        if !self.network.socket(socket).kind.is_stream {
            return length;
        }
        if self.strikes(host, Fault::ConnectionReset) {
            self.network.reset(socket);
        }
        if length > 1 && self.strikes(host, Fault::ShortTransfer) {
            1 + self.dice.pick(length - 1)
        } else {
            length
        }
    }

    /// Receives what has arrived, or a part of it: as if the rest arrived just after.
    pub(crate) fn receive_some(
        &mut self,
        host: usize,
        socket: SocketId,
        room: usize,
        leave: bool,
    ) -> Result<Option<Received>, i32> {
        let most = self.draw_moved(host, socket, room);
        let received = self.network.receive(socket, most, leave)?;
        if most < room {
            self.network.note_arrival(socket);
        }
        Ok(received)
    }

    fn receive(
        &mut self,
        host: usize,
        ring: usize,
        operation: &InFlight,
        socket: SocketId,
        (spans, flags): (&[Span], i32),
    ) -> Option<i32> {
        let room = spans.iter().map(|span| span.length()).sum();
        let received = match self.receive_some(host, socket, room, flags & libc::MSG_PEEK != 0) {
            Ok(None) => return None,
            Ok(Some((bytes, ..))) => Ok(bytes),
            Err(errno) => Err(errno),
        };
        // The memory is given back before it is filled.
        if !self.take_back(host, ring, operation) {
            return Some(-libc::EFAULT);
        }
        match received {
            Err(errno) => Some(-errno),
            Ok(bytes) => {
                let mut rest = &bytes[..];
                for span in spans {
                    let (here, after) = rest.split_at(rest.len().min(span.length()));
                    span.fill(here);
                    rest = after;
                }
                Some(bytes.len() as i32)
            }
        }
    }

    pub(crate) fn send(
        &mut self,
        host: usize,
        socket: SocketId,
        spans: &[Span],
    ) -> Result<Option<i32>, i32> {
        let bytes: Vec<u8> = spans.iter().flat_map(|span| span.source()).copied().collect();
        let most = self.draw_moved(host, socket, bytes.len());
        let sent = self.network.send(socket, &bytes[..most], None)?;
        Ok(sent.map(|count| count as i32))
    }

    /// A name, and the file that it leads to.
    pub(crate) fn name(&mut self, host: usize, name: Option<Name>) -> Result<Named, i32> {
        let name = name.ok_or(libc::EAFNOSUPPORT)?;
        let Name::Unix(path) = &name else { return Ok((name, None)) };
        if path.first().is_none_or(|first| *first == 0) {
            return Ok((name, None));
        }
        let files = &mut self.machines[host].files;
        let status = files.statx(libc::AT_FDCWD, path, 0).map_err(|Errno(errno)| errno)?;
        Ok((name, Some(status.inode)))
    }

    /// An operation waits for its socket, unless it was cancelled.
    pub(crate) fn let_wait(
        &mut self,
        host: usize,
        (ring, number): (usize, u64),
        mut operation: InFlight,
        socket: SocketId,
    ) {
        if operation.is_unwanted {
            operation.lent.restore(&operation.request);
            self.arrive(host, ring, operation.user_data, -libc::ECANCELED);
            return;
        }
        operation.waits = true;
        self.machines[host].ring(ring).in_flight.insert(number, operation);
        self.network.socket(socket).waiting.push((ring, number));
    }

    /// Tries what waits for sockets for which something has changed, and plans what the network
    /// has to do.
    pub(crate) fn go_on(&mut self) {
        loop {
            let changed = self.network.take_changed();
            if changed.is_empty() {
                break;
            }
            for (socket, events) in changed {
                if !self.network.has(socket) {
                    continue;
                }
                let host = self.network.socket(socket).host;
                for (ring, number) in std::mem::take(&mut self.network.socket(socket).waiting) {
                    if self.machines[host].rings.get(ring).is_none_or(Option::is_none) {
                        continue;
                    }
                    if self.concerns(events, host, (ring, number)) {
                        self.take_effect(host, ring, number);
                    } else {
                        self.network.socket(socket).waiting.push((ring, number));
                    }
                }
            }
        }
        self.plan_network();
    }

    /// Whether an operation that waits for a socket looks at it when these events have come. One
    /// that stays armed does so for its own only: otherwise it would tell again what has stayed.
    fn concerns(&mut self, came: u32, host: usize, (ring, number): (usize, u64)) -> bool {
        let operation = self.machines[host].ring(ring).in_flight.get(&number);
        match operation.map(|operation| &operation.request) {
            Some(Request::PollReady { events, armed: true, .. }) => (events | ALWAYS) & came != 0,
            _ => true,
        }
    }

    /// The network is reminded of something that it asked to be.
    pub(crate) fn remind(&mut self, due: Due) {
        let now = self.now;
        match due {
            Due::Packet(number) => {
                if let Some(arrival) = self.network.arrive(number, now) {
                    let (from, what, bytes) = (arrival.from, arrival.what, arrival.bytes);
                    self.record(arrival.to, What::Arrived { from, what, bytes });
                }
            }
            Due::Expiry(socket) => self.network.expire(socket, now),
        }
    }

    /// A host is on: what was held for it goes on.
    pub(crate) fn switch_on(&mut self, host: usize) {
        self.network.close_all(host);
        self.network.links.set_power(host, true);
        self.network.release();
        self.go_on();
    }

    /// `close(2)`.
    pub(crate) fn close(&mut self, host: usize, descriptor: i32) -> Result<(), Errno> {
        let machine = &mut self.machines[host];
        let Some(socket) = machine.sockets.remove(&descriptor) else {
            return machine.files.close(descriptor);
        };
        machine.files.give_descriptor(descriptor)?;
        self.network.close(socket);
        self.go_on();
        Ok(())
    }
}
