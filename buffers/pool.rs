//! The pool: a handle to arenas that are mapped when they are needed and given back when they are
//! not.
#![forbid(unsafe_code)]

use std::{
    fmt, io,
    mem::{self, ManuallyDrop},
    panic::{RefUnwindSafe, UnwindSafe},
    sync::{Arc, PoisonError},
};

use crate::{
    LARGEST_ARENA, Lease, LeaseFuture, Occupancy, PAGE, PoolConfig, Registrar,
    block::Block,
    error::{Cause, LeaseError},
    region::Region,
    registrar::Retiring,
    request::{Grant, Growth, Request, Short, Step},
    state::State,
    sync::Mutex,
};

/// Below this many bytes growing by less is not tried in steps, but only with what was asked for.
const SMALLEST_STEP: usize = 64 << 10;

/// What all handles and leases of a pool share.
pub(crate) struct Shared {
    limit: usize,
    registrar: Option<Arc<dyn Registrar>>,
    state: Mutex<State>,
}

// No method of the state leaves it half-changed where it panics: those checks come before the
// changes.
impl UnwindSafe for Shared {}
impl RefUnwindSafe for Shared {}

impl Shared {
    /// Runs `act` under the lock, then wakes and drops without it whatever wakers that brought up.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut state);
        let outbox = state.take_outbox();
        drop(state);
        outbox.deliver();
        result
    }

    /// Whether its arenas are registered with the kernel.
    pub(crate) fn is_registered(&self) -> bool {
        self.registrar.is_some()
    }

    /// A request for `length` bytes, if it could ever be met.
    pub(crate) fn request(&self, length: usize) -> Result<Request, LeaseError> {
        let limit = self.limit.min(LARGEST_ARENA);
        match length {
            0 => Err(LeaseError::new(0, Cause::Invalid)),
            _ if length > limit => Err(LeaseError::new(length, Cause::TooLarge { limit })),
            _ => {
                let pages = length.div_ceil(PAGE);
                Ok(Request { length, pages, ticket: None, attempted: false })
            }
        }
    }

    /// Maps and registers another arena, or a smaller one where memory is short, without the lock.
    /// Returns pages for `request` if that has no ticket.
    ///
    /// # Errors
    /// What is not a shortage: of that the state keeps note, and decides what it means.
    pub(crate) fn grow(
        &self,
        growth: Growth,
        request: &mut Request,
    ) -> Result<Option<Grant>, LeaseError> {
        let unfinished = Unfinished { shared: self };
        let mut length = growth.length;
        let outcome = loop {
            match self.map(Growth { length, ..growth }) {
                Err(Trouble::Short(short)) => match smaller(length, growth.least) {
                    Some(less) => {
                        length = less;
                        self.with(|state| state.afford(less.max(SMALLEST_STEP)));
                    }
                    None => break Err(Trouble::Short(short)),
                },
                outcome => break outcome,
            }
        };
        mem::forget(unfinished);
        request.attempted = true;
        let first = request.ticket.is_none().then_some(request.pages);
        match outcome {
            Ok(region) => {
                let (grant, rejected) =
                    self.with(|state| state.finish_growth(growth, region, first));
                self.retire(rejected);
                Ok(grant)
            }
            Err(Trouble::Short(short)) => {
                self.with(|state| state.fail_growth(Some(short)));
                Ok(None)
            }
            Err(Trouble::Refused(error)) => {
                self.with(|state| state.fail_growth(None));
                let cause = Cause::NotRegistrable { errno: error.raw_os_error() };
                Err(LeaseError::new(request.length, cause))
            }
        }
    }

    /// Sends idle arenas on their way out.
    pub(crate) fn retire(&self, arenas: impl IntoIterator<Item = Retiring>) {
        for retiring in arenas {
            match &self.registrar {
                Some(registrar) => registrar.retire(retiring),
                None => retiring.complete(),
            }
        }
    }

    fn map(&self, growth: Growth) -> Result<Region, Trouble> {
        let region = Region::map(growth.length)
            .map_err(|error| Trouble::Short(Short::Mapped(error.raw_os_error().unwrap_or(0))))?;
        let Some(registrar) = &self.registrar else { return Ok(region) };
        // If the registrar panics, nobody knows whether the memory is registered: then it leaks.
        let region = ManuallyDrop::new(region);
        let result = registrar.register(growth.id, region.base().get(), region.length());
        let region = ManuallyDrop::into_inner(region);
        match result {
            Ok(()) => Ok(region),
            Err(error) if is_shortage(&error) => Err(Trouble::Short(Short::Locked)),
            Err(error) => Err(Trouble::Refused(error)),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (arenas, leaked) = (state.take_all(), state.is_leaked());
        // What is dropped without being completed is leaked.
        if !leaked {
            self.retire(arenas);
        }
    }
}

/// Lets the next one grow if this one panics.
struct Unfinished<'a> {
    shared: &'a Shared,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.shared.with(|state| state.fail_growth(None));
    }
}

/// Why an arena was not made.
enum Trouble {
    Short(Short),
    Refused(io::Error),
}

fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOMEM) || error.kind() == io::ErrorKind::OutOfMemory
}

/// The next smaller size to try, if any.
fn smaller(length: usize, least: usize) -> Option<usize> {
    let half = (length / 2).next_multiple_of(PAGE);
    match length > least {
        true if half >= least.max(SMALLEST_STEP) && half < length => Some(half),
        true => Some(least),
        false => None,
    }
}

/// A pool of memory that is leased in windows.
///
/// It maps nothing until something is leased, grows by arenas up to its limit, and gives idle ones
/// back when it is [swept](Pool::sweep). The handle is cheap to clone; the memory stays as long as
/// a handle or a lease is there.
///
/// Requests are met first come, first served, across all sizes: nobody overtakes who waits longest,
/// so a large request is not starved by small ones. All pages that come back are kept for it.
#[derive(Clone)]
pub struct Pool {
    pub(crate) shared: Arc<Shared>,
}

impl Pool {
    /// A pool whose arenas are registered by `registrar` as they are mapped.
    ///
    /// A registrar that holds the pool keeps it alive, and the pool holds the registrar: one of the
    /// two should hold the other weakly.
    pub fn new(config: PoolConfig, registrar: Arc<dyn Registrar>) -> Pool {
        Pool::with_registrar(config, Some(registrar))
    }

    /// A pool whose memory is not registered: its leases have no arena, and fixed I/O refuses them.
    ///
    /// ```
    /// use ringhold_buffers::{Pool, PoolConfig};
    ///
    /// let lease = Pool::unregistered(PoolConfig::new()).try_lease(100)?;
    /// assert_eq!(lease.arena(), None);
    /// # Ok::<(), ringhold_buffers::LeaseError>(())
    /// ```
    pub fn unregistered(config: PoolConfig) -> Pool {
        Pool::with_registrar(config, None)
    }

    fn with_registrar(config: PoolConfig, registrar: Option<Arc<dyn Registrar>>) -> Pool {
        let config = config.rounded();
        let shared = Arc::new_cyclic(|pool| Shared {
            limit: config.limit,
            state: Mutex::new(State::new(config, registrar.clone(), pool.clone())),
            registrar,
        });
        Pool { shared }
    }

    /// Leases `length` bytes, and waits its turn where that takes waiting.
    ///
    /// A task that holds leases while it waits for another can wait for ever, if all leases are
    /// held by tasks that do so. Lease what a step needs at once, use
    /// [`try_lease`](Pool::try_lease), or bound the wait by a timeout.
    ///
    /// # Errors
    /// At once: `Invalid` for zero bytes; `TooLarge` for more than the limit or than 1 GiB;
    /// `Closed`. When the pool can't grow and nothing is out that would come back: `LockedMemory`
    /// or `OutOfMemory`. `NotRegistrable` if the kernel refuses the memory for another reason.
    ///
    /// # Cancel safety
    /// Safe: who is dropped leaves the queue, and what it was granted passes on to the next.
    ///
    /// ```
    /// # use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
    /// use ringhold_buffers::{Pool, PoolConfig};
    ///
    /// let pool = Pool::unregistered(PoolConfig::new().limit(4096));
    /// let held = pool.try_lease(4096)?;
    /// let mut waiting = pin!(pool.lease(10));
    /// # let mut context = Context::from_waker(Waker::noop());
    /// assert!(waiting.as_mut().poll(&mut context).is_pending());
    /// drop(held);
    /// let Poll::Ready(lease) = waiting.as_mut().poll(&mut context) else { panic!("not served") };
    /// assert_eq!(lease?.capacity(), 10);
    /// # Ok::<(), ringhold_buffers::LeaseError>(())
    /// ```
    pub fn lease(&self, length: usize) -> LeaseFuture {
        LeaseFuture::new(self.shared.clone(), length)
    }

    /// Leases `length` bytes if they are free, or can be mapped, and nobody waits.
    ///
    /// # Errors
    /// As for [`lease`](Pool::lease), and `Full` where that would wait.
    pub fn try_lease(&self, length: usize) -> Result<Lease, LeaseError> {
        let mut request = self.shared.request(length)?;
        loop {
            match self.shared.with(|state| state.try_step(&request)) {
                Step::Done(answer) => return Ok(self.open(answer?, length)),
                Step::Grow(growth) => {
                    if let Some(grant) = self.shared.grow(growth, &mut request)? {
                        return Ok(self.open(grant, length));
                    }
                }
                Step::Retire(arenas) => self.shared.retire(arenas),
                Step::Wait | Step::NeedWaker => {
                    let cause = self.shared.with(|state| state.full());
                    return Err(LeaseError::new(length, cause));
                }
            }
        }
    }

    fn open(&self, grant: Grant, length: usize) -> Lease {
        Lease::new(Block::new(self.shared.clone(), grant), length)
    }

    /// How full it is, who waits, and what it has done.
    pub fn occupancy(&self) -> Occupancy {
        self.shared.with(|state| state.occupancy())
    }

    /// Retires the arenas of which nothing was leased since the previous sweep, as long as
    /// [`keep`](PoolConfig::keep) bytes stay. Returns whether idle arenas beyond those remain, for
    /// which another sweep is worthwhile.
    ///
    /// ```
    /// use ringhold_buffers::{Pool, PoolConfig};
    ///
    /// let pool = Pool::unregistered(PoolConfig::new().limit(8192).arena(4096).keep(0));
    /// drop(pool.try_lease(1)?);
    /// assert!(pool.sweep()); // it was leased since
    /// assert!(!pool.sweep());
    /// assert_eq!(pool.occupancy().mapped, 0);
    /// # Ok::<(), ringhold_buffers::LeaseError>(())
    /// ```
    pub fn sweep(&self) -> bool {
        let (arenas, more) = self.shared.with(|state| state.sweep());
        self.shared.retire(arenas);
        more
    }

    /// Ends leasing: who waits and who asks later gets `Closed`. Leases that are out stay good; the
    /// memory goes with the last handle or lease.
    pub fn close(&self) {
        self.shared.with(|state| state.close());
    }

    /// Closes it, and leaves all of its memory mapped for good: for when the kernel might still
    /// write to it.
    pub fn leak(&self) {
        self.shared.with(|state| state.leak_all());
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("registered", &self.shared.is_registered())
            .field("occupancy", &self.occupancy())
            .finish_non_exhaustive()
    }
}
