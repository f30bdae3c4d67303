//! What happened in a simulation, and a number that two equal runs share.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::following::Following;
use crate::memory::checksum;

/// How many events a trace keeps unless it is told otherwise. The hash covers all there were.
const KEPT: usize = 4096;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, since the simulation began.
    pub at: Duration,
    /// On which host, by number.
    pub host: usize,
    /// What.
    pub what: What,
}

/// The kinds of things that happen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A shard ran.
    Turned {
        /// Which.
        shard: usize,
    },
    /// The kernel took an operation.
    Began {
        /// The shard.
        shard: usize,
        /// `IORING_OP_*`; 255 for a cold call.
        opcode: u8,
        /// The operation's key.
        user_data: u64,
        /// The descriptor, or the slot of the file table.
        file: i32,
        /// The offset in bytes, or what the opcode has there.
        offset: u64,
        /// The length in bytes, or what the opcode has there; 1 for a sync of data only.
        length: u32,
        /// The paths that it names: none, one, or two for a rename or a link.
        paths: Vec<String>,
    },
    /// An operation's completion arrived.
    Completed {
        /// The shard.
        shard: usize,
        /// The operation's key.
        user_data: u64,
        /// The result, or a negated errno.
        result: i32,
    },
    /// A completion arrived of an operation that goes on.
    WentOn {
        /// The shard.
        shard: usize,
        /// The operation's key.
        user_data: u64,
        /// The result, or a negated errno.
        result: i32,
    },
    /// An enter failed.
    NotEntered {
        /// The shard.
        shard: usize,
        /// The errno.
        errno: i32,
    },
    /// A fault struck.
    Struck {
        /// Which.
        fault: crate::Fault,
    },
    /// Something arrived by the network.
    Arrived {
        /// The host that sent it, by number.
        from: usize,
        /// `open`, `accept` and `confirm` make a connection, `refuse` doesn't; a `segment` and a
        /// `datagram` bring bytes; bytes are `taken`; a direction is at its `end`; `reset`.
        what: &'static str,
        /// The bytes that it brought.
        bytes: usize,
    },
    /// Its process got a signal.
    Signalled {
        /// Which.
        number: i32,
    },
    /// A blocking closure's thread ran.
    ThreadRan,
    /// The host started.
    Started,
    /// Its service ended by itself.
    Ended,
    /// Its process was killed.
    Killed,
    /// It lost power.
    LostPower,
    /// It stood still from here on.
    Paused,
    /// It went on.
    Resumed,
}

impl What {
    fn numbers(&self) -> [u64; 6] {
        match *self {
            What::Turned { shard } => [1, shard as u64, 0, 0, 0, 0],
            What::Began { shard, opcode, user_data, file, offset, length, .. } => {
                let file = u64::from(file as u32) << 32 | u64::from(length);
                [2, shard as u64, opcode.into(), user_data, file, offset]
            }
            What::Completed { shard, user_data, result } => {
                [3, shard as u64, user_data, result as u64, 0, 0]
            }
            What::NotEntered { shard, errno } => [4, shard as u64, errno as u64, 0, 0, 0],
            What::Struck { fault } => [5, fault as u64, 0, 0, 0, 0],
            What::ThreadRan => [6, 0, 0, 0, 0, 0],
            What::Started => [7, 0, 0, 0, 0, 0],
            What::Ended => [8, 0, 0, 0, 0, 0],
            What::Killed => [9, 0, 0, 0, 0, 0],
            What::LostPower => [10, 0, 0, 0, 0, 0],
            What::Paused => [11, 0, 0, 0, 0, 0],
            What::Resumed => [12, 0, 0, 0, 0, 0],
            What::Arrived { from, what, bytes } => {
                let what = checksum(what.as_bytes());
                [13, from as u64, what, bytes as u64, 0, 0]
            }
            What::Signalled { number } => [14, number as u64, 0, 0, 0, 0],
            What::WentOn { shard, user_data, result } => {
                [15, shard as u64, user_data, result as u64, 0, 0]
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6} s  host {}  {}", self.at.as_secs_f64(), self.host, self.what)
    }
}

/// The events of a simulation: the latest ones, and the hash of all.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    count: u64,
    kept: VecDeque<Event>,
    keep: usize,
}

impl Trace {
    pub(crate) fn new() -> Trace {
        Trace { hash: 0xCBF2_9CE4_8422_2325, count: 0, kept: VecDeque::new(), keep: KEPT }
    }

    /// A number of everything that happened: the same for two runs if, and as good as only if, they
    /// were the same.
    ///
    /// ```
    /// use ringhold_sim::{HostConfig, Simulation};
    ///
    /// let run = |seed| {
    ///     let mut simulation = Simulation::new(seed);
    ///     let host = simulation.host(HostConfig::new("store"));
    ///     simulation.start(host, || async { runtime::fs::write("/file", "bytes").await });
    ///     simulation.run().unwrap();
    ///     simulation.trace().hash()
    /// };
    /// assert_eq!(run(1), run(1));
    /// assert_ne!(run(1), run(2));
    /// ```
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async {});
    /// simulation.run()?;
    /// let trace = simulation.trace();
    /// assert_eq!(trace.count(), trace.events().count() as u64); // few enough to be kept
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latest events, oldest first.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation, What};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async { runtime::fs::write("/file", "bytes").await });
    /// simulation.run()?;
    /// let trace = simulation.trace();
    /// let began = trace.events().filter(|event| matches!(event.what, What::Began { .. }));
    /// assert_eq!(began.count(), 3); // open, write, close
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.kept.iter()
    }

    /// Of the latest events those that are about a file or directory: operations that name this
    /// path, and operations on descriptors that were opened by it, or by a name that was changed
    /// into it; and the starts and ends of hosts. What was opened before the latest events is not
    /// recognised.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async {
    ///     runtime::fs::write("/this", "bytes").await?;
    ///     runtime::fs::write("/that", "more bytes").await
    /// });
    /// simulation.run()?;
    /// let trace = simulation.trace();
    /// let lines: Vec<String> = trace.about("/that").map(|event| event.what.to_string()).collect();
    /// let has = |end: &str| lines.iter().any(|line| line.ends_with(end));
    /// assert!(has("write of file 3, 10 bytes at 0"), "{lines:?}");
    /// assert!(!has("write of file 3, 5 bytes at 0"), "{lines:?}");
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn about(&self, path: &str) -> impl Iterator<Item = &Event> {
        let mut following = Following::default();
        self.kept.iter().filter(move |event| following.is_about(path, event))
    }

    pub(crate) fn keep(&mut self, events: usize) {
        self.keep = events;
        while self.kept.len() > events {
            self.kept.pop_front();
        }
    }

    /// Adds numbers to the hash that are in no event: what was written, which name was asked for.
    pub(crate) fn mix(&mut self, number: u64) {
        const PRIME: u64 = 0x9E37_79B9_7F4A_7C15;
        self.hash = (self.hash.rotate_left(29) ^ number).wrapping_mul(PRIME);
    }

    pub(crate) fn record(&mut self, at: u64, host: usize, what: What) {
        self.mix(at);
        self.mix(host as u64);
        for number in what.numbers() {
            self.mix(number);
        }
        self.count += 1;
        if self.keep == 0 {
            return;
        }
        if self.kept.len() == self.keep {
            self.kept.pop_front();
        }
        self.kept.push_back(Event { at: Duration::from_nanos(at), host, what });
    }
}
