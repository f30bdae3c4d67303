//! What threads meet in: std's types, or loom's, which go through every order of events.
//!
//! Under `--cfg loom` the runtime and the pool are built on the types of loom, and a model of what
//! they do between threads ([`model`]) runs in every order that differs. This is the only place
//! that knows; everybody else imports from here. Counted pointers are std's in both settings: their
//! counts are trusted.

/// A lock that may stand in a static, which no model's thread waits for.
pub use std::sync::{Mutex as StaticMutex, MutexGuard as StaticMutexGuard};

#[cfg(not(loom))]
mod real {
    pub use std::cell::{Cell, UnsafeCell};
    pub use std::sync::{Condvar, Mutex, MutexGuard, atomic};
    pub use std::thread::{self, JoinHandle};
    pub use std::thread_local;

    pub use crossbeam_queue::SegQueue as Queue;

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
