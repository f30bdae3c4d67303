//! Listeners and names: who connects is accepted once, and who can't is told why.

use std::io::{self, ErrorKind};
use std::time::Duration;

use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use runtime::task::{spawn_local, yield_now};
use runtime::time::{sleep, timeout};

use crate::place::{Place, kind};

on_both_kernels! {
    accepts_that_are_dropped_lose_no_connection,
    incoming_connections_come_as_a_stream,
    names_are_told_and_taken_once,
    nobody_there_is_an_error,
    a_dropped_listener_lets_go_of_its_name_and_of_who_waits,
    who_comes_before_the_accept_waits_for_it,
    who_is_gone_before_the_accept_is_accepted_all_the_same,
    a_socket_is_set_up_before_it_connects,
}

/// Whoever connects first need not be the first to be accepted: the last packet of each handshake
/// takes its time.
#[track_caller]
fn assert_each_once(mut numbers: Vec<u8>, count: u8) {
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

async fn accepts_that_are_dropped_lose_no_connection(place: Place) -> io::Result<()> {
    let (tcp, unix) =
        (TcpListener::bind("127.0.0.1:0").await?, UnixListener::bind(place.at("listener"))?);
    let (address, path) = (tcp.local_addr()?, place.at("listener"));
    let connecting = spawn_local(async move {
        for number in 0..40_u8 {
            if number % 2 == 0 {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&[number]).await?;
            } else {
                let mut stream = UnixStream::connect(&path).await?;
                stream.write_all(&[number]).await?;
            }
            if number % 3 == 0 {
                yield_now().await;
            }
        }
        io::Result::Ok(())
    });
    let (mut numbers, mut rounds) = (Vec::new(), 0);
    while numbers.len() < 40 {
        rounds += 1;
        let give_up = async {
            for _ in 0..rounds % 4 {
                yield_now().await;
            }
        };
        runtime::select! {
            biased;
            accepted = tcp.accept() => numbers.push(accepted?.0.read_u8().await?),
            accepted = unix.accept() => numbers.push(accepted?.0.read_u8().await?),
            () = give_up, if rounds % 9 != 0 => {}
        }
    }
    connecting.await.unwrap()?;
    assert_each_once(numbers, 40);
    let more = timeout(Duration::from_millis(5), tcp.accept()).await;
    assert!(more.is_err(), "one was accepted twice");
    Ok(())
}

async fn incoming_connections_come_as_a_stream(_place: Place) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let connecting = spawn_local(async move {
        let mut open = Vec::new();
        for number in 0..5 {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_u8(number).await?;
            open.push(stream);
        }
        io::Result::Ok(open)
    });
    let (mut incoming, mut numbers) = (listener.incoming(), Vec::new());
    for _ in 0..5 {
        let mut stream = incoming.next().await.expect("it has no end")?;
        numbers.push(stream.read_u8().await?);
    }
    assert_each_once(numbers, 5);
    assert_eq!(connecting.await.unwrap()?.len(), 5);
    Ok(())
}

async fn names_are_told_and_taken_once(place: Place) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    assert!(address.ip().is_loopback() && address.port() > 0, "{address}");
    assert_eq!(kind(TcpListener::bind(address).await), ErrorKind::AddrInUse);
    let path = place.at("name");
    let listener = UnixListener::bind(&path)?;
    assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
    assert_eq!(kind(UnixListener::bind(&path)), ErrorKind::AddrInUse);
    // A name stays when who had it is gone, as a file does.
    drop(listener);
    assert_eq!(kind(UnixListener::bind(&path)), ErrorKind::AddrInUse);
    runtime::fs::remove_file(&path).await?;
    drop(UnixListener::bind(&path)?);
    Ok(())
}

async fn nobody_there_is_an_error(place: Place) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(listener);
    assert_eq!(kind(TcpStream::connect(address).await), ErrorKind::ConnectionRefused);
    let path = place.at("missing");
    assert_eq!(kind(UnixStream::connect(&path).await), ErrorKind::NotFound);
    drop(UnixListener::bind(&path)?);
    assert_eq!(kind(UnixStream::connect(&path).await), ErrorKind::ConnectionRefused);
    Ok(())
}

async fn a_dropped_listener_lets_go_of_its_name_and_of_who_waits(_place: Place) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut waiting = TcpStream::connect(address).await?;
    let dropped = timeout(Duration::from_micros(1), std::future::pending::<()>()).await;
    assert!(dropped.is_err());
    drop(listener);
    let told = timeout(Duration::from_secs(20), waiting.read(&mut [0; 1])).await;
    let told = told.expect("who was never accepted is told");
    assert_eq!(kind(told), ErrorKind::ConnectionReset);
    let again = TcpListener::bind(address).await?;
    drop(TcpStream::connect(address).await?);
    again.accept().await?;
    Ok(())
}

async fn who_comes_before_the_accept_waits_for_it(_place: Place) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut streams = Vec::new();
    for number in 0..10 {
        let mut stream = TcpStream::connect(listener.local_addr()?).await?;
        stream.write_u8(number).await?;
        streams.push(stream);
    }
    drop(streams.drain(..5));
    let mut numbers = Vec::new();
    for _ in 0..10 {
        numbers.push(listener.accept().await?.0.read_u8().await?);
    }
    assert_each_once(numbers, 10);
    Ok(())
}

async fn who_is_gone_before_the_accept_is_accepted_all_the_same(_place: Place) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let address = client.local_addr()?;
    // The last packet of the handshake arrives; a reset that overtook it would have ended the
    // connection before it was there to be accepted.
    sleep(Duration::from_millis(10)).await;
    client.reset()?;
    drop(client);
    let (mut server, from) = listener.accept().await?;
    assert_eq!(from, address);
    assert_eq!(kind(server.read(&mut [0; 1]).await), ErrorKind::ConnectionReset);
    Ok(())
}

async fn a_socket_is_set_up_before_it_connects(_place: Place) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind("127.0.0.1:0".parse().expect("an address"))?;
    let here = socket.local_addr()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let stream = socket.connect(listener.local_addr()?).await?;
    let (_peer, from) = listener.accept().await?;
    assert_eq!((stream.local_addr()?, from), (here, here));
    stream.set_nodelay(true)?;
    assert!(stream.nodelay()?);
    Ok(())
}
