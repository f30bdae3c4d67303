//! TCP: listeners, streams and their halves behave as tokio's.

mod common;

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::time::Duration;

use runtime::buffers;
use runtime::io::{AsyncReadExt, AsyncWriteExt, Interest, ReadBuf, Ready};
use runtime::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use runtime::time::timeout;

/// Two ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

#[runtime::test]
async fn what_one_end_writes_the_other_reads_to_the_end() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"hello ").await.unwrap();
    client.write_all(b"world").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello world");
    // The other direction is still open.
    server.write_all(b"bye").await.unwrap();
    drop(server);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"bye");
}

#[runtime::test]
async fn a_read_waits_for_bytes_and_a_timeout_around_it_loses_none() {
    let (mut client, mut server) = pair().await;
    let mut buffer = [0; 8];
    let waited = timeout(Duration::from_millis(5), server.read(&mut buffer)).await;
    assert!(waited.is_err(), "nothing was sent");
    let late = runtime::spawn(async move {
        runtime::time::sleep(Duration::from_millis(5)).await;
        client.write_all(b"late").await.unwrap();
        client
    });
    assert_eq!(server.read(&mut buffer).await.unwrap(), 4);
    assert_eq!(&buffer[..4], b"late");
    drop(late.await.unwrap());
    assert_eq!(server.read(&mut buffer).await.unwrap(), 0);
}

#[runtime::test]
async fn owned_and_fixed_forms_give_their_buffers_back() {
    let (client, server) = pair().await;
    let (count, sent) = client.write_owned(Vec::from("owned")).await.unwrap();
    assert_eq!((count, &sent[..]), (5, &b"owned"[..]));
    let (count, buffer) = server.read_owned(vec![b'x'; 8]).await.unwrap();
    assert_eq!((count, &buffer[..]), (5, &b"ownedxxx"[..]));

    let reading = runtime::spawn(async move {
        let lease = buffers::lease(4096).await.unwrap();
        let (count, lease) = server.read_fixed(lease).await.unwrap();
        assert_eq!((count, &lease[..]), (5, &b"fixed"[..]));
        server.write_all_fixed(lease).await.unwrap();
        server
    });
    runtime::task::yield_now().await;
    let mut lease = buffers::lease(64).await.unwrap();
    lease.extend_from_slice(b"fixed");
    let (count, lease) = client.write_fixed(lease).await.unwrap();
    assert_eq!((count, lease.len()), (5, 5));
    // A lease goes by the plain opcode, too.
    let (count, lease) = client.read_owned(lease).await.unwrap();
    assert_eq!((count, &lease[..]), (5, &b"fixed"[..]));
    drop(reading.await.unwrap());
    assert_eq!(client.read_owned(Vec::with_capacity(4)).await.unwrap().0, 0);
}

#[runtime::test]
async fn a_fixed_write_of_nothing_or_of_unregistered_memory_is_refused() {
    let (client, _server) = pair().await;
    let failed = client.write_fixed(buffers::lease(64).await.unwrap()).await.unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::InvalidInput);
    let pool = buffers::Pool::unregistered(buffers::PoolConfig::new());
    let failed = client.read_fixed(pool.try_lease(64).unwrap()).await.unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::InvalidInput);
}

#[runtime::test]
async fn what_is_too_early_would_block() {
    let (client, server) = pair().await;
    assert_eq!(server.try_read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(client.try_write(b"abcdef").unwrap(), 6);
    server.readable().await.unwrap();
    let (mut first, mut second) = ([0; 2], [0; 2]);
    let mut parts = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(server.try_read_vectored(&mut parts).unwrap(), 4);
    assert_eq!((&first, &second), (b"ab", b"cd"));
    let mut rest = Vec::with_capacity(16);
    assert_eq!(server.try_read_buf(&mut rest).unwrap(), 2);
    assert_eq!(rest, b"ef");

    let parts = [IoSlice::new(b"12"), IoSlice::new(b"3")];
    assert_eq!(server.try_write_vectored(&parts).unwrap(), 3);
    let ready = client.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap();
    assert_eq!(ready, Ready::READABLE | Ready::WRITABLE);
    assert_eq!(format!("{:?}", Interest::READABLE | Interest::WRITABLE), "READABLE | WRITABLE");
    let mut peeked = [0; 8];
    assert_eq!(client.peek(&mut peeked).await.unwrap(), 3);
    assert_eq!(client.try_read(&mut peeked).unwrap(), 3);
    assert_eq!(&peeked[..3], b"123");
    drop(server);
    assert!(client.ready(Interest::READABLE).await.unwrap().is_read_closed());
}

#[runtime::test]
async fn a_writer_is_held_up_by_a_slow_reader_and_loses_nothing() {
    // The kernel lets buffers grow to several megabytes where nobody has set their sizes.
    let listening = TcpSocket::new_v4().unwrap();
    listening.set_recv_buffer_size(64 * 1024).unwrap();
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listening.listen(1).unwrap();
    let connecting = TcpSocket::new_v4().unwrap();
    connecting.set_send_buffer_size(64 * 1024).unwrap();
    let mut client = connecting.connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_be_bytes).collect();
    let expected = sent.clone();
    let writing = runtime::spawn(async move {
        client.write_all(&sent[..2_000_000]).await.unwrap();
        client.write_all_owned(sent[2_000_000..].to_vec()).await.unwrap();
    });
    // Far more than the sockets take: the writer waits.
    runtime::time::sleep(Duration::from_millis(20)).await;
    assert!(!writing.is_finished());
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    writing.await.unwrap();
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
}

#[runtime::test]
async fn the_errors_of_connections_are_tokios() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = TcpListener::bind(address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    // What is dropped has given its port back, also with an accept that was dropped just before.
    drop(listener);
    let listener = TcpListener::bind(address).await.unwrap();
    let waited = timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(waited.is_err());
    drop(listener);
    drop(TcpListener::bind(address).await.unwrap());
    let error = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    for (name, kind) in [("nothing", ErrorKind::InvalidInput), ("h:99999", ErrorKind::InvalidInput)]
    {
        assert_eq!(TcpStream::connect(name).await.unwrap_err().kind(), kind, "{name}");
    }
    // The next address is tried, and the last error is told.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let both = [address, listener.local_addr().unwrap()];
    let stream = TcpStream::connect(&both[..]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), both[1]);
    let addresses: Vec<_> = lookup_host("localhost:80").await.unwrap().collect();
    assert!(addresses.iter().any(|it| it.ip().is_loopback() && it.port() == 80), "{addresses:?}");
}

#[runtime::test]
async fn a_reset_is_an_error_for_whoever_reads_or_writes() {
    for owned in [false, true] {
        let (client, mut server) = pair().await;
        let reading = runtime::spawn(async move {
            let outcome = if owned {
                server.read_owned(vec![0; 8]).await.map(drop).map_err(Into::into)
            } else {
                server.read(&mut [0; 8]).await.map(drop)
            };
            (outcome, server)
        });
        runtime::task::yield_now().await;
        client.set_linger(Some(Duration::ZERO)).unwrap();
        assert_eq!(client.linger().unwrap(), Some(Duration::ZERO));
        drop(client);
        let (outcome, mut server) = reading.await.unwrap();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let error = server.write_all(b"to nobody").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        let failed = server.write_owned(Vec::from("to nobody")).await.unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::BrokenPipe);
    }
}

#[runtime::test]
async fn halves_end_their_directions_and_come_together_again() {
    let (mut client, mut server) = pair().await;
    {
        let (mut reader, mut writer) = client.split();
        writer.write_all(b"ping").await.unwrap();
        server.write_all(b"pong").await.unwrap();
        let mut answer = [0; 4];
        assert_eq!(reader.peek(&mut answer).await.unwrap(), 4);
        reader.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"pong");
    }
    let (reader, writer) = client.into_split();
    let (strange, stranger) = pair().await.0.into_split();
    let error = reader.reunite(stranger).unwrap_err();
    assert!(error.to_string().contains("same socket"));
    let mut client = error.0.reunite(writer).unwrap();
    drop((strange, error.1));
    client.write_all(b", and more").await.unwrap();
    let (mut reader, writer) = client.into_split();
    // Dropping the writing half ends what the server reads, and nothing else.
    drop(writer);
    let mut bytes = Vec::new();
    server.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"ping, and more");
    server.write_all(b"still").await.unwrap();
    let mut answer = [0; 5];
    reader.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"still");
}

#[runtime::test]
async fn options_are_the_sockets() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_keepalive(true).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    assert!(socket.reuseaddr().unwrap() && socket.keepalive().unwrap());
    assert!(!socket.reuseport().unwrap());
    assert_eq!(socket.recv_buffer_size().unwrap(), 16384);
    assert_eq!(socket.device().unwrap(), None);
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind_device(Some(b"lo")).unwrap();
    assert_eq!(bound.device().unwrap().as_deref(), Some(&b"lo"[..]));
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    listener.set_ttl(61).unwrap();
    assert_eq!(listener.ttl().unwrap(), 61);
    let socket = TcpSocket::new_v4().unwrap();
    let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    client.set_nodelay(true).unwrap();
    client.set_ttl(62).unwrap();
    assert!(client.nodelay().unwrap());
    assert_eq!(client.ttl().unwrap(), 62);
    // Acknowledging at once and sending at once are two things.
    client.set_nodelay(false).unwrap();
    client.set_quickack(true).unwrap();
    assert_eq!((client.quickack().unwrap(), client.nodelay().unwrap()), (true, false));
    client.set_nodelay(true).unwrap();
    client.set_quickack(false).unwrap();
    assert_eq!((client.quickack().unwrap(), client.nodelay().unwrap()), (false, true));
    assert_eq!(client.linger().unwrap(), None);
    client.set_linger(Some(Duration::from_secs(7))).unwrap();
    assert_eq!(client.linger().unwrap(), Some(Duration::from_secs(7)));
    client.set_linger(None).unwrap();
    assert_eq!(client.linger().unwrap(), None);
    assert!(client.take_error().unwrap().is_none());
}

#[runtime::test]
async fn sockets_come_from_std_and_go_back() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let client = std::net::TcpStream::connect(address).unwrap();
    let client = TcpStream::try_from(client).unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    // A poll that waits holds the socket, and stands in nobody's way.
    let waited = timeout(Duration::from_millis(1), server.read(&mut [0; 1])).await;
    assert!(waited.is_err());
    client.write_all_owned("hello").await.unwrap();
    let mut server = server.into_std().unwrap();
    server.set_nonblocking(false).unwrap();
    let mut bytes = [0; 5];
    std::io::Read::read_exact(&mut server, &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    let listener = listener.into_std().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[runtime::test]
async fn polls_peek_at_what_the_next_read_has() {
    const LIMIT: Duration = Duration::from_secs(10);
    let (client, mut server) = pair().await;
    client.write_all_owned("hello").await.unwrap();
    let mut room = [0; 8];
    let mut seen = ReadBuf::new(&mut room);
    let peeked = timeout(LIMIT, poll_fn(|cx| server.poll_peek(cx, &mut seen))).await;
    assert_eq!((peeked.unwrap().unwrap(), seen.filled()), (5, &b"hello"[..]));
    {
        let (mut reader, _) = server.split();
        let mut seen = ReadBuf::new(&mut room);
        let peeked = timeout(LIMIT, poll_fn(|cx| reader.poll_peek(cx, &mut seen))).await;
        assert_eq!(peeked.expect("nothing was taken").unwrap(), 5);
    }
    let (mut reader, _writer) = server.into_split();
    let mut seen = ReadBuf::new(&mut room);
    let peeked = timeout(LIMIT, poll_fn(|cx| reader.poll_peek(cx, &mut seen))).await;
    assert_eq!(peeked.expect("nothing was taken").unwrap(), 5);
    assert_eq!(reader.try_read(&mut room).unwrap(), 5);
    assert_eq!(&room[..5], b"hello");
}

#[runtime::test]
async fn polls_for_room_and_for_bytes_are_two_things() {
    let (client, server) = pair().await;
    let mut is_readable = Pin::from(Box::new(poll_fn(|cx| server.poll_read_ready(cx))));
    assert!(timeout(Duration::from_millis(2), &mut is_readable).await.is_err());
    // There is room, and nothing to read.
    let room = poll_fn(|cx| server.poll_write_ready(cx));
    timeout(Duration::from_secs(10), room).await.unwrap().unwrap();
    client.write_all_owned("x").await.unwrap();
    timeout(Duration::from_secs(10), is_readable).await.unwrap().unwrap();
    // Something to read, and no room.
    let full = vec![0; 1 << 20];
    while server.try_write(&full).is_ok() {}
    let room = poll_fn(|cx| server.poll_write_ready(cx));
    assert!(timeout(Duration::from_millis(20), room).await.is_err());
}

#[runtime::test]
async fn a_server_starts_again_while_its_old_connections_fade_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    // The end that closes first is the one that stays a while.
    server.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    drop((listener, server, client));
    TcpListener::bind(address).await.unwrap();
}

#[runtime::test]
async fn a_socket_that_is_not_to_linger_resets_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_zero_linger().unwrap();
    assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    drop(client);
    let error = server.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
