//! The pool: a handle to arenas that are mapped when they are needed and given back when they are
//! not.
#![forbid(unsafe_code)]

use std::{
    fmt, io,
    mem::ManuallyDrop,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::{Arc, PoisonError},
    time::Duration,
};

use crate::{
    ARENA_SLOTS, LARGEST_ARENA, Lease, LeaseFuture, LeaseGroup, Occupancy, PAGE, POOL_SLOTS,
    PoolConfig, Registrar,
    block::Block,
    error::{Cause, LeaseError},
    region::Region,
    registrar::Retiring,
    request::{Grant, Growth, Request, Short, Step},
    state::State,
    sync::Mutex,
};

/// The first wait for locked memory that is given back late, of which each is twice as long as the
/// one before, and the last: a little more than a second together.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(512);

/// Below this many bytes growing by less is not tried in steps, but only with what was asked for.
const SMALLEST_STEP: usize = 64 << 10;

/// What all handles and leases of a pool share.
pub(crate) struct Shared {
    limit: usize,
    half_of: Option<u64>,
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
        if let Some(outbox) = outbox {
            outbox.deliver();
        }
        result
    }

    /// Whether its arenas are registered with the kernel.
    pub(crate) fn is_registered(&self) -> bool {
        self.registrar.is_some()
    }

    /// A request for `length` bytes, if it could ever be met.
    pub(crate) fn request(
        &self,
        length: usize,
        group: Option<Arc<LeaseGroup>>,
    ) -> Result<Request, LeaseError> {
        let limit = self.limit.min(LARGEST_ARENA);
        match length {
            0 => Err(LeaseError::new(0, Cause::Invalid)),
            _ if length > limit => {
                let locked = self.half_of.filter(|_| limit < LARGEST_ARENA);
                Err(LeaseError::new(length, Cause::TooLarge { limit, locked }))
            }
            _ => {
                let pages = length.div_ceil(PAGE);
                Ok(Request { length, pages, group, ticket: None, attempted: false })
            }
        }
    }

    /// Has another arena mapped and registered beside the caller, for a request that waits.
    pub(crate) fn start_growth(self: &Arc<Shared>, growth: Growth) {
        let work = Growing { shared: self.clone(), growth, over: false };
        match &self.registrar {
            Some(registrar) => registrar.start(Box::new(move || work.run(true))),
            None => work.run(true),
        }
    }

    /// Maps and registers another arena here and now, for a request that doesn't wait. Returns
    /// pages for it.
    ///
    /// # Errors
    /// What is not a shortage: of that the state keeps note, and decides what it means.
    fn grow_now(
        self: &Arc<Shared>,
        growth: Growth,
        request: &mut Request,
    ) -> Result<Option<Grant>, LeaseError> {
        let mut growing = Growing { shared: self.clone(), growth, over: false };
        request.attempted = true;
        let outcome = growing.obtain(false);
        growing.over = true;
        match outcome {
            Ok(arena) => {
                let (grant, rejected) = self.with(|state| {
                    let queue = state.queue_of(request);
                    state.finish_growth(growth, arena, Some((queue, request.pages)))
                });
                self.retire(rejected);
                Ok(grant)
            }
            Err(Trouble::Short(short)) => {
                self.with(|state| state.fail_growth(Some(short), None));
                Ok(None)
            }
            Err(Trouble::Refused(error)) => {
                self.with(|state| state.fail_growth(None, None));
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

    fn map(&self, growth: Growth) -> Result<(Region, usize), Trouble> {
        let region = Region::map(growth.length)
            .map_err(|error| Trouble::Short(Short::Mapped(error.raw_os_error().unwrap_or(0))))?;
        let Some(registrar) = &self.registrar else { return Ok((region, 0)) };
        // If the registrar panics, nobody knows whether the memory is registered: then it leaks.
        let region = ManuallyDrop::new(region);
        let result = registrar.register(growth.id, region.base().get(), region.length());
        let region = ManuallyDrop::into_inner(region);
        match result {
            Ok(()) => {
                let huge = registrar.huge_bytes(region.base().get(), region.length());
                Ok((region, huge))
            }
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

/// An arena that is being mapped and registered. Dropped before that is over, it lets the next one
/// grow: the mapping may panic, and who was to do it may have ended.
struct Growing {
    shared: Arc<Shared>,
    growth: Growth,
    over: bool,
}

impl Growing {
    fn run(mut self, patient: bool) {
        let outcome = self.obtain(patient);
        self.over = true;
        let (shared, growth) = (&self.shared, self.growth);
        match outcome {
            Ok(arena) => {
                let (_, rejected) = shared.with(|state| state.finish_growth(growth, arena, None));
                shared.retire(rejected);
            }
            Err(Trouble::Short(short)) => {
                shared.with(|state| state.fail_growth(Some(short), growth.by));
            }
            Err(Trouble::Refused(error)) => {
                shared.with(|state| state.refuse_growth(error.raw_os_error(), growth.by));
            }
        }
    }

    /// Maps and registers as much as was planned, or less where memory is short. With patience, and
    /// where nothing is there that would come back, it waits for what others give back late.
    fn obtain(&self, patient: bool) -> Result<(Region, usize), Trouble> {
        let (shared, growth) = (&self.shared, self.growth);
        let mut length = growth.length;
        let mut pause = FIRST_PAUSE;
        loop {
            let short = match shared.map(Growth { length, ..growth }) {
                Err(Trouble::Short(short)) => short,
                outcome => return outcome,
            };
            if let Some(less) = smaller(length, growth.least) {
                length = less;
                shared.with(|state| state.afford(less.max(SMALLEST_STEP)));
                continue;
            }
            let late = patient && matches!(short, Short::Locked) && pause <= LAST_PAUSE;
            if !late || !shared.with(|state| state.waits_for_late_memory(&growth)) {
                return Err(Trouble::Short(short));
            }
            if !shared.registrar.as_ref().is_some_and(|registrar| registrar.pause(pause)) {
                return Err(Trouble::Short(short));
            }
            pause *= 2;
            length = growth.length;
        }
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if !self.over {
            self.shared.with(|state| state.fail_growth(None, None));
        }
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
/// # Order
///
/// Requests of one [group](LeaseGroup) are met first come, first served. Of several groups, the one
/// that has received the least for its shares has the next turn. A turn lasts until its request is
/// met; the request takes any free range that it fits into. If there is none, because the free
/// pages are scattered, requests behind it may overtake it, within these bounds:
///
/// - One range of its length is kept for it: the one with the fewest pages leased. An overtaking
///   request is met from other pages, and from that range only if there are no others.
/// - At most a quarter of the limit is leased to overtaking requests at any time.
/// - A request never overtakes one of its own group that asks for a similar length.
/// - Once only leases of overtaking requests remain in the range, overtaking ends.
///
/// So small requests can't starve a large one: it waits for the leases that were out when its turn
/// began, and then for those of the requests that had overtaken it by then. A group's reserve is
/// never leased to other groups; the group itself may lease from it at any time.
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
        Pool::with_registrar(config, Some(registrar), 0)
    }

    /// As [`Pool::new`], for pool number `number` of those that share a registrar, counted from 0:
    /// each has slots of its own in the table.
    ///
    /// # Panics
    /// If there are no slots for so many, of which there are
    /// [`ARENA_SLOTS`](crate::ARENA_SLOTS).
    pub fn numbered(config: PoolConfig, registrar: Arc<dyn Registrar>, number: usize) -> Pool {
        assert!((number + 1) * POOL_SLOTS <= ARENA_SLOTS, "pool {number} has no slots");
        Pool::with_registrar(config, Some(registrar), number)
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
        Pool::with_registrar(config, None, 0)
    }

    fn with_registrar(
        config: PoolConfig,
        registrar: Option<Arc<dyn Registrar>>,
        number: usize,
    ) -> Pool {
        let config = config.rounded();
        let base = u16::try_from(number * POOL_SLOTS).expect("a runtime has few pools");
        let shared = Arc::new_cyclic(|pool| Shared {
            limit: config.limit,
            half_of: config.half_of,
            state: Mutex::new(State::new(config, registrar.clone(), pool.clone(), base)),
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
        LeaseFuture::new(self.shared.clone(), length, None)
    }

    /// As [`lease`](Pool::lease), in the queue of a group, and out of its reserve.
    ///
    /// # Errors
    /// As for [`lease`](Pool::lease).
    ///
    /// # Cancel safety
    /// Safe, as [`lease`](Pool::lease).
    pub fn lease_in(&self, group: &Arc<LeaseGroup>, length: usize) -> LeaseFuture {
        LeaseFuture::new(self.shared.clone(), length, Some(group.clone()))
    }

    /// Keeps the reserve of a group free from now on, and not from its first lease on only.
    pub fn welcome(&self, group: &Arc<LeaseGroup>) {
        self.shared.with(|state| state.welcome(group));
    }

    /// Leases `length` bytes if they are free, or can be mapped, and nobody comes first.
    ///
    /// Mapping and registering happen here and now, which takes milliseconds for some MiB.
    ///
    /// # Errors
    /// As for [`lease`](Pool::lease), and `Full` where that would wait.
    pub fn try_lease(&self, length: usize) -> Result<Lease, LeaseError> {
        self.try_request(length, self.shared.request(length, None)?)
    }

    /// As [`try_lease`](Pool::try_lease), out of a group's reserve.
    ///
    /// # Errors
    /// As for [`try_lease`](Pool::try_lease).
    pub fn try_lease_in(
        &self,
        group: &Arc<LeaseGroup>,
        length: usize,
    ) -> Result<Lease, LeaseError> {
        self.try_request(length, self.shared.request(length, Some(group.clone()))?)
    }

    fn try_request(&self, length: usize, mut request: Request) -> Result<Lease, LeaseError> {
        loop {
            match self.shared.with(|state| state.try_step(&request)) {
                Step::Done(answer) => return Ok(self.open(answer?, length)),
                Step::Grow(growth) => {
                    if let Some(grant) = self.shared.grow_now(growth, &mut request)? {
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

    /// The bytes that are to be mapped at the start.
    #[doc(hidden)]
    pub fn prefill(&self) -> usize {
        self.shared.with(|state| state.config.prefill)
    }

    /// Maps and registers arenas here and now until [`prefill`](PoolConfig::prefill) bytes are
    /// mapped, or memory is short. Returns how many are.
    ///
    /// ```
    /// use ringhold_buffers::{Pool, PoolConfig};
    ///
    /// let pool = Pool::unregistered(PoolConfig::new().limit(1 << 20).prefill(1 << 20));
    /// assert_eq!(pool.fill(), 1 << 20);
    /// assert_eq!(pool.occupancy().free, 1 << 20);
    /// ```
    pub fn fill(&self) -> usize {
        while let Some(growth) = self.shared.with(|state| state.plan_fill()) {
            Growing { shared: self.shared.clone(), growth, over: false }.run(true);
        }
        self.occupancy().mapped
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
