//! How a simulation fails: what was seen, and how to see it again.

use std::env;
use std::fmt;
use std::time::Duration;

use crate::following::Following;
use crate::trace::{Event, What};

/// How many of the latest events a failure shows, unless it is told otherwise.
const SHOWN: usize = 12;

/// A simulation that failed. Its text names the seed, the command that repeats it, and what
/// happened last, without the mere turns of shards.
///
/// The environment variable `RINGHOLD_TRACE` says what else is shown: with a number, so many
/// events; with a path, the events that are [about](crate::Trace::about) it.
#[derive(Clone)]
pub struct Failure {
    /// The simulation's seed.
    pub seed: u64,
    /// When, since the simulation began.
    pub at: Duration,
    /// What was seen.
    pub kind: FailureKind,
    /// What happened last, oldest first.
    pub latest: Vec<Event>,
}

/// What a simulation fails for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// A service ended with an error.
    Service {
        /// The host.
        host: String,
        /// The error.
        error: String,
    },
    /// A service's first task panicked.
    Panic {
        /// The host.
        host: String,
        /// The panic's message.
        message: String,
    },
    /// The runtime did what it promises never to do.
    Violation(Vec<String>),
    /// A host's runtime has ended and left something behind.
    Leak {
        /// The host.
        host: String,
        /// What was left.
        what: String,
    },
    /// Nothing can happen any more, and services have not ended.
    Stuck {
        /// The hosts that wait for ever.
        hosts: Vec<String>,
    },
    /// The simulation took more steps than it may.
    TooLong {
        /// How many it may take.
        steps: u64,
    },
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailureKind::Service { host, error } => {
                write!(f, "the service on {host} ended with an error: {error}")
            }
            FailureKind::Panic { host, message } => {
                write!(f, "the service on {host} panicked: {message}")
            }
            FailureKind::Violation(what) => write!(f, "a promise was broken: {}", what.join("; ")),
            FailureKind::Leak { host, what } => write!(f, "the runtime on {host} left {what}"),
            FailureKind::Stuck { hosts } => {
                write!(f, "nothing can happen any more, and these wait: {}", hosts.join(", "))
            }
            FailureKind::TooLong { steps } => {
                write!(f, "the services have not ended after {steps} steps")
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, at, kind, latest } = self;
        writeln!(f, "{kind}")?;
        writeln!(f, "  seed {seed}, {:.6} s after the beginning", at.as_secs_f64())?;
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("main");
        writeln!(f, "  to repeat it: RINGHOLD_SEED={seed} cargo test {test}")?;
        writeln!(f, "  what happened last:")?;
        select(latest, env::var("RINGHOLD_TRACE").ok().as_deref())
            .into_iter()
            .try_for_each(|event| writeln!(f, "  {event}"))
    }
}

/// The events that are shown.
fn select<'a>(latest: &'a [Event], wanted: Option<&str>) -> Vec<&'a Event> {
    if let Some(path) = wanted.filter(|wanted| wanted.starts_with('/')) {
        let mut following = Following::default();
        return latest.iter().filter(|event| following.is_about(path, event)).collect();
    }
    let count = wanted.and_then(|count| count.parse().ok()).unwrap_or(SHOWN);
    let is_shown = |event: &&Event| !matches!(event.what, What::Turned { .. });
    let mut shown: Vec<_> = latest.iter().rev().filter(is_shown).take(count).collect();
    shown.reverse();
    shown
}

/// As its `Display`, so that an `unwrap` shows what is to be done.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}
