//! Configuring and starting a runtime.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringhold_buffers::{PoolConfig, foreign};
use ringhold_kernel::{KernelConfig, StartError, System};
use ringhold_uring::Linux;

use crate::pools::NAMED_MAX;
use crate::runtime::{self, Runtime};
use crate::task::is_large;

/// The largest submission queue that the kernel makes.
const SUBMISSIONS_MAX: u32 = 32_768;
/// The stack of a shard's thread, unless the user says otherwise.
const SHARD_STACK_BYTES: usize = 8 << 20;

/// Configures a runtime and starts it.
///
/// ```
/// let runtime = ringhold_runtime::Builder::new_multi_thread().shards(1).build()?;
/// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
/// # std::io::Result::Ok(())
/// ```
pub struct Builder {
    pub(crate) shards: Option<usize>,
    pub(crate) pin: bool,
    pub(crate) start_paused: bool,
    pub(crate) kernel: KernelConfig,
    pub(crate) pool: Option<PoolConfig>,
    pub(crate) pool_limit: Option<usize>,
    pub(crate) pool_prefill: Option<usize>,
    pub(crate) named_pools: Vec<(String, PoolConfig)>,
    pub(crate) drain_deadline: Duration,
    pub(crate) blocking_threads_max: usize,
    pub(crate) blocking_keep_alive: Duration,
    pub(crate) hooks: ThreadHooks,
    pub(crate) system: Arc<dyn System>,
}

type Hook = Arc<dyn Fn() + Send + Sync>;
type Name = Arc<dyn Fn() -> String + Send + Sync>;

/// What is done for each thread that a runtime starts.
#[derive(Clone, Default)]
pub(crate) struct ThreadHooks {
    name: Option<Name>,
    pub(crate) stack_bytes: Option<usize>,
    start: Option<Hook>,
    stop: Option<Hook>,
}

impl ThreadHooks {
    pub(crate) fn name(&self, role: &str) -> String {
        // A hook that panics has said so; its thread has the name that it would have without one.
        let named = self.name.as_ref().and_then(|name| foreign::attempt(|| name()));
        named.unwrap_or_else(|| format!("ringhold-{role}"))
    }

    pub(crate) fn on_start(&self) {
        if let Some(start) = &self.start {
            // A hook that panics has said so; it must not end the thread, or the process.
            foreign::contain(|| start());
        }
    }

    pub(crate) fn on_stop(&self) {
        if let Some(stop) = &self.stop {
            foreign::contain(|| stop());
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("shards", &self.shards)
            .field("pin", &self.pin)
            .field("kernel", &self.kernel)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// A runtime with a shard for every core that the process's affinity and control group allow.
    pub fn new_multi_thread() -> Builder {
        Builder {
            shards: None,
            pin: false,
            start_paused: false,
            kernel: KernelConfig::default(),
            pool: None,
            pool_limit: None,
            pool_prefill: None,
            named_pools: Vec::new(),
            drain_deadline: Duration::from_secs(1),
            blocking_threads_max: 512,
            blocking_keep_alive: Duration::from_secs(10),
            hooks: ThreadHooks::default(),
            system: Builder::default_system(),
        }
    }

    /// A runtime with one shard.
    pub fn new_current_thread() -> Builder {
        let mut builder = Builder::new_multi_thread();
        builder.shards = Some(1);
        builder
    }

    /// How many shards there are: 1 to 1,024.
    pub fn shards(&mut self, shards: usize) -> &mut Builder {
        self.shards = Some(shards);
        self
    }

    /// As [`shards`](Builder::shards), by tokio's name.
    pub fn worker_threads(&mut self, shards: usize) -> &mut Builder {
        self.shards(shards)
    }

    /// Whether each shard's thread stays on one core. By default the kernel moves them.
    pub fn pin(&mut self, pin: bool) -> &mut Builder {
        self.pin = pin;
        self
    }

    /// Whether the clock stands still from the start, for tests. It needs a single shard.
    pub fn start_paused(&mut self, start_paused: bool) -> &mut Builder {
        self.start_paused = start_paused;
        self
    }

    /// The sizes of each shard's queues, in entries: powers of two, the completions at least twice
    /// the submissions.
    ///
    /// A shard has at most `completions - 1` operations on files in the kernel at once; more of
    /// them wait for room. Those that wait for a peer, on sockets, don't count.
    ///
    /// The default is 256 and 512, which costs a shard 28 KiB of locked memory on Linux 6.18. Where
    /// that isn't short the queue of completions has 4096 entries, and the limit stays 511: the
    /// kernel finds what is to be cancelled the faster the longer that queue is. To name the sizes
    /// is to have exactly these.
    pub fn ring_entries(&mut self, submissions: u32, completions: u32) -> &mut Builder {
        self.kernel.submissions = submissions;
        self.kernel.completions = completions;
        self.kernel.roomy = false;
        self
    }

    /// How many threads of the kernel's own a shard may have at once: `bounded` for what takes a
    /// device's time (syncs, writes that allocate, calls on paths), `unbounded` for what takes as
    /// long as a peer likes. 64 and 256 by default, for each NUMA node; what comes beyond waits for
    /// one of them.
    ///
    /// Calls on file systems that ask another process or machine (FUSE, NFS, Ceph, 9P; all but
    /// ext4, XFS, Btrfs, F2FS and tmpfs) may never return, and use none of these workers. They run
    /// on threads that all runtimes of the process share. One mount uses four of them, and more as
    /// its calls get stuck, up to half of what other mounts leave of 512. Further calls wait, and
    /// only behind calls on the same mount. Reads and writes of such files with leases are the
    /// exception: they use the `bounded` workers.
    ///
    /// # Panics
    ///
    /// If one of them is 0.
    #[track_caller]
    pub fn ring_workers(&mut self, bounded: u32, unbounded: u32) -> &mut Builder {
        assert!(bounded > 0 && unbounded > 0, "a ring needs workers of both kinds");
        self.kernel.bounded_workers = bounded;
        self.kernel.unbounded_workers = unbounded;
        self
    }

    /// How many bytes of registered buffers the pool may grow to.
    pub fn pool_limit(&mut self, bytes: usize) -> &mut Builder {
        self.pool_limit = Some(bytes);
        self
    }

    /// How many bytes of the pool are mapped and registered before the runtime starts, and stay.
    ///
    /// By default the pool grows when it is needed, on a thread of its own, and the first request
    /// waits some milliseconds. Where memory is short, the runtime starts with what there is, and
    /// says so in a warning.
    pub fn pool_prefill(&mut self, bytes: usize) -> &mut Builder {
        self.pool_prefill = Some(bytes);
        self
    }

    /// Adds another pool to the runtime, to be asked for by
    /// [`buffers::named_pool`](crate::named_pool): with memory of its own, which what is leased of
    /// the runtime's own pool can't use up. There can be three.
    pub fn named_pool(&mut self, name: impl Into<String>, config: PoolConfig) -> &mut Builder {
        self.named_pools.push((name.into(), config));
        self
    }

    /// Everything about the pool.
    pub fn pool(&mut self, config: PoolConfig) -> &mut Builder {
        self.pool = Some(config);
        self
    }

    /// How long a shard that ends waits for the kernel to be done with its operations. What is not
    /// done by then is leaked. One second by default.
    pub fn drain_deadline(&mut self, deadline: Duration) -> &mut Builder {
        self.drain_deadline = deadline;
        self
    }

    /// How many threads may run blocking closures at once. 512 by default. More closures wait, in
    /// the order of their spawning; no call of the runtime's own is ever among them.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[track_caller]
    pub fn max_blocking_threads(&mut self, threads: usize) -> &mut Builder {
        assert!(threads > 0, "Max blocking threads cannot be set to 0");
        self.blocking_threads_max = threads;
        self
    }

    /// How long a thread without a blocking closure to run stays. 10 seconds by default.
    pub fn thread_keep_alive(&mut self, duration: Duration) -> &mut Builder {
        self.blocking_keep_alive = duration;
        self
    }

    /// What the runtime's threads are called.
    pub fn thread_name(&mut self, name: impl Into<String>) -> &mut Builder {
        let name = name.into();
        self.hooks.name = Some(Arc::new(move || name.clone()));
        self
    }

    /// What each of the runtime's threads is called.
    pub fn thread_name_fn<F>(&mut self, name: F) -> &mut Builder
    where
        F: Fn() -> String + Send + Sync + 'static,
    {
        self.hooks.name = Some(Arc::new(name));
        self
    }

    /// As [`thread_name`](Builder::thread_name), by the name of tokio's macro argument.
    pub fn name(&mut self, name: impl Into<String>) -> &mut Builder {
        self.thread_name(name)
    }

    /// The stacks of the runtime's threads, in bytes. By default a shard's is 8 MiB, as that of a
    /// program's first thread, of which only what is used takes memory; those of threads for
    /// blocking closures are as std's.
    pub fn thread_stack_size(&mut self, bytes: usize) -> &mut Builder {
        self.hooks.stack_bytes = Some(bytes);
        self
    }

    pub(crate) fn shard_stack_bytes(&self) -> Option<usize> {
        self.hooks.stack_bytes.or(Some(SHARD_STACK_BYTES))
    }

    /// Called on each of the runtime's threads before its work. A panic in it is caught.
    pub fn on_thread_start<F>(&mut self, hook: F) -> &mut Builder
    where
        F: Fn() + Send + Sync + 'static,
    {
        self.hooks.start = Some(Arc::new(hook));
        self
    }

    /// Called on each of the runtime's threads after its work. A panic in it is caught.
    pub fn on_thread_stop<F>(&mut self, hook: F) -> &mut Builder
    where
        F: Fn() + Send + Sync + 'static,
    {
        self.hooks.stop = Some(Arc::new(hook));
        self
    }

    /// Does nothing: everything is always enabled. It is here for code written for tokio.
    pub fn enable_all(&mut self) -> &mut Builder {
        self
    }

    /// Does nothing: everything is always enabled. It is here for code written for tokio.
    pub fn enable_io(&mut self) -> &mut Builder {
        self
    }

    /// Does nothing: everything is always enabled. It is here for code written for tokio.
    pub fn enable_time(&mut self) -> &mut Builder {
        self
    }

    /// Does nothing: a shard has one queue. It is here for code written for tokio.
    pub fn global_queue_interval(&mut self, _interval: u32) -> &mut Builder {
        self
    }

    /// Does nothing: the kernel is entered once a turn. It is here for code written for tokio.
    pub fn event_interval(&mut self, _interval: u32) -> &mut Builder {
        self
    }

    /// Starts the runtime: each shard on a thread of its own.
    ///
    /// # Errors
    ///
    /// The error carries a [`StartError`], by downcast, that tells what is missing and what to do
    /// about it.
    pub fn build(&mut self) -> io::Result<Runtime> {
        self.check()?;
        Ok(runtime::start(self)?)
    }

    /// Makes the calling thread shard 0, runs `future` there, and shuts the runtime down when it is
    /// ready.
    ///
    /// This is what `#[runtime::main]` and `#[runtime::test]` call. The other shards have threads
    /// of their own.
    ///
    /// # Errors
    ///
    /// As [`build`](Builder::build); once the future was polled there is none.
    ///
    /// # Panics
    ///
    /// If the future panics, after the shutdown; and on a thread that already is a shard.
    pub fn run<F: Future>(&mut self, future: F) -> io::Result<F::Output> {
        self.check()?;
        let output = if is_large::<F>() {
            runtime::run(self, Box::pin(future))?
        } else {
            runtime::run(self, future)?
        };
        Ok(output)
    }

    /// What the runtime runs on: Linux, unless a test or a simulation says otherwise.
    #[doc(hidden)]
    pub fn system(&mut self, system: Arc<dyn System>) -> &mut Builder {
        self.system = system;
        self
    }

    /// The system that a runtime runs on if nothing else is said.
    #[doc(hidden)]
    pub fn default_system() -> Arc<dyn System> {
        Arc::new(Linux)
    }

    /// How many shards there will be.
    pub(crate) fn shard_count(&self) -> usize {
        self.shards.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        })
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        let KernelConfig { submissions, completions, .. } = self.kernel;
        let wrong = |what: String| Err(StartError::InvalidConfiguration(what));
        if let Some(shards) = self.shards
            && !(1..=1024).contains(&shards)
        {
            return wrong(format!("a runtime has 1 to 1024 shards, not {shards}"));
        }
        if !submissions.is_power_of_two() || submissions > SUBMISSIONS_MAX {
            return wrong(format!(
                "the submission queue has a power of two of entries up to {SUBMISSIONS_MAX}, not \
                 {submissions}"
            ));
        }
        if !completions.is_power_of_two()
            || completions < 2 * submissions
            || !(4..=2 * SUBMISSIONS_MAX).contains(&completions)
        {
            return wrong(format!(
                "the completion queue has a power of two of entries, at least 4, at least twice \
                 the {submissions} submissions and at most {}, not {completions}",
                2 * SUBMISSIONS_MAX
            ));
        }
        if self.named_pools.len() > NAMED_MAX {
            let count = self.named_pools.len();
            return wrong(format!("a runtime has up to {NAMED_MAX} named pools, not {count}"));
        }
        for (index, (name, _)) in self.named_pools.iter().enumerate() {
            if self.named_pools[..index].iter().any(|(other, _)| other == name) {
                return wrong(format!("two pools have the name {name:?}"));
            }
        }
        if self.start_paused && self.shard_count() > 1 {
            return wrong(format!(
                "a paused clock needs a single shard, and this runtime has {}",
                self.shard_count()
            ));
        }
        Ok(())
    }

    /// The name of the next shard's thread.
    pub(crate) fn shard_thread_name(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.hooks.name(&format!("shard-{number}"))
    }
}
