//! Unix sockets: listeners, streams, their halves, datagrams, and sockets that are none of them
//! yet.

mod address;
mod credentials;
mod datagram;
mod listener;
mod socket;
mod split;
mod stream;

pub use address::SocketAddr;
pub use credentials::UCred;
pub use datagram::UnixDatagram;
pub use listener::UnixListener;
pub use socket::UnixSocket;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use stream::UnixStream;
