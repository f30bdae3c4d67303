//! Who on a host listens for which signal.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::os::fd::RawFd;
use std::sync::Arc;

use ringhold_kernel::{SignalCounts, SignalEvents, Sockets};

use crate::net::{Kind, SocketId};
use crate::system::SimSystem;
use crate::world::World;

/// The highest number of a signal.
pub(crate) const HIGHEST: i32 = 64;

/// The listeners of one start of a service.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// By the socket that stands for the listener's event.
    signals: BTreeMap<SocketId, i32>,
    /// What the service ever listened for: its default action doesn't come back, and it is counted.
    caught: BTreeMap<i32, Arc<SignalCounts>>,
}

/// A listener. What tells of a signal is a datagram.
struct Listener {
    system: SimSystem,
    socket: SocketId,
    /// The caller's, who closes it after this was dropped.
    event: RawFd,
    counts: Arc<SignalCounts>,
}

impl SimSystem {
    pub(crate) fn listen(&self, number: i32) -> io::Result<(Box<dyn SignalEvents>, RawFd)> {
        let (event, socket, counts) = self.ask(|world| {
            if !(1..=HIGHEST).contains(&number) {
                return Err(libc::EINVAL);
            }
            let kind = Kind { domain: libc::AF_UNIX, is_stream: false };
            let socket = world.network.open(self.host, kind);
            let installed = world.install(self.host, socket);
            let descriptor = installed.inspect_err(|_| world.network.close(socket))?;
            let listeners = &mut world.machines[self.host].listeners;
            let counts = listeners.caught.entry(number).or_default().clone();
            listeners.signals.insert(socket, number);
            Ok((descriptor, socket, counts))
        })?;
        Ok((Box::new(Listener { system: self.clone(), socket, event, counts }), event))
    }
}

impl SignalEvents for Listener {
    fn take(&self) -> bool {
        self.system.receive_now(self.event, &mut [IoSliceMut::new(&mut [0])], None, 0).is_ok()
    }

    fn counts(&self) -> &SignalCounts {
        &self.counts
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another start of the service has other sockets.
        let mut world = self.system.world.lock();
        world.machines[self.system.host].listeners.signals.remove(&self.socket);
    }
}

impl World {
    /// Tells the host's listeners of a signal. `false` if it was never listened for.
    pub(crate) fn tell_signal(&mut self, host: usize, number: i32) -> bool {
        let listeners = &self.machines[host].listeners;
        let caught = listeners.caught.get(&number);
        caught.into_iter().for_each(|counts| counts.come());
        let is_caught = caught.is_some();
        let told = listeners.signals.iter().filter(|(_, signal)| **signal == number);
        for socket in told.map(|(socket, _)| *socket).collect::<Vec<_>>() {
            self.network.tell(socket);
        }
        self.go_on();
        is_caught
    }
}
