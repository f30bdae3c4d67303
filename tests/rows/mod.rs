//! The rows, over whatever runtime the module around this one calls `rt`.

use super::rt;

mod closes;
mod drops;
mod numbers;
mod peeks;
mod signals;

#[path = "."]
mod tcp {
    use std::net::SocketAddr as Address;
    use std::net::TcpStream as Peer;

    use super::rt::net::{TcpListener as Listener, TcpSocket, TcpStream as Stream};
    use super::{drops, numbers, rt};

    mod accepts;
    mod halves;
    mod readers;
    mod unsafe_rows;
    mod writers;

    /// A stream, and a blocking one at its other end. Little fits between them.
    pub async fn pair() -> (Stream, Peer) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(32 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(32 << 10).unwrap();
        let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let peer = listener.accept().await.unwrap().0.into_std().unwrap();
        peer.set_nonblocking(false).unwrap();
        peer.set_nodelay(true).unwrap();
        (stream, peer)
    }

    async fn listen() -> (Listener, Address, ()) {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address, ())
    }
}

#[path = "."]
mod unix {
    use std::os::unix::net::UnixStream as Peer;
    use std::path::PathBuf as Address;

    use tempfile::TempDir;

    use super::rt::net::{UnixListener as Listener, UnixStream as Stream};
    use super::{drops, numbers, rt};

    mod accepts;
    mod halves;
    mod readers;
    mod unsafe_rows;
    mod writers;

    async fn pair() -> (Stream, Peer) {
        let (ours, peer) = Peer::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Stream::from_std(ours).unwrap(), peer)
    }

    async fn listen() -> (Listener, Address, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        (Listener::bind(&path).unwrap(), path, directory)
    }
}

#[path = "."]
mod udp {
    use std::net::{SocketAddr, SocketAddr as Target, UdpSocket as Peer};

    use super::rt::net::UdpSocket as Socket;
    use super::{drops, numbers, rt};

    mod datagrams;

    /// A socket, a blocking one, and the addresses of both. Neither is connected.
    async fn pair() -> (Socket, Target, Peer, Target, ()) {
        let socket = Socket::bind("127.0.0.1:0").await.unwrap();
        let peer = Peer::bind("127.0.0.1:0").unwrap();
        let (ours, theirs) = (socket.local_addr().unwrap(), peer.local_addr().unwrap());
        (socket, ours, peer, theirs, ())
    }

    async fn connect(socket: &Socket, target: &Target) {
        socket.connect(*target).await.unwrap();
    }

    fn at(target: &Target) -> SocketAddr {
        *target
    }

    fn is(address: &SocketAddr, target: &Target) -> bool {
        address == target
    }
}

#[path = "."]
mod unix_datagrams {
    use std::os::unix::net::UnixDatagram as Peer;
    use std::path::{Path, PathBuf as Target};

    use tempfile::TempDir;

    use super::rt::net::{UnixDatagram as Socket, unix::SocketAddr};
    use super::{drops, numbers, rt};

    mod datagrams;

    async fn pair() -> (Socket, Target, Peer, Target, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let (ours, theirs) = (directory.path().join("ours"), directory.path().join("theirs"));
        let (socket, peer) = (Socket::bind(&ours).unwrap(), Peer::bind(&theirs).unwrap());
        (socket, ours, peer, theirs, directory)
    }

    async fn connect(socket: &Socket, target: &Target) {
        socket.connect(target).unwrap();
    }

    fn at(target: &Target) -> &Path {
        target
    }

    fn is(address: &SocketAddr, target: &Target) -> bool {
        address.as_pathname() == Some(target)
    }
}
