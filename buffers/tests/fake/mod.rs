//! What the tests of the pool share: a registrar with a budget, wakers that count, seeds.
#![allow(dead_code)] // Each test file is a program of its own and uses a part of this.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    pin::Pin,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use ringhold_buffers::sync::Mutex;
use ringhold_buffers::{ArenaId, Lease, LeaseError, LeaseFuture, Registrar, Retiring};

/// Stands in for the kernel: a table, and so many bytes that may be pinned.
#[derive(Debug)]
pub struct Fake {
    state: Mutex<FakeState>,
}

#[derive(Debug)]
struct FakeState {
    budget: usize,
    errno: Option<i32>,
    holds_retiring: bool,
    pinned: BTreeMap<u16, (ArenaId, usize, usize)>,
    seen: HashSet<ArenaId>,
    retiring: Vec<Retiring>,
    attempts: Vec<usize>,
}

impl Fake {
    /// A kernel that pins at most `budget` bytes, and detaches at once.
    pub fn new(budget: usize) -> Arc<Fake> {
        Arc::new(Fake {
            state: Mutex::new(FakeState {
                budget,
                errno: None,
                holds_retiring: false,
                pinned: BTreeMap::new(),
                seen: HashSet::new(),
                retiring: Vec::new(),
                attempts: Vec::new(),
            }),
        })
    }

    /// Lets registering fail with `errno`, whatever the budget.
    pub fn fail_with(&self, errno: Option<i32>) {
        self.state.lock().unwrap().errno = errno;
    }

    pub fn set_budget(&self, budget: usize) {
        self.state.lock().unwrap().budget = budget;
    }

    /// From now on keeps what is retired until [`Fake::take_retiring`].
    pub fn hold_retiring(&self) {
        self.state.lock().unwrap().holds_retiring = true;
    }

    pub fn take_retiring(&self) -> Vec<Retiring> {
        let mut state = self.state.lock().unwrap();
        let taken = std::mem::take(&mut state.retiring);
        for retiring in &taken {
            state.pinned.remove(&retiring.arena().slot);
        }
        taken
    }

    pub fn pinned(&self) -> usize {
        self.state.lock().unwrap().pinned.values().map(|&(_, _, length)| length).sum()
    }

    /// The sizes that were tried since the last call.
    pub fn take_attempts(&self) -> Vec<usize> {
        std::mem::take(&mut self.state.lock().unwrap().attempts)
    }

    /// Whether a lease lies in what the table has under its arena's id.
    pub fn reaches(&self, lease: &Lease, length: usize) -> bool {
        let arena = lease.arena().expect("a registered lease has an arena");
        let state = self.state.lock().unwrap();
        state.pinned.get(&arena.slot).is_some_and(|&(known, start, bytes)| {
            let address = lease.as_ptr() as usize;
            known == arena && address >= start && address + length <= start + bytes
        })
    }
}

impl Registrar for Fake {
    fn register(&self, arena: ArenaId, address: NonNull<u8>, length: usize) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.attempts.push(length);
        if let Some(errno) = state.errno {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let used: usize = state.pinned.values().map(|&(_, _, length)| length).sum();
        if used + length > state.budget {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        assert!(state.seen.insert(arena), "{arena:?} came twice");
        let entry = (arena, address.as_ptr() as usize, length);
        assert!(state.pinned.insert(arena.slot, entry).is_none(), "slot {} in use", arena.slot);
        Ok(())
    }

    fn retire(&self, retiring: Retiring) {
        let mut state = self.state.lock().unwrap();
        if state.holds_retiring {
            state.retiring.push(retiring);
            return;
        }
        let known = state.pinned.remove(&retiring.arena().slot);
        assert_eq!(known.map(|(arena, _, _)| arena), Some(retiring.arena()));
        drop(state);
        retiring.complete();
    }
}

/// A waker that counts how often it was woken.
#[derive(Debug, Default)]
pub struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future that waits for a lease, and whether it was woken since it was last polled.
pub struct Waiting {
    future: LeaseFuture,
    count: Arc<Count>,
    seen: usize,
}

impl Waiting {
    pub fn new(future: LeaseFuture) -> Waiting {
        Waiting { future, count: Arc::default(), seen: 0 }
    }

    pub fn is_woken(&self) -> bool {
        self.count.0.load(Ordering::SeqCst) > self.seen
    }

    pub fn poll(&mut self) -> Poll<Result<Lease, LeaseError>> {
        self.seen = self.count.0.load(Ordering::SeqCst);
        let waker = Waker::from(self.count.clone());
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }

    /// Polls another future with this one's waker.
    pub fn poll_other(&self, future: &mut LeaseFuture) -> Poll<Result<Lease, LeaseError>> {
        let waker = Waker::from(self.count.clone());
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }

    /// Polls a future that must wait.
    pub fn waits(mut self) -> Waiting {
        assert!(self.poll().is_pending(), "it did not have to wait");
        self
    }

    /// Polls a future that must have been woken and must be ready.
    pub fn ready(&mut self) -> Result<Lease, LeaseError> {
        assert!(self.is_woken(), "it was not woken");
        match self.poll() {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("it still waits"),
        }
    }
}

/// A small generator: the tests need no better one, and the seed alone tells what it gives.
pub struct Random(u64);

impl Random {
    /// Seeded by `RINGHOLD_SEED`, or afresh; printed in either case.
    pub fn new() -> Random {
        Random(seed())
    }

    pub fn with_seed(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        // splitmix64: every seed, zero included, is a good one.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The seed of a run: from `RINGHOLD_SEED`, or fresh. Prints it.
pub fn seed() -> u64 {
    let seed = match std::env::var("RINGHOLD_SEED") {
        Ok(text) => text.parse().expect("RINGHOLD_SEED is a number"),
        Err(_) => {
            use std::hash::{BuildHasher, Hasher};
            std::collections::hash_map::RandomState::new().build_hasher().finish()
        }
    };
    println!("RINGHOLD_SEED={seed}");
    seed
}
