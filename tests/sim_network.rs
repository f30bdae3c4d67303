//! The simulated network below any socket type: what `Sockets` answers on simulated hosts.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringhold_runtime::{SocketAddress, System, system};
use ringhold_sim::{Failure, HostConfig, HostId, Link, Simulation};
use runtime::time::sleep;

const PORT: u16 = 53;

/// A socket that is closed when it is dropped.
struct Socket {
    descriptor: RawFd,
    system: Arc<dyn System>,
}

impl Socket {
    fn datagrams(port: u16) -> io::Result<Socket> {
        let system = system();
        let descriptor = system.sockets().open(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        let socket = Socket { descriptor, system };
        let any = SocketAddress::from(std::net::SocketAddr::from(([0, 0, 0, 0], port)));
        socket.system.sockets().bind(descriptor, &any)?;
        Ok(socket)
    }

    fn pair(kind: i32) -> io::Result<[Socket; 2]> {
        let system = system();
        let pair = system.sockets().pair(kind)?;
        Ok(pair.map(|descriptor| Socket { descriptor, system: system.clone() }))
    }

    fn send(&self, bytes: &[u8], to: Option<&SocketAddress>) -> io::Result<usize> {
        self.system.sockets().send_now(self.descriptor, &[IoSlice::new(bytes)], to, 0)
    }

    fn receive(&self, most: usize) -> io::Result<(Vec<u8>, SocketAddress)> {
        let mut bytes = vec![0; most];
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        let mut from = SocketAddress::new();
        let sockets = self.system.sockets();
        let count = sockets.receive_now(self.descriptor, buffers, Some(&mut from), 0)?;
        bytes.truncate(count);
        Ok((bytes, from))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.system.close(self.descriptor);
    }
}

fn kind_of<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.expect_err("it is refused").kind()
}

/// Numbers that arrive at the server of a thousand that its client sends, in their order.
fn datagrams(
    seed: u64,
    between: impl FnOnce(&mut Simulation, HostId, HostId),
) -> Result<Vec<u32>, Failure> {
    let mut simulation = Simulation::new(seed);
    let [server, client] = ["server", "client"].map(|name| simulation.host(HostConfig::new(name)));
    between(&mut simulation, server, client);
    let arrived = Rc::new(RefCell::new(Vec::new()));
    let noted = arrived.clone();
    simulation.start(server, move || {
        let arrived = noted.clone();
        async move {
            let socket = Socket::datagrams(PORT)?;
            for _ in 0..20_000 {
                match socket.receive(16) {
                    Ok((bytes, from)) => {
                        let from = from.to_inet().expect("an address of the Internet's");
                        assert_eq!((bytes.len(), from.ip().to_string().as_str()), (4, "10.0.0.2"));
                        let number = bytes.try_into().expect("four bytes");
                        arrived.borrow_mut().push(u32::from_le_bytes(number));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        sleep(Duration::from_micros(10)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok::<(), io::Error>(())
        }
    });
    simulation.start(client, || async {
        sleep(Duration::from_millis(1)).await;
        let socket = Socket::datagrams(0)?;
        let known = system().sockets().resolve("server", PORT)?;
        let server = SocketAddress::from(known[0]);
        for number in 0..1000_u32 {
            assert_eq!(socket.send(&number.to_le_bytes(), Some(&server))?, 4);
            sleep(Duration::from_micros(20)).await;
        }
        Ok::<(), io::Error>(())
    });
    simulation.run()?;
    Ok(arrived.take())
}

#[test]
fn datagrams_are_lost_and_late_as_their_link_says() {
    let latency = Duration::from_micros(50);
    let over = |seed, link| {
        datagrams(seed, |simulation, server, client| simulation.set_link(client, server, link))
    };
    assert_eq!(over(11, Link::new(latency)).unwrap().len(), 1000);
    let some = over(12, Link::new(latency).loss(0.2)).unwrap();
    assert!((700..900).contains(&some.len()), "{} arrived", some.len());
    let late = over(13, Link::new(latency).late(0.1)).unwrap();
    assert_eq!(late.len(), 1000);
    assert!(!late.is_sorted(), "none was overtaken");
}

#[test]
fn a_way_that_is_cut_lets_nothing_through_and_the_way_back_is_another_one() {
    let none = datagrams(14, |simulation, server, client| simulation.cut(client, server));
    assert_eq!(none.unwrap(), []);
    let all = datagrams(15, |simulation, server, client| simulation.cut(server, client));
    assert_eq!(all.unwrap().len(), 1000);
    let mended = datagrams(16, |simulation, server, client| {
        simulation.partition(&[server], &[client]);
        simulation.mend_all();
    });
    assert_eq!(mended.unwrap().len(), 1000);
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    let lossy = |seed| {
        let link = Link::new(Duration::from_micros(50)).loss(0.3).late(0.2);
        datagrams(seed, |simulation, server, client| simulation.set_link(client, server, link))
    };
    assert_eq!(lossy(17).unwrap(), lossy(17).unwrap());
    assert_ne!(lossy(17).unwrap(), lossy(18).unwrap());
}

#[test]
fn a_pair_of_streams_carries_bytes_in_order_within_a_window_until_one_end_is_closed() {
    let mut simulation = Simulation::new(19);
    let host = simulation.host(HostConfig::new("host"));
    simulation.start(host, || async {
        let [one, other] = Socket::pair(libc::SOCK_STREAM)?;
        assert_eq!(kind_of(other.receive(1)), ErrorKind::WouldBlock);
        let bytes: Vec<u8> = (0..1 << 20).map(|index: usize| (index / 1000) as u8).collect();
        let mut sent = 0;
        while let Ok(count) = one.send(&bytes[sent..], None) {
            sent += count;
        }
        // Both buffers, and not all there is.
        assert_eq!(sent, 128 << 10);
        let mut received = Vec::new();
        while received.len() < bytes.len() {
            match other.receive(5000) {
                Ok((part, _)) => received.extend(part),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if sent < bytes.len()
                && let Ok(count) = one.send(&bytes[sent..], None)
            {
                sent += count;
            }
            sleep(Duration::from_micros(3)).await;
        }
        assert!(received == bytes, "bytes came in another order");
        drop(one);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(other.receive(1)?.0, b"");
        other.send(b"to nobody", None)?;
        sleep(Duration::from_millis(1)).await;
        assert_eq!(kind_of(other.send(b"again", None)), ErrorKind::ConnectionReset);
        assert_eq!(kind_of(other.send(b"again", None)), ErrorKind::BrokenPipe);
        Ok::<(), io::Error>(())
    });
    simulation.run().unwrap();
}

#[test]
fn a_pair_of_datagram_sockets_keeps_each_whole() {
    let mut simulation = Simulation::new(20);
    let host = simulation.host(HostConfig::new("host"));
    simulation.start(host, || async {
        let [one, other] = Socket::pair(libc::SOCK_DGRAM)?;
        one.send(b"whole", None)?;
        one.send(b"or not at all", None)?;
        assert_eq!(other.receive(32)?.0, b"whole");
        assert_eq!(other.receive(2)?.0, b"or");
        assert_eq!(kind_of(other.receive(32)), ErrorKind::WouldBlock);
        Ok::<(), io::Error>(())
    });
    simulation.run().unwrap();
}

#[test]
fn names_that_are_taken_missing_or_elsewhere_are_refused() {
    let mut simulation = Simulation::new(21);
    let host = simulation.host(HostConfig::new("host"));
    simulation.start(host, || async {
        let _first = Socket::datagrams(PORT)?;
        assert_eq!(kind_of(Socket::datagrams(PORT).map(drop)), ErrorKind::AddrInUse);
        let second = Socket::datagrams(0)?;
        let sockets = second.system.sockets();
        let local = sockets.local_address(second.descriptor)?.to_inet();
        assert_eq!(local.map(|local| local.port()), Some(32_768));
        let nowhere = SocketAddress::from(std::net::SocketAddr::from(([192, 0, 2, 1], 1)));
        let refused = second.send(b"?", Some(&nowhere));
        assert_eq!(kind_of(refused), ErrorKind::NetworkUnreachable);
        assert_eq!(kind_of(sockets.resolve("nobody", 1)), ErrorKind::NotFound);
        Ok::<(), io::Error>(())
    });
    simulation.run().unwrap();
}

#[test]
fn a_socket_that_is_forgotten_is_a_leak() {
    let mut simulation = Simulation::new(22);
    let host = simulation.host(HostConfig::new("host"));
    simulation.start(host, || async {
        std::mem::forget(Socket::datagrams(PORT)?);
        Ok::<(), io::Error>(())
    });
    let text = simulation.run().expect_err("it is open").to_string();
    assert!(text.contains("descriptors [3] open"), "{text}");
}
