//! What a simulation does to the network between its hosts.

use std::net::IpAddr;

use super::Simulation;
use crate::host::HostId;
use crate::net::{self, Link};

impl Simulation {
    /// A host's address: what its sockets are bound to if they are bound to every address, and what
    /// others reach it by. Its name leads there too, and to an address of IPv6.
    ///
    /// ```
    /// use ringhold_sim::{HostConfig, Simulation};
    ///
    /// let mut simulation = Simulation::new(1);
    /// let host = simulation.host(HostConfig::new("store"));
    /// assert_eq!(simulation.address(host).to_string(), "10.0.0.1");
    /// ```
    pub fn address(&self, host: HostId) -> IpAddr {
        net::addresses(host.0)[0]
    }

    /// Changes how long what goes from one host to another takes, and what is lost of it. The way
    /// back is another one.
    pub fn set_link(&mut self, from: HostId, to: HostId, link: Link) {
        self.world.lock().network.links.set(from.0, to.0, link);
    }

    /// Cuts the way from one host to another, and not the way back. Datagrams are lost. What
    /// belongs to a connection is sent again and again, until the way is mended or, after as long
    /// as on Linux, the sender gives up with `ETIMEDOUT`: 127 seconds while it connects, and a
    /// quarter of an hour afterwards.
    pub fn cut(&mut self, from: HostId, to: HostId) {
        self.world.lock().network.links.cut(from.0, to.0);
    }

    /// Cuts both ways between each host of one group and each of the other.
    ///
    /// ```
    /// use ringhold_sim::{HostConfig, Simulation};
    ///
    /// let mut simulation = Simulation::new(1);
    /// let hosts = ["a", "b", "c"].map(|name| simulation.host(HostConfig::new(name)));
    /// simulation.partition(&hosts[..1], &hosts[1..]);
    /// simulation.mend_all();
    /// ```
    pub fn partition(&mut self, some: &[HostId], others: &[HostId]) {
        for one in some {
            for other in others {
                self.cut(*one, *other);
                self.cut(*other, *one);
            }
        }
    }

    /// Mends the way from one host to another. What was held goes on.
    pub fn mend(&mut self, from: HostId, to: HostId) {
        let mut world = self.world.lock();
        world.network.links.mend(from.0, to.0);
        world.network.release();
        world.go_on();
    }

    /// Mends all ways.
    pub fn mend_all(&mut self) {
        let mut world = self.world.lock();
        world.network.links.mend_all();
        world.network.release();
        world.go_on();
    }

    /// Resets every connection of a host, at both its ends, as a firewall does that has forgotten
    /// them.
    pub fn reset_connections(&mut self, host: HostId) {
        let mut world = self.world.lock();
        world.network.reset_all(host.0);
        world.go_on();
    }
}
