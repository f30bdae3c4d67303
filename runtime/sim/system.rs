//! A simulated host as the runtime's system.

use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use ringhold_kernel::{
    ArenaEntry, Description, Donor, Kernel, KernelConfig, OpenFiles, Processes, SignalEvents,
    Sockets, StartError, System,
};

use crate::disk::{Errno, FileSystem};
use crate::kernel::{RingName, SimKernel};
use crate::machine::{Machine, Work};
use crate::world::Shared;

/// One start of a host's service.
#[derive(Clone, Debug)]
pub(crate) struct SimSystem {
    pub(crate) world: Shared,
    pub(crate) host: usize,
    pub(crate) incarnation: u32,
}

impl System for SimSystem {
    fn boot(&self, config: &KernelConfig) -> Result<Box<dyn Kernel>, StartError> {
        let ring = self.world.lock().machines[self.host].make_ring(*config);
        let (world, host, incarnation) = (self.world.clone(), self.host, self.incarnation);
        let name = RingName { world, host, incarnation, ring };
        Ok(Box::new(SimKernel { name, config: *config }))
    }

    fn donor(&self) -> io::Result<Box<dyn Donor>> {
        let (world, host, incarnation) = (self.world.clone(), self.host, self.incarnation);
        Ok(Box::new(SimDonor { world, host, incarnation }))
    }

    fn close(&self, descriptor: RawFd) {
        let mut world = self.world.lock();
        let machine = &mut world.machines[self.host];
        if machine.incarnation == self.incarnation && machine.alive {
            // As `close(2)`: an error leaves nothing to be done.
            let _ = world.close(self.host, descriptor);
        }
    }

    fn now(&self) -> Instant {
        self.world.lock().instant(self.host)
    }

    fn locked_memory_limit(&self) -> Option<u64> {
        self.world.lock().machines[self.host].locked_memory
    }

    fn seed(&self) -> u64 {
        self.world.lock().seeds.number()
    }

    fn start_thread(
        &self,
        _name: String,
        _stack_bytes: Option<usize>,
        work: Box<dyn FnOnce() + Send>,
    ) -> io::Result<()> {
        self.world.lock().machines[self.host].threads.push_back(work as Work);
        Ok(())
    }

    fn has_real_descriptors(&self) -> bool {
        false
    }

    fn open_files(&self) -> &dyn OpenFiles {
        self
    }

    fn sockets(&self) -> &dyn Sockets {
        self
    }

    fn processes(&self) -> io::Result<&dyn Processes> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a simulated host has no processes: a child can be started on Linux itself only",
        ))
    }

    fn on_signal(&self, number: i32) -> io::Result<(Box<dyn SignalEvents>, RawFd)> {
        self.listen(number)
    }

    fn open_files_limit(&self) -> u64 {
        self.world.lock().machines[self.host].files.descriptors_max() as u64
    }

    fn may_block(&self) -> bool {
        false
    }
}

impl SimSystem {
    /// Asks the host's disk; an earlier service's files are not there any more.
    fn with_files<R>(
        &self,
        ask: impl FnOnce(&mut FileSystem) -> Result<R, Errno>,
    ) -> io::Result<R> {
        let mut world = self.world.lock();
        let machine = &mut world.machines[self.host];
        let is_there = machine.incarnation == self.incarnation && machine.alive;
        let answer = if is_there { ask(&mut machine.files) } else { Err(Errno(libc::EBADF)) };
        answer.map_err(|Errno(errno)| io::Error::from_raw_os_error(errno))
    }
}

impl OpenFiles for SimSystem {
    fn describe(&self, file: RawFd) -> io::Result<Description> {
        self.with_files(|files| {
            let flags = files.flags(file)?;
            let status = files.statx(file, b"", libc::AT_EMPTY_PATH)?;
            Ok(Description {
                flags,
                mode: status.mode,
                length: status.size,
                memory_alignment: status.direct_memory_alignment,
                offset_alignment: status.direct_offset_alignment,
            })
        })
    }

    fn seek(&self, file: RawFd, offset: i64, whence: i32) -> io::Result<u64> {
        self.with_files(|files| files.seek(file, offset, whence))
    }
}

/// The master table of a simulated runtime's pool. Shards are told its entries as they attach.
#[derive(Debug)]
struct SimDonor {
    world: Shared,
    host: usize,
    incarnation: u32,
}

impl SimDonor {
    /// Looks at the table; an earlier service's is not there any more.
    fn with_table<R: Default>(&self, look: impl FnOnce(&mut Machine) -> R) -> R {
        let mut world = self.world.lock();
        let machine = &mut world.machines[self.host];
        if machine.incarnation == self.incarnation { look(machine) } else { R::default() }
    }
}

impl Donor for SimDonor {
    fn register(&self, arena: &ArenaEntry) -> io::Result<()> {
        let (full, reached) = self.with_table(|machine| {
            let others = machine.arenas.values().filter(|other| other.id.slot != arena.id.slot);
            let locked = others.map(|other| other.length).sum::<usize>() + arena.length;
            let full = machine.locked_memory.is_some_and(|limit| locked as u64 > limit);
            if !full {
                machine.arenas.insert(arena.id.slot, *arena);
            }
            // A slot is used again when its memory was given back, which is when no table has it.
            (full, machine.rings.iter().flatten().any(|ring| ring.has_another_at(arena)))
        });
        if reached {
            let slot = arena.id.slot;
            let what = format!("slot {slot} was given back while a shard's table had its memory");
            self.world.lock().violations.push(what);
        }
        if full { Err(io::Error::from_raw_os_error(libc::ENOMEM)) } else { Ok(()) }
    }

    fn clear(&self, slot: u16) -> io::Result<()> {
        self.with_table(|machine| machine.arenas.remove(&slot));
        Ok(())
    }

    fn descriptor(&self) -> RawFd {
        -1
    }

    fn can_be_cloned(&self) -> bool {
        true
    }

    fn close(&self) {
        self.with_table(|machine| machine.arenas.clear());
    }
}
