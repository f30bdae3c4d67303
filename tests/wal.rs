//! The crash test of the log in `examples/wal`: many writers append, the power goes at any moment,
//! and the log has everything that was acknowledged, in order, once, and nothing else.

mod appended;
#[path = "../examples/wal/log/mod.rs"]
mod log;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use appended::Ledger;
use log::{Appending, Error, Log, replay};
use ringhold_sim::{Failure, Fault, Faults, HostConfig, HostId, Simulation, for_each_seed, seeds};
use runtime::fs::{self, File};
use runtime::task::{JoinSet, spawn_on};
use runtime::time::{sleep, timeout};

const DIRECTORY: &str = "/log";

/// Short segments, so that there are many.
const SEGMENT_BYTES: u64 = 16 << 10;

/// How often each writer appends something in one life of the log.
const APPENDS: u32 = 10;

/// What a service does on errors that go away: it tries again, but not for ever.
const ATTEMPTS_MAX: u32 = 1000;

/// How a seed's host is made, and what is done to it.
#[derive(Clone)]
struct Plan {
    shards: usize,
    rings: (u32, u32),
    writers: u32,
    crashes: u32,
    faults: Faults,
    may_be_damaged: bool,
    dice: fastrand::Rng,
}

impl Plan {
    fn new(seed: u64) -> Plan {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut faults = if dice.bool() { Faults::harmless() } else { Faults::none() };
        faults.set(Fault::CancelLate, [0.0, 0.5, 1.0][dice.usize(..3)]);
        let kind = dice.u32(..8);
        if kind < 3 {
            for fault in [Fault::ReadError, Fault::WriteError, Fault::SyncError, Fault::NoSpace] {
                faults.set(fault, 0.02);
            }
            faults.set(Fault::NoMemory, 0.005);
        }
        let may_be_damaged = kind == 7;
        if may_be_damaged {
            for fault in [Fault::BitFlip, Fault::LostWrite, Fault::MisdirectedWrite] {
                faults.set(fault, 0.01);
            }
        }
        let rings = if dice.bool() { (2, 4) } else { (256, 512) };
        let (shards, writers, crashes) = (dice.usize(1..3), dice.u32(1..7), dice.u32(1..7));
        Plan { shards, rings, writers, crashes, faults, may_be_damaged, dice }
    }
}

/// What a life of the log has: the same ledger as the ones before.
#[derive(Clone)]
struct Service {
    plan: Plan,
    ledger: Arc<Mutex<Ledger>>,
}

impl Service {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder of the ledger panics")
    }

    /// Opens the log, lets writers append to it, and opens it again when it has failed.
    async fn serve(mut self) -> Result<(), String> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(log) = self.open().await? else { return Ok(()) };
            let has_failed = self.write(&log).await?;
            match log.close().await {
                Ok(()) | Err(Error::Io { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
            if !has_failed {
                return Ok(());
            }
        }
        Err("the log fails again and again".to_owned())
    }

    /// Opens the log and compares what is in it. `None` if it says that it is damaged, and may be.
    async fn open(&mut self) -> Result<Option<Log>, String> {
        for _ in 0..ATTEMPTS_MAX {
            let mut read = Vec::new();
            let visit = |number, record: &[u8]| read.push((number, record.to_vec()));
            match Log::open(DIRECTORY, SEGMENT_BYTES, visit).await {
                Ok((log, recovery)) => {
                    self.ledger().recovered(&recovery, read)?;
                    return Ok(Some(log));
                }
                Err(Error::Io { .. }) => {}
                Err(Error::Damaged { .. } | Error::Missing { .. }) if self.plan.may_be_damaged => {
                    return Ok(None);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("the log can't be opened".to_owned())
    }

    /// Lets all writers do their work. Returns whether the log has failed.
    async fn write(&mut self, log: &Log) -> Result<bool, String> {
        let mut writers = JoinSet::new();
        for number in 0..self.plan.writers {
            let shard = number as usize % self.plan.shards;
            let dice = self.plan.dice.fork();
            let writer = Writer { number, dice, log: log.clone(), service: self.clone() };
            writers.spawn(async move { spawn_on(shard, move || writer.work()).await });
        }
        let mut has_failed = false;
        while let Some(ended) = writers.join_next().await {
            let ended = ended.and_then(|ended| ended).map_err(|error| error.to_string())?;
            has_failed |= ended?;
        }
        Ok(has_failed)
    }
}

/// One of those who append.
struct Writer {
    number: u32,
    dice: fastrand::Rng,
    log: Log,
    service: Service,
}

impl Writer {
    /// Returns whether the log has failed.
    async fn work(mut self) -> Result<bool, String> {
        for _ in 0..APPENDS {
            let done = match self.dice.u32(..10) {
                0 => self.append_and_drop().await,
                1 => self.append_many().await,
                _ => self.append_one().await,
            };
            match done {
                Ok(()) => {}
                Err(Stop::Failed) => return Ok(true),
                Err(Stop::Wrong(what)) => return Err(what),
            }
        }
        Ok(false)
    }

    fn make_record(&mut self) -> Vec<u8> {
        let length = match self.dice.u32(..10) {
            0 => self.dice.usize(..10_000),
            _ => self.dice.usize(..100),
        };
        let bytes: Vec<u8> = std::iter::repeat_with(|| self.dice.u8(..)).take(length).collect();
        self.service.ledger().attempt(self.number, &bytes)
    }

    async fn append_one(&mut self) -> Result<(), Stop> {
        let record = self.make_record();
        let appending = self.log.append(record.clone()).await?;
        let number = self.acknowledge(appending, record).await?;
        if self.dice.u32(..10) == 0 {
            self.checkpoint(number + 1).await?;
        }
        Ok(())
    }

    /// Several at a time, in order.
    async fn append_many(&mut self) -> Result<(), Stop> {
        let mut waiting = Vec::new();
        for _ in 0..self.dice.u32(2..20) {
            let record = self.make_record();
            waiting.push((self.log.append(record.clone()).await?, record));
        }
        for (appending, record) in waiting {
            self.acknowledge(appending, record).await?;
        }
        Ok(())
    }

    /// The log is asked, and the answer isn't waited for.
    async fn append_and_drop(&mut self) -> Result<(), Stop> {
        let record = self.make_record();
        let patience = Duration::from_micros(self.dice.u64(..500));
        let append = async { self.log.append(record.clone()).await?.acknowledged().await };
        if let Ok(acknowledged) = timeout(patience, append).await {
            self.service.ledger().acknowledge(acknowledged?, record)?;
        }
        Ok(())
    }

    async fn acknowledge(&self, appending: Appending, record: Vec<u8>) -> Result<u64, Stop> {
        let number = appending.acknowledged().await?;
        self.service.ledger().acknowledge(number, record)?;
        Ok(number)
    }

    async fn checkpoint(&mut self, next: u64) -> Result<(), Stop> {
        let state = self.dice.u64(..).to_le_bytes().to_vec();
        self.service.ledger().attempt_checkpoint(next, state.clone());
        match self.log.checkpoint(next, state).await {
            Ok(()) => self.service.ledger().acknowledge_checkpoint(next),
            // The log goes on with this checkpoint or the one before; another writer was ahead.
            Err(Error::Io { .. } | Error::NoSuchRecord { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Why a writer goes no further.
#[derive(Debug)]
enum Stop {
    /// The log says that it has failed.
    Failed,
    /// Something is wrong.
    Wrong(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        match error {
            Error::Failed(_) => Stop::Failed,
            other => Stop::Wrong(other.to_string()),
        }
    }
}

impl From<String> for Stop {
    fn from(what: String) -> Stop {
        Stop::Wrong(what)
    }
}

/// The log's directory is there, durably, before anything goes wrong.
async fn prepare() -> std::io::Result<()> {
    fs::create_dir(DIRECTORY).await?;
    let root = File::open("/").await?;
    root.sync_all().await?;
    root.close().await
}

fn host(simulation: &mut Simulation, plan: &Plan) -> Result<HostId, Failure> {
    let config =
        HostConfig::new("log").shards(plan.shards).ring_entries(plan.rings.0, plan.rings.1);
    let host = simulation.host(config);
    simulation.start(host, prepare);
    simulation.run()?;
    simulation.set_faults(host, plan.faults.clone());
    Ok(host)
}

/// A whole run of one seed: lives of the log that end at any moment, and one that ends well.
/// Returns the trace's hash.
fn hunt(seed: u64) -> Result<u64, Failure> {
    let mut plan = Plan::new(seed);
    let mut simulation = Simulation::new(seed);
    let host = host(&mut simulation, &plan)?;
    let ledger = Arc::new(Mutex::new(Ledger::new(plan.may_be_damaged)));
    let service = Service { plan: plan.clone(), ledger };
    for life in 0..=plan.crashes {
        let mut service = service.clone();
        service.plan.dice = plan.dice.fork();
        simulation.start(host, move || service.clone().serve());
        if life == plan.crashes {
            simulation.run()?;
        } else {
            simulation.run_steps(plan.dice.u64(..500))?;
        }
        if life == plan.crashes || plan.dice.u32(..4) > 0 {
            simulation.lose_power(host);
        } else {
            simulation.kill(host);
        }
    }
    simulation.set_faults(host, Faults::none());
    simulation.start(host, move || {
        let mut service = service.clone();
        async move { service.open().await.map(drop) }
    });
    simulation.run()?;
    Ok(simulation.trace().hash())
}

/// A host that appends these records to a new log, one by one.
fn host_with(segment_bytes: u64, records: &'static [&'static str]) -> (Simulation, HostId) {
    let mut simulation = Simulation::new(1);
    let host = host(&mut simulation, &Plan { faults: Faults::none(), ..Plan::new(0) }).unwrap();
    simulation.start(host, move || async move {
        let (log, _) = Log::open(DIRECTORY, segment_bytes, |_, _| {}).await?;
        for record in records {
            log.append(record.as_bytes().to_vec()).await?.acknowledged().await?;
        }
        log.close().await
    });
    simulation.run().unwrap();
    (simulation, host)
}

#[test]
fn what_was_acknowledged_is_there_after_every_crash() {
    for_each_seed(seeds(300), |seed| hunt(seed).map(drop));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let seeds = seeds(100);
    for_each_seed(seeds.start..seeds.end.min(seeds.start + 1000), |seed| {
        assert_eq!(hunt(seed)?, hunt(seed)?, "seed {seed}");
        Ok(())
    });
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_the_log_is_opened_anew() {
    let (mut simulation, host) = host_with(SEGMENT_BYTES, &["one"]);
    simulation.start(host, || async {
        let (log, _) = Log::open(DIRECTORY, SEGMENT_BYTES, |_, _| {}).await?;
        sleep(Duration::from_secs(2)).await;
        for record in ["two", "three"] {
            let failed = log.append(record.into()).await?.acknowledged().await;
            assert!(matches!(failed, Err(Error::Failed(_))), "{record}: {failed:?}");
        }
        let failed = log.checkpoint(1, Vec::new()).await;
        assert!(matches!(failed, Err(Error::Failed(_))), "{failed:?}");
        log.close().await?;
        let (log, found) = Log::open(DIRECTORY, SEGMENT_BYTES, |_, _| {}).await?;
        assert_eq!(found.next, 3, "the cache has what was not synced");
        assert_eq!(log.append("four".into()).await?.acknowledged().await?, 3);
        log.close().await
    });
    simulation.run_for(Duration::from_secs(1)).unwrap();
    simulation.inject(host, Fault::SyncError);
    simulation.run().unwrap();
    simulation.lose_power(host);
    assert_eq!(read(&mut simulation, host), has(&["one", "two", "four"], 0));
}

/// The records that a log has, and how many bytes are behind them.
fn read(simulation: &mut Simulation, host: HostId) -> Result<(Vec<String>, u64), String> {
    let found = Arc::new(Mutex::new(None));
    let put = found.clone();
    simulation.start(host, move || {
        let put = put.clone();
        async move {
            let mut read = Vec::new();
            let visit = |_, record: &[u8]| read.push(String::from_utf8_lossy(record).into_owned());
            let ended = replay(DIRECTORY, visit).await.map_err(|error| error.to_string());
            *put.lock().expect("nobody panics") = Some(ended.map(|found| (read, found.cut_bytes)));
        }
    });
    simulation.run().unwrap();
    found.lock().expect("nobody panics").take().expect("it was put there")
}

/// What `read` gives of a log that isn't damaged.
fn has(records: &[&str], cut_bytes: u64) -> Result<(Vec<String>, u64), String> {
    Ok((records.iter().map(|record| (*record).to_owned()).collect(), cut_bytes))
}

fn corrupt(simulation: &mut Simulation, host: HostId, path: &str, offset: u64) {
    simulation.lose_power(host);
    simulation
        .with_files(host, |files| files.corrupt(path.as_bytes(), offset, 1))
        .expect("the byte is there");
}

#[test]
fn a_bit_that_was_flipped_is_told_and_not_given_out() {
    // Each frame is a page here: in a segment of its own, and all in one.
    let cases = [
        (4096, "/log/00000000000000000001.segment", 0),
        (4096, "/log/00000000000000000002.segment", 0),
        (SEGMENT_BYTES, "/log/00000000000000000001.segment", 0),
        (SEGMENT_BYTES, "/log/00000000000000000001.segment", 4096),
    ];
    for (segment_bytes, path, offset) in cases {
        let (mut simulation, host) = host_with(segment_bytes, &["one", "two", "three"]);
        corrupt(&mut simulation, host, path, offset + 28);
        let damaged = format!("{path} is damaged at byte {offset}");
        assert_eq!(read(&mut simulation, host), Err(damaged));
    }
    // The very last frame is the one that can't be told from one that the loss of power tore.
    let (mut simulation, host) = host_with(SEGMENT_BYTES, &["one", "two", "three"]);
    corrupt(&mut simulation, host, "/log/00000000000000000001.segment", 8192 + 28);
    assert_eq!(read(&mut simulation, host), has(&["one", "two"], 4096));
}

#[test]
fn a_checkpoint_removes_the_segments_before_it() {
    let (mut simulation, host) = host_with(4096, &["one", "two", "three", "four"]);
    simulation.start(host, || async {
        let (log, found) = Log::open(DIRECTORY, SEGMENT_BYTES, |_, _| {}).await?;
        assert_eq!((found.segments, found.next, found.checkpoint), (4, 5, None));
        log.checkpoint(4, b"three are gone".to_vec()).await?;
        let early = log.checkpoint(2, Vec::new()).await;
        assert!(matches!(early, Err(Error::NoSuchRecord { number: 2 })), "{early:?}");
        let late = log.checkpoint(6, Vec::new()).await;
        assert!(matches!(late, Err(Error::NoSuchRecord { number: 6 })), "{late:?}");
        log.close().await?;
        let found = replay(DIRECTORY, |_, _| {}).await?;
        let state = found.checkpoint.expect("it was set").state;
        assert_eq!((found.segments, &state[..]), (1, &b"three are gone"[..]));
        Result::<_, Error>::Ok(())
    });
    simulation.run().unwrap();
    assert_eq!(read(&mut simulation, host), has(&["four"], 0));
}

/// The lines of a text, as far in as they are in any place.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

#[test]
fn the_chapter_shows_the_code_that_is_tested() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("it is in the tree");
    let code =
        ["examples/wal/log/writer.rs", "examples/wal/log/files.rs", "tests/wal.rs"].map(read);
    let bug = read("tests/mutants/wal-directory-not-synced.bug");
    let chapter = read("docs/book/simulation.md");
    let mut shown = 0;
    for (fence, sources) in [("```rust,ignore\n", &code[..]), ("```diff\n", &[bug])] {
        for block in chapter.split(fence).skip(1) {
            let block = lines(block.split("```").next().expect("a split has a first part"));
            let has_block =
                |source: &String| lines(source).windows(block.len()).any(|it| it == block);
            assert!(sources.iter().any(has_block), "nowhere in the tree:\n{}", block.join("\n"));
            shown += 1;
        }
    }
    assert_eq!(shown, 5, "four pieces of code, and a planted bug");
}
