//! Whatever is done with the operations of sockets, nothing is lost: as `tests/conservation.rs` for
//! files, with the same variable.
//!
//! Each operation has sockets of its own, so that whatever it left in flight is over with it. Half
//! of them find what they want, the other half wait for it.

mod common;
mod conserved;
mod watched;

use std::io::{ErrorKind, Read, Write};
use std::net::{self, SocketAddr};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;

use conserved::{PAGE, classes, lease, pinned};
use runtime::buffers;
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, UnixDatagram, UnixStream};
use runtime::task::{spawn_local, yield_now};
use watched::{Dropped, poll_once};

// The numbers of the opcodes, as `linux/io_uring.h` has them.
const READ_FIXED: u8 = 4;
const WRITE_FIXED: u8 = 5;
const POLL_ADD: u8 = 6;
const CONNECT: u8 = 16;
const SEND: u8 = 26;
const RECV: u8 = 27;
const SEND_ZC: u8 = 47;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Accept,
    Connect,
    Poll,
    Receive,
    ReceiveOwned,
    ReceiveFixed,
    ReceiveLeases,
    Send,
    SendOwned,
    SendFixed,
    SendZeroCopy,
    ReceiveDatagram,
    SendDatagram,
    Shutdown,
    Cancel,
}

/// What the operations of all classes work on.
struct Ground {
    class: Class,
    listener: net::TcpListener,
    address: SocketAddr,
}

impl Ground {
    async fn new(class: Class, _: PathBuf) -> Ground {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        // The first lease pins the arena, and the first stream of leases makes the group.
        drop(buffers::lease(PAGE).await.unwrap());
        Ground { class, listener, address }
    }

    /// A connection whose ends leave no port behind.
    fn tcp_pair(&self) -> (TcpStream, TcpStream) {
        let client = net::TcpStream::connect(self.address).unwrap();
        let server = self.listener.accept().unwrap().0;
        [client, server]
            .map(|stream| {
                stream.set_nonblocking(true).unwrap();
                let stream = TcpStream::from_std(stream).unwrap();
                stream.set_zero_linger().unwrap();
                stream
            })
            .into()
    }

    /// A connect, to a listener that nobody asks, but for those whose connections are over.
    fn connect(&self) -> Dropped {
        while self.listener.accept().is_ok() {}
        let address = self.address;
        pinned(async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_zero_linger().unwrap();
            socket.connect(address).await.unwrap()
        })
    }

    /// An accept, of a connection that is there or comes soon.
    fn accept(number: usize) -> Dropped {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        soon(number, move || {
            // The listener may be gone already.
            if let Ok(client) = net::TcpStream::connect(address) {
                TcpStream::from_std(client).unwrap().set_zero_linger().unwrap();
            }
        });
        pinned(async move { listener.accept().await.unwrap() })
    }

    /// A receive by any means, of a byte that is there or comes soon.
    fn receive(&self, number: usize) -> Dropped {
        let (mut stream, mut peer) = pair();
        if self.class != Class::Cancel {
            // The stream may be gone already.
            soon(number, move || drop(peer.write(&[0x5A])));
        } else {
            // The peer says nothing as long as the operation is there.
            return pinned(async move {
                match number % 3 {
                    0 => drop(stream.read_owned(vec![0; PAGE]).await),
                    1 => drop(stream.read_fixed(lease(0)).await),
                    _ => drop(stream.leases(PAGE).next().await),
                }
                drop(peer);
            });
        }
        match self.class {
            Class::Poll => pinned(async move { stream.readable().await.unwrap() }),
            Class::Receive => pinned(async move { stream.read(&mut [0; 64]).await.unwrap() }),
            Class::ReceiveOwned => {
                pinned(async move { stream.read_owned(vec![0; PAGE]).await.unwrap() })
            }
            Class::ReceiveFixed => {
                let lease = lease(0);
                pinned(async move { stream.read_fixed(lease).await.unwrap() })
            }
            Class::ReceiveLeases => pinned(async move {
                let lease = stream.leases(PAGE).next().await;
                assert_eq!(&lease.unwrap().unwrap()[..], [0x5A]);
            }),
            class => unreachable!("{class:?} doesn't receive"),
        }
    }

    /// A send by any means, for which there is room, or will be soon.
    fn send(&self, number: usize) -> Dropped {
        let (mut stream, mut peer) = pair();
        if number % 2 == 1 {
            while stream.try_write(&[0x5A; 16 * PAGE]).is_ok() {}
        }
        if self.class == Class::Shutdown && number % 4 == 1 {
            // It waits for a send that nobody awaits any more.
            assert!(poll_once(&mut Box::pin(stream.write_owned(vec![0x5A; PAGE]))).is_pending());
        }
        soon(number, move || {
            let mut bytes = [0; 16 * PAGE];
            loop {
                match peer.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("a peer could not read: {error}"),
                }
            }
        });
        match self.class {
            Class::Send => pinned(async move { stream.write(&[0x5A; 64]).await }),
            Class::SendOwned => pinned(async move { stream.write_owned(vec![0x5A; PAGE]).await }),
            Class::SendFixed => {
                let lease = lease(PAGE);
                pinned(async move { stream.write_fixed(lease).await })
            }
            Class::Shutdown => pinned(async move { stream.shutdown().await }),
            class => unreachable!("{class:?} doesn't send"),
        }
    }

    /// A zero-copy send, whose end is awaited or not.
    fn send_zero_copy(&self, number: usize) -> Dropped {
        let ((stream, peer), lease) = (self.tcp_pair(), lease(PAGE));
        pinned(async move {
            let (count, sending) = stream.send_zero_copy(lease).await.unwrap();
            assert_eq!(count, PAGE);
            if number % 2 == 1 {
                assert_eq!(peer.read_owned(vec![0; PAGE]).await.unwrap().0, PAGE);
                assert_eq!(sending.await.len(), PAGE);
            }
        })
    }
}

/// A stream, and a blocking one at its other end that never waits.
fn pair() -> (UnixStream, StdStream) {
    let (stream, peer) = StdStream::pair().unwrap();
    for end in [&stream, &peer] {
        end.set_nonblocking(true).unwrap();
    }
    (UnixStream::from_std(stream).unwrap(), peer)
}

/// What a peer does: at once, or after a few turns.
fn soon(number: usize, act: impl FnOnce() + 'static) {
    if number.is_multiple_of(2) {
        return act();
    }
    spawn_local(async move {
        for _ in 0..number / 2 % 4 {
            yield_now().await;
        }
        act();
    });
}

fn receive_datagram(number: usize) -> Dropped {
    let [socket, peer] = [(); 2].map(|()| {
        let socket = net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    });
    let to = socket.local_addr().unwrap();
    soon(number, move || assert_eq!(peer.send_to(&[0x5A], to).unwrap(), 1));
    let socket = UdpSocket::from_std(socket).unwrap();
    pinned(async move { assert_eq!(socket.recv_from(&mut [0; 64]).await.unwrap().0, 1) })
}

fn send_datagram(number: usize) -> Dropped {
    let (socket, peer) = UnixDatagram::pair().unwrap();
    if number % 2 == 1 {
        while socket.try_send(&[0x5A; 64]).is_ok() {}
    }
    soon(number, move || {
        while peer.try_recv(&mut [0; 64]).is_ok() {}
        // The socket is connected to the peer for as long as it is there.
        spawn_local(async move {
            yield_now().await;
            drop(peer);
        });
    });
    // The peer may be gone already.
    pinned(async move { socket.send(&[0x5A; 64]).await })
}

impl conserved::Ground for Ground {
    fn operation(&self, number: usize) -> Dropped {
        match self.class {
            Class::Accept => Ground::accept(number),
            Class::Connect => self.connect(),
            Class::Poll
            | Class::Receive
            | Class::ReceiveOwned
            | Class::ReceiveFixed
            | Class::ReceiveLeases
            | Class::Cancel => self.receive(number),
            Class::Send | Class::SendOwned | Class::SendFixed | Class::Shutdown => {
                self.send(number)
            }
            Class::SendZeroCopy => self.send_zero_copy(number),
            Class::ReceiveDatagram => receive_datagram(number),
            Class::SendDatagram => send_datagram(number),
        }
    }

    fn ends(&self) -> bool {
        self.class != Class::Cancel
    }

    fn opcode(&self) -> Option<u8> {
        Some(match self.class {
            Class::Connect => CONNECT,
            Class::ReceiveOwned | Class::ReceiveLeases | Class::Cancel => RECV,
            Class::ReceiveFixed => READ_FIXED,
            Class::SendOwned | Class::Shutdown => SEND,
            Class::SendFixed => WRITE_FIXED,
            Class::SendZeroCopy => SEND_ZC,
            // What is tried first comes to the ring where it has to wait.
            Class::Accept
            | Class::Poll
            | Class::Receive
            | Class::Send
            | Class::ReceiveDatagram
            | Class::SendDatagram => POLL_ADD,
        })
    }
}

classes! { Ground:
    accepts_leave_nothing_behind: Accept,
    connects_leave_nothing_behind: Connect,
    waits_for_a_socket_leave_nothing_behind: Poll,
    receives_leave_nothing_behind: Receive,
    owned_receives_leave_nothing_behind: ReceiveOwned,
    fixed_receives_leave_nothing_behind: ReceiveFixed,
    receives_of_leases_leave_nothing_behind: ReceiveLeases,
    sends_leave_nothing_behind: Send,
    owned_sends_leave_nothing_behind: SendOwned,
    fixed_sends_leave_nothing_behind: SendFixed,
    zero_copy_sends_leave_nothing_behind: SendZeroCopy,
    receives_of_datagrams_leave_nothing_behind: ReceiveDatagram,
    sends_of_datagrams_leave_nothing_behind: SendDatagram,
    shutdowns_leave_nothing_behind: Shutdown,
    cancelled_receives_leave_nothing_behind: Cancel,
}
