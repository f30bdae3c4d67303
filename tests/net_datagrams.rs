//! UDP, and Unix sockets of both kinds, behave as tokio's.

mod common;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Shutdown};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as std_unix, SocketAddr as StdAddress};
use std::path::PathBuf;
use std::time::Duration;

use runtime::buffers;
use runtime::io::{AsyncReadExt, AsyncWriteExt, Interest, ReadBuf};
use runtime::net::{UdpSocket, UnixDatagram, UnixListener, UnixSocket, UnixStream};
use runtime::task::yield_now;
use runtime::time::timeout;
use tempfile::TempDir;

const MOMENT: Duration = Duration::from_millis(2);

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    (directory, path)
}

async fn udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

#[runtime::test]
async fn datagrams_arrive_whole_and_say_from_whom() {
    let (left, right) = (udp().await, udp().await);
    let (ours, theirs) = (left.local_addr().unwrap(), right.local_addr().unwrap());
    let mut bytes = [0; 8];
    assert_eq!(right.try_recv(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Receives that are dropped take nothing.
    for _ in 0..3 {
        assert!(timeout(MOMENT, right.recv_from(&mut bytes)).await.is_err());
    }
    assert_eq!(left.send_to(b"first", theirs).await.unwrap(), 5);
    assert_eq!(left.try_send_to(b"second", theirs).unwrap(), 6);
    assert_eq!(right.peek_sender().await.unwrap(), ours);
    assert_eq!(right.peek_from(&mut bytes).await.unwrap(), (5, ours));
    assert_eq!(right.recv_from(&mut bytes).await.unwrap(), (5, ours));
    assert_eq!(&bytes[..5], b"first");
    let mut buffer = Vec::with_capacity(4);
    assert_eq!(right.recv_buf_from(&mut buffer).await.unwrap(), (4, ours));
    assert_eq!(buffer, b"seco", "what has no room is cut off");

    left.connect(theirs).await.unwrap();
    assert_eq!(left.peer_addr().unwrap(), theirs);
    let receiving = runtime::spawn(async move {
        let mut bytes = [0; 8];
        let count = right.recv(&mut bytes).await.unwrap();
        (bytes, count, right)
    });
    yield_now().await;
    left.send(b"third").await.unwrap();
    let (bytes, count, right) = receiving.await.unwrap();
    assert_eq!(&bytes[..count], b"third");
    // A datagram that nobody takes is told of by the next call.
    drop(right);
    left.send(b"lost").await.unwrap();
    let error = left.recv(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let error = left.send(&[0; 70_000]).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    // The port can be had at once.
    drop(left);
    drop(UdpSocket::bind(ours).await.unwrap());
}

#[runtime::test]
async fn datagrams_are_received_by_polls() {
    let (left, right) = (udp().await, udp().await);
    let (ours, theirs) = (left.local_addr().unwrap(), right.local_addr().unwrap());
    let mut room = [0; 8];
    let mut into = ReadBuf::new(&mut room);
    for (length, text) in [(5, "first"), (3, "two")] {
        let sent = poll_fn(|cx| left.poll_send_to(cx, text.as_bytes(), theirs)).await;
        assert_eq!(sent.unwrap(), length);
    }
    assert_eq!(poll_fn(|cx| right.poll_peek_from(cx, &mut into)).await.unwrap(), ours);
    assert_eq!(into.filled(), b"first");
    into.clear();
    poll_fn(|cx| right.poll_peek(cx, &mut into)).await.unwrap();
    assert_eq!(into.filled(), b"first");
    into.clear();
    assert_eq!(poll_fn(|cx| right.poll_peek_sender(cx)).await.unwrap(), ours);
    assert_eq!(poll_fn(|cx| right.poll_recv_from(cx, &mut into)).await.unwrap(), ours);
    assert_eq!(into.filled(), b"first");
    poll_fn(|cx| right.poll_recv(cx, &mut into)).await.unwrap();
    assert_eq!(into.filled(), b"firsttwo");
}

#[runtime::test]
async fn many_tasks_receive_from_one_socket_and_each_datagram_goes_to_one() {
    let (left, right) = (udp().await, std::sync::Arc::new(udp().await));
    let theirs = right.local_addr().unwrap();
    let mut receiving = runtime::task::JoinSet::new();
    for _ in 0..10 {
        let right = right.clone();
        receiving.spawn(async move {
            let mut byte = [0];
            assert_eq!(right.recv(&mut byte).await.unwrap(), 1);
            byte[0]
        });
    }
    yield_now().await;
    for byte in 0..10 {
        left.send_to(&[byte], theirs).await.unwrap();
    }
    let mut received = receiving.join_all().await;
    received.sort_unstable();
    assert_eq!(received, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[runtime::test]
async fn the_options_of_udp_are_the_sockets() {
    let socket = udp().await;
    assert!(!socket.broadcast().unwrap());
    socket.set_broadcast(true).unwrap();
    socket.set_ttl(9).unwrap();
    socket.set_multicast_ttl_v4(3).unwrap();
    socket.set_multicast_loop_v4(false).unwrap();
    assert!(socket.broadcast().unwrap() && !socket.multicast_loop_v4().unwrap());
    assert_eq!((socket.ttl().unwrap(), socket.multicast_ttl_v4().unwrap()), (9, 3));
    let group = Ipv4Addr::new(239, 1, 2, 3);
    socket.join_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap();
    let again = socket.join_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AddrInUse);
    socket.leave_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap();
    let socket = UdpSocket::from_std(socket.into_std().unwrap()).unwrap();
    assert!(socket.broadcast().unwrap());
}

#[runtime::test]
async fn unix_streams_connect_by_paths_by_abstract_names_and_in_pairs() {
    let (_directory, path) = place();
    let abstract_name = format!("ringhold-test-{}", std::process::id());
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert!(timeout(MOMENT, listener.accept()).await.is_err());
    let hidden = StdAddress::from_abstract_name(&abstract_name).unwrap().into();
    let other = UnixListener::bind_addr(&hidden).unwrap();
    assert_eq!(other.local_addr().unwrap().as_abstract_name(), Some(abstract_name.as_bytes()));
    assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));

    for (listener, by_name) in [(&listener, false), (&other, true)] {
        let mut client = match by_name {
            true => UnixStream::connect(format!("\0{abstract_name}")).await.unwrap(),
            false => UnixStream::connect(&path).await.unwrap(),
        };
        let (server, peer) = listener.accept().await.unwrap();
        assert!(peer.is_unnamed() && client.local_addr().unwrap().is_unnamed());
        client.write_all(b"hello").await.unwrap();
        let lease = buffers::lease(64).await.unwrap();
        let (count, lease) = server.read_fixed(lease).await.unwrap();
        assert_eq!((count, &lease[..]), (5, &b"hello"[..]));
        server.write_fixed(lease).await.unwrap();
        let (mut reader, writer) = client.into_split();
        drop(writer);
        let mut answer = [0; 5];
        reader.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hello");
        assert_eq!(server.read_owned(vec![0; 8]).await.unwrap().0, 0);
    }

    let (left, right) = UnixStream::pair().unwrap();
    let credentials = left.peer_cred().unwrap();
    assert_eq!(credentials.pid(), Some(std::process::id() as i32));
    assert_eq!(credentials.uid(), rustix::process::geteuid().as_raw());
    drop(right);
    assert_eq!(left.try_read(&mut [0; 4]).unwrap(), 0);
    assert_eq!(left.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let missing = UnixStream::connect("/nowhere/at/all").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    drop(listener);
    let refused = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[runtime::test]
async fn a_unix_listener_without_room_is_an_error_as_in_tokio() {
    let (_directory, path) = place();
    let socket = UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let listener = socket.listen(0).unwrap();
    let first = UnixStream::connect(&path).await.unwrap();
    let error = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "nobody has accepted the first");
    listener.accept().await.unwrap();
    let second = UnixStream::connect(&path).await.unwrap();
    listener.accept().await.unwrap();
    drop((first, second));
}

#[runtime::test]
async fn unix_datagrams_arrive_in_order_and_say_from_whom() {
    let (directory, path) = place();
    let server = UnixDatagram::bind(&path).unwrap();
    let other = directory.path().join("other");
    let client = UnixDatagram::bind(&other).unwrap();
    let mut bytes = [0; 8];
    assert!(timeout(MOMENT, server.recv_from(&mut bytes)).await.is_err());
    client.send_to(b"first", &path).await.unwrap();
    client.connect(&path).unwrap();
    client.send(b"second").await.unwrap();
    let (count, from) = server.recv_from(&mut bytes).await.unwrap();
    assert_eq!((&bytes[..count], from.as_pathname()), (&b"first"[..], Some(&*other)));
    let mut buffer = Vec::with_capacity(64);
    assert_eq!(server.try_recv_buf(&mut buffer).unwrap(), 6);
    assert_eq!(buffer, b"second");
    let error = server.try_send_to(b"x", directory.path().join("none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let (left, right) = UnixDatagram::pair().unwrap();
    let mut sent = 0u32;
    // The peer's queue is full in the end, and a send waits for it.
    while left.try_send(&sent.to_be_bytes()).is_ok() {
        sent += 1;
    }
    assert!(timeout(MOMENT, left.send(b"full")).await.is_err());
    for number in 0..sent {
        let mut record = [0; 4];
        assert_eq!(right.recv(&mut record).await.unwrap(), 4);
        assert_eq!(u32::from_be_bytes(record), number);
    }
    assert_eq!(right.try_recv(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    left.writable().await.unwrap();
    left.shutdown(Shutdown::Write).unwrap();
    assert_eq!(left.send(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    drop(left);
    assert!(right.ready(Interest::WRITABLE).await.unwrap().is_writable());
    let unbound = UnixSocket::new_datagram().unwrap();
    assert_eq!(unbound.listen(1).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[runtime::test]
async fn a_wait_goes_on_where_another_sender_was_faster() {
    let (directory, path) = place();
    let receiver = std_unix::UnixDatagram::bind(&path).unwrap();
    let other = std_unix::UnixDatagram::unbound().unwrap();
    other.connect(&path).unwrap();
    other.set_nonblocking(true).unwrap();
    let socket = UnixDatagram::bind(directory.path().join("other")).unwrap();
    socket.connect(&path).unwrap();
    while other.send(b"full").is_ok() {}

    let waiting = runtime::spawn(async move { socket.ready(Interest::WRITABLE).await });
    for _ in 0..100 {
        // The wait is armed: it has seen that there is no room.
        runtime::time::sleep(MOMENT).await;
        assert_eq!(receiver.recv(&mut [0; 4]).unwrap(), 4);
        assert_eq!(other.send(b"full").unwrap(), 4, "the room is taken before the waiter looks");
        assert!(!waiting.is_finished());
    }
    assert_eq!(receiver.recv(&mut [0; 4]).unwrap(), 4);
    let ready = timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
    assert!(ready.is_writable());
}
