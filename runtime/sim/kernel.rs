//! The kernel that a simulated host's shards have.

#![allow(unsafe_code)] // It implements the kernel's seam.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use ringhold_kernel::{
    ArenaEntry, Call, Capacity, Cqe, Donor, Kernel, KernelConfig, Provided, QueueFull, Sqe, Unpark,
    Wait,
};

use crate::memory::{CallAddress, Span};
use crate::request::Request;
use crate::ring::{Lent, OpenFile, Queued, Ring, Waiting};
use crate::world::Shared;

/// What the trace has in the place of a cold call's opcode.
const CALL: u8 = u8::MAX;

/// Which ring of the world it is.
#[derive(Clone, Debug)]
pub(crate) struct RingName {
    pub(crate) world: Shared,
    pub(crate) host: usize,
    pub(crate) incarnation: u32,
    pub(crate) ring: usize,
}

/// One shard's kernel.
#[derive(Debug)]
pub(crate) struct SimKernel {
    pub(crate) name: RingName,
    pub(crate) config: KernelConfig,
}

impl SimKernel {
    fn with_ring<R>(&self, look: impl FnOnce(&mut Ring) -> R) -> R {
        let RingName { world, host, ring, .. } = &self.name;
        look(world.lock().machines[*host].ring(*ring))
    }
}

impl Drop for SimKernel {
    fn drop(&mut self) {
        let RingName { world, host, ring, .. } = &self.name;
        // What is in flight is forgotten with the ring, and touches nothing any more.
        let closed = world.lock().machines[*host].rings[*ring].take();
        drop(closed);
    }
}

// SAFETY: each entry is in the ring's queue, in its operations in flight, or answered, and moves
// forward only, so it is answered once (S3). Its memory is used at the push and when it takes
// effect, which is before its completion is there to be reaped.
unsafe impl Kernel for SimKernel {
    unsafe fn push(&mut self, sqe: &Sqe) -> Result<(), QueueFull> {
        if self.with_ring(|ring| ring.is_full()) {
            return Err(QueueFull);
        }
        // SAFETY: passed on to the caller (S1, S2).
        let request = unsafe { Request::read(sqe) };
        let lent = Lent::lend(&request);
        let queued = Queued { user_data: sqe.user_data, opcode: sqe.opcode, request, lent };
        let RingName { world, host, ring, .. } = &self.name;
        world.lock().push(*host, *ring, queued);
        Ok(())
    }

    unsafe fn call(&mut self, user_data: u64, call: NonNull<Call>) {
        // SAFETY: passed on to the caller (S1, S2).
        let request = Request::Call(unsafe { CallAddress::new(call) });
        let queued = Queued { user_data, opcode: CALL, request, lent: Lent::default() };
        let RingName { world, host, ring, .. } = &self.name;
        world.lock().begin(*host, *ring, queued);
    }

    fn needs_enter(&self) -> bool {
        self.with_ring(|ring| !ring.queue.is_empty() || !ring.arrived.is_empty())
    }

    fn has_arrived(&self) -> bool {
        self.with_ring(|ring| !ring.arrived.is_empty())
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let RingName { world, host, ring, .. } = &self.name;
        let entered = world.lock().enter(*host, *ring, wait);
        entered.map_err(io::Error::from_raw_os_error)
    }

    fn reap(&mut self, batch: &mut Vec<Cqe>) {
        self.with_ring(|ring| {
            let room = batch.capacity() - batch.len();
            let coming = room.min(ring.completions.len());
            batch.extend(ring.completions.drain(..coming));
        });
    }

    fn overflows(&self) -> u64 {
        self.with_ring(|ring| ring.overflows)
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            submissions: self.config.submissions,
            operations: self.config.completions - 1,
            files: self.config.files,
        }
    }

    fn now(&self) -> Instant {
        self.name.world.lock().instant(self.name.host)
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        Arc::new(self.name.clone())
    }

    fn set_file(&mut self, slot: u32, descriptor: Option<RawFd>) -> io::Result<()> {
        let mut world = self.name.world.lock();
        let machine = &mut world.machines[self.name.host];
        let file = match descriptor {
            None => None,
            Some(descriptor) => match machine.files.serial(descriptor) {
                Some(serial) => Some(OpenFile { descriptor, serial }),
                None if machine.alive => return Err(io::Error::from_raw_os_error(libc::EBADF)),
                None => None,
            },
        };
        let table = &mut machine.ring(self.name.ring).files;
        let slot = slot as usize;
        if table.len() <= slot {
            table.resize(slot + 1, None);
        }
        table[slot] = file;
        Ok(())
    }

    fn attach_arenas(&mut self, _donor: &dyn Donor, arenas: &[ArenaEntry]) -> io::Result<()> {
        self.with_ring(|ring| {
            ring.arenas = arenas.iter().map(|arena| (arena.id.slot, *arena)).collect();
        });
        Ok(())
    }

    fn detach_arena(&mut self, slot: u16) -> io::Result<()> {
        self.with_ring(|ring| ring.arenas.remove(&slot));
        Ok(())
    }

    fn add_group(&mut self, group: u16, _entries: u16) -> io::Result<()> {
        self.with_ring(|ring| ring.groups.insert(group, VecDeque::new()));
        Ok(())
    }

    fn picks_bundles(&self) -> bool {
        true
    }

    unsafe fn provide(&mut self, group: u16, buffer: Provided) {
        // SAFETY: passed on to the caller (S1, S2).
        let span = unsafe { Span::new(buffer.address as u64, buffer.length as usize) };
        span.poison();
        self.with_ring(|ring| {
            let buffers = ring.groups.get_mut(&group).expect("the group was made");
            buffers.push_back((buffer.number, span));
        });
    }

    fn remove_group(&mut self, group: u16) {
        let named = self.with_ring(|ring| {
            ring.groups.remove(&group);
            ring.in_flight.values().any(|each| each.request.group() == Some(group))
        });
        if named {
            let what = format!("group {group} was removed while a receive named it");
            self.name.world.lock().violations.push(what);
        }
    }

    fn unregister(&mut self) {
        let unfinished = self.with_ring(|ring| {
            ring.groups.clear();
            ring.files.clear();
            ring.arenas.clear();
            // A pause names no memory that could go, nor anything else of the ring.
            let begun = ring.in_flight.values().filter(|each| each.request.pause() == 0).count();
            let queued = ring.queue.iter().filter(|each| each.request.pause() == 0).count();
            begun + queued
        });
        if unfinished > 0 {
            let what = format!("a ring was unregistered with {unfinished} operations in flight");
            self.name.world.lock().violations.push(what);
        }
    }
}

impl Unpark for RingName {
    fn unpark(&self) {
        let mut world = self.world.lock();
        let machine = &mut world.machines[self.host];
        // A service of an earlier start has no kernel any more.
        if machine.incarnation == self.incarnation
            && let Some(Some(ring)) = machine.rings.get_mut(self.ring)
        {
            ring.waiting = Waiting::No;
        }
    }
}
