//! Operations that complete more than once.

use ringhold_kernel::{CQE_BUFFER, CQE_MORE, CQE_NOTIFICATION, CQE_SOCKET_NONEMPTY, Cqe};

use crate::Choose;
use crate::faults::Fault;
use crate::memory::Span;
use crate::net::SocketId;
use crate::ring::InFlight;
use crate::trace::What;
use crate::world::World;

impl World {
    /// A completion arrives, and the operation goes on.
    fn arrive_with_more(&mut self, host: usize, ring: usize, cqe: Cqe) {
        let Cqe { user_data, result, flags } = cqe;
        self.record(host, What::WentOn { shard: ring, user_data, result });
        let cqe = Cqe { user_data, result, flags: flags | CQE_MORE };
        self.machines[host].ring(ring).arrive(cqe);
    }

    /// Tells what a socket is ready for and goes on waiting. Called when it is armed, and when one
    /// of its events has come.
    pub(crate) fn poll_armed(
        &mut self,
        host: usize,
        (ring, number): (usize, u64),
        operation: InFlight,
        (socket, events): (SocketId, u32),
    ) {
        let user_data = operation.user_data;
        let result = self.readiness(socket, events) as i32;
        if result != 0 && self.strikes(host, Fault::MultishotEnds) {
            return self.arrive(host, ring, user_data, result);
        }
        if result != 0 {
            self.arrive_with_more(host, ring, Cqe { user_data, result, flags: 0 });
        }
        self.let_wait(host, (ring, number), operation, socket);
    }

    /// Receives what has arrived, each time into the next buffer of the group, or into several,
    /// until there is nothing left and it waits, or something is in the way.
    pub(crate) fn receive_many(
        &mut self,
        host: usize,
        (ring, number): (usize, u64),
        operation: InFlight,
        (socket, group, in_bundles): (SocketId, u16, bool),
    ) {
        let user_data = operation.user_data;
        let result = loop {
            let Some((buffer, span)) = self.next_buffer(host, ring, group) else {
                break -libc::ENOBUFS;
            };
            let most = self.draw_moved(host, socket, span.length());
            let mut moved = match self.network.receive(socket, most, false) {
                Ok(None) => return self.let_wait(host, (ring, number), operation, socket),
                Ok(Some((bytes, ..))) if bytes.is_empty() => break 0,
                Ok(Some((bytes, ..))) => self.fill_next(host, ring, group, &bytes),
                Err(errno) => break -errno,
            };
            let mut is_full = moved == span.length();
            while in_bundles && is_full && self.dice.pick(4) > 0 {
                let Some((_, span)) = self.next_buffer(host, ring, group) else { break };
                // An end or an error is the next completion's, which must not get lost here.
                let bytes = match self.network.receive(socket, span.length(), true) {
                    Ok(Some((bytes, ..))) if !bytes.is_empty() => bytes,
                    _ => break,
                };
                let taken = self.network.receive(socket, bytes.len(), false);
                debug_assert!(taken.is_ok_and(|taken| taken.is_some_and(|it| it.0 == bytes)));
                is_full = bytes.len() == span.length();
                moved += self.fill_next(host, ring, group, &bytes);
            }
            let left = self.network.receive(socket, 1, true);
            let is_empty = !matches!(left, Ok(Some((bytes, ..))) if !bytes.is_empty());
            let left = if is_empty { 0 } else { CQE_SOCKET_NONEMPTY };
            let (result, flags) = (moved as i32, CQE_BUFFER | left | u32::from(buffer) << 16);
            if self.strikes(host, Fault::MultishotEnds) {
                self.record(host, What::Completed { shard: ring, user_data, result });
                return self.machines[host].ring(ring).arrive(Cqe { user_data, result, flags });
            }
            self.arrive_with_more(host, ring, Cqe { user_data, result, flags });
        };
        self.arrive(host, ring, user_data, result);
    }

    /// The buffer that is picked next, if the group has one.
    fn next_buffer(&mut self, host: usize, ring: usize, group: u16) -> Option<(u16, Span)> {
        self.machines[host].ring(ring).groups.get(&group)?.front().copied()
    }

    /// Fills the buffer that is picked next, and gives how many bytes it has.
    fn fill_next(&mut self, host: usize, ring: usize, group: u16, bytes: &[u8]) -> usize {
        let buffers = self.machines[host].ring(ring).groups.get_mut(&group);
        let (buffer, span) = buffers.and_then(|it| it.pop_front()).expect("it was looked at");
        if !span.is_poisoned() {
            let what = format!("buffer {buffer} of group {group} was used before it was picked");
            self.violations.push(what);
        }
        span.fill(bytes);
        bytes.len()
    }

    /// Queues the bytes. The memory stays the kernel's until the network has taken them, which the
    /// notification says.
    pub(crate) fn send_zero_copy(
        &mut self,
        host: usize,
        (ring, number): (usize, u64),
        mut operation: InFlight,
        (socket, span): (SocketId, Span),
    ) {
        let result = loop {
            let rest = span.skip(operation.moved);
            let sent = match self.network.socket(socket).kind.is_tcp() {
                true => self.send(host, socket, &[rest]),
                false => Err(libc::EOPNOTSUPP),
            };
            match sent {
                Ok(None) => return self.let_wait(host, (ring, number), operation, socket),
                Ok(Some(count)) => operation.moved += count as usize,
                Err(errno) if operation.moved == 0 => break -errno,
                Err(_) => break operation.moved as i32,
            }
            if operation.moved == span.length() {
                break operation.moved as i32;
            }
        };
        self.queue(host, (ring, number), operation, result);
    }

    /// The operation has done what it will do, and its memory is still in use.
    fn queue(
        &mut self,
        host: usize,
        (ring, number): (usize, u64),
        mut operation: InFlight,
        result: i32,
    ) {
        let user_data = operation.user_data;
        self.arrive_with_more(host, ring, Cqe { user_data, result, flags: 0 });
        operation.is_queued = true;
        self.machines[host].ring(ring).in_flight.insert(number, operation);
        let after = self.draw_latency(host, false);
        self.plan(after.max(1), host, ring, number);
    }

    /// A cancel was in time. What was done before it counts.
    pub(crate) fn cancel_send(
        &mut self,
        host: usize,
        name: (usize, u64),
        operation: InFlight,
        errno: i32,
    ) {
        let result = if operation.moved > 0 { operation.moved as i32 } else { -errno };
        self.queue(host, name, operation, result);
    }

    /// The kernel no longer reads the memory.
    pub(crate) fn notify(&mut self, host: usize, ring: usize, operation: &InFlight) {
        let result = if self.take_back(host, ring, operation) { 0 } else { -libc::EFAULT };
        let user_data = operation.user_data;
        self.record(host, What::Completed { shard: ring, user_data, result });
        self.machines[host].ring(ring).arrive(Cqe { user_data, result, flags: CQE_NOTIFICATION });
    }
}
