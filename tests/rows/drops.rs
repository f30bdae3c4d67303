//! Futures that are dropped at some moment, and a runtime to do that on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{numbers, rt};
use crate::dice::Dice;

/// What doesn't come within this has been lost.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a row on one thread.
pub fn run<T>(row: impl Future<Output = T>) -> T {
    rt::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(row)
}

/// Who drops.
pub struct Drops {
    pub dice: Dice,
    finished: u64,
    dropped: u64,
    /// Twice how many futures weren't ready at once, and one less while such a one waits.
    waited: Arc<AtomicU64>,
}

impl Drops {
    pub fn from_environment() -> Drops {
        let waited = Arc::new(AtomicU64::new(0));
        Drops { dice: Dice::from_environment(), finished: 0, dropped: 0, waited }
    }

    /// The pace of a peer in another thread, which gives what the futures wait for.
    pub fn pace(&mut self) -> Pace {
        Pace { dice: self.dice.split(), waited: self.waited.clone(), rests: 0 }
    }

    /// Polls the future, and drops it at some moment if it isn't ready by then: after some turns,
    /// after some time, or not at all.
    ///
    /// # Panics
    ///
    /// If it was given all the time and was never ready.
    pub async fn poll<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let (kind, amount) = (self.dice.below(4), self.dice.below(300));
        let moment = async {
            self.waited.fetch_add(1, Ordering::Relaxed);
            match kind {
                0 => {
                    rt::time::sleep(PATIENCE).await;
                    panic!("nothing came in {PATIENCE:?}: something was lost");
                }
                1 => rt::time::sleep(Duration::from_micros(amount)).await,
                _ => {
                    for _ in 0..amount % 4 {
                        rt::task::yield_now().await;
                    }
                }
            }
        };
        let output = rt::select! {
            biased;
            output = future => Some(output),
            () = moment => None,
        };
        *(if output.is_some() { &mut self.finished } else { &mut self.dropped }) += 1;
        self.waited.fetch_add(self.waited.load(Ordering::Relaxed) % 2, Ordering::Relaxed);
        output
    }

    /// As `poll`, but may drop the future before its first poll, for one that is ready at once.
    pub async fn poll_late<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        if self.dice.below(4) == 0 {
            self.dropped += 1;
            return None;
        }
        self.poll(future).await
    }

    /// Polls the future for some turns, and drops it. It must not be ready in them.
    pub async fn drop_waiting<T>(&mut self, future: impl Future<Output = T>) {
        rt::select! {
            biased;
            _ = future => panic!("it was ready"),
            () = rt::time::sleep(Duration::from_micros(1000)) => self.dropped += 1,
        }
    }

    #[track_caller]
    pub fn were_dropped(&self, count: u64) {
        assert_eq!(self.dropped, count);
    }

    /// Shows that the row did what it is for.
    pub fn were_many(&self) {
        let Drops { finished, dropped, .. } = self;
        println!("{finished} were finished, {dropped} were dropped");
        assert!(*finished > 0 && *dropped >= 3, "{finished} finished, {dropped} dropped");
    }
}

/// Gives neither always faster nor always slower than the futures take.
pub struct Pace {
    pub dice: Dice,
    waited: Arc<AtomicU64>,
    rests: u64,
}

impl Pace {
    /// Sometimes waits a moment, and each sixteenth time until a future finds nothing: on a
    /// busy machine the peer might else stay ahead all the way, and no future would ever wait.
    /// Something has to be given after it, or there is no such future.
    pub fn rest(&mut self) {
        numbers::rest(&mut self.dice);
        self.rests += 1;
        if self.rests.is_multiple_of(16) {
            let (before, since) = (self.waited.load(Ordering::Relaxed), Instant::now());
            while before % 2 == 0 && self.waited.load(Ordering::Relaxed) == before {
                assert!(since.elapsed() < PATIENCE, "no future waited in {PATIENCE:?}");
                thread::sleep(Duration::from_micros(20));
            }
        }
    }
}
