//! Signals that a simulation sends to its hosts' services.

use super::Simulation;
use crate::host::HostId;
use crate::signals::HIGHEST;
use crate::trace::What;

/// What a signal does to a service that never listened for it.
enum Action {
    End,
    Ignore,
    Stop,
}

impl Action {
    fn of(number: i32) -> Action {
        match number {
            // Programs in Rust ignore `SIGPIPE` from their start.
            libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT | libc::SIGPIPE => {
                Action::Ignore
            }
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Action::Stop,
            _ => Action::End,
        }
    }
}

impl Simulation {
    /// Sends a signal to the host's service: to all its listeners, or, if it never had one for this
    /// signal, it does what the signal does by default. That is to end the service as
    /// [`kill`](Simulation::kill) does, to stop it as [`pause`](Simulation::pause) does, or
    /// nothing. `SIGCONT` lets a service that was stopped go on.
    ///
    /// # Panics
    ///
    /// If there is no signal of this number.
    ///
    /// ```
    /// # use ringhold_sim::{HostConfig, Simulation};
    /// # let mut simulation = Simulation::new(1);
    /// # let host = simulation.host(HostConfig::new("store"));
    /// simulation.start(host, || async { runtime::signal::ctrl_c().await });
    /// simulation.run_for(std::time::Duration::from_secs(1))?;
    /// assert!(simulation.is_running(host));
    /// simulation.signal(host, libc::SIGINT);
    /// simulation.run()?;
    /// # Ok::<(), ringhold_sim::Failure>(())
    /// ```
    #[track_caller]
    pub fn signal(&mut self, host: HostId, number: i32) {
        assert!((1..=HIGHEST).contains(&number), "there is no signal {number}");
        if !self.is_running(host) {
            return;
        }
        let mut world = self.world.lock();
        world.record(host.0, What::Signalled { number });
        let is_caught = world.tell_signal(host.0, number);
        drop(world);
        if number == libc::SIGCONT && self.hosts[host.0].paused {
            self.resume(host);
        }
        match Action::of(number) {
            _ if is_caught => {}
            Action::End => self.kill(host),
            Action::Ignore => {}
            Action::Stop => self.pause(host),
        }
    }
}
