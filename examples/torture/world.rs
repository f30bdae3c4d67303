//! What all operations work on: files, pipes, names, foreign threads, and the counts.

use std::fs as std_fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime::Handle;
use runtime::buffers::{self, Lease, LeaseError, LeaseErrorKind};
use runtime::fs::File;
use runtime::task::spawn_on;
use runtime::time::sleep;

use crate::draws::Draws;
use crate::foreign::Foreign;
use crate::steady::Steady;
use crate::tally::{Child, Tally};

/// The byte that files of unknown length consist of, beside zero where they have holes.
pub const FILLER: u8 = 0x5A;

/// The byte that goes through the pipe.
pub const PIPED: u8 = 0xB0;

/// The most pages of a lease that is waited for without a limit of time.
pub const LEASE_PAGES: usize = 4;

/// The bytes of a page.
pub const PAGE: usize = 4096;

const FOREIGN_THREADS: usize = 3;

/// The files that are written and read by blocks; every other one past the page cache.
const STEADY_FILES: u32 = 4;

/// A pipe whose ends are files of the runtime.
#[derive(Debug)]
pub struct Pipe {
    pub reader: File,
    pub writer: File,
}

impl Pipe {
    /// An empty one.
    pub fn new() -> io::Result<Pipe> {
        let (reader, writer) = io::pipe()?;
        Ok(Pipe { reader: OwnedFd::from(reader).into(), writer: OwnedFd::from(writer).into() })
    }
}

/// What all operations work on.
pub struct World {
    pub seed: u64,
    pub shards: usize,
    pub handle: Handle,
    pub tally: Arc<Tally>,
    pub steady: Vec<Arc<Steady>>,
    /// A file whose length changes all the time.
    pub wobbly: File,
    /// A pipe that nobody writes to.
    pub silent: Pipe,
    /// A pipe that is written to and read from.
    pub busy: Pipe,
    /// Threads for what is done at once. Nothing waits there: what they drop and abort may be what
    /// others wait for.
    pub foreign: Foreign,
    /// Threads for what waits, one for each task: what waits for a thread may hold a lock.
    pub waiting: Foreign,
    /// The most pages of a lease that is waited for.
    pub lease_pages: usize,
    directory: PathBuf,
}

impl World {
    /// Makes the files in `directory`.
    pub async fn new(
        directory: &Path,
        seed: u64,
        tasks: usize,
        tally: &Arc<Tally>,
    ) -> io::Result<World> {
        let handle = Handle::current();
        let mut steady = Vec::new();
        for id in 0..STEADY_FILES {
            steady.push(Arc::new(Steady::create(directory, id, id % 2 == 1).await?));
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let wobbly = options.open(directory.join("wobbly")).await?;
        std_fs::create_dir(directory.join("names"))?;
        std_fs::create_dir(directory.join("scratch"))?;
        Ok(World {
            seed,
            shards: handle.shards(),
            tally: tally.clone(),
            steady,
            wobbly,
            silent: Pipe::new()?,
            busy: Pipe::new()?,
            foreign: Foreign::start(FOREIGN_THREADS),
            waiting: Foreign::start(tasks),
            lease_pages: LEASE_PAGES.min(buffers::occupancy().limit / PAGE),
            directory: directory.into(),
            handle,
        })
    }

    /// The directory of names that come and go.
    pub fn names(&self) -> PathBuf {
        self.directory.join("names")
    }

    /// The directory for files of a single operation, emptied between rounds.
    pub fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    /// Spawns a task on shard number `shard`; how it ends is counted.
    pub fn spawn_on<F>(&self, shard: usize, work: F) -> Child<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let life = self.tally.live();
        Child::new(&self.tally, spawn_on(shard, move || life.of(work)))
    }
}

/// What an operation is made with.
pub struct Scene {
    pub world: Arc<World>,
    pub draws: Draws,
    /// Whether buffers may panic when they are freed: only in a task of the operation's own.
    pub armed: bool,
    /// The operation's number, for names of its own.
    pub number: u64,
}

impl Scene {
    /// Counts an error that may be, complains of one that must not be, and gives the rest.
    pub fn check<T, E: Into<io::Error>>(
        &self,
        what: &str,
        result: Result<T, E>,
        allowed: &[ErrorKind],
    ) -> Option<T> {
        match result.map_err(Into::into) {
            Ok(value) => Some(value),
            Err(error) if is_shortage(&error) || allowed.contains(&error.kind()) => {
                self.world.tally.refused.increment();
                None
            }
            Err(error) => {
                let number = self.number;
                self.world.tally.complain(format!("operation {number}, {what}: {error}"));
                None
            }
        }
    }

    /// Complains unless it is so.
    pub fn require(&self, is_so: bool, what: impl FnOnce() -> String) {
        if !is_so {
            self.world.tally.complain(format!("operation {}, {}", self.number, what()));
        }
    }

    /// Complains of any byte that nobody wrote there.
    pub fn require_only(&self, what: &str, bytes: &[u8], allowed: &[u8]) {
        let foreign = bytes.iter().position(|byte| !allowed.contains(byte));
        self.world.tally.verified_bytes.add(bytes.len() as u64);
        self.require(foreign.is_none(), || {
            let at = foreign.unwrap_or(0);
            format!("{what}: byte {at} of {} is {:#04x}", bytes.len(), bytes[at])
        });
    }

    /// Waits for a lease of so many pages, holding no other.
    pub async fn lease(&self, pages: usize) -> Option<Lease> {
        let pages = pages.min(self.world.lease_pages);
        let result = buffers::lease(pages * PAGE).await;
        self.check("a lease", result, &[])
    }

    /// A path that only this operation uses.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.world.scratch().join(format!("{}-{name}", self.number))
    }
}

/// Waits for a lease, also where other processes of this user have all the memory that may be
/// locked.
pub async fn lease_patiently(bytes: usize) -> io::Result<Lease> {
    let mut patience = 200;
    loop {
        match buffers::lease(bytes).await.map_err(io::Error::from) {
            Err(error) if is_shortage(&error) && patience > 0 => patience -= 1,
            leased => return leased,
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the kernel may not lock more for this user: the pool is then a smaller one.
fn is_shortage(error: &io::Error) -> bool {
    let kind =
        error.get_ref().and_then(|inner| inner.downcast_ref::<LeaseError>()).map(LeaseError::kind);
    matches!(kind, Some(LeaseErrorKind::LockedMemory | LeaseErrorKind::OutOfMemory))
}
