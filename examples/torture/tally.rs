//! What is counted while the workload runs, and the guards that count it.

use std::future::Future;
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use runtime::task::{JoinError, JoinHandle};

/// An operation of the workload, from its first poll to its end.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What drawn panics carry, so that every other panic stands out.
#[derive(Debug)]
pub struct Drawn;

/// Panics as the draws have it, unless the thread is panicking already.
pub fn panic_as_drawn() {
    if !thread::panicking() {
        panic_any(Drawn);
    }
}

static UNDRAWN: AtomicU64 = AtomicU64::new(0);

/// Panics that were not drawn, since [`quiet_panics`].
pub fn undrawn_panics() -> u64 {
    UNDRAWN.load(Ordering::SeqCst)
}

/// Keeps drawn panics off the standard error; all others are printed, and counted.
pub fn quiet_panics() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Drawn>() {
                UNDRAWN.fetch_add(1, Ordering::SeqCst);
                loud(info);
            }
        }));
    });
}

/// A count that many threads raise.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::SeqCst);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The most complaints that are kept in words.
const COMPLAINTS_MAX: usize = 20;

/// The counts of a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Futures of operations that were made, and what became of them.
    pub begun: Counter,
    pub delivered: Counter,
    pub unpolled: Counter,
    pub dropped: Counter,
    pub unwound: Counter,
    pub forgotten: Counter,

    /// Tasks and closures that were spawned, and how their futures ended.
    pub spawned: Counter,
    pub returned: Counter,
    pub task_unwound: Counter,
    pub task_dropped: Counter,

    /// What the handles of those said.
    pub joined: Counter,
    pub cancelled: Counter,
    pub panicked: Counter,
    pub unobserved: Counter,

    /// Buffers of the heap that count themselves.
    pub made: Counter,
    pub freed: Counter,

    /// What forgotten futures hold for good.
    pub leaked_operations: Counter,
    pub leaked_results: Counter,
    pub leaked_descriptors: Counter,
    pub leaked_bytes: Counter,

    /// Answers that are errors, and may be.
    pub refused: Counter,
    /// Bytes that were read and compared with what was written.
    pub verified_bytes: Counter,
    /// Anything that moved: what the watchdog looks at.
    pub steps: Counter,

    complaints: Mutex<Vec<String>>,
    complained: Counter,
}

impl Tally {
    /// Notes something that must not happen.
    pub fn complain(&self, what: String) {
        self.complained.increment();
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < COMPLAINTS_MAX {
            complaints.push(what);
        }
    }

    /// How much happened that must not happen.
    pub fn complaints(&self) -> u64 {
        self.complained.get() + undrawn_panics()
    }

    /// The first of it, in words.
    pub fn first_complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts what becomes of an operation.
    pub fn track(self: &Arc<Tally>, work: Work) -> Tracked {
        self.begun.increment();
        Tracked { tally: self.clone(), work, polled: false, delivered: false }
    }

    /// A guard for the future of a task that is about to be spawned.
    pub fn live(self: &Arc<Tally>) -> Life {
        self.spawned.increment();
        Life { tally: self.clone(), returned: false }
    }

    /// Counts what a task's handle says.
    pub fn observe<T>(&self, result: Result<T, JoinError>) -> Option<T> {
        self.steps.increment();
        match result {
            Ok(output) => {
                self.joined.increment();
                return Some(output);
            }
            Err(error) if error.is_cancelled() => self.cancelled.increment(),
            Err(error) => {
                self.panicked.increment();
                if !error.into_panic().is::<Drawn>() {
                    self.complain("a task panicked, and nobody drew that".into());
                }
            }
        }
        None
    }
}

/// An operation whose end is counted.
#[must_use = "an operation does nothing unless it is polled"]
pub struct Tracked {
    tally: Arc<Tally>,
    work: Work,
    polled: bool,
    delivered: bool,
}

impl Future for Tracked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polled = true;
        let polled = self.work.as_mut().poll(cx);
        if polled.is_ready() {
            self.delivered = true;
            self.tally.delivered.increment();
            self.tally.steps.increment();
        }
        polled
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let Tally { steps, unwound, dropped, unpolled, .. } = &*self.tally;
        match (self.delivered, self.polled) {
            (true, _) => return,
            _ if thread::panicking() => unwound.increment(),
            (_, true) => dropped.increment(),
            (_, false) => unpolled.increment(),
        }
        steps.increment();
    }
}

/// Lies in a task's future, and counts how that ends.
pub struct Life {
    tally: Arc<Tally>,
    returned: bool,
}

impl Life {
    /// `work`, with this guard in it.
    pub async fn of<T>(mut self, work: impl Future<Output = T>) -> T {
        let output = work.await;
        self.returned = true;
        output
    }

    /// `work`, with this guard in it.
    pub fn of_closure<T>(mut self, work: impl FnOnce() -> T) -> T {
        let output = work();
        self.returned = true;
        output
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        match self.returned {
            true => self.tally.returned.increment(),
            false if thread::panicking() => self.tally.task_unwound.increment(),
            false => self.tally.task_dropped.increment(),
        }
    }
}

/// The handle of a task; what it says is counted, and also that nobody asked.
pub struct Child<T> {
    tally: Arc<Tally>,
    handle: Option<JoinHandle<T>>,
}

impl<T> Child<T> {
    /// The handle of a task that has a [`Life`].
    pub fn new(tally: &Arc<Tally>, handle: JoinHandle<T>) -> Child<T> {
        Child { tally: tally.clone(), handle: Some(handle) }
    }

    /// The handle itself, until it was awaited.
    pub fn handle(&self) -> &JoinHandle<T> {
        self.handle.as_ref().expect("it is asked before it is awaited")
    }
}

impl<T> Future for Child<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let handle = self.handle.as_mut().expect("it is awaited once");
        let Poll::Ready(result) = Pin::new(handle).poll(cx) else { return Poll::Pending };
        self.handle = None;
        Poll::Ready(self.tally.observe(result))
    }
}

impl<T> Drop for Child<T> {
    fn drop(&mut self) {
        if self.handle.is_some() {
            self.tally.unobserved.increment();
        }
    }
}

/// Bytes of the heap that count themselves, and may panic when they are freed.
pub struct Counted {
    bytes: Vec<u8>,
    tally: Arc<Tally>,
    armed: Arc<AtomicBool>,
}

impl Counted {
    /// Whoever has the flag may say that freeing these bytes doesn't panic any more.
    pub fn new(bytes: Vec<u8>, tally: &Arc<Tally>, armed: bool) -> (Counted, Arc<AtomicBool>) {
        tally.made.increment();
        let armed = Arc::new(AtomicBool::new(armed));
        (Counted { bytes, tally: tally.clone(), armed: armed.clone() }, armed)
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.freed.increment();
        if self.armed.load(Ordering::SeqCst) {
            panic_as_drawn();
        }
    }
}
