//! Sockets on the Ringhold runtime.
//!
//! Applications use the face, package `ringhold`, which has all of this as its module `net`.
//!
//! The types, their functions and their meaning are tokio's. Streams also read and write by
//! operations that take a buffer and give it back: [`TcpStream::read_owned`],
//! [`TcpStream::read_fixed`] and others.
//!
//! ```
//! # ringhold_runtime::Builder::new_current_thread().run(async {
//! use ringhold_net::{TcpListener, TcpStream};
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let client = TcpStream::connect(listener.local_addr()?).await?;
//! let (server, _) = listener.accept().await?;
//! client.write_all_owned("hello").await?;
//! let (count, buffer) = server.read_owned(vec![0; 64]).await?;
//! assert_eq!(&buffer[..count], b"hello");
//! # std::io::Result::Ok(()) })??;
//! # std::io::Result::Ok(())
//! ```
//!
//! Calls that wait let other tasks on now and then, however fast their peer is. The calls whose
//! names begin with `try_` take no step from the task's budget: a loop over them that a peer can
//! keep going awaits [`consume_budget`](ringhold_runtime::task::consume_budget) in its body.

mod address;
mod datagrams;
mod halves;
mod incoming;
mod leases;
mod macros;
mod options;
mod owned;
mod readiness;
mod setters;
mod sides;
mod socket;
mod stream;
pub mod tcp;
mod udp;
mod uninit;
pub mod unix;
mod zero_copy;

pub use address::{ToSocketAddrs, lookup_host};
pub use incoming::{Incoming, Listener};
pub use leases::Leases;
pub use readiness::{Interest, Ready};
pub use stream::Undelivered;
pub use tcp::{TcpListener, TcpSocket, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixSocket, UnixStream};
pub use zero_copy::Sending;
