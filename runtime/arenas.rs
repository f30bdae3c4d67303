//! Registered buffers: the runtime's master table, and what each shard has attached of it.
//!
//! Only a ring's own thread may register on it, so the pool registers on a donor ring, and a shard
//! that meets an arena for the first time clones the donor's whole table over its own.

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use ringhold_buffers::{Registrar, Retiring};
use ringhold_kernel::sync::{Mutex, MutexGuard, OnceLock};
use ringhold_kernel::{ARENA_SLOTS, ArenaEntry, ArenaId, Donor, Kernel, StartError, System};

use crate::context;
use crate::growth::{Grower, Growth};
use crate::inbox::Message;
use crate::registry::Remote;
use crate::telling::tell;
use crate::time::clock::Clock;

/// How long locked memory that another ring has just given back may take to arrive, about.
const LATE_MEMORY: Duration = Duration::from_millis(512);

/// The master table of a runtime's pool.
pub(crate) struct Arenas {
    system: Arc<dyn System>,
    clock: Arc<Clock>,
    master: Mutex<Master>,
    grower: Arc<Grower>,
    /// That locked memory is short has been said.
    told: AtomicBool,
    /// Weak, because a lease may outlive the shards, whose events would stay open with it.
    shards: OnceLock<Vec<Weak<Remote>>>,
    this: Weak<Arenas>,
}

#[derive(Default)]
struct Master {
    /// Made at the start, or, where locked memory was short then, when the first arena is
    /// registered.
    donor: Option<Box<dyn Donor>>,
    entries: Vec<ArenaEntry>,
    closed: bool,
}

impl fmt::Debug for Arenas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arenas").field("entries", &self.lock().entries).finish_non_exhaustive()
    }
}

impl Arenas {
    pub(crate) fn new(system: Arc<dyn System>, clock: Arc<Clock>) -> Arc<Arenas> {
        Arc::new_cyclic(|this| Arenas {
            system,
            clock,
            grower: Arc::default(),
            told: AtomicBool::new(false),
            master: Mutex::new(Master::default()),
            shards: OnceLock::new(),
            this: this.clone(),
        })
    }

    /// Makes the master table, while there are descriptors: whoever leases later needs none.
    ///
    /// # Errors
    ///
    /// Where there are none now. What else goes wrong is told to who leases: others don't need it.
    pub(crate) fn open(&self) -> Result<(), StartError> {
        let mut pause = Duration::from_millis(1);
        loop {
            let error = match self.system.donor() {
                Ok(donor) => {
                    self.lock().donor = Some(donor);
                    return Ok(());
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => {
                    let limit = self.system.open_files_limit();
                    return Err(StartError::TooManyOpenFiles { limit });
                }
                // A ring that was closed gives its locked memory back some milliseconds later.
                Some(libc::ENOMEM) if self.system.may_block() && pause < LATE_MEMORY => {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                _ => {
                    tell!(warn, %error, "there is no table of registered buffers yet");
                    return Ok(());
                }
            }
        }
    }

    /// Tells which shards may attach arenas. Called once, when all of them have booted.
    pub(crate) fn set_shards(&self, shards: &[Arc<Remote>]) {
        let shards = shards.iter().map(Arc::downgrade).collect();
        self.shards.set(shards).expect("the shards of a runtime are set once");
    }

    fn lock(&self) -> MutexGuard<'_, Master> {
        self.master.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where every shard registers arenas by itself, the one that is running does so at once:
    /// whoever asks for a lease is to learn that locked memory is short, and not whoever uses it.
    /// Elsewhere it is only tried.
    fn attach_here(&self, entry: &ArenaEntry) -> io::Result<()> {
        let attached = context::with_shard(|shard| {
            let mut driver = shard?.driver().borrow_mut();
            driver.belongs_to(self).then(|| driver.attach_new_arena(entry.id))
        });
        if let Some(outcome) = attached {
            return outcome;
        }
        // On a ring of its own: memory is given back at once where all buffers are unregistered,
        // and up to a second later where a slot is cleared.
        let trial = self.system.donor()?;
        let registered = trial.register(entry);
        trial.close();
        registered
    }

    /// Unpins everything. Called when every shard has ended.
    pub(crate) fn close(&self) {
        self.grower.close();
        let mut master = self.lock();
        master.closed = true;
        if let Some(donor) = master.donor.take() {
            donor.close();
        }
    }
}

impl Drop for Arenas {
    fn drop(&mut self) {
        // A runtime that was not waited for ends here: its locked memory is given back now, not
        // when the ring is reaped.
        self.close();
    }
}

impl Arenas {
    /// Says once that locked memory is short; later it shows in the pool's `Occupancy`.
    fn tell_of_shortage(&self, error: &io::Error, asked: usize) {
        if error.raw_os_error() == Some(libc::ENOMEM) && !self.told.swap(true, Ordering::Relaxed) {
            let limit = self.system.locked_memory_limit();
            tell!(
                warn,
                asked,
                limit,
                "locked memory is short, which all rings and processes of the user share: the pool \
                 goes on with less; raise RLIMIT_MEMLOCK (`ulimit -l`), make the pool smaller, or \
                 grant CAP_IPC_LOCK"
            );
        }
    }

    fn register_everywhere(
        &self,
        arena: ArenaId,
        address: NonNull<u8>,
        length: usize,
    ) -> io::Result<()> {
        assert!(usize::from(arena.slot) < ARENA_SLOTS);
        let mut master = self.lock();
        if master.closed {
            return Err(crate::driver::shut_down());
        }
        if master.donor.is_none() {
            master.donor = Some(self.system.donor()?);
        }
        let entry = ArenaEntry { id: arena, address: address.as_ptr().addr(), length };
        let donor = master.donor.as_ref().expect("made above");
        if donor.can_be_cloned() {
            donor.register(&entry)?;
            master.entries.push(entry);
            return Ok(());
        }
        master.entries.push(entry);
        drop(master);
        let attached = self.attach_here(&entry);
        if attached.is_err() {
            self.lock().entries.retain(|entry| entry.id != arena);
        }
        attached
    }
}

impl Registrar for Arenas {
    fn register(&self, arena: ArenaId, address: NonNull<u8>, length: usize) -> io::Result<()> {
        let registered = self.register_everywhere(arena, address, length);
        registered.inspect_err(|error| self.tell_of_shortage(error, length))
    }

    fn now(&self) -> Instant {
        self.system.now()
    }

    fn start(&self, work: Box<dyn FnOnce() + Send>) {
        // Where every shard registers by itself, the one that is running has to do it.
        let cloned = self.lock().donor.as_ref().is_none_or(|donor| donor.can_be_cloned());
        if cloned {
            self.grower.start(&*self.system, Growth { work, hold: self.clock.held() });
        } else {
            work();
        }
    }

    fn pause(&self, length: Duration) -> bool {
        // On a shard nothing waits, and a simulated machine gives nothing back late.
        let is_shard = context::with_shard(|shard| shard.is_some());
        self.system.may_block() && !is_shard && self.grower.pause(length)
    }

    fn locked_memory_limit(&self) -> Option<u64> {
        self.system.locked_memory_limit()
    }

    fn huge_bytes(&self, address: NonNull<u8>, length: usize) -> usize {
        self.system.huge_bytes(address, length)
    }

    fn retire(&self, retiring: Retiring) {
        let arena = retiring.arena();
        {
            // The master slot is cleared first, so that no shard can attach the arena again after
            // it detached.
            let mut master = self.lock();
            master.entries.retain(|entry| entry.id != arena);
            if let Some(donor) = &master.donor
                && donor.can_be_cloned()
                && donor.clear(arena.slot).is_err()
            {
                // The pages stay pinned, so the retiring arena is dropped, which leaks it.
                return;
            }
        }
        let Some(this) = self.this.upgrade() else { return };
        let detachment = Arc::new(Detachment { retiring: Some(retiring), _arenas: this });
        // A shard that is gone has nothing attached.
        for shard in self.shards.get().into_iter().flatten().filter_map(Weak::upgrade) {
            let detachment = detachment.clone();
            shard.send(Message::Run(Box::new(move |shard| {
                let detached = shard.driver().borrow_mut().detach_arena(arena);
                drop(detachment);
                // Pages stay pinned until the ring is closed; no lease names them.
                if let Err(error) = detached {
                    tell!(warn, %error, slot = arena.slot, "a registered buffer was kept");
                }
            })));
        }
    }
}

/// Completes the retiring when the last shard has detached: each holds a count until it did, or has
/// ended.
struct Detachment {
    retiring: Option<Retiring>,
    _arenas: Arc<Arenas>,
}

impl Drop for Detachment {
    fn drop(&mut self) {
        if let Some(retiring) = self.retiring.take() {
            retiring.complete();
        }
    }
}

/// What one shard's kernel has attached.
pub(crate) struct ArenaTable {
    /// By slot, the generation that is attached; 0 for none.
    generations: [u32; ARENA_SLOTS],
    arenas: Arc<Arenas>,
}

impl ArenaTable {
    pub(crate) fn new(arenas: Arc<Arenas>) -> ArenaTable {
        ArenaTable { generations: [0; ARENA_SLOTS], arenas }
    }

    /// Whether it is about the arenas of this pool.
    pub(crate) fn is_of(&self, arenas: &Arenas) -> bool {
        std::ptr::eq(&*self.arenas, arenas)
    }

    #[inline]
    pub(crate) fn has(&self, arena: ArenaId) -> bool {
        self.generations[usize::from(arena.slot)] == arena.generation
    }

    /// Makes the kernel's table equal to the master table, under its lock so that both change
    /// together.
    #[cold]
    pub(crate) fn attach(&mut self, arena: ArenaId, kernel: &mut dyn Kernel) -> io::Result<()> {
        let master = self.arenas.lock();
        let known = master.entries.iter().any(|entry| entry.id == arena);
        let Some(donor) = master.donor.as_ref().filter(|_| known) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the lease is from the pool of another runtime, or of one that has shut down, and \
                 its memory is not registered here; use read_at or write_at instead",
            ));
        };
        if donor.can_be_cloned() {
            kernel.attach_arenas(&**donor, &master.entries)?;
            self.generations = [0; ARENA_SLOTS];
            for entry in &master.entries {
                self.generations[usize::from(entry.id.slot)] = entry.id.generation;
            }
        } else {
            let entry: Vec<_> = master.entries.iter().filter(|e| e.id == arena).copied().collect();
            kernel.attach_arenas(&**donor, &entry)?;
            self.generations[usize::from(arena.slot)] = arena.generation;
        }
        Ok(())
    }

    pub(crate) fn detach(&mut self, arena: ArenaId, kernel: &mut dyn Kernel) -> io::Result<()> {
        let generation = &mut self.generations[usize::from(arena.slot)];
        if *generation != arena.generation {
            return Ok(());
        }
        *generation = 0;
        kernel.detach_arena(arena.slot)
    }
}
