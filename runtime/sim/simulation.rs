//! A simulation: hosts, their time, and who does what next.

mod network;

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringhold_runtime::{Builder, within_budget};

use crate::Choose;
use crate::dice::Dice;
use crate::disk::{Errno, FileSystem};
use crate::failure::{Failure, FailureKind};
use crate::faults::{Fault, Faults};
use crate::host::{DRAIN, Host, HostConfig, HostId, Running, Service, Verdict};
use crate::machine::{Machine, Work};
use crate::ring::Waiting;
use crate::system::SimSystem;
use crate::trace::{Trace, What};
use crate::world::{Shared, World};

/// How many steps one call of a `run` method takes at most, unless it is told otherwise: a service
/// that never ends by itself, and does something all the time, is stopped by this.
const STEPS_MAX: u64 = 50_000_000;

/// What tells the network's generator from the others'.
const NETWORK: u64 = 0x6E65_7477_6F72_6B73;

/// The longest that one turn of a shard takes of the simulation's time, in nanoseconds.
const TURN_NANOS_MAX: u64 = 2000;

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

/// Who may go on.
#[derive(Clone, Copy, Debug)]
enum Runnable {
    Shard { host: usize, shard: usize },
    Thread { host: usize },
}

impl Simulation {
    /// A world without hosts.
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
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Bounds the steps that one call of a `run` method takes.
    pub fn set_steps_max(&mut self, steps: u64) {
        self.steps_max = steps;
    }

    /// How many of the latest events the trace keeps, for failures to show; 4,096 if nothing is
    /// said. The trace's hash covers all events in any case.
    pub fn keep_events(&mut self, events: usize) {
        self.world.lock().trace.keep(events);
    }

    /// Adds a host. Nothing runs on it before [`start`](Simulation::start).
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
        let runtime = Builder::new_multi_thread()
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
    pub fn is_running(&self, host: HostId) -> bool {
        self.hosts[host.0].running.is_some()
    }

    /// The time since the simulation began.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.world.lock().now)
    }

    /// What happened so far.
    pub fn trace(&self) -> Trace {
        self.world.lock().trace.clone()
    }

    /// Looks at a host's disk, or changes it, as no service sees.
    pub fn with_files<R>(&mut self, host: HostId, look: impl FnOnce(&mut FileSystem) -> R) -> R {
        look(&mut self.world.lock().machines[host.0].files)
    }

    /// Changes what goes wrong on a host, and how often.
    pub fn set_faults(&mut self, host: HostId, faults: Faults) {
        let machine = &mut self.world.lock().machines[host.0];
        machine.files.set_media_faults(faults.media());
        machine.faults = faults;
    }

    /// Lets a fault strike at its next occasion.
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
    pub fn drift(&mut self, host: HostId, ppm: i64) {
        let mut world = self.world.lock();
        let now = world.now;
        world.machines[host.0].clock.drift(now, ppm);
    }

    /// Moves a host's time of day ahead. Its monotonic clock isn't concerned.
    pub fn jump(&mut self, host: HostId, by: Duration) {
        self.world.lock().machines[host.0].clock.jump(by);
    }

    /// Stops a host where it stands. What its kernel was asked for goes on.
    pub fn pause(&mut self, host: HostId) {
        self.hosts[host.0].paused = true;
        self.world.lock().record(host.0, What::Paused);
    }

    /// Lets a host that stood go on.
    pub fn resume(&mut self, host: HostId) {
        self.hosts[host.0].paused = false;
        self.world.lock().record(host.0, What::Resumed);
    }

    /// Kills the host's service, as by `SIGKILL`: its memory is gone, what it had in flight takes
    /// effect or not, what was written stays in the page cache.
    ///
    /// The service's futures are dropped, but nothing that their destructors do reaches the host.
    pub fn kill(&mut self, host: HostId) {
        self.end_abruptly(host.0, false);
        let mut world = self.world.lock();
        world.record(host.0, What::Killed);
        world.machines[host.0].files.crash_clean();
    }

    /// Turns the host off: as [`kill`](Simulation::kill), and of what was not synced each write is
    /// kept, dropped or torn, and each change of a directory is kept or dropped.
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

    /// Runs until the services that are running have ended.
    ///
    /// # Errors
    ///
    /// See [`FailureKind`].
    pub fn run(&mut self) -> Result<(), Failure> {
        self.run_until(|simulation| simulation.hosts.iter().all(|host| host.running.is_none()))
    }

    /// Runs for a time.
    ///
    /// # Errors
    ///
    /// See [`FailureKind`]; that nothing can happen any more is none here.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), Failure> {
        within_budget(|| self.run_to(self.elapsed().saturating_add(duration)))
    }

    fn run_to(&mut self, end: Duration) -> Result<(), Failure> {
        for _ in 0..self.steps_max {
            let now = self.elapsed();
            if now >= end {
                return Ok(());
            }
            if !self.step_before(Some(end))? {
                self.world.lock().now = nanos(end);
            }
        }
        Err(self.fail(FailureKind::TooLong { steps: self.steps_max }))
    }

    /// Runs until `done` says so; it is asked before each step.
    ///
    /// # Errors
    ///
    /// See [`FailureKind`].
    pub fn run_until(&mut self, done: impl FnMut(&mut Simulation) -> bool) -> Result<(), Failure> {
        within_budget(|| self.run_while_not(done))
    }

    fn run_while_not(
        &mut self,
        mut done: impl FnMut(&mut Simulation) -> bool,
    ) -> Result<(), Failure> {
        for _ in 0..self.steps_max {
            if done(self) {
                return Ok(());
            }
            if !self.step_before(None)? {
                let running = self.hosts.iter().filter(|host| host.running.is_some());
                let hosts = running.map(|host| host.config.name.clone()).collect();
                return Err(self.fail(FailureKind::Stuck { hosts }));
            }
        }
        Err(self.fail(FailureKind::TooLong { steps: self.steps_max }))
    }

    /// Takes one step: one turn of one shard, or time that goes on to what comes next. `false` if
    /// nothing can happen any more.
    ///
    /// # Errors
    ///
    /// See [`FailureKind`].
    pub fn step(&mut self) -> Result<bool, Failure> {
        within_budget(|| self.step_before(None))
    }

    fn step_before(&mut self, end: Option<Duration>) -> Result<bool, Failure> {
        self.world.lock().happen();
        let runnable = self.runnable();
        if runnable.is_empty() {
            return Ok(self.skip(end));
        }
        let next = runnable[self.schedule.pick(runnable.len())];
        let pace = 1 + self.schedule.below(TURN_NANOS_MAX);
        match next {
            Runnable::Shard { host, shard } => self.turn(host, shard)?,
            Runnable::Thread { host } => {
                let work = self.take_thread(host);
                work();
            }
        }
        self.world.lock().now += pace;
        self.check()?;
        Ok(true)
    }

    fn take_thread(&mut self, host: usize) -> Work {
        let mut world = self.world.lock();
        world.record(host, What::ThreadRan);
        world.machines[host].threads.pop_front().expect("a thread is runnable")
    }

    fn runnable(&self) -> Vec<Runnable> {
        let world = self.world.lock();
        let mut runnable = Vec::new();
        let mut asked = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            if host.paused || host.running.is_none() {
                continue;
            }
            let machine = &world.machines[index];
            runnable.extend(machine.threads.iter().map(|_| Runnable::Thread { host: index }));
            for (shard, ring) in machine.rings.iter().enumerate() {
                let Some(ring) = ring else { continue };
                match ring.waiting {
                    Waiting::No => runnable.push(Runnable::Shard { host: index, shard }),
                    Waiting::Until(time) if time <= world.now => {
                        runnable.push(Runnable::Shard { host: index, shard });
                    }
                    _ => asked.push((index, shard)),
                }
            }
        }
        drop(world);
        for (host, shard) in asked {
            let running = self.hosts[host].running.as_ref().expect("looked at above");
            if running.runtime.has_work(shard) {
                runnable.push(Runnable::Shard { host, shard });
            }
        }
        runnable
    }

    /// Nobody can go on: the time goes on to what comes next, or to `end`.
    fn skip(&mut self, end: Option<Duration>) -> bool {
        let mut world = self.world.lock();
        let mut next = world.next();
        for (host, machine) in self.hosts.iter().zip(&world.machines) {
            if host.paused {
                continue;
            }
            for ring in machine.rings.iter().flatten() {
                if let Waiting::Until(time) = ring.waiting {
                    next = Some(next.map_or(time, |next| next.min(time)));
                }
            }
        }
        let next = match (next, end.map(nanos)) {
            (Some(next), Some(end)) => next.min(end),
            (Some(next), None) => next,
            (None, _) => return false,
        };
        world.now = world.now.max(next);
        true
    }

    fn turn(&mut self, host: usize, shard: usize) -> Result<(), Failure> {
        self.world.lock().record(host, What::Turned { shard });
        let running = self.hosts[host].running.as_mut().expect("a running host is turned");
        if let Some(deadline) = running.ending {
            running.runtime.drain(shard, deadline);
            let mut world = self.world.lock();
            let open = world.machines[host].rings.iter().any(Option::is_some);
            let mut left = None;
            if !open {
                world.record(host, What::Ended);
                left = world.machines[host].leftovers();
                world.network.close_all(host);
                world.go_on();
            }
            drop(world);
            return if open { Ok(()) } else { self.finish(host, left) };
        }
        let turned = catch_unwind(AssertUnwindSafe(|| running.runtime.turn(shard)));
        if let Err(payload) = turned {
            // The driver is in no state to be ended, so it is left as it is.
            std::mem::forget(self.hosts[host].running.take());
            let what = format!("the driver panicked: {}", message(&*payload));
            return Err(self.fail(FailureKind::Violation(vec![what])));
        }
        if running.root.is_finished() {
            running.runtime.stop();
            let mut world = self.world.lock();
            running.ending = Some(world.instant(host) + DRAIN);
            for ring in world.machines[host].rings.iter_mut().flatten() {
                ring.waiting = Waiting::No;
            }
        }
        Ok(())
    }

    /// A runtime has ended by itself.
    fn finish(&mut self, host: usize, left: Option<String>) -> Result<(), Failure> {
        let Running { runtime, mut root, .. } =
            self.hosts[host].running.take().expect("a running host ends");
        let name = self.hosts[host].config.name.clone();
        runtime.finish();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(ended) = Pin::new(&mut root).poll(&mut cx) else {
            unreachable!("a service that has ended has a result");
        };
        let kind = match ended {
            Err(error) => {
                let message = match error.try_into_panic() {
                    Ok(payload) => message(&*payload),
                    Err(error) => error.to_string(),
                };
                FailureKind::Panic { host: name, message }
            }
            Ok(Err(error)) => FailureKind::Service { host: name, error },
            Ok(Ok(())) => match left {
                Some(what) => FailureKind::Leak { host: name, what },
                None => return Ok(()),
            },
        };
        Err(self.fail(kind))
    }

    fn check(&mut self) -> Result<(), Failure> {
        let violations = std::mem::take(&mut self.world.lock().violations);
        if violations.is_empty() {
            return Ok(());
        }
        Err(self.fail(FailureKind::Violation(violations)))
    }

    fn fail(&self, kind: FailureKind) -> Failure {
        let world = self.world.lock();
        let latest = world.trace.events().cloned().collect();
        Failure { seed: self.seed, at: Duration::from_nanos(world.now), kind, latest }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        for host in 0..self.hosts.len() {
            self.end_abruptly(host, true);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is no text".to_owned())
}
