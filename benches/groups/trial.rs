//! One setting: the reads and, in most, the compaction beside them.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use runtime::buffers;
use runtime::fs::File;
use runtime::task::{TaskGroup, TaskGroupCounts, spawn_local, yield_now};
use runtime::{Builder, Handle};
use serde::{Deserialize, Serialize};

use super::sender::{self, REQUEST_BYTES};
use super::watch::Watch;
use super::{COMPACTION_SHARES, PAGES, READS_SHARES, Setting};
use crate::load::{PAGE_BYTES, page_stamp};
use crate::meter::{Histogram, Latency};
use crate::rounds::pin_to;

/// The compaction's tasks. Each of their polls takes all of 100 µs.
const COMPACTION_TASKS: usize = 4;
const COMPACTION_POLL: Duration = Duration::from_micros(100);

/// The fewest reads that have a slowest percent.
const READS_MIN: usize = 500;

/// What the child is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    pub setting: Setting,
    /// Reads that are measured; a tenth more come before them.
    pub reads: u64,
    /// The CPU time that each read takes beside the runtime and the kernel.
    pub service_us: u64,
    /// The part of the core that the reads take, in percent.
    pub load: u64,
    pub goal_us: u64,
    pub file: PathBuf,
    pub cpu: usize,
    pub driver: usize,
}

impl Trial {
    fn warm_up(&self) -> u64 {
        self.reads / 10
    }

    pub fn requests(&self) -> u64 {
        self.warm_up() + self.reads
    }

    pub fn mean_gap(&self) -> Duration {
        Duration::from_nanos(self.service_us * 1000 * 100 / self.load)
    }
}

/// What the child prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// From the time at which a read was to be sent to its end, of reads while neither CPU was
    /// away; nothing if those are too few.
    pub latency_ns: Option<Latency>,
    /// The same of all reads.
    pub all_ns: Latency,
    /// The part of the reads that `latency_ns` leaves out.
    pub left_out: f64,
    /// The parts of the core that the reads' polls and the compaction's took.
    pub reads_busy: Option<f64>,
    pub compaction_busy: Option<f64>,
}

struct Reads {
    file: File,
    watch: Watch,
    service: Duration,
    warm_up: u64,
    left: Cell<u64>,
    /// When each was to be sent, and when it was done.
    done: RefCell<Vec<(Duration, Duration)>>,
}

pub fn run(trial: &Trial) -> io::Result<Outcome> {
    pin_to(trial.cpu)?;
    Builder::new_current_thread().run(serve(trial))?
}

async fn serve(trial: &Trial) -> io::Result<Outcome> {
    let begin = Instant::now();
    let reads = Rc::new(Reads {
        file: File::open(&trial.file).await?,
        watch: Watch::new(begin),
        service: Duration::from_micros(trial.service_us),
        warm_up: trial.warm_up(),
        left: Cell::new(trial.requests()),
        done: RefCell::new(Vec::with_capacity(trial.reads as usize)),
    });
    let (requests, writer) = io::pipe()?;
    let requests = File::from(OwnedFd::from(requests));
    let accept = || spawn_local(accept(requests, reads.clone()));
    let compact = || {
        for _ in 0..COMPACTION_TASKS {
            drop(spawn_local(compact(reads.clone())));
        }
    };
    let of_reads = TaskGroup::builder("reads").shares(READS_SHARES);
    let of_reads = match trial.setting {
        Setting::SharesOnly => of_reads.build(),
        _ => of_reads.latency_goal(Duration::from_micros(trial.goal_us)).build(),
    };
    let of_compaction = TaskGroup::builder("compaction").shares(COMPACTION_SHARES).build();
    let mut accepted = Some(match trial.setting {
        Setting::NoGroups => accept(),
        _ => of_reads.scope(accept),
    });
    match trial.setting {
        Setting::Alone => {}
        Setting::NoGroups => compact(),
        _ => of_compaction.scope(compact),
    }
    let sender = sender::start(trial, writer, begin)?;
    while reads.left.get() > 0 {
        reads.watch.look();
        if let Some(ended) = accepted.take_if(|task| task.is_finished()) {
            ended.await.map_err(io::Error::other)??;
        }
        yield_now().await;
    }
    let wall = begin.elapsed();
    let mut disturbed = reads.watch.disturbed();
    disturbed.join(sender.join().map_err(|_| io::Error::other("the sender panicked"))??);
    let counts = Handle::current().metrics().task_groups(0);
    let busy = |name| {
        let named = |counts: &&TaskGroupCounts| counts.name == name;
        counts.iter().find(named).map(|counts| counts.busy.as_secs_f64() / wall.as_secs_f64())
    };
    let done = reads.done.borrow();
    let is_quiet = |(at, done): &&(Duration, Duration)| !disturbed.has(*at, *done);
    let quiet: Vec<_> = done.iter().filter(is_quiet).copied().collect();
    Ok(Outcome {
        latency_ns: (quiet.len() >= READS_MIN).then(|| latency(&quiet)),
        all_ns: latency(&done),
        left_out: 1.0 - quiet.len() as f64 / done.len() as f64,
        reads_busy: busy("reads"),
        compaction_busy: busy("compaction"),
    })
}

fn latency(reads: &[(Duration, Duration)]) -> Latency {
    let latencies = Histogram::new();
    reads.iter().for_each(|(at, done)| latencies.record(done.saturating_sub(*at)));
    Latency { p50: latencies.percentile(50), p99: latencies.percentile(99) }
}

/// Takes the requests, and gives each a task of its own.
async fn accept(requests: File, reads: Rc<Reads>) -> io::Result<()> {
    let mut left = reads.left.get();
    while left > 0 {
        // Requests are written whole, and so read whole: all that are there. A pipe has no offsets.
        let (count, bytes) = requests.readv_at(vec![vec![0; PAGE_BYTES]], 0).await?;
        if count == 0 || count % REQUEST_BYTES != 0 {
            return Err(io::Error::other("the sender has ended too early"));
        }
        for request in bytes[0][..count].chunks(REQUEST_BYTES) {
            let (number, at) = request.split_at(8);
            let number = u64::from_le_bytes(number.try_into().expect("eight bytes"));
            let at = Duration::from_nanos(u64::from_le_bytes(at.try_into().expect("eight bytes")));
            spawn_local(answer(reads.clone(), number, at));
            left -= 1;
        }
    }
    Ok(())
}

async fn answer(reads: Rc<Reads>, number: u64, at: Duration) {
    let offset = number % PAGES * PAGE_BYTES as u64;
    let lease = buffers::lease(PAGE_BYTES).await.expect("a page is free");
    // A read as `read` doesn't make, and no socket as `echo` has: a second caller would keep the
    // compiler from putting theirs into its only one, and add 50 to 100 instructions to it.
    let (count, pages) = reads.file.readv_at(vec![lease], offset).await.expect("a read");
    assert_eq!((count, &pages[0][..8]), (PAGE_BYTES, &page_stamp(offset).to_le_bytes()[..]));
    reads.watch.spin(reads.service);
    if number >= reads.warm_up {
        reads.done.borrow_mut().push((at, reads.watch.look()));
    }
    reads.left.set(reads.left.get() - 1);
}

async fn compact(reads: Rc<Reads>) {
    loop {
        reads.watch.spin(COMPACTION_POLL);
        yield_now().await;
    }
}
