//! Datagrams: each comes whole, or cut, and to whom it was sent.

use std::io::{self, ErrorKind};
use std::time::Duration;

use runtime::net::{UdpSocket, UnixDatagram};
use runtime::task::{spawn_local, yield_now};
use runtime::time::timeout;

use crate::place::{Place, kind};

on_both_kernels! {
    each_comes_whole_and_from_its_sender,
    what_there_is_no_room_for_is_cut_off,
    who_is_connected_hears_nobody_else,
    receives_that_are_dropped_lose_none,
    who_finds_none_is_told_so_and_waits,
    nobody_to_send_to_is_an_error,
}

async fn bound() -> io::Result<UdpSocket> {
    UdpSocket::bind("127.0.0.1:0").await
}

async fn each_comes_whole_and_from_its_sender(place: Place) -> io::Result<()> {
    let (one, two) = (bound().await?, bound().await?);
    let mut bytes = [0; 100];
    for length in [0, 1, 100] {
        assert_eq!(one.send_to(&[7; 100][..length], two.local_addr()?).await?, length);
        assert_eq!(two.peek_from(&mut bytes).await?, (length, one.local_addr()?));
        assert_eq!(two.recv_from(&mut bytes).await?, (length, one.local_addr()?));
    }
    let paths = [place.at("one"), place.at("two")];
    let (one, two) = (UnixDatagram::bind(&paths[0])?, UnixDatagram::bind(&paths[1])?);
    for length in [0, 1, 100] {
        assert_eq!(one.send_to(&[7; 100][..length], &paths[1]).await?, length);
        let (count, from) = two.recv_from(&mut bytes).await?;
        assert_eq!((count, from.as_pathname()), (length, Some(&*paths[0])));
    }
    Ok(())
}

async fn what_there_is_no_room_for_is_cut_off(_place: Place) -> io::Result<()> {
    let (one, two) = (bound().await?, bound().await?);
    let mut bytes = [0; 5];
    one.send_to(b"too long", two.local_addr()?).await?;
    assert_eq!((two.recv(&mut bytes).await?, &bytes), (5, b"too l"));
    // One after the other: between machines datagrams overtake each other, simulated ones on one
    // machine, too.
    one.send_to(b"next", two.local_addr()?).await?;
    assert_eq!((two.recv(&mut bytes).await?, &bytes[..4]), (4, &b"next"[..]));
    let (one, two) = UnixDatagram::pair()?;
    one.send(b"too long").await?;
    one.send(b"next").await?;
    assert_eq!((two.recv(&mut bytes).await?, &bytes), (5, b"too l"));
    assert_eq!((two.recv(&mut bytes).await?, &bytes[..4]), (4, &b"next"[..]));
    Ok(())
}

async fn who_is_connected_hears_nobody_else(_place: Place) -> io::Result<()> {
    let (one, two, other) = (bound().await?, bound().await?, bound().await?);
    two.connect(one.local_addr()?).await?;
    assert_eq!(two.peer_addr()?, one.local_addr()?);
    other.send_to(b"unheard", two.local_addr()?).await?;
    one.send_to(b"heard", two.local_addr()?).await?;
    let mut bytes = [0; 16];
    assert_eq!((two.recv(&mut bytes).await?, &bytes[..5]), (5, &b"heard"[..]));
    two.send(b"back").await?;
    assert_eq!(one.recv_from(&mut bytes).await?, (4, two.local_addr()?));
    Ok(())
}

async fn receives_that_are_dropped_lose_none(_place: Place) -> io::Result<()> {
    let (one, two) = (bound().await?, bound().await?);
    let target = two.local_addr()?;
    let sending = spawn_local(async move {
        for number in 0..50_u8 {
            one.send_to(&[number], target).await?;
            yield_now().await;
        }
        io::Result::Ok(())
    });
    let (mut numbers, mut rounds) = (Vec::new(), 0);
    while numbers.len() < 50 {
        rounds += 1;
        let mut bytes = [0; 2];
        let give_up = async {
            for _ in 0..rounds % 3 {
                yield_now().await;
            }
        };
        runtime::select! {
            biased;
            count = two.recv(&mut bytes) => {
                assert_eq!(count?, 1);
                numbers.push(bytes[0]);
            }
            () = give_up, if rounds % 7 != 0 => {}
        }
    }
    sending.await.unwrap()?;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    Ok(())
}

async fn who_finds_none_is_told_so_and_waits(_place: Place) -> io::Result<()> {
    let (one, two) = UnixDatagram::pair()?;
    assert_eq!(kind(two.try_recv(&mut [0; 8])), ErrorKind::WouldBlock);
    let waited = timeout(Duration::from_millis(5), two.readable()).await;
    assert!(waited.is_err(), "there is nothing: {waited:?}");
    one.send(b"one").await?;
    two.readable().await?;
    assert_eq!(two.recv(&mut [0; 8]).await?, 3);
    let mut sent = 0;
    let full = loop {
        match one.try_send(&[0; 1_000]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000, "there is room for everything");
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let waiting = spawn_local(async move { one.send(b"the last").await });
    for _ in 0..sent {
        assert_eq!(two.recv(&mut [0; 1_000]).await?, 1_000);
    }
    assert_eq!(two.recv(&mut [0; 8]).await?, 8);
    assert_eq!(waiting.await.unwrap()?, 8);
    Ok(())
}

async fn nobody_to_send_to_is_an_error(place: Place) -> io::Result<()> {
    let one = UnixDatagram::unbound()?;
    assert_eq!(kind(one.send_to(b"lost", place.at("missing")).await), ErrorKind::NotFound);
    let (one, two) = UnixDatagram::pair()?;
    drop(two);
    let told = kind(one.send(b"lost").await);
    assert!(matches!(told, ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset), "{told:?}");
    Ok(())
}
