//! What threads meet in: std's types, or others in their place that show what goes wrong.
//!
//! Under `--cfg loom` the runtime and the pool are built on the types of loom, and a model of what
//! they do between threads ([`model`]) runs in every order of events that differs. Under `--cfg
//! sanitized` a lock tells ThreadSanitizer what std, which is not instrumented, keeps from it. This
//! is the only place that knows; everything else imports from here, and has std's own types in
//! every other build. Counted pointers are std's in all three: their counts are trusted.

#[cfg(not(any(loom, sanitized)))]
mod plain {
    pub use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
}

#[cfg(not(any(loom, sanitized)))]
pub use plain::*;

#[cfg(sanitized)]
mod sanitized;

#[cfg(sanitized)]
pub use sanitized::*;

#[cfg(not(loom))]
mod real {
    pub use std::cell::{Cell, UnsafeCell};
    pub use std::sync::atomic;
    pub use std::thread::{self, JoinHandle};
    pub use std::thread_local;

    pub use crossbeam_queue::SegQueue as Queue;

    /// Locks that may stand in a static, and that no model's thread waits for.
    pub use super::{
        Condvar as StaticCondvar, Mutex as StaticMutex, MutexGuard as StaticMutexGuard,
    };

    /// How often a model runs on real threads, where each run is one order of events.
    const RUNS: usize = 50;

    /// Runs a model some times.
    pub fn model(run: impl Fn() + Send + Sync + 'static) {
        for _ in 0..RUNS {
            run();
        }
    }
}

#[cfg(not(loom))]
pub use real::*;

#[cfg(loom)]
mod modelled;

#[cfg(loom)]
pub use modelled::*;
