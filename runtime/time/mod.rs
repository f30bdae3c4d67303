//! Time: sleeping, time limits, intervals, and a clock that a test can stop.
//!
//! Timers live in a wheel on the shard that waits for them. They cost no system call of their own,
//! and 100,000 of them cost no more each than ten do. A timer is never early; it is late by at most
//! the shard's slack (65 microseconds) and by what the shard is doing when it is due.

mod alarm;
pub(crate) mod clock;
pub mod error;
mod instant;
mod interval;
mod pause;
mod sleep;
mod timeout;
pub(crate) mod wheel;

pub use std::time::Duration;

pub use instant::Instant;
pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use pause::{advance, pause, resume};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Timeout, timeout, timeout_at};
