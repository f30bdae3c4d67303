//! A simulated machine for services on the Ringhold runtime, and for the runtime itself.
//!
//! A service's own tests run its unchanged code on hosts whose kernel, disk and clock are
//! simulated, behind the very submission and completion queues that io_uring has. Everything is
//! drawn from one seed: who runs next, how long an operation takes, what goes wrong, what a disk
//! keeps when the power goes. The same seed gives the same run, so a failure can be looked at as
//! often as it takes. Nothing above the queues knows: there is no feature, no flag and no second
//! path in the runtime.
//!
//! ```
//! use ringhold_sim::{Failure, HostConfig, Simulation};
//! use runtime::fs::{self, File};
//!
//! let mut simulation = Simulation::new(7);
//! let host = simulation.host(HostConfig::new("store"));
//! simulation.start(host, || async {
//!     let file = File::create_new("/record").await?;
//!     file.write_all_at("synced", 0).await?;
//!     file.sync_all().await?;
//!     File::open("/").await?.sync_all().await?; // or the name may be lost
//!     file.write_all_at("UNSYNCED", 0).await?;
//!     std::io::Result::Ok(())
//! });
//! simulation.run()?;
//! simulation.lose_power(host);
//! simulation.start(host, || async {
//!     let bytes = fs::read("/record").await?;
//!     assert!(bytes.starts_with(b"synced") || bytes.starts_with(b"UNSYNC"), "{bytes:?}");
//!     std::io::Result::Ok(())
//! });
//! simulation.run()?;
//! # Ok::<(), Failure>(())
//! ```
//!
//! # What is simulated
//!
//! - The *ring*: short transfers, enters that fail before or after they took entries, full queues,
//!   completions in any order, cancels that win or come too late. What is read into is poisoned
//!   from the push to the completion; what is written from must not change meanwhile.
//! - The *disk*: [`disk`] tells its rules.
//! - The *network*: TCP, UDP and Unix sockets, with names, ports and queues; latency, loss,
//!   datagrams that overtake each other, receivers that are slow, resets, connections of which one
//!   end is gone, and ways that are cut in one direction or in both ([`Link`],
//!   [`Simulation::cut`], [`Simulation::partition`], [`Fault::ConnectionReset`]).
//! - *Time*: waiting costs nothing. [`Simulation::drift`] makes a host's clock fast or slow.
//! - *Signals*, to services that listen for them and to those that don't: [`Simulation::signal`].
//! - *Hosts*: as many as are wanted, each with a runtime of as many shards as are wanted; they are
//!   killed, turned off, paused and started again.
//! - *Blocking closures* run on the same thread, when the seed says so.
//!
//! # What isn't
//!
//! Threads that a service starts by itself, the standard library's own files and clocks, hash maps
//! with random keys: what a service does with these isn't repeated. A descriptor of a simulated
//! file is a number of the simulation's, so nothing of the standard library can use it. A
//! `Metadata` has the kind, length, permissions and times of the simulated file, and the inode of
//! none. A seed gives the same run with the same version of this crate and of the generator's.

pub mod choose;
mod clock;
mod dice;
pub mod disk;
mod execute;
mod failure;
mod faults;
mod following;
mod host;
mod kernel;
mod latency;
mod machine;
mod many;
mod memory;
mod metadata;
mod net;
mod operations;
mod request;
mod ring;
mod seeds;
mod signals;
mod simulation;
mod sockets;
mod system;
mod telling;
mod trace;
mod world;

pub use choose::Choose;
pub use failure::{Failure, FailureKind};
pub use faults::{Fault, Faults};
pub use host::{HostConfig, HostId, Verdict};
pub use latency::Latency;
pub use net::Link;
pub use seeds::{for_each_seed, seeds};
pub use simulation::Simulation;
pub use trace::{Event, Trace, What};
