//! Sockets lose nothing: neither connections nor bytes, whatever is dropped and whenever.
//!
//! `RINGHOLD_CONNECTS` and `RINGHOLD_MIB` set how many connections and how many bytes it is.

mod common;
mod dice;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use common::{count, isolated, limits, proc};
use dice::Dice;
use runtime::Builder;
use runtime::buffers::{self, PoolConfig};
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{TcpListener, TcpStream};
use runtime::task::{spawn_local, yield_now};
use runtime::time::{sleep, timeout};

const CLIENTS: u64 = 4;

/// Within this every client must have been served.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects `connects` times, sends a number each time, and must get it back.
fn be_a_client(address: SocketAddr, connects: u64, first: u64) {
    for number in (first..).step_by(CLIENTS as usize).take(connects as usize) {
        let mut stream = StdStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&number.to_be_bytes()).unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(u64::from_be_bytes(answer), number);
    }
}

/// Sends back what comes, and leaves no connection to fade away in the client.
async fn serve(mut stream: TcpStream) {
    let mut record = [0; 8];
    stream.read_exact(&mut record).await.unwrap();
    stream.write_all(&record).await.unwrap();
    assert_eq!(stream.read(&mut record).await.unwrap(), 0);
    stream.set_zero_linger().unwrap();
}

#[test]
fn no_connection_is_lost_by_accepts_that_are_dropped() {
    let test = isolated("no_connection_is_lost_by_accepts_that_are_dropped");
    test.deadline(Duration::from_secs(600)).run(|| {
        let mut dice = Dice::from_environment();
        let connects = u64::from(count("RINGHOLD_CONNECTS", 2_000)) / CLIENTS;
        let before = proc::open_descriptors();
        let run = Builder::new_current_thread().run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..CLIENTS)
                .map(|first| thread::spawn(move || be_a_client(address, connects, first)))
                .collect();
            let (mut accepted, mut dropped) = (0, 0);
            while accepted < connects * CLIENTS {
                let pause = Duration::from_micros(dice.below(200));
                runtime::select! {
                    connection = listener.accept() => {
                        spawn_local(serve(connection.unwrap().0));
                        accepted += 1;
                    }
                    () = sleep(pause) => dropped += 1,
                }
            }
            for client in clients {
                runtime::task::spawn_blocking(|| client.join().unwrap()).await.unwrap();
            }
            // Nobody else waits to be accepted.
            assert!(timeout(Duration::from_millis(5), listener.accept()).await.is_err());
            println!("{accepted} accepted, {dropped} accepts dropped");
            assert!(dropped > accepted / 100, "{dropped} accepts were dropped");
        });
        run.unwrap();
        proc::becomes("the count of descriptors", before, PATIENCE, proc::open_descriptors);
    });
}

/// Writes numbered records, sometimes in haste and sometimes with breaks: each fourth time until
/// the reader says that it has them all, so that it finds nothing however fast this thread is.
fn write_records(mut stream: StdStream, records: u64, seen: &Receiver<u64>, mut dice: Dice) {
    let mut next = 0;
    while next < records {
        let end = records.min(next + 1 + dice.below(256));
        let bytes: Vec<u8> = (next..end).flat_map(u64::to_be_bytes).collect();
        stream.write_all(&bytes).unwrap();
        next = end;
        match dice.below(4) {
            0 => thread::sleep(Duration::from_micros(dice.below(50))),
            // It says nothing any more if it has failed.
            1 => drop(seen.iter().find(|seen| *seen == next)),
            _ => {}
        }
    }
}

/// Checks that bytes are those of the numbered records, in order.
#[derive(Default)]
struct Records {
    seen: u64,
    part: Vec<u8>,
}

impl Records {
    fn take(&mut self, bytes: &[u8]) {
        self.part.extend_from_slice(bytes);
        let whole = self.part.len() / 8 * 8;
        for record in self.part[..whole].chunks_exact(8) {
            assert_eq!(u64::from_be_bytes(record.try_into().unwrap()), self.seen, "records");
            self.seen += 1;
        }
        self.part.drain(..whole);
    }
}

/// One read of some kind: what it brought, `None` at the end.
async fn read(stream: &mut TcpStream, kind: u64, most: usize) -> Option<Vec<u8>> {
    let bytes = match kind {
        0 => {
            let mut bytes = vec![0; most];
            let count = stream.read(&mut bytes).await.unwrap();
            bytes.truncate(count);
            bytes
        }
        1 => stream.read_owned(Vec::with_capacity(most)).await.unwrap().1,
        2 => {
            let lease = buffers::lease(most).await.unwrap();
            stream.read_fixed(lease).await.unwrap().1.to_vec()
        }
        3 => {
            stream.peek(&mut [0; 1]).await.unwrap();
            let mut bytes = Vec::with_capacity(most);
            stream.read_buf(&mut bytes).await.unwrap();
            bytes
        }
        _ => {
            stream.readable().await.unwrap();
            let mut bytes = vec![0; most];
            match stream.try_read(&mut bytes) {
                Ok(count) => bytes.truncate(count),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Some(vec![]);
                }
                Err(error) => panic!("{error}"),
            }
            bytes
        }
    };
    (!bytes.is_empty()).then_some(bytes)
}

#[test]
fn no_byte_is_lost_or_out_of_order_by_reads_that_are_dropped() {
    let mut dice = Dice::from_environment();
    let mib = u64::from(count("RINGHOLD_MIB", 8));
    let records = mib << 17;
    let pool = PoolConfig::new().limit(1 << 18).arena(1 << 18).keep(1 << 18);
    for rings in [(2, 4), (256, 512)] {
        let mut builder = Builder::new_current_thread();
        builder.ring_entries(rings.0, rings.1).pool(pool.clone());
        let run = builder.run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let (say, seen) = mpsc::channel();
            let writer = dice.split();
            let writing = thread::spawn(move || write_records(client, records, &seen, writer));
            let mut received = Records::default();
            let (mut won, mut dropped) = (0u64, [0u64; 5]);
            loop {
                let kind = dice.below(5);
                let most = 1 + dice.below(4 << 10) as usize;
                let turns = if dice.below(3) == 0 { u64::MAX } else { dice.below(4) };
                let stop = async {
                    for _ in 0..turns {
                        yield_now().await;
                    }
                };
                runtime::select! {
                    biased;
                    brought = read(&mut stream, kind, most) => match brought {
                        Some(bytes) => {
                            received.take(&bytes);
                            // A writer that has written everything doesn't listen.
                            let _ = say.send(received.seen);
                            won += 1;
                        }
                        None => break,
                    },
                    () = stop => dropped[kind as usize] += 1,
                }
            }
            writing.join().unwrap();
            assert_eq!((received.seen, received.part.len()), (records, 0));
            println!("{won} reads took something, {dropped:?} were dropped");
            assert!(dropped.iter().sum::<u64>() > mib * 200 && won > mib * 200);
            assert!(dropped[1] > 0 && dropped[2] > 0, "none of the owned reads was dropped");
        });
        run.unwrap();
    }
}

#[runtime::test]
async fn what_arrives_for_a_dropped_read_is_the_next_readers_and_never_stds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    // A read that has completed and was not polled again: its bytes are in no buffer of ours.
    for kind in 0..4u8 {
        let reading = server.read_owned(vec![0; 64]);
        let mut reading = Box::pin(reading);
        assert!(timeout(Duration::ZERO, &mut reading).await.is_err());
        client.write_all(&[b'a', b'b', kind]).await.unwrap();
        sleep(Duration::from_millis(2)).await;
        drop(reading);
        client.write_all(b"next").await.unwrap();
        let mut first = [0; 2];
        assert_eq!(server.peek(&mut first).await.unwrap(), 2);
        assert_eq!(server.try_read(&mut first).unwrap(), 2);
        assert_eq!(&first, b"ab");
        let error = server.try_io(runtime::io::Interest::READABLE, || Ok(())).unwrap_err();
        assert!(error.to_string().contains("has brought bytes"), "{error}");
        server = match server.into_std() {
            Ok(_) => panic!("a byte was lost"),
            Err(error) => error.downcast::<runtime::net::Undelivered<TcpStream>>().unwrap().0,
        };
        server.readable().await.unwrap();
        let (count, bytes) = server.read_owned(vec![0; 64]).await.unwrap();
        assert_eq!((count, bytes[0]), (1, kind));
        let mut next = [0; 4];
        server.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"next");
    }
    server.into_std().unwrap();
}

#[runtime::test]
async fn what_is_written_after_a_dropped_write_comes_after_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let full = vec![1; 1 << 20];
    let mut before = 0;
    loop {
        match client.try_write(&full) {
            Ok(count) => before += count,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let dropped = timeout(Duration::from_millis(2), client.write_owned(vec![2; 1 << 20])).await;
    assert!(dropped.is_err(), "there was no room");
    let reading = runtime::spawn(async move {
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        received
    });
    client.write_all(&[3; 1000]).await.unwrap();
    client.shutdown().await.unwrap();
    let received = reading.await.unwrap();
    // The dropped write is there as far as it came, and in its place.
    let counts = [1, 2, 3].map(|value| received.iter().filter(|&&byte| byte == value).count());
    assert_eq!((counts[0], counts[2]), (before, 1000));
    assert!(received.is_sorted(), "{counts:?}");
}

#[test]
fn a_full_file_table_is_an_error_and_loses_no_connection() {
    let test = isolated("a_full_file_table_is_an_error_and_loses_no_connection");
    test.limit(limits::Resource::OpenFiles, 64).run(|| {
        let run = Builder::new_current_thread().run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut clients: Vec<_> =
                (0..8).map(|_| StdStream::connect(address).unwrap()).collect();
            let taken = common::start::take_descriptors(2);
            let mut accepted = Vec::new();
            for _ in 0..2 {
                accepted.push(listener.accept().await.unwrap());
            }
            for _ in 0..3 {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                let error = TcpStream::connect(address).await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            }
            drop(taken);
            while accepted.len() < 8 {
                accepted.push(listener.accept().await.unwrap());
            }
            for (client, (server, _)) in clients.iter_mut().zip(&accepted) {
                server.write_all_owned("hello").await.unwrap();
                let mut bytes = [0; 5];
                client.read_exact(&mut bytes).unwrap();
                assert_eq!(&bytes, b"hello");
            }
        });
        run.unwrap();
    });
}

#[test]
fn streams_and_halves_move_between_shards_in_the_middle_of_a_read() {
    let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
    runtime.block_on(async {
        for round in 0..50u64 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            // The poll begins on one shard, and its stream goes on to the other.
            let moved = runtime::task::spawn_on(0, move || async move {
                assert!(timeout(Duration::from_micros(50), server.read(&mut [0])).await.is_err());
                let owned = server.read_owned(vec![0; 8]);
                assert!(timeout(Duration::from_micros(50), owned).await.is_err());
                server
            });
            let server = moved.await.unwrap();
            let (mut reader, mut writer) = server.into_split();
            let reading = runtime::task::spawn_on(1, move || async move {
                let mut record = [0; 8];
                reader.read_exact(&mut record).await.unwrap();
                (record, reader)
            });
            let writing = runtime::task::spawn_on(0, move || async move {
                writer.write_all(&round.to_be_bytes()).await.unwrap();
                writer
            });
            client.write_all(&round.to_be_bytes()).await.unwrap();
            let mut answer = [0; 8];
            client.read_exact(&mut answer).await.unwrap();
            let (record, reader) = reading.await.unwrap();
            reader.reunite(writing.await.unwrap()).unwrap();
            assert_eq!((record, answer), (round.to_be_bytes(), round.to_be_bytes()));
        }
    });
}

#[test]
fn streams_that_are_dropped_in_flight_leave_nothing_open() {
    let test = isolated("streams_that_are_dropped_in_flight_leave_nothing_open");
    test.run(|| {
        let before = proc::open_descriptors();
        let run = Builder::new_current_thread().run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let begun = Instant::now();
            for _ in 0..100 {
                let client = TcpStream::connect(address).await.unwrap();
                let (server, _) = listener.accept().await.unwrap();
                let dropped = spawn_local(async move {
                    let mut client = client;
                    let full = vec![1; 1 << 20];
                    while client.try_write(&full).is_ok() {}
                    let ((mut reader, mut writer), mut bytes) = (client.split(), [0; 8]);
                    runtime::select! {
                        _ = reader.read(&mut bytes) => panic!("nothing was sent"),
                        _ = writer.write(&full) => panic!("there is no room"),
                        () = yield_now() => {}
                    }
                    let written = client.write_owned(full);
                    assert!(timeout(Duration::ZERO, written).await.is_err());
                });
                dropped.await.unwrap();
                // The end of the connection reaches the peer.
                let mut bytes = Vec::new();
                let mut server = server;
                server.read_to_end(&mut bytes).await.unwrap();
            }
            assert!(begun.elapsed() < PATIENCE);
        });
        run.unwrap();
        proc::becomes("the count of descriptors", before, PATIENCE, proc::open_descriptors);
    });
}
