//! The part of the seam that tells of signals.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often a signal has come since a program first listened for it, and of how many of these
/// times a listener has heard.
#[derive(Debug, Default)]
pub struct SignalCounts {
    came: AtomicU64,
    heard: AtomicU64,
}

impl SignalCounts {
    /// None so far.
    pub const fn new() -> SignalCounts {
        SignalCounts { came: AtomicU64::new(0), heard: AtomicU64::new(0) }
    }

    /// The signal comes. May be called in its handler; the event is told after this.
    pub fn come(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
    }

    /// How often the signal has come.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::SeqCst)
    }

    /// Of how many of these times a listener has heard.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }

    /// Notes that a listener has heard of the first `of` times.
    pub fn hear(&self, of: u64) {
        self.heard.fetch_max(of, Ordering::SeqCst);
    }
}

/// A listener for one signal. From its drop on the signal is not told any more, but counted.
pub trait SignalEvents: Send + Sync {
    /// Whether the signal has come since the last call, which never waits.
    fn take(&self) -> bool;
    /// The counts of the signal, which outlive the listener.
    fn counts(&self) -> &SignalCounts;
}
