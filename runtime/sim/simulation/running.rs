//! Running a simulation: who goes on next, and until when.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringhold_runtime::{foreign, within_budget};

use super::Simulation;
use crate::Choose;
use crate::failure::{Failure, FailureKind};
use crate::host::{DRAIN, Running};
use crate::machine::Work;
use crate::ring::Waiting;
use crate::trace::What;

/// The longest that one turn of a shard takes of the simulation's time, in nanoseconds.
const TURN_NANOS_MAX: u64 = 2000;

/// Who may go on.
#[derive(Clone, Copy, Debug)]
enum Runnable {
    Shard { host: usize, shard: usize },
    Thread { host: usize },
}

impl Simulation {
    /// Runs until the services that are running have ended.
    ///
    /// # Errors
    ///
    /// See [`FailureKind`].
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async { runtime::fs::read("/none").await.map(drop) });
    /// let failure = simulation.run().unwrap_err();
    /// assert!(failure.to_string().contains("RINGHOLD_SEED=1"));
    /// ```
    pub fn run(&mut self) -> Result<(), Failure> {
        self.run_until(|simulation| simulation.hosts.iter().all(|host| host.running.is_none()))
    }

    /// Takes this many steps, or fewer if the services that are running end before: a crash test
    /// draws how many, and pulls the plug. `true` if a service is still running.
    ///
    /// # Errors
    ///
    /// See [`FailureKind`].
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async { runtime::fs::write("/file", "bytes").await });
    /// let is_running = simulation.run_steps(2)?;
    /// assert!(is_running);
    /// simulation.lose_power(host);
    /// assert!(!simulation.run_steps(1000)?);
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    pub fn run_steps(&mut self, steps: u64) -> Result<bool, Failure> {
        let mut left = steps;
        self.run_until(|simulation| {
            let is_over = left == 0;
            left = left.saturating_sub(1);
            is_over || simulation.hosts.iter().all(|host| host.running.is_none())
        })?;
        Ok(self.hosts.iter().any(|host| host.running.is_some()))
    }

    /// Runs for a time.
    ///
    /// # Errors
    ///
    /// See [`FailureKind`]; that nothing can happen any more is none here.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, std::future::pending::<()>);
    /// simulation.run_for(std::time::Duration::from_secs(3600))?;
    /// assert!(simulation.is_running(host));
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
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
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async { runtime::fs::write("/file", "bytes").await });
    /// simulation.run_until(|it| it.with_files(host, |files| files.used_inodes()) > 1)?;
    /// assert!(simulation.is_running(host)); // the file is there, and the service has not ended
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
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
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, std::future::pending::<()>);
    /// while simulation.step()? {}
    /// assert!(simulation.is_running(host)); // and nothing can happen any more
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
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
        let turned = foreign::run(|| running.runtime.turn(shard));
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is no text".to_owned())
}
