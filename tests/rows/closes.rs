//! What is dropped is closed when the drop returns, though something waited for it just before.

use std::io::Read;
use std::time::Duration;

use super::{drops, rt};
use rt::io::AsyncReadExt;

/// How often each is tried.
const TIMES: usize = 20;

/// A wait that is given up.
async fn give_up<T>(wait: impl Future<Output = T>) {
    assert!(rt::time::timeout(Duration::from_millis(1), wait).await.is_err());
}

#[test]
fn a_listener_gives_its_port_back() {
    drops::run(async {
        for _ in 0..TIMES {
            let listener = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            give_up(listener.accept()).await;
            drop(listener);
            std::net::TcpListener::bind(address).unwrap();
        }
    });
}

#[test]
fn a_socket_of_datagrams_gives_its_port_back() {
    drops::run(async {
        for _ in 0..TIMES {
            let socket = rt::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            give_up(socket.recv(&mut [0; 9])).await;
            drop(socket);
            std::net::UdpSocket::bind(address).unwrap();
        }
    });
}

#[test]
fn the_peer_of_a_stream_sees_the_end() {
    drops::run(async {
        for _ in 0..TIMES {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut stream = rt::net::TcpStream::connect(address).await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            peer.set_read_timeout(Some(drops::PATIENCE)).unwrap();
            give_up(stream.read(&mut [0; 9])).await;
            drop(stream);
            assert_eq!(peer.read(&mut [0; 9]).unwrap(), 0);
        }
    });
}

#[test]
fn whoever_shares_a_listener_goes_on() {
    drops::run(async {
        for _ in 0..TIMES {
            let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            theirs.set_nonblocking(true).unwrap();
            let ours = theirs.try_clone().unwrap();
            let listener = rt::net::TcpListener::from_std(ours).unwrap();
            give_up(listener.accept()).await;
            drop(listener);
            let _client = std::net::TcpStream::connect(theirs.local_addr().unwrap()).unwrap();
            theirs.set_nonblocking(false).unwrap();
            theirs.accept().unwrap();
        }
    });
}
