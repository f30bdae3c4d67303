//! A host's machine: its disk, its clock, and the kernels of the service that runs on it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use ringhold_kernel::{ArenaEntry, Cqe, KernelConfig, Wait};

use crate::Choose;
use crate::clock::HostClock;
use crate::disk::{Errno, FileSystem};
use crate::execute::Effects;
use crate::faults::{Fault, Faults};
use crate::latency::Latency;
use crate::net::SocketId;
use crate::request::Request;
use crate::ring::{InFlight, OpenFile, Queued, Ring, Waiting};
use crate::signals::Listeners;
use crate::trace::What;
use crate::world::World;

/// What a blocking closure's thread would do.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) files: FileSystem,
    pub(crate) clock: HostClock,
    pub(crate) faults: Faults,
    pub(crate) latency: Latency,
    /// Counts the starts of the service; 0 before the first.
    pub(crate) incarnation: u32,
    /// Whether the service's kernels still do anything: not after a crash.
    pub(crate) alive: bool,
    /// The kernels of this incarnation, by shard; `None` for one that was closed.
    pub(crate) rings: Vec<Option<Ring>>,
    pub(crate) threads: VecDeque<Work>,
    /// The master table of the service's pool, by slot.
    pub(crate) arenas: BTreeMap<u16, ArenaEntry>,
    /// What the service's user may lock, in bytes; `None` without a limit.
    pub(crate) locked_memory: Option<u64>,
    /// Which descriptors are sockets.
    pub(crate) sockets: BTreeMap<i32, SocketId>,
    pub(crate) listeners: Listeners,
    next_number: u64,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("name", &self.name)
            .field("incarnation", &self.incarnation)
            .field("alive", &self.alive)
            .finish_non_exhaustive()
    }
}

impl Machine {
    pub(crate) fn new(name: String, files: FileSystem, faults: Faults) -> Machine {
        Machine {
            name,
            files,
            clock: HostClock::default(),
            faults,
            latency: Latency::default(),
            incarnation: 0,
            alive: false,
            rings: Vec::new(),
            threads: VecDeque::new(),
            arenas: BTreeMap::new(),
            locked_memory: None,
            sockets: BTreeMap::new(),
            listeners: Listeners::default(),
            next_number: 0,
        }
    }

    /// A service starts: what an earlier one had is gone. Threads that never ran are given back, to
    /// be dropped where nothing is locked.
    pub(crate) fn boot(&mut self) -> VecDeque<Work> {
        self.incarnation += 1;
        self.alive = true;
        self.rings.clear();
        self.arenas.clear();
        self.sockets.clear();
        self.listeners = Listeners::default();
        std::mem::take(&mut self.threads)
    }

    /// What a service that has ended by itself left open.
    pub(crate) fn leftovers(&self) -> Option<String> {
        let open = self.files.open_descriptors();
        (!open.is_empty()).then(|| format!("descriptors {open:?} open"))
    }

    pub(crate) fn make_ring(&mut self, config: KernelConfig) -> usize {
        self.rings.push(Some(Ring::new(config)));
        self.rings.len() - 1
    }

    pub(crate) fn ring(&mut self, ring: usize) -> &mut Ring {
        self.rings[ring].as_mut().expect("the kernel was not closed")
    }

    /// What an entry's file is at this moment.
    fn resolve(&mut self, ring: usize, request: &Request) -> Result<Option<OpenFile>, String> {
        let Some(name) = request.file() else { return Ok(None) };
        if name.registered {
            let table = &self.ring(ring).files;
            let file = table.get(name.number as usize).copied().flatten();
            return match file {
                None => Err(format!("slot {} of the file table is empty", name.number)),
                file => Ok(file),
            };
        }
        match self.files.serial(name.number) {
            Some(serial) => Ok(Some(OpenFile { descriptor: name.number, serial })),
            None => Err(format!("descriptor {} is not open", name.number)),
        }
    }

    fn is_open(&self, file: OpenFile) -> bool {
        self.files.serial(file.descriptor) == Some(file.serial)
    }
}

impl World {
    /// An entry goes into a ring's queue. What it points to is the kernel's from here on.
    pub(crate) fn push(&mut self, host: usize, ring: usize, queued: Queued) {
        let queue = self.machines[host].ring(ring);
        let is_cancel = matches!(queued.request, Request::Cancel { .. });
        if !is_cancel && queue.has(queued.user_data) {
            let key = queued.user_data;
            self.violations.push(format!("key {key:#x} was pushed while it was in flight"));
        }
        self.machines[host].ring(ring).queue.push_back(queued);
    }

    /// One `io_uring_enter`: an errno if it fails, having taken all, some or none of the entries.
    pub(crate) fn enter(&mut self, host: usize, ring: usize, wait: Wait) -> Result<(), i32> {
        let queued = self.machines[host].ring(ring).queue.len();
        let failure = self.draw_enter_failure(host);
        let taken = match failure {
            Some(_) => self.dice.pick(queued + 1),
            None => queued,
        };
        for _ in 0..taken {
            let entry = self.machines[host].ring(ring).queue.pop_front().expect("counted above");
            self.begin(host, ring, entry);
        }
        let now = self.now;
        let machine = &mut self.machines[host];
        let holds_back =
            machine.alive && machine.faults.strikes(Fault::CompletionsHeldBack, &mut self.dice);
        machine.ring(ring).let_in(if holds_back { 1 } else { usize::MAX });
        if let Some(errno) = failure {
            machine.ring(ring).waiting = Waiting::No;
            self.record(host, What::NotEntered { shard: ring, errno });
            return Err(errno);
        }
        let wait = machine.clock.stretch(wait);
        machine.ring(ring).wait(wait, now);
        self.go_on();
        Ok(())
    }

    fn draw_enter_failure(&mut self, host: usize) -> Option<i32> {
        let machine = &mut self.machines[host];
        let failures = [
            (Fault::EnterInterrupted, libc::EINTR),
            (Fault::EnterAgain, libc::EAGAIN),
            (Fault::EnterBusy, libc::EBUSY),
        ];
        let dice = &mut self.dice;
        let mut strikes = |fault| machine.alive && machine.faults.strikes(fault, dice);
        failures.into_iter().find(|(fault, _)| strikes(*fault)).map(|(_, errno)| errno)
    }

    /// The kernel takes an operation: it takes effect now or later.
    pub(crate) fn begin(&mut self, host: usize, ring: usize, queued: Queued) {
        let Queued { user_data, opcode, request, lent } = queued;
        if !self.machines[host].alive {
            lent.restore(&request);
            let result = -libc::ECANCELED;
            self.machines[host].ring(ring).arrive(Cqe { user_data, result, flags: 0 });
            return;
        }
        self.trace_begin(host, ring, user_data, opcode, &request);
        if let Request::Cancel { target } = request {
            self.cancel(host, ring, user_data, target);
            return;
        }
        let machine = &mut self.machines[host];
        let file = match machine.resolve(ring, &request) {
            Ok(file) => file,
            Err(what) => {
                self.violations.push(format!("operation {user_data:#x}: {what}"));
                lent.restore(&request);
                self.arrive(host, ring, user_data, -libc::EBADF);
                return;
            }
        };
        let number = machine.next_number;
        machine.next_number += 1;
        let begun = machine.files.stamp();
        let operation = InFlight {
            user_data,
            request,
            lent,
            file,
            begun,
            waits: false,
            is_unwanted: false,
            moved: 0,
            is_queued: false,
        };
        machine.ring(ring).in_flight.insert(number, operation);
        let pause = machine.ring(ring).in_flight[&number].request.pause();
        let slow = machine.faults.strikes(Fault::Slow, &mut self.dice);
        match pause + self.draw_latency(host, slow) {
            0 => self.take_effect(host, ring, number),
            after => self.plan(after, host, ring, number),
        }
        self.go_on();
    }

    fn trace_begin(
        &mut self,
        host: usize,
        shard: usize,
        user_data: u64,
        opcode: u8,
        request: &Request,
    ) {
        let (file, offset, length) = match request {
            Request::Read(transfer) | Request::Write(transfer) => {
                let length = transfer.spans.iter().map(|span| span.length()).sum::<usize>();
                (transfer.file.number, transfer.offset, length as u32)
            }
            Request::Close { descriptor } => (*descriptor, 0, 0),
            Request::Cancel { target } => (-1, *target, 0),
            Request::Truncate { file, length } => (file.number, *length, 0),
            Request::Sync { file, data_only } => (file.number, 0, u32::from(*data_only)),
            other => (other.file().map_or(-1, |file| file.number), 0, 0),
        };
        self.trace.mix(request.checksum());
        for span in request.sources() {
            self.trace.mix(span.checksum());
        }
        let paths = request.paths();
        self.record(host, What::Began { shard, opcode, user_data, file, offset, length, paths });
    }

    /// A cancel wins or comes too late, and either completion may come first.
    fn cancel(&mut self, host: usize, ring: usize, user_data: u64, target: u64) {
        let machine = &mut self.machines[host];
        let Some(number) = machine.ring(ring).find(target) else {
            self.arrive(host, ring, user_data, -libc::ENOENT);
            return;
        };
        if machine.ring(ring).in_flight[&number].is_queued {
            self.arrive(host, ring, user_data, -libc::ENOENT);
            return;
        }
        let is_call = matches!(machine.ring(ring).in_flight[&number].request, Request::Call(_));
        // What waits for a peer can always be cancelled.
        let waits = machine.ring(ring).in_flight[&number].waits;
        if is_call || (!waits && machine.faults.strikes(Fault::CancelLate, &mut self.dice)) {
            machine.ring(ring).in_flight.get_mut(&number).expect("found above").is_unwanted = true;
            self.arrive(host, ring, user_data, -libc::EALREADY);
            return;
        }
        let operation = machine.ring(ring).in_flight.remove(&number).expect("found above");
        let errno = if self.dice.chance(0.1) { libc::EINTR } else { libc::ECANCELED };
        if let Request::SendZeroCopy { .. } = operation.request {
            self.cancel_send(host, (ring, number), operation, errno);
            self.arrive(host, ring, user_data, 0);
            return;
        }
        operation.lent.restore(&operation.request);
        let mut answers = [(target, -errno), (user_data, 0)];
        if self.dice.chance(0.5) {
            answers.reverse();
        }
        for (user_data, result) in answers {
            self.arrive(host, ring, user_data, result);
        }
    }

    pub(crate) fn arrive(&mut self, host: usize, ring: usize, user_data: u64, result: i32) {
        self.record(host, What::Completed { shard: ring, user_data, result });
        self.machines[host].ring(ring).arrive(Cqe { user_data, result, flags: 0 });
    }

    /// An operation takes effect, and its completion arrives.
    pub(crate) fn take_effect(&mut self, host: usize, ring: usize, number: u64) {
        let machine = &mut self.machines[host];
        let Some(ring_of) = machine.rings[ring].as_mut() else { return };
        // A cancel was faster.
        let Some(operation) = ring_of.in_flight.remove(&number) else { return };
        if operation.is_queued {
            return self.notify(host, ring, &operation);
        }
        let socket = self.socket_of(host, &operation);
        if let (Some(socket), Request::SendZeroCopy { span, .. }) = (socket, &operation.request) {
            let sending = (socket, *span);
            return self.send_zero_copy(host, (ring, number), operation, sending);
        }
        if let (Some(socket), &Request::ReceiveMany { group, in_bundles, .. }) =
            (socket, &operation.request)
        {
            let from = (socket, group, in_bundles);
            return self.receive_many(host, (ring, number), operation, from);
        }
        if let (Some(socket), &Request::PollReady { events, armed: true, .. }) =
            (socket, &operation.request)
        {
            return self.poll_armed(host, (ring, number), operation, (socket, events));
        }
        let result = match socket {
            Some(socket) => match self.attempt_on_socket(host, ring, &operation, socket) {
                Some(result) => result,
                None => return self.let_wait(host, (ring, number), operation, socket),
            },
            None => self.run(host, ring, &operation),
        };
        self.arrive(host, ring, operation.user_data, result);
    }

    /// The memory goes back; `false` if the runtime did something to it, or to the descriptor,
    /// while the kernel had it.
    pub(crate) fn take_back(&mut self, host: usize, ring: usize, operation: &InFlight) -> bool {
        operation.lent.restore(&operation.request);
        let Some(what) = self.find_violation(host, ring, operation) else { return true };
        self.violations.push(format!("operation {:#x}: {what}", operation.user_data));
        false
    }

    fn run(&mut self, host: usize, ring: usize, operation: &InFlight) -> i32 {
        if !self.take_back(host, ring, operation) {
            return -libc::EFAULT;
        }
        if let Request::Close { descriptor } = operation.request {
            return self.close(host, descriptor).map_or_else(|Errno(errno)| -errno, |()| 0);
        }
        let now = self.now;
        let machine = &mut self.machines[host];
        machine.files.set_now(machine.clock.of_day(now));
        let mut struck = Vec::new();
        let mut effects = Effects {
            files: &mut machine.files,
            faults: &mut machine.faults,
            choose: &mut self.dice,
            struck: &mut struck,
        };
        let result = effects.run(operation);
        struck.extend(machine.files.take_struck().into_iter().map(Fault::from_media));
        for fault in struck {
            self.record(host, What::Struck { fault });
        }
        result
    }

    /// What the runtime did to the operation while the kernel had it.
    fn find_violation(&mut self, host: usize, ring: usize, operation: &InFlight) -> Option<String> {
        let machine = &mut self.machines[host];
        if !operation.lent.is_intact(&operation.request) {
            return Some("its bytes were changed while they were being written".to_owned());
        }
        if let Some(file) = operation.file
            && !machine.is_open(file)
        {
            let OpenFile { descriptor, .. } = file;
            return Some(format!("descriptor {descriptor} was closed while it was in flight"));
        }
        let (slot, spans) = operation.request.registered()?;
        let Some(arena) = machine.ring(ring).arenas.get(&slot).copied() else {
            return Some(format!("slot {slot} of the buffer table is empty"));
        };
        if machine.arenas.get(&slot) != Some(&arena) {
            return Some(format!("slot {slot} of the buffer table has an arena that is gone"));
        }
        let inside = spans.iter().all(|span| {
            let end = span.address() + span.length();
            span.address() >= arena.address && end <= arena.address + arena.length
        });
        (!inside).then(|| format!("its memory is not within slot {slot} of the buffer table"))
    }

    /// The service is gone: what its kernels had in flight may take effect or not, and nothing that
    /// they are asked from here on has any. A kernel that goes on closes its sockets; one that
    /// has lost power tells nobody.
    pub(crate) fn kill(&mut self, host: usize, power_is_lost: bool) {
        for ring in 0..self.machines[host].rings.len() {
            let Some(state) = self.machines[host].rings[ring].as_mut() else { continue };
            for (_, operation) in std::mem::take(&mut state.in_flight) {
                operation.lent.restore(&operation.request);
                if operation.request.lasts() && self.dice.chance(0.5) {
                    self.run(host, ring, &operation);
                }
                let (user_data, result) = (operation.user_data, -libc::ECANCELED);
                self.machines[host].ring(ring).arrive(Cqe { user_data, result, flags: 0 });
            }
        }
        self.machines[host].alive = false;
        self.machines[host].sockets.clear();
        self.machines[host].listeners = Listeners::default();
        if power_is_lost {
            self.network.links.set_power(host, false);
            self.network.vanish(host);
        } else {
            self.network.close_all(host);
        }
        self.go_on();
    }
}
