//! Writes of several buffers at once, which a stream owns meanwhile: a head, and a body that many
//! clients share. `RINGHOLD_RECORDS` sets how many there are.

mod common;
mod dice;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use common::count;
use dice::Dice;
use ringhold_sim::{Faults, HostConfig, Simulation, for_each_seed, seeds};
use runtime::Builder;
use runtime::buffers;
use runtime::io::AsyncReadExt;
use runtime::net::{TcpListener, TcpStream, UnixStream};
use runtime::task::spawn_local;
use runtime::time::timeout;

const BODY_BYTES: usize = 50_000;

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?.0))
}

/// What all records have in common, in a lease that is frozen.
async fn body() -> io::Result<Bytes> {
    let mut lease = buffers::lease(BODY_BYTES).await?;
    let bytes: Vec<u8> = (0..BODY_BYTES).map(|place| (place % 251) as u8).collect();
    lease.extend_from_slice(&bytes);
    Ok(Bytes::from_owner(lease.freeze().expect("there is room for frozen bytes")))
}

/// Takes what was written off the beginning of the buffers.
fn advance(buffers: Vec<Bytes>, mut count: usize) -> Vec<Bytes> {
    let rest = buffers.into_iter().filter_map(|mut buffer| {
        let taken = count.min(buffer.len());
        count -= taken;
        let rest = buffer.split_off(taken);
        (!rest.is_empty()).then_some(rest)
    });
    rest.collect()
}

/// Every record is its number, the body, and a part of the body.
async fn receive(mut stream: impl runtime::io::AsyncRead + Unpin, records: u32) -> io::Result<()> {
    let mut bytes = vec![0; 4 + BODY_BYTES + 100];
    for number in 0..records {
        stream.read_exact(&mut bytes).await?;
        assert_eq!(bytes[..4], number.to_be_bytes());
        assert!((0..BODY_BYTES).all(|place| bytes[4 + place] == (place % 251) as u8), "{number}");
        assert!((0..100).all(|place| bytes[4 + BODY_BYTES + place] == (place % 251) as u8));
    }
    assert_eq!(stream.read(&mut bytes).await?, 0);
    Ok(())
}

macro_rules! send {
    ($stream:expr, $records:expr, $body:expr) => {
        for number in 0..$records {
            let head = Bytes::copy_from_slice(&number.to_be_bytes());
            let mut buffers = vec![head, Bytes::new(), $body.clone(), $body.slice(..100)];
            while !buffers.is_empty() {
                let (count, written) = $stream.write_vectored_owned(buffers).await?;
                assert!(count > 0);
                buffers = advance(written, count);
            }
        }
    };
}

async fn over_tcp(records: u32) -> io::Result<()> {
    let (sender, receiver) = pair().await?;
    let receiving = spawn_local(receive(receiver, records));
    let body = body().await?;
    send!(sender, records, body);
    drop(sender);
    receiving.await.map_err(io::Error::other)?
}

#[test]
fn heads_and_a_shared_body_arrive_in_order_on_tcp() {
    let records = count("RINGHOLD_RECORDS", 500);
    Builder::new_current_thread().run(over_tcp(records)).unwrap().unwrap();
}

#[test]
fn heads_and_a_shared_body_arrive_in_order_on_unix_streams() {
    let run = Builder::new_current_thread().run(async {
        let (sender, receiver) = UnixStream::pair()?;
        let receiving = spawn_local(receive(receiver, 200));
        let body = body().await?;
        send!(sender, 200_u32, body);
        drop(sender);
        receiving.await.map_err(io::Error::other)?
    });
    run.unwrap().unwrap();
}

#[test]
fn heads_and_a_shared_body_arrive_in_order_between_simulated_peers() {
    for_each_seed(seeds(count("RINGHOLD_SEEDS", 30).into()), |seed| {
        let mut simulation = Simulation::new(seed);
        let rings = if seed % 2 == 0 { (2, 4) } else { (64, 128) };
        let config = HostConfig::new("host").faults(Faults::harmless());
        let host = simulation.host(config.ring_entries(rings.0, rings.1));
        simulation.start(host, move || over_tcp(5));
        simulation.run()
    });
}

/// Of one that was dropped a beginning may have been sent, and nothing else; the next comes behind.
#[test]
fn what_a_dropped_write_sends_is_a_beginning_of_it() {
    let mut dice = Dice::from_environment();
    let run = Builder::new_current_thread().run(async {
        let body = body().await?;
        for _ in 0..50 {
            let (sender, mut receiver) = UnixStream::pair()?;
            // Fills the way to the peer, and then waits for room.
            let patience = Duration::from_micros(dice.below(2000));
            let writing = async {
                loop {
                    let buffers = vec![body.clone(), body.clone()];
                    let (count, written) = sender.write_vectored_owned(buffers).await?;
                    let rest = advance(written, count);
                    if !rest.is_empty() {
                        // Written whole or not at all, so that the body goes on where it ended.
                        for rest in rest {
                            sender.write_all_owned(rest).await?;
                        }
                    }
                }
            };
            let ended: Result<io::Result<()>, _> = timeout(patience, writing).await;
            assert!(ended.is_err(), "{ended:?}");
            let receiving = spawn_local(async move {
                let mut bytes = Vec::new();
                receiver.read_to_end(&mut bytes).await?;
                io::Result::Ok(bytes)
            });
            sender.write_all_owned("the end").await?;
            drop(sender);
            let bytes = receiving.await.map_err(io::Error::other)??;
            let sent = bytes.strip_suffix(b"the end").expect("it comes behind");
            let wrong = sent
                .iter()
                .enumerate()
                .find(|(place, byte)| usize::from(**byte) != place % BODY_BYTES % 251);
            assert_eq!(wrong, None);
        }
        io::Result::Ok(())
    });
    run.unwrap().unwrap();
}

#[test]
fn a_peer_that_is_gone_is_an_error_that_gives_the_buffers_back() {
    let run = Builder::new_current_thread().run(async {
        let (sender, receiver) = UnixStream::pair()?;
        drop(receiver);
        let failed = sender.write_vectored_owned(vec!["head", "body"]).await.unwrap_err();
        assert_eq!(failed.error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(failed.buffer, ["head", "body"]);
        io::Result::Ok(())
    });
    run.unwrap().unwrap();
}

#[runtime::test]
async fn no_more_is_sent_than_what_is_filled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut roomy = Vec::with_capacity(64);
    roomy.extend_from_slice(b"ab");
    let (count, buffers) = client.write_vectored_owned(vec![roomy, b"c".to_vec()]).await.unwrap();
    assert_eq!((count, &buffers[0][..]), (3, &b"ab"[..]));
    drop(client);
    let mut arrived = Vec::new();
    server.read_to_end(&mut arrived).await.unwrap();
    assert_eq!(arrived, b"abc");
}
