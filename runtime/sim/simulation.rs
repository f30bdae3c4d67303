//! A simulation: hosts, their time, and who does what next.

mod network;
mod running;
mod signals;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ringhold_runtime::Builder;

use crate::dice::Dice;
use crate::disk::{Errno, FileSystem};
use crate::faults::{Fault, Faults};
use crate::host::{DRAIN, Host, HostConfig, HostId, Running, Service, Verdict};
use crate::machine::Machine;
use crate::system::SimSystem;
use crate::trace::{Trace, What};
use crate::world::{Shared, World};

/// How many steps one call of a `run` method takes at most, unless it is told otherwise: a service
/// that never ends by itself, and does something all the time, is stopped by this.
const STEPS_MAX: u64 = 50_000_000;

/// What tells the network's generator from the others'.
const NETWORK: u64 = 0x6E65_7477_6F72_6B73;

/// A simulated world of hosts, all of it drawn from one seed.
///
/// Everything runs on the calling thread: the shards of all hosts take turns in an order that the
/// seed draws, and when none has anything to do the time goes on to what comes next.
#[derive(Debug)]
pub struct Simulation {
    seed: u64,
    world: Shared,
    hosts: Vec<Host>,
    schedule: Dice,
    steps_max: u64,
}

impl Simulation {
    /// A world without hosts.
    ///
    /// ```
    /// let simulation = ringhold_sim::Simulation::new(7);
    /// assert_eq!(simulation.trace().count(), 0);
    /// ```
    pub fn new(seed: u64) -> Simulation {
        let mut dice = Dice::new(seed);
        let schedule = dice.split();
        Simulation {
            seed,
            world: Shared::new(dice, Dice::new(seed ^ NETWORK)),
            hosts: Vec::new(),
            schedule,
            steps_max: STEPS_MAX,
        }
    }

    /// The seed.
    ///
    /// ```
    /// assert_eq!(ringhold_sim::Simulation::new(7).seed(), 7);
    /// ```
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Bounds the steps that one call of a `run` method takes.
    ///
    /// ```
    /// # use ringhold_sim::{FailureKind, HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.set_steps_max(1000);
    /// simulation.start(host, || async {
    ///     while runtime::time::Instant::now().elapsed().as_secs() < 1 {
    ///         runtime::task::yield_now().await;
    ///     }
    /// });
    /// let failure = simulation.run().unwrap_err();
    /// assert_eq!(failure.kind, FailureKind::TooLong { steps: 1000 });
    /// ```
    pub fn set_steps_max(&mut self, steps: u64) {
        self.steps_max = steps;
    }

    /// How many of the latest events the trace keeps, for failures to show; 4,096 if nothing is
    /// said. The trace's hash covers all events in any case.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.keep_events(3);
    /// simulation.start(host, || async {});
    /// simulation.run()?;
    /// assert_eq!(simulation.trace().events().count(), 3);
    /// assert!(simulation.trace().count() > 3);
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn keep_events(&mut self, events: usize) {
        self.world.lock().trace.keep(events);
    }

    /// Adds a host. Nothing runs on it before [`start`](Simulation::start).
    ///
    /// ```
    /// use ringhold_sim::{HostConfig, Simulation};
    ///
    /// let mut simulation = Simulation::new(1);
    /// let hosts = ["one", "two"].map(|name| simulation.host(HostConfig::new(name).shards(2)));
    /// assert!(hosts[0] != hosts[1] && !simulation.is_running(hosts[0]));
    /// ```
    pub fn host(&mut self, config: HostConfig) -> HostId {
        let mut files = FileSystem::new(config.disk.clone());
        files.set_media_faults(config.faults.media());
        let mut machine = Machine::new(config.name.clone(), files, config.faults.clone());
        machine.latency = config.latency;
        machine.locked_memory = config.locked_memory;
        let mut world = self.world.lock();
        world.machines.push(machine);
        world.network.add_host();
        drop(world);
        self.hosts.push(Host { config, service: None, running: None, paused: false });
        HostId(self.hosts.len() - 1)
    }

    /// Starts a service: `make` is called on the host's first shard, now and at each
    /// [`restart`](Simulation::restart). When its future is ready, the runtime is shut down.
    ///
    /// # Panics
    ///
    /// If a service is running there.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async { runtime::fs::write("/file", "bytes").await });
    /// assert!(simulation.is_running(host));
    /// simulation.run()?;
    /// assert!(!simulation.is_running(host));
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[track_caller]
    pub fn start<F>(&mut self, host: HostId, make: impl FnMut() -> F + 'static)
    where
        F: Future<Output: Verdict> + 'static,
    {
        self.hosts[host.0].service = Some(Service::new(make));
        self.restart(host);
    }

    /// Starts the host's service anew, on what is on its disk.
    ///
    /// # Panics
    ///
    /// If a service is running there, or none ever was.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async {
    ///     let starts = runtime::fs::read("/starts").await.unwrap_or_default();
    ///     runtime::fs::write("/starts", [&starts[..], b"|"].concat()).await
    /// });
    /// simulation.run()?;
    /// simulation.restart(host);
    /// simulation.run()?;
    /// simulation.start(host, || async {
    ///     assert_eq!(runtime::fs::read("/starts").await.unwrap(), b"||");
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[track_caller]
    pub fn restart(&mut self, host: HostId) {
        let HostId(index) = host;
        assert!(self.hosts[index].running.is_none(), "a service is running there already");
        let (incarnation, gone) = {
            let mut world = self.world.lock();
            let gone = world.machines[index].boot();
            world.switch_on(index);
            world.record(index, What::Started);
            (world.machines[index].incarnation, gone)
        };
        drop(gone);
        let system = SimSystem { world: self.world.clone(), host: index, incarnation };
        let Host { config, service, running, .. } = &mut self.hosts[index];
        let service = service.as_mut().expect("a service was started there before");
        let (submissions, completions) = config.ring_entries;
        let mut builder = Builder::new_multi_thread();
        if let Some(pool) = &config.pool {
            builder.pool(pool.clone());
        }
        let runtime = builder
            .system(Arc::new(system))
            .shards(config.shards)
            .ring_entries(submissions, completions)
            .pool_limit(config.pool_limit)
            .thread_keep_alive(Duration::ZERO)
            .stepped()
            .expect("a simulated kernel refuses nothing");
        let root = runtime.spawn_local(0, || service.make());
        *running = Some(Running { runtime, root, ending: None });
    }

    /// Whether a service is running on the host.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// let two = std::time::Duration::from_secs(2);
    /// simulation.start(host, move || async move { runtime::time::sleep(two).await });
    /// simulation.run_for(std::time::Duration::from_secs(1))?;
    /// assert!(simulation.is_running(host));
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn is_running(&self, host: HostId) -> bool {
        self.hosts[host.0].running.is_some()
    }

    /// The time since the simulation began.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.run_for(std::time::Duration::from_secs(60))?;
    /// assert_eq!(simulation.elapsed().as_secs(), 60);
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.world.lock().now)
    }

    /// What happened so far.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation, What};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async {});
    /// simulation.run()?;
    /// assert_eq!(simulation.trace().events().next().unwrap().what, What::Started);
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn trace(&self) -> Trace {
        self.world.lock().trace.clone()
    }

    /// Looks at a host's disk, or changes it, as no service sees.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async { runtime::fs::create_dir("/new").await });
    /// simulation.run()?;
    /// assert_eq!(simulation.with_files(host, |files| files.used_inodes()), 2); // and the root
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn with_files<R>(&mut self, host: HostId, look: impl FnOnce(&mut FileSystem) -> R) -> R {
        look(&mut self.world.lock().machines[host.0].files)
    }

    /// Changes what goes wrong on a host, and how often.
    ///
    /// ```
    /// # use ringhold_sim::{Fault, Faults, HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.set_faults(host, Faults::none().with(Fault::NoSpace, 1.0));
    /// simulation.start(host, || async {
    ///     assert!(runtime::fs::write("/file", "bytes").await.is_err());
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn set_faults(&mut self, host: HostId, faults: Faults) {
        let machine = &mut self.world.lock().machines[host.0];
        machine.files.set_media_faults(faults.media());
        machine.faults = faults;
    }

    /// Lets a fault strike at its next occasion.
    ///
    /// ```
    /// # use ringhold_sim::{Fault, HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.inject(host, Fault::WriteError);
    /// simulation.start(host, || async {
    ///     assert!(runtime::fs::write("/file", "bytes").await.is_err());
    ///     assert!(runtime::fs::write("/file", "bytes").await.is_ok());
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn inject(&mut self, host: HostId, fault: Fault) {
        let machine = &mut self.world.lock().machines[host.0];
        match fault.of_media() {
            Some(kind) => machine
                .files
                .fail_next(kind, None, Errno(libc::EIO))
                .expect("without a path there is nothing to be found"),
            None => machine.faults.make_due(fault),
        }
    }

    /// Lets a host's clock run faster from now on, or slower if negative, in parts in a million.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// use runtime::time::{Duration, sleep};
    ///
    /// simulation.drift(host, 100_000);
    /// simulation.start(host, || async { sleep(Duration::from_secs(11)).await });
    /// simulation.run()?;
    /// assert_eq!(simulation.elapsed().as_secs(), 10);
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn drift(&mut self, host: HostId, ppm: i64) {
        let mut world = self.world.lock();
        let now = world.now;
        world.machines[host.0].clock.drift(now, ppm);
    }

    /// Moves a host's time of day ahead. Its monotonic clock isn't concerned.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// use std::time::Duration;
    ///
    /// let mut write = || {
    ///     simulation.start(host, || async { runtime::fs::write("/file", "bytes").await });
    ///     simulation.run().unwrap();
    ///     let status = |files: &mut ringhold_sim::disk::FileSystem| {
    ///         files.statx(libc::AT_FDCWD, b"/file", 0).unwrap().modified
    ///     };
    ///     let modified = simulation.with_files(host, status);
    ///     simulation.jump(host, Duration::from_secs(3600));
    ///     modified
    /// };
    /// let (before, after) = (write(), write());
    /// assert_eq!((after - before).as_secs(), 3600);
    /// ```
    pub fn jump(&mut self, host: HostId, by: Duration) {
        self.world.lock().machines[host.0].clock.jump(by);
    }

    /// Stops a host where it stands. What its kernel was asked for goes on.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// use runtime::time::{Duration, sleep};
    ///
    /// simulation.start(host, || async { sleep(Duration::from_secs(1)).await });
    /// simulation.pause(host);
    /// simulation.run_for(Duration::from_secs(10))?;
    /// assert!(simulation.is_running(host));
    /// simulation.resume(host);
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn pause(&mut self, host: HostId) {
        self.hosts[host.0].paused = true;
        self.world.lock().record(host.0, What::Paused);
    }

    /// Lets a host that stood go on.
    ///
    /// ```
    /// // As for `pause`: a host that stands goes on, and its timers are due.
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async {});
    /// simulation.pause(host);
    /// simulation.resume(host);
    /// simulation.run()?;
    /// assert!(!simulation.is_running(host));
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn resume(&mut self, host: HostId) {
        self.hosts[host.0].paused = false;
        self.world.lock().record(host.0, What::Resumed);
    }

    /// Kills the host's service, as by `SIGKILL`: its memory is gone, what it had in flight takes
    /// effect or not, what was written stays in the page cache.
    ///
    /// The service's futures are dropped, but nothing that their destructors do reaches the host.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async {
    ///     runtime::fs::write("/file", "bytes").await.unwrap();
    ///     std::future::pending::<()>().await
    /// });
    /// simulation.run_for(std::time::Duration::from_secs(1))?;
    /// simulation.kill(host);
    /// simulation.start(host, || async {
    ///     assert_eq!(runtime::fs::read("/file").await.unwrap(), b"bytes");
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn kill(&mut self, host: HostId) {
        self.end_abruptly(host.0, false);
        let mut world = self.world.lock();
        world.record(host.0, What::Killed);
        world.machines[host.0].files.crash_clean();
    }

    /// Turns the host off: as [`kill`](Simulation::kill), and of what was not synced each write is
    /// kept, dropped or torn, and each change of a directory is kept or dropped.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async { runtime::fs::write("/file", "bytes").await });
    /// simulation.run()?;
    /// simulation.lose_power(host);
    /// simulation.start(host, || async {
    ///     // Nothing was synced: the name may be gone, and so may be the size and the bytes.
    ///     let bytes = runtime::fs::read("/file").await.unwrap_or_default();
    ///     assert!([&b"bytes"[..], b"\0\0\0\0\0", b""].contains(&&bytes[..]), "{bytes:?}");
    /// });
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn lose_power(&mut self, host: HostId) {
        self.end_abruptly(host.0, true);
        let mut world = self.world.lock();
        world.record(host.0, What::LostPower);
        let World { machines, dice, .. } = &mut *world;
        machines[host.0].files.lose_power(dice);
    }

    fn end_abruptly(&mut self, host: usize, power_is_lost: bool) {
        let Some(running) = self.hosts[host].running.take() else {
            if power_is_lost {
                self.world.lock().network.links.set_power(host, false);
            }
            return;
        };
        self.world.lock().kill(host, power_is_lost);
        let Running { mut runtime, root, .. } = running;
        drop(root);
        let threads = std::mem::take(&mut self.world.lock().machines[host].threads);
        drop(threads);
        runtime.stop();
        // A kernel that is dead answers at once, so this takes a few turns.
        let deadline = self.world.lock().instant(host) + DRAIN;
        for shard in 0..self.hosts[host].config.shards {
            while !runtime.drain(shard, deadline) {}
        }
        runtime.finish();
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        for host in 0..self.hosts.len() {
            self.end_abruptly(host, true);
        }
    }
}
