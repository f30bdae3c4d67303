//! Streams, of TCP and within a machine: bytes in every form that they can be sent and received in.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::Duration;

use runtime::buffers;
use runtime::io::{AsyncReadExt, AsyncWriteExt, Interest};
use runtime::net::{TcpListener, TcpStream, UnixStream};
use runtime::task::{spawn_local, yield_now};
use runtime::time::timeout;

use crate::place::{Place, kind};

on_both_kernels! {
    bytes_go_both_ways_until_each_end,
    owned_buffers_and_leases_carry_the_same_bytes,
    vectored_writes_go_through_their_buffers,
    reads_that_are_dropped_lose_nothing,
    who_finds_nothing_is_told_so_and_waits,
    a_peer_that_reads_nothing_lets_writers_wait,
    halves_come_together_again,
    what_was_looked_at_is_read,
    leases_come_as_a_stream,
    what_is_sent_without_a_copy_arrives_and_comes_back,
    a_reset_is_told_after_what_came_before_it,
    an_end_that_nobody_reads_is_told_to_writers,
}

/// So many bytes that they don't fit between two ends at once.
const MANY: usize = 600_000;

pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

pub async fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, peer) = listener.accept().await?;
    assert_eq!(peer, client.local_addr()?);
    assert_eq!(server.local_addr()?, client.peer_addr()?);
    Ok((client, server))
}

/// Runs what is written once for both kinds of streams.
macro_rules! on_both_kinds {
    ($client:ident, $server:ident => $body:block) => {{
        {
            #[allow(unused_mut)] // Not every scenario needs both to be so.
            let (mut $client, mut $server) = connected().await?;
            $body
        }
        #[allow(unused_mut)] // As above.
        let (mut $client, mut $server) = UnixStream::pair()?;
        $body
        Ok(())
    }};
}

/// What is waited for in vain otherwise, in words.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = timeout(Duration::from_secs(20), future).await;
    outcome.unwrap_or_else(|_| panic!("nothing came: {what}"))
}

async fn bytes_go_both_ways_until_each_end(_place: Place) -> io::Result<()> {
    on_both_kinds!(client, server => {
        let answering = spawn_local(async move {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await?;
            assert!(received == pattern(MANY), "{} bytes", received.len());
            server.write_all(&received[..MANY / 2]).await?;
            server.shutdown().await?;
            // The client has ended its half long ago.
            assert_eq!(server.read(&mut [0; 8]).await?, 0);
            io::Result::Ok(())
        });
        client.write_all(&pattern(MANY)).await?;
        client.shutdown().await?;
        let mut answer = Vec::new();
        soon("the answer", client.read_to_end(&mut answer)).await?;
        assert!(answer == pattern(MANY / 2), "{} bytes", answer.len());
        answering.await.unwrap()?;
    })
}

async fn owned_buffers_and_leases_carry_the_same_bytes(_place: Place) -> io::Result<()> {
    on_both_kinds!(client, server => {
        let sending = spawn_local(async move {
            let all = pattern(90_000);
            for (number, part) in all.chunks(9_000).enumerate() {
                if number % 2 == 0 {
                    assert_eq!(client.write_all_owned(part.to_vec()).await?.0, part.len());
                    continue;
                }
                let mut lease = buffers::lease(part.len()).await?;
                lease.extend_from_slice(part);
                assert_eq!(client.write_all_fixed(lease).await?.0, part.len());
            }
            io::Result::Ok(())
        });
        let (mut received, mut number) = (Vec::new(), 0);
        loop {
            number += 1;
            let count = if number % 2 == 0 {
                let (count, bytes) = server.read_owned(Vec::with_capacity(1_000)).await?;
                received.extend_from_slice(&bytes);
                count
            } else {
                let (count, lease) = server.read_fixed(buffers::lease(1_000).await?).await?;
                received.extend_from_slice(&lease[..count]);
                count
            };
            if count == 0 {
                break;
            }
        }
        sending.await.unwrap()?;
        assert!(received == pattern(90_000), "{} bytes", received.len());
        let empty = server.write_fixed(buffers::lease(10).await?).await;
        assert_eq!(empty.expect_err("it is empty").error.kind(), ErrorKind::InvalidInput);
    })
}

async fn vectored_writes_go_through_their_buffers(_place: Place) -> io::Result<()> {
    on_both_kinds!(client, server => {
        let parts: Vec<Vec<u8>> = pattern(3_000).chunks(700).map(<[u8]>::to_vec).collect();
        let (count, back) = client.write_vectored_owned(parts.clone()).await?;
        assert!((1..=3_000).contains(&count), "{count}");
        assert_eq!(back, parts);
        let mut received = vec![0; count];
        server.read_exact(&mut received).await?;
        assert_eq!(received, pattern(3_000)[..count]);
    })
}

async fn reads_that_are_dropped_lose_nothing(_place: Place) -> io::Result<()> {
    on_both_kinds!(client, server => {
        let sending = spawn_local(async move {
            for part in pattern(40_000).chunks(371) {
                client.write_all(part).await?;
                yield_now().await;
            }
            io::Result::Ok(())
        });
        let (mut received, mut number) = (Vec::new(), 0);
        loop {
            number += 1;
            let mut bytes = [0; 512];
            let read = async {
                Ok::<_, io::Error>(match number % 3 {
                    0 => server.read(&mut bytes).await?,
                    1 => {
                        let (count, read) = server.read_owned(Vec::with_capacity(512)).await?;
                        bytes[..count].copy_from_slice(&read);
                        count
                    }
                    _ => {
                        let lease = buffers::lease(512).await?;
                        let (count, lease) = server.read_fixed(lease).await?;
                        bytes[..count].copy_from_slice(&lease[..count]);
                        count
                    }
                })
            };
            let give_up = async {
                for _ in 0..number % 5 {
                    yield_now().await;
                }
            };
            let count = runtime::select! {
                biased;
                count = read => count?,
                () = give_up, if number % 7 != 0 => continue,
            };
            if count == 0 {
                break;
            }
            received.extend_from_slice(&bytes[..count]);
        }
        sending.await.unwrap()?;
        assert!(received == pattern(40_000), "{} bytes", received.len());
    })
}

async fn who_finds_nothing_is_told_so_and_waits(_place: Place) -> io::Result<()> {
    on_both_kinds!(client, server => {
        assert_eq!(kind(server.try_read(&mut [0; 8])), ErrorKind::WouldBlock);
        let waited = timeout(Duration::from_millis(5), server.readable()).await;
        assert!(waited.is_err(), "there is nothing: {waited:?}");
        client.write_all(b"some").await?;
        soon("bytes", server.readable()).await?;
        assert!(soon("bytes", server.ready(Interest::READABLE)).await?.is_readable());
        let mut bytes = Vec::new();
        while bytes.len() < 4 {
            soon("bytes", server.readable()).await?;
            match server.try_read_buf(&mut bytes) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                Ok(count) => assert!(count > 0),
            }
        }
        assert_eq!(bytes, b"some");
        assert_eq!(kind(server.try_read(&mut [0; 8])), ErrorKind::WouldBlock);
    })
}

async fn a_peer_that_reads_nothing_lets_writers_wait(_place: Place) -> io::Result<()> {
    on_both_kinds!(client, server => {
        let mut sent = 0;
        let part = pattern(251 * 40);
        let error = loop {
            match client.try_write(&part[sent % 251..]) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
            assert!(sent < 1 << 28, "there is room for everything");
            // What is on its way takes a moment to fill the other end.
            yield_now().await;
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let writing = spawn_local(async move {
            client.write_all(&part[sent % 251..][..251]).await?;
            io::Result::Ok(sent + 251)
        });
        let mut received = Vec::new();
        soon("everything", server.read_to_end(&mut received)).await?;
        let sent = writing.await.unwrap()?;
        assert!(received == pattern(sent), "{} of {sent} bytes", received.len());
    })
}

async fn halves_come_together_again(_place: Place) -> io::Result<()> {
    on_both_kinds!(client, server => {
        let (mut reader, mut writer) = client.split();
        let (_, read) = futures::join!(
            async { writer.write_all(b"ping").await.unwrap() },
            async {
                let mut ping = [0; 4];
                server.read_exact(&mut ping).await?;
                server.write_all(&ping).await?;
                let mut pong = [0; 4];
                reader.read_exact(&mut pong).await.map(|_| pong)
            },
        );
        assert_eq!(&read?, b"ping");
        let (reader, mut writer) = server.into_split();
        writer.write_all(b"!").await?;
        assert_eq!(client.read_u8().await?, b'!');
        let server = reader.reunite(writer).expect("they are of one stream");
        client.write_all(b"?").await?;
        assert_eq!(server.read_owned(vec![0; 1]).await?.1, b"?");
        let (_reader, writer) = server.into_split();
        drop(writer);
        // Who drops the writing half has ended it.
        assert_eq!(soon("the end", client.read(&mut [0; 1])).await?, 0);
    })
}

async fn what_was_looked_at_is_read(_place: Place) -> io::Result<()> {
    let (mut client, mut server) = connected().await?;
    client.write_all(b"look").await?;
    let mut seen = [0; 2];
    for _ in 0..3 {
        let count = server.peek(&mut seen).await?;
        assert_eq!(seen[..count], b"look"[..count]);
    }
    let mut read = [0; 4];
    server.read_exact(&mut read).await?;
    assert_eq!(&read, b"look");
    drop(client);
    assert_eq!(server.peek(&mut seen).await?, 0);
    Ok(())
}

async fn leases_come_as_a_stream(_place: Place) -> io::Result<()> {
    on_both_kinds!(client, server => {
        let sending = spawn_local(async move { client.write_all(&pattern(200_000)).await });
        let mut received = Vec::new();
        let mut leases = server.leases(4096);
        while let Some(lease) = soon("leases", leases.next()).await {
            let lease = lease?;
            assert!(!lease.is_empty() && lease.len() <= 4096, "{}", lease.len());
            received.extend_from_slice(&lease);
        }
        sending.await.unwrap()?;
        assert!(received == pattern(200_000), "{} bytes", received.len());
    })
}

async fn what_is_sent_without_a_copy_arrives_and_comes_back(_place: Place) -> io::Result<()> {
    let (client, mut server) = connected().await?;
    let receiving = spawn_local(async move {
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.map(|_| received)
    });
    let mut sent = Vec::new();
    for number in 0..5 {
        let mut lease = buffers::lease(64 * 1024).await?;
        lease.resize(64 * 1024, number);
        let (count, sending) = client.send_zero_copy(lease).await?;
        assert!((1..=64 * 1024).contains(&count), "{count}");
        sent.extend(std::iter::repeat_n(number, count));
        let lease = soon("the lease", sending).await;
        assert_eq!((lease.len(), lease[0]), (64 * 1024, number));
    }
    let (count, sending) = client.send_zero_copy(b"of its own".to_vec()).await?;
    sent.extend_from_slice(&b"of its own"[..count]);
    assert_eq!(soon("the buffer", sending).await, b"of its own");
    drop(client);
    let received = receiving.await.unwrap()?;
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    Ok(())
}

async fn a_reset_is_told_after_what_came_before_it(_place: Place) -> io::Result<()> {
    let (mut client, mut server) = connected().await?;
    client.write_all(b"the last").await?;
    let mut last = [0; 8];
    server.read_exact(&mut last).await?;
    assert_eq!(&last, b"the last");
    client.reset()?;
    let told = soon("the reset", server.read(&mut last)).await;
    assert_eq!(kind(told), ErrorKind::ConnectionReset);
    drop(client);
    let written = soon("an error", async {
        loop {
            if let Err(error) = server.write_all(b"too late").await {
                return error.kind();
            }
        }
    });
    assert_eq!(written.await, ErrorKind::BrokenPipe);
    Ok(())
}

async fn an_end_that_nobody_reads_is_told_to_writers(_place: Place) -> io::Result<()> {
    on_both_kinds!(client, server => {
        drop(server);
        let told = soon("an error", async {
            loop {
                if let Err(error) = client.write_all(&[7; 1_000]).await {
                    return error.kind();
                }
                yield_now().await;
            }
        });
        let told = told.await;
        let of_both = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(of_both.contains(&told), "{told:?}");
    })
}
