//! A host: what its machine is, and the service that runs on it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use ringhold_buffers::PoolConfig;
use ringhold_runtime::Stepped;
use ringhold_runtime::task::JoinHandle;

use crate::disk::DiskConfig;
use crate::faults::Faults;
use crate::latency::Latency;

/// Names a host of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub(crate) usize);

/// What a host is made of.
#[derive(Clone, Debug)]
pub struct HostConfig {
    pub(crate) name: String,
    pub(crate) shards: usize,
    pub(crate) ring_entries: (u32, u32),
    pub(crate) pool_limit: usize,
    pub(crate) pool: Option<PoolConfig>,
    pub(crate) locked_memory: Option<u64>,
    pub(crate) faults: Faults,
    pub(crate) latency: Latency,
    pub(crate) disk: DiskConfig,
}

impl HostConfig {
    /// A host with one shard, the default queues, a pool of 1 MiB, an empty disk, and no faults.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// let config = HostConfig::new("store");
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(config);
    /// simulation.start(host, || async {
    ///     assert_eq!(runtime::Handle::current().metrics().num_workers(), 1);
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn new(name: impl Into<String>) -> HostConfig {
        HostConfig {
            name: name.into(),
            shards: 1,
            ring_entries: (256, 512),
            pool_limit: 1 << 20,
            pool: None,
            locked_memory: None,
            faults: Faults::none(),
            latency: Latency::default(),
            disk: DiskConfig::default(),
        }
    }

    /// How many shards its service has.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// let config = HostConfig::new("store").shards(3);
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(config);
    /// simulation.start(host, || async {
    ///     assert_eq!(runtime::Handle::current().metrics().num_workers(), 3);
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[must_use]
    pub fn shards(mut self, shards: usize) -> HostConfig {
        self.shards = shards;
        self
    }

    /// The sizes of each shard's queues, in entries, as
    /// [`Builder::ring_entries`](ringhold_runtime::Builder::ring_entries).
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// let config = HostConfig::new("store").ring_entries(2, 4);
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(config);
    /// simulation.start(host, || async {
    ///     // More than the queues hold at a time.
    ///     let mut writes = runtime::task::JoinSet::new();
    ///     for number in 0..20 {
    ///         writes.spawn(runtime::fs::write(format!("/{number}"), "bytes"));
    ///     }
    ///     while let Some(written) = writes.join_next().await {
    ///         assert!(written.unwrap().is_ok());
    ///     }
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[must_use]
    pub fn ring_entries(mut self, submissions: u32, completions: u32) -> HostConfig {
        self.ring_entries = (submissions, completions);
        self
    }

    /// How many bytes of buffers the service's pool may grow to.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// let config = HostConfig::new("store").pool_limit(64 << 10);
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(config);
    /// simulation.start(host, || async {
    ///     assert!(runtime::buffers::lease(64 << 10).await.is_ok());
    ///     assert!(runtime::buffers::lease(128 << 10).await.is_err());
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[must_use]
    pub fn pool_limit(mut self, bytes: usize) -> HostConfig {
        self.pool_limit = bytes;
        self
    }

    /// Everything about the service's pool, as
    /// [`Builder::pool`](ringhold_runtime::Builder::pool).
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # use runtime::buffers::PoolConfig;
    /// let pool = PoolConfig::new().limit(128 << 10).arena(64 << 10);
    /// let config = HostConfig::new("store").pool(pool);
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(config);
    /// simulation.start(host, || async {
    ///     let _lease = runtime::buffers::lease(4096).await.unwrap();
    ///     assert_eq!(runtime::buffers::occupancy().mapped, 64 << 10);
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[must_use]
    pub fn pool(mut self, config: PoolConfig) -> HostConfig {
        self.pool_limit = config.limit;
        self.pool = Some(config);
        self
    }

    /// What the service's user may lock, in bytes. Without a limit the pool is one arena; with one
    /// it grows by smaller ones, and may find that there is no more.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// let config = HostConfig::new("store").locked_memory(0);
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(config);
    /// simulation.start(host, || async {
    ///     assert!(runtime::buffers::lease(4096).await.is_err());
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[must_use]
    pub fn locked_memory(mut self, bytes: u64) -> HostConfig {
        self.locked_memory = Some(bytes);
        self
    }

    /// What goes wrong on it, and how often.
    ///
    /// ```
    /// # use ringhold_sim::{Fault, Faults, HostConfig, Simulation};
    /// let config = HostConfig::new("store").faults(Faults::none().with(Fault::NoSpace, 1.0));
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(config);
    /// simulation.start(host, || async {
    ///     assert!(runtime::fs::write("/file", "bytes").await.is_err());
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> HostConfig {
        self.faults = faults;
        self
    }

    /// How long its operations take.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Latency, Simulation};
    /// # use std::time::Duration;
    /// let config = HostConfig::new("store").latency(Latency::new(0.0, Duration::from_secs(1)));
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(config);
    /// simulation.start(host, || async {
    ///     runtime::fs::write("/file", "bytes").await.unwrap();
    /// });
    /// simulation.run()?;
    /// assert!(simulation.elapsed() > Duration::from_millis(100));
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[must_use]
    pub fn latency(mut self, latency: Latency) -> HostConfig {
        self.latency = latency;
        self
    }

    /// Its disk.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation, disk::DiskConfig};
    /// let disk = DiskConfig { capacity_bytes: 64 << 10, ..DiskConfig::default() };
    /// let config = HostConfig::new("store").disk(disk);
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(config);
    /// simulation.start(host, || async {
    ///     let error = runtime::fs::write("/file", vec![1; 1 << 20]).await.unwrap_err();
    ///     assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[must_use]
    pub fn disk(mut self, disk: DiskConfig) -> HostConfig {
        self.disk = disk;
        self
    }
}

/// What a service's first future may end with: nothing, or a result.
pub trait Verdict {
    /// The error's text, if it is one.
    fn verdict(self) -> Result<(), String>;
}

impl Verdict for () {
    fn verdict(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Debug> Verdict for Result<(), E> {
    fn verdict(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

type Root = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// What a host runs: called anew at each start.
pub(crate) struct Service(Box<dyn FnMut() -> Root>);

impl Service {
    pub(crate) fn new<F>(mut make: impl FnMut() -> F + 'static) -> Service
    where
        F: Future<Output: Verdict> + 'static,
    {
        Service(Box::new(move || {
            let future = make();
            Box::pin(async move { future.await.verdict() })
        }))
    }

    pub(crate) fn make(&mut self) -> Root {
        (self.0)()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

/// A runtime on a host.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) runtime: Stepped,
    pub(crate) root: JoinHandle<Result<(), String>>,
    /// Set when the service has ended and its runtime is shutting down: until when, in the host's
    /// time.
    pub(crate) ending: Option<Instant>,
}

/// A host, as the simulation has it beside its machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) config: HostConfig,
    pub(crate) service: Option<Service>,
    pub(crate) running: Option<Running>,
    pub(crate) paused: bool,
}

/// How long a runtime that ends may wait for its operations: longer than any of them takes.
pub(crate) const DRAIN: Duration = Duration::from_secs(24 * 3600);
