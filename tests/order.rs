//! What one task awaits in turn happens in that order; what is in flight at the same time has none.

mod common;

#[path = "conformance/place.rs"]
mod place;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::rc::Rc;

use fastrand::Rng;
use place::{Kernel, LARGE, Place, SMALLEST, Scenario, Setting};
use ringhold_sim::seeds;
use runtime::buffers;
use runtime::fs::{self, File, OpenOptions};
use runtime::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use runtime::task::JoinSet;

/// Tasks that work side by side, each on a file of its own: enough to fill the smallest queues.
const TASKS: usize = 8;

/// No file gets longer.
const LENGTH: usize = 3000;

/// One task's file, and what it holds if everything happened in the order in which it was awaited.
struct InTurn {
    file: File,
    appending: File,
    expected: Vec<u8>,
    rng: Rng,
    shards: usize,
}

impl InTurn {
    async fn open(place: &Place, number: usize, rng: Rng) -> io::Result<InTurn> {
        let path = place.at(&format!("{number}"));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).open(&path).await?;
        let appending = OpenOptions::new().append(true).open(&path).await?;
        Ok(InTurn { file, appending, expected: Vec::new(), rng, shards: place.shards })
    }

    /// Awaits an operation on some shard.
    async fn somewhere<F>(&mut self, operation: F) -> io::Result<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match self.rng.u32(..4) {
            0 => {
                let shard = self.rng.usize(..self.shards);
                Ok(runtime::spawn_on(shard, || operation).await?)
            }
            _ => Ok(operation.await),
        }
    }

    fn expect(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.expected.len() < end {
            self.expected.resize(end, 0);
        }
        self.expected[offset..end].copy_from_slice(bytes);
    }

    async fn step(&mut self) -> io::Result<()> {
        let offset = self.rng.usize(..LENGTH / 2);
        let bytes = vec![self.rng.u8(1..); self.rng.usize(1..LENGTH / 2)];
        match self.rng.u32(..12) {
            0..3 => {
                self.expect(offset, &bytes);
                self.somewhere(self.file.write_all_at(bytes, offset as u64)).await??;
            }
            3..5 => {
                self.expect(offset, &bytes);
                let mut lease = buffers::lease(bytes.len()).await?;
                lease.extend_from_slice(&bytes);
                self.somewhere(self.file.write_all_fixed(lease, offset as u64)).await??;
            }
            5..7 => {
                self.expect(offset, &bytes);
                self.file.seek(io::SeekFrom::Start(offset as u64)).await?;
                self.file.write_all(&bytes).await?;
                self.file.flush().await?;
            }
            7 if self.expected.len() < LENGTH => {
                self.expect(self.expected.len(), &bytes);
                self.somewhere(self.appending.write_all_at(bytes, 0)).await??;
            }
            7 | 8 => {
                self.expected.resize(offset, 0);
                self.file.set_len(offset as u64).await?;
            }
            9 => {
                let mut found = Vec::new();
                self.file.rewind().await?;
                self.file.read_to_end(&mut found).await?;
                assert!(found == self.expected, "the cursor reads something else");
            }
            10 => self.file.sync_data().await?,
            _ => self.look().await?,
        }
        Ok(())
    }

    async fn look(&mut self) -> io::Result<()> {
        assert_eq!(self.file.statx().await?.len(), self.expected.len() as u64);
        let read = self.file.read_exact_at(vec![0; self.expected.len()], 0);
        let (_, found) = self.somewhere(read).await??;
        let differs = found.iter().zip(&self.expected).position(|(one, other)| one != other);
        assert_eq!(differs, None, "of {} bytes", found.len());
        Ok(())
    }
}

/// Each task does its share of the operations; the last look is at every file by its name.
fn in_turn(seed: u64, operations: usize) -> Scenario {
    Rc::new(move |place: Place| {
        let mut rng = Rng::with_seed(seed);
        Box::pin(async move {
            let mut tasks = JoinSet::new();
            for number in 0..TASKS {
                let (place, rng) = (place.clone(), rng.fork());
                tasks.spawn(async move {
                    let mut in_turn = InTurn::open(&place, number, rng).await?;
                    for _ in 0..operations / TASKS {
                        in_turn.step().await?;
                    }
                    in_turn.look().await?;
                    io::Result::Ok((number, in_turn.expected))
                });
            }
            while let Some(ended) = tasks.join_next().await {
                let (number, expected) = ended??;
                assert!(fs::read(place.at(&format!("{number}"))).await? == expected);
            }
            Ok(())
        })
    })
}

const SETTINGS: [((u32, u32), usize); 3] = [(SMALLEST, 1), (SMALLEST, 2), (LARGE, 2)];

#[test]
fn what_is_awaited_in_turn_happens_in_turn_on_linux() {
    let name = "what_is_awaited_in_turn_happens_in_turn_on_linux";
    let operations = common::count("RINGHOLD_OPERATIONS", 10_000) as usize;
    let seed = seeds(1).start;
    println!("RINGHOLD_SEED={seed}");
    for kernel in [Kernel::Ext4, Kernel::Tmpfs] {
        for (rings, shards) in SETTINGS {
            let setting = Setting { kernel, rings, shards };
            place::run(setting, seed, name, &in_turn(seed, operations));
        }
    }
}

#[test]
fn what_is_awaited_in_turn_happens_in_turn_in_simulations() {
    let operations = common::count("RINGHOLD_OPERATIONS", 10_000) as usize;
    for seed in seeds(10) {
        println!("RINGHOLD_SEED={seed}");
        let (rings, shards) = SETTINGS[seed as usize % SETTINGS.len()];
        for kernel in [Kernel::Simulated, Kernel::Harassed] {
            let setting = Setting { kernel, rings, shards };
            place::run(setting, seed, "in simulations", &in_turn(seed, operations / 10));
        }
    }
}

/// Two writes to one place, and two appends, each two at once: what comes out.
fn at_once(found: Rc<RefCell<BTreeSet<Vec<u8>>>>) -> Scenario {
    Rc::new(move |place: Place| {
        let found = found.clone();
        Box::pin(async move {
            let path = place.at("file");
            let file = File::create(&path).await?;
            let (one, two) = runtime::join!(file.write_at("one", 0), file.write_at("two", 0));
            assert_eq!((one?.0, two?.0), (3, 3));
            let file = OpenOptions::new().append(true).open(&path).await?;
            let (left, right) = runtime::join!(file.write_at("left", 0), file.write_at("right", 0));
            assert_eq!((left?.0, right?.0), (4, 5));
            let bytes = fs::read(&path).await?;
            found.borrow_mut().insert(bytes);
            Ok(())
        })
    })
}

#[test]
fn writes_that_are_in_flight_together_come_in_either_order() {
    let all: BTreeSet<Vec<u8>> =
        ["oneleftright", "onerightleft", "twoleftright", "tworightleft"].map(Vec::from).into();
    let setting = Setting { kernel: Kernel::Simulated, rings: LARGE, shards: 1 };
    let found = Rc::new(RefCell::new(BTreeSet::new()));
    for seed in 0..100 {
        place::run(setting, seed, "in simulations", &at_once(found.clone()));
    }
    assert_eq!(*found.borrow(), all, "some order never comes");
    // Linux takes one or the other, too.
    let found = Rc::new(RefCell::new(BTreeSet::new()));
    let name = "writes_that_are_in_flight_together_come_in_either_order";
    for kernel in [Kernel::Ext4, Kernel::Tmpfs] {
        place::run(Setting { kernel, ..setting }, 0, name, &at_once(found.clone()));
    }
    assert!(found.borrow().is_subset(&all), "{found:?}");
}
