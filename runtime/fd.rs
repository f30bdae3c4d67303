//! A shared descriptor, closed through the kernel that made it.

use std::fmt;
use std::mem;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, PoisonError};

use ringhold_kernel::sync::Mutex;
use ringhold_kernel::sync::atomic::{AtomicU32, Ordering};
use ringhold_kernel::{HeldFile, NewDescriptor, System};

use crate::context;
use crate::driver::Driver;
use crate::inbox::Message;
use crate::op::Op;
use crate::ops::Close;
use crate::registry::Remote;
use crate::shard;

/// From how many operations on a shard on a file is worth a slot of that shard's table of
/// registered files.
///
/// A slot costs two system calls (into the table and out of it) and saves 15 to 25 ns an operation,
/// so a file that is read once and closed is better off without
/// (docs/decisions/0003-registered-files-from-the-eighth-use.md).
const USES_BEFORE_ATTACHING: u32 = 8;

/// In the place of a count of uses: the file gets no slot.
const PASSING: u32 = u32::MAX;

/// An open file, counted: every operation in flight on it holds one, so that its number can't be
/// taken by another file before the kernel has seen the last operation.
///
/// The last handle closes it in its drop. Only a file whose close may wait for a server (see
/// [`System::close_waits`]) is closed by an operation of the ring where a shard drops it.
#[derive(Clone)]
pub struct Fd {
    shared: Arc<Shared>,
}

struct Shared {
    descriptor: RawFd,
    /// Tells files apart that have had the same number.
    serial: u64,
    uses: AtomicU32,
    /// Whether what is done with it may wait for a server or a peer that never answers.
    may_hang: AtomicBool,
    /// Whether it is known that its close waits for no server.
    closes_at_once: AtomicBool,
    system: Arc<dyn System>,
    /// The shards whose file table holds this file. Locked when a shard attaches it, and at the
    /// end.
    attached: Mutex<Vec<Arc<Remote>>>,
}

static SERIAL: AtomicU64 = AtomicU64::new(1);

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl From<NewDescriptor> for Fd {
    fn from(made: NewDescriptor) -> Fd {
        let (descriptor, system) = made.into_parts();
        Fd::new(descriptor, system)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fd").field(&self.descriptor).finish()
    }
}

impl HeldFile for Shared {
    fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    fn system(&self) -> &dyn System {
        &*self.system
    }
}

impl Fd {
    /// Takes over `descriptor`, which `system` made and nothing else closes.
    pub fn new(descriptor: RawFd, system: Arc<dyn System>) -> Fd {
        Fd {
            shared: Arc::new(Shared {
                descriptor,
                serial: SERIAL.fetch_add(1, Ordering::Relaxed),
                uses: AtomicU32::new(0),
                may_hang: AtomicBool::new(false),
                closes_at_once: AtomicBool::new(false),
                system,
                attached: Mutex::new(Vec::new()),
            }),
        }
    }

    /// As [`new`](Fd::new), for what is [passing](Fd::set_passing).
    pub fn passing(descriptor: RawFd, system: Arc<dyn System>) -> Fd {
        let file = Fd::new(descriptor, system);
        file.set_passing();
        file
    }

    /// A descriptor that an operation of the current shard's kernel has just brought.
    pub fn brought(descriptor: u32) -> Fd {
        Fd::new(descriptor as RawFd, context::system())
    }

    /// The number. It stays this file's own as long as this value lives.
    pub fn descriptor(&self) -> RawFd {
        self.shared.descriptor
    }

    /// A count of the file, for a cold call, which holds it also when it was dropped.
    pub fn held(&self) -> Arc<dyn HeldFile> {
        self.shared.clone()
    }

    /// Who made it.
    pub fn system(&self) -> &Arc<dyn System> {
        &self.shared.system
    }

    /// Which file this is, among all that ever had this number.
    pub(crate) fn serial(&self) -> u64 {
        self.shared.serial
    }

    /// Whether this use is one of so many that a slot in the file table pays.
    pub(crate) fn is_worth_attaching(&self) -> bool {
        let uses = &self.shared.uses;
        uses.load(Ordering::Relaxed) >= USES_BEFORE_ATTACHING
            || uses.fetch_add(1, Ordering::Relaxed) + 1 >= USES_BEFORE_ATTACHING
    }

    /// Says that a peer may wait for its close: that of a socket, of a pipe. No shard puts it into
    /// its table of registered files, which would hold it open until that shard comes round to
    /// clear its slot.
    pub fn set_passing(&self) {
        self.shared.uses.store(PASSING, Ordering::Relaxed);
    }

    /// Whether it gets no slot.
    #[inline]
    pub(crate) fn is_passing(&self) -> bool {
        self.shared.uses.load(Ordering::Relaxed) == PASSING
    }

    /// Asks whether what is done with the file may wait for a server or a peer that never answers.
    /// Until this is called it is taken for one of those that don't.
    pub fn learn_whether_it_may_hang(&self) {
        let may_hang = self.shared.system.at_once().may_hang(self.shared.descriptor);
        self.shared.may_hang.store(may_hang, Ordering::Relaxed);
    }

    /// Whether what is done with the file may wait for a server or a peer that never answers.
    #[inline]
    pub(crate) fn may_hang(&self) -> bool {
        self.shared.may_hang.load(Ordering::Relaxed)
    }

    /// Says that its file system answers by itself, so that its close waits for no server. Until
    /// this is called the close asks.
    pub fn set_answers_at_once(&self) {
        self.shared.closes_at_once.store(true, Ordering::Relaxed);
    }

    /// Remembers that `shard`'s table holds the file, to be told when the file is closed.
    pub(crate) fn note_attached(&self, shard: &Arc<Remote>) {
        let mut attached = self.shared.attached.lock().unwrap_or_else(PoisonError::into_inner);
        if !attached.iter().any(|known| known.id() == shard.id()) {
            attached.push(shard.clone());
        }
    }

    /// Closes the file, if this is the only handle and nothing is in flight on it; otherwise the
    /// last one closes it.
    ///
    /// # Errors
    ///
    /// Returns `self` where another handle or an operation in flight holds the file.
    pub fn into_close(self) -> Result<Op<Close>, Fd> {
        let system = self.shared.system.clone();
        self.into_descriptor().map(|descriptor| Op::new(Close::new(descriptor, system)))
    }

    /// The descriptor, for code that is none of the runtime's.
    ///
    /// # Panics
    ///
    /// If the file is simulated: its number is no descriptor of this process.
    #[track_caller]
    pub fn real_descriptor(&self) -> RawFd {
        if !self.shared.system.has_real_descriptors() {
            no_real_descriptor();
        }
        self.shared.descriptor
    }

    /// Hands the descriptor over unclosed, if this is the only handle and nothing is in flight on
    /// it.
    ///
    /// # Errors
    ///
    /// Returns `self` where another handle or an operation in flight holds the file.
    pub fn into_descriptor(self) -> Result<RawFd, Fd> {
        match Arc::try_unwrap(self.shared) {
            Ok(mut shared) => {
                shared.detach_everywhere();
                let descriptor = shared.descriptor;
                shared.descriptor = -1;
                Ok(descriptor)
            }
            Err(shared) => Err(Fd { shared }),
        }
    }

    /// Closes the file here and now, if this is the only handle and nothing is in flight on it but
    /// what was dropped on this shard: for a socket, whose port may be wanted, or whose peer waits.
    ///
    /// # Errors
    ///
    /// Returns `self` where another handle or an operation in flight holds the file.
    pub fn close_now(self) -> Result<(), Fd> {
        self.settle();
        let system = self.shared.system.clone();
        self.into_descriptor().map(|descriptor| system.close(descriptor))
    }

    /// Shuts a socket down, both ways, that another shard still has in flight; where the shard that
    /// is running ends it is about to be closed anyway.
    pub fn shut_down(&self) {
        if !shard::is_ending() {
            let _ = self.system().sockets().shutdown(self.descriptor(), libc::SHUT_RDWR);
        }
    }

    /// Ends what was dropped in flight on this file on the shard that is running, as far as the
    /// kernel lets go of it at once.
    pub fn settle(&self) {
        if self.is_shared() {
            shard::settle(self);
        }
    }

    /// Whether an operation or another handle holds the file as well.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }
}

#[cold]
#[track_caller]
fn no_real_descriptor() -> ! {
    panic!(
        "a simulated file or socket has no descriptor of this process: AsFd, AsRawFd, into_std and \
         what comes from std are not to be had in a simulation"
    )
}

impl Shared {
    /// The file tables hold the file open, so it is taken out of each that has it. A table of
    /// another shard that has forgotten the file by then keeps its serial, which is no other's.
    fn detach_everywhere(&mut self) {
        let (descriptor, serial) = (self.descriptor, self.serial);
        let attached = self.attached.get_mut().unwrap_or_else(PoisonError::into_inner);
        for shard in mem::take(attached) {
            let detach = move |driver: &mut Driver| driver.detach_file(descriptor, serial);
            let here = context::with_shard(|current| match current {
                Some(current) if current.id() == shard.id() => {
                    detach(&mut current.driver().borrow_mut());
                    true
                }
                _ => false,
            });
            if !here && !shard.evict_file(descriptor as u32) {
                shard.send(Message::Run(Box::new(move |shard| {
                    detach(&mut shard.driver().borrow_mut());
                })));
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.descriptor < 0 {
            return;
        }
        self.detach_everywhere();
        let is_passing = self.uses.load(Ordering::Relaxed) == PASSING;
        let is_on_shard = context::with_shard(|shard| shard.is_some());
        let is_known = is_passing || !is_on_shard || *self.closes_at_once.get_mut();
        if is_known || !self.system.close_waits(self.descriptor) {
            self.system.close(self.descriptor);
            return;
        }
        let closing = Op::new(Close::new(self.descriptor, self.system.clone()));
        // Where no shard takes it, dropping it closes.
        drop(closing.detach());
    }
}
