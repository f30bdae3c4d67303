//! What waits often stays armed, and tells of what comes only. Whatever was there before must be
//! read all the same: each scenario waits often first, on Linux and on the simulated kernel.
//! `RINGHOLD_SEEDS` sets on how many seeds of the latter.

mod common;
mod watched;

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::{isolated, proc};
use ringhold_sim::{Faults, HostConfig, Simulation, for_each_seed, seeds};
use runtime::Builder;
use runtime::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use runtime::net::{TcpListener, TcpSocket, TcpStream, UnixDatagram, UnixStream};
use runtime::task::{spawn_local, spawn_on, yield_now};
use runtime::time::{sleep, timeout};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use watched::watchdog;

/// Within this everything has come that is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// More often than it takes for a poll to stay armed.
const OFTEN: u8 = 12;

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (client, server) = runtime::join!(TcpStream::connect(address), listener.accept());
    let (client, (server, _)) = (client?, server?);
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// As [`pair`], with room for little between them.
async fn narrow_pair() -> io::Result<(TcpStream, TcpStream)> {
    const ROOM: u32 = 8 * 1024;
    let [listening, connecting] = [TcpSocket::new_v4()?, TcpSocket::new_v4()?];
    listening.set_recv_buffer_size(ROOM)?;
    connecting.set_send_buffer_size(ROOM)?;
    listening.bind(([127, 0, 0, 1], 0).into())?;
    let listener = listening.listen(1)?;
    let connected = connecting.connect(listener.local_addr()?);
    let (client, server) = runtime::join!(connected, listener.accept());
    Ok((server?.0, client?))
}

/// Lets reads of `reader` wait for single bytes, until its poll stays armed.
async fn wait_often<R, W>(reader: &mut R, writer: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    for number in 0..OFTEN {
        let mut into = [0; 16];
        let late = async {
            yield_now().await;
            writer.write_all(&[number]).await
        };
        let (count, written) = runtime::join!(reader.read(&mut into), late);
        written?;
        assert_eq!((count?, into[0]), (1, number));
    }
    Ok(())
}

/// What comes in time.
async fn soon<T>(what: &str, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(ErrorKind::TimedOut, format!("{what} didn't come"));
    timeout(PATIENCE, future).await.unwrap_or_else(|_| Err(late()))
}

/// Runs a scenario on Linux, and on simulated kernels.
fn on_both_kernels<F: Future<Output = io::Result<()>> + 'static>(scenario: fn() -> F) {
    Builder::new_current_thread().run(scenario()).unwrap().unwrap();
    for_each_seed(seeds(20), |seed| {
        let mut simulation = Simulation::new(seed);
        let faults = Faults::harmless();
        let config = HostConfig::new("only").faults(faults).ring_entries(2, 4);
        let host = simulation.host(config);
        simulation.start(host, scenario);
        simulation.run()
    });
}

/// Waits until `bytes` of them are there to be read.
async fn arrival(reader: &TcpStream, bytes: usize) -> io::Result<()> {
    let mut into = vec![0; bytes];
    while reader.peek(&mut into).await? < bytes {
        sleep(Duration::from_micros(50)).await;
    }
    Ok(())
}

#[test]
fn what_a_peek_has_left_is_read() {
    let _watchdog = watchdog("what a peek has left is read", 60);
    on_both_kernels(|| async {
        let (mut reader, mut writer) = pair().await?;
        wait_often(&mut reader, &mut writer).await?;
        let mut into = [0; 16];
        let mut peeked = ReadBuf::new(&mut into);
        let late = async {
            yield_now().await;
            writer.write_all(b"abc").await
        };
        let peek = poll_fn(|cx| reader.poll_peek(cx, &mut peeked));
        let (count, written) = runtime::join!(soon("what is peeked at", peek), late);
        written?;
        assert!((1..=3).contains(&count?));
        let mut read = [0; 3];
        soon("what was peeked at", reader.read_exact(&mut read)).await?;
        assert_eq!(&read, b"abc");
        Ok(())
    });
}

#[test]
fn the_end_is_seen_that_comes_with_the_last_bytes() {
    let _watchdog = watchdog("the end is seen that comes with the last bytes", 60);
    on_both_kernels(|| async {
        let (mut reader, mut writer) = pair().await?;
        wait_often(&mut reader, &mut writer).await?;
        writer.write_all(b"abc").await?;
        writer.shutdown().await?;
        while !reader.ready(Interest::READABLE).await?.is_read_closed() {
            sleep(Duration::from_micros(50)).await;
        }
        let mut read = Vec::new();
        soon("the end", reader.read_to_end(&mut read)).await?;
        assert_eq!(read, b"abc");
        Ok(())
    });
}

#[test]
fn what_a_dropped_read_of_an_owned_buffer_has_left_is_read() {
    let _watchdog = watchdog("what a dropped read of an owned buffer has left is read", 60);
    on_both_kernels(|| async {
        let (mut reader, mut writer) = pair().await?;
        for _ in 0..5 {
            wait_often(&mut reader, &mut writer).await?;
            writer.write_all(b"abcdef").await?;
            arrival(&reader, 6).await?;
            // The poll has told of all six bytes, and tells of none of them again.
            assert_eq!(reader.read_u8().await?, b'a');
            {
                let mut owned = pin!(reader.read_owned(Vec::with_capacity(2)));
                assert!(poll_fn(|cx| Poll::Ready(owned.as_mut().poll(cx).is_pending())).await);
            }
            let mut read = [0; 5];
            soon("what was left", reader.read_exact(&mut read)).await?;
            assert_eq!(&read, b"bcdef");
        }
        Ok(())
    });
}

#[test]
fn readiness_is_told_as_long_as_something_is_left() {
    let _watchdog = watchdog("readiness is told as long as something is left", 60);
    on_both_kernels(|| async {
        let (mut reader, mut writer) = pair().await?;
        wait_often(&mut reader, &mut writer).await?;
        writer.write_all(b"0123456789").await?;
        arrival(&reader, 10).await?;
        for expected in b"0123456789" {
            soon("readiness", poll_fn(|cx| reader.poll_read_ready(cx))).await?;
            let mut byte = [0];
            assert_eq!(reader.try_read(&mut byte)?, 1);
            assert_eq!(byte[0], *expected);
        }
        // And what comes then is waited for.
        wait_often(&mut reader, &mut writer).await
    });
}

#[test]
fn a_writer_that_waits_often_is_woken_each_time() {
    let _watchdog = watchdog("a writer that waits often is woken each time", 60);
    const BYTES: usize = 512 * 1024;
    on_both_kernels(|| async {
        let (mut reader, mut writer) = narrow_pair().await?;
        let sent: Vec<u8> = (0..BYTES).map(|index| (index / 251) as u8).collect();
        let reading = async {
            let mut read = Vec::with_capacity(sent.len());
            let mut piece = vec![0; 30_000];
            while read.len() < sent.len() {
                let count = reader.read(&mut piece).await?;
                read.extend_from_slice(&piece[..count]);
                yield_now().await;
            }
            Ok(read)
        };
        let (read, written) =
            runtime::join!(soon("what was sent", reading), writer.write_all(&sent));
        written?;
        assert!(read? == sent);
        Ok(())
    });
}

#[test]
fn a_dropped_stream_is_closed_although_its_poll_was_armed() {
    let _watchdog = watchdog("a dropped stream is closed although its poll was armed", 60);
    on_both_kernels(|| async {
        let (mut reader, mut writer) = pair().await?;
        wait_often(&mut reader, &mut writer).await?;
        drop(reader);
        assert_eq!(soon("the end", writer.read(&mut [0])).await?, 0);
        Ok(())
    });
}

#[test]
fn no_descriptor_is_left_of_streams_whose_polls_were_armed() {
    let test = isolated("no_descriptor_is_left_of_streams_whose_polls_were_armed");
    test.run(|| {
        let run = Builder::new_current_thread().run(async {
            let before = proc::open_descriptors();
            for _ in 0..50 {
                let (mut reader, mut writer) = pair().await?;
                wait_often(&mut reader, &mut writer).await?;
            }
            while proc::open_descriptors() > before {
                sleep(Duration::from_millis(1)).await;
            }
            io::Result::Ok(())
        });
        run.unwrap().unwrap();
    });
}

#[test]
fn who_is_busy_with_something_else_is_not_woken_by_what_comes() {
    let _watchdog = watchdog("who is busy with something else is not woken by what comes", 60);
    on_both_kernels(|| async {
        let (mut reader, mut writer) = pair().await?;
        wait_often(&mut reader, &mut writer).await?;
        let late = async move {
            for _ in 0..100 {
                writer.write_all(b"x").await?;
                sleep(Duration::from_millis(1)).await;
            }
            io::Result::Ok(())
        };
        let writing = spawn_local(late);
        let mut polls = 0;
        let mut busy = pin!(sleep(Duration::from_millis(200)));
        poll_fn(|cx| {
            polls += 1;
            busy.as_mut().poll(cx)
        })
        .await;
        // Once when it begins, once when it is over, and once for the byte that came first.
        assert!(polls <= 3, "{polls} polls");
        writing.await.unwrap()?;
        let mut read = [0; 100];
        soon("what came meanwhile", reader.read_exact(&mut read)).await.map(drop)
    });
}

#[test]
fn an_armed_stream_goes_on_on_another_shard_and_in_another_runtime() {
    let _watchdog = watchdog("an armed stream goes on on another shard and in another runtime", 60);
    let (first, second) = (
        Builder::new_multi_thread().worker_threads(2).build().unwrap(),
        Builder::new_current_thread().build().unwrap(),
    );
    let moved = first.block_on(async {
        let (mut reader, mut writer) = spawn_on(0, pair).await.unwrap().unwrap();
        for round in 0..20 {
            let there = spawn_on(round % 2, || async {
                wait_often(&mut reader, &mut writer).await.unwrap();
                wait_often(&mut writer, &mut reader).await.unwrap();
                (reader, writer)
            });
            (reader, writer) = soon("the end of a round", async { Ok(there.await) }).await??;
        }
        io::Result::Ok((reader, writer))
    });
    drop(first);
    let (mut reader, mut writer) = moved.unwrap();
    second.block_on(async {
        wait_often(&mut reader, &mut writer).await.unwrap();
        wait_often(&mut writer, &mut reader).await.unwrap();
    });
}

#[test]
fn who_sends_to_a_full_queue_of_others_goes_on_when_there_is_room() {
    let _watchdog = watchdog("who sends to a full queue of others goes on when there is room", 60);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("receiver");
    let run = Builder::new_current_thread().run(async {
        let receiver = UnixDatagram::bind(&path)?;
        let [other, sender] = [(); 2].map(|()| UnixDatagram::unbound().map(Arc::new));
        let (other, sender) = (other?, sender?);
        for _ in 0..OFTEN {
            // The queue is full, and nothing in it is the sender's.
            while receiver.try_recv(&mut [0; 16]).is_ok() {}
            while other.try_send_to(b"other", &path).is_ok() {}
            // A task of its own, which is polled when it is woken and not before.
            let (sender, path) = (sender.clone(), path.clone());
            let sending = spawn_local(async move {
                poll_fn(|cx| sender.poll_send_to(cx, b"sender", &path)).await
            });
            for _ in 0..OFTEN * 3 {
                yield_now().await;
            }
            while receiver.try_recv(&mut [0; 16]).is_ok() {}
            let sent = soon("room", async { Ok(sending.await) }).await?;
            assert_eq!(sent??, 6);
        }
        io::Result::Ok(())
    });
    run.unwrap().unwrap();
}

async fn accept_by_polls(listener: Arc<TcpListener>, accepted: Arc<AtomicU32>) -> io::Result<()> {
    loop {
        drop(poll_fn(|cx| listener.poll_accept(cx)).await?);
        accepted.fetch_add(1, Ordering::SeqCst);
        // So that the other one may be the one who polled last.
        yield_now().await;
    }
}

#[test]
fn two_that_accept_by_polls_miss_no_connection() {
    let _watchdog = watchdog("two that accept by polls miss no connection", 60);
    const CONNECTIONS: u32 = 2_000;
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let run = runtime.block_on(async {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await?);
        let address = listener.local_addr()?;
        let accepted = Arc::new(AtomicU32::new(0));
        let acceptors = [0, 1].map(|shard| {
            let (listener, accepted) = (listener.clone(), accepted.clone());
            spawn_on(shard, move || accept_by_polls(listener, accepted))
        });
        for _ in 0..CONNECTIONS / 2 {
            // Two at once, which one event may tell of.
            let both = runtime::join!(TcpStream::connect(address), TcpStream::connect(address));
            drop((both.0?, both.1?));
        }
        let all = async {
            while accepted.load(Ordering::SeqCst) < CONNECTIONS {
                sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        };
        soon("some of the connections", all).await?;
        acceptors.iter().for_each(|acceptor| acceptor.abort());
        io::Result::Ok(())
    });
    run.unwrap();
}

/// Sends bytes with a descriptor.
fn send_with_descriptor(stream: BorrowedFd<'_>, bytes: &[u8], passed: BorrowedFd<'_>) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let passed = [passed];
    assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
    let sent = sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
    assert_eq!(sent.unwrap(), bytes.len());
}

#[test]
fn what_comes_after_a_descriptor_is_read_from_a_unix_stream() {
    let _watchdog = watchdog("what comes after a descriptor is read from a unix stream", 60);
    let run = Builder::new_current_thread().run(async {
        let (mut reader, mut writer) = UnixStream::pair()?;
        wait_often(&mut reader, &mut writer).await?;
        let passed = std::fs::File::open("/dev/null")?;
        for _ in 0..3 {
            // A read ends at the bytes that a descriptor comes with.
            send_with_descriptor(writer.as_fd(), b"ab", passed.as_fd());
            writer.write_all(b"cd").await?;
            let mut read = [0; 4];
            let mut done = 0;
            while done < read.len() {
                let mut into = [0; 16];
                let count = soon("what came", reader.read(&mut into)).await?;
                read[done..done + count].copy_from_slice(&into[..count]);
                done += count;
            }
            assert_eq!(&read, b"abcd");
        }
        io::Result::Ok(())
    });
    run.unwrap().unwrap();
}
