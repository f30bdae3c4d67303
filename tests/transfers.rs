//! Files that go to sockets and come from them: every byte arrives once and in order, two leases
//! are enough, and what stops a transfer says how far it got. `RINGHOLD_SEEDS` sets how many seeds.

mod common;
mod dice;

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dice::Dice;
use ringhold_sim::{Fault, Faults, HostConfig, Simulation, for_each_seed, seeds};
use runtime::buffers::{self, PoolConfig};
use runtime::fs::{self, AlignmentError, File, OpenOptions};
use runtime::io::{AsyncReadExt, AsyncWriteExt, receive_file, send_file};
use runtime::net::{TcpListener, TcpStream, UnixStream};
use runtime::task::spawn_local;
use runtime::time::{sleep, timeout};
use runtime::{Builder, Handle};

const PART: usize = 256 * 1024;

/// Bytes of which no two neighbouring blocks are alike.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place as u64).wrapping_mul(0x9E37_79B9).to_be_bytes()[4]).collect()
}

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?.0))
}

/// What a receiver of the range gets.
async fn sent(file: &File, range: std::ops::Range<u64>) -> io::Result<(u64, Vec<u8>)> {
    let (mut client, server) = pair().await?;
    let receiving = spawn_local(async move {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.map(|_| bytes)
    });
    let count = send_file(file, range, &server).await?;
    drop(server);
    Ok((count, receiving.await.map_err(io::Error::other)??))
}

async fn opened(path: &Path, direct: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).direct(direct).open(path).await
}

#[runtime::test]
async fn a_range_of_any_length_and_place_is_sent_from_a_cached_and_from_a_direct_file() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("file");
    let length = 3 * PART + 1234;
    let bytes = pattern(length);
    fs::write(&path, &bytes).await.unwrap();
    let places = [0, 1, 511, 512, PART - 1, PART, PART + 1, 2 * PART, length - 1, length];
    for direct in [false, true] {
        let file = opened(&path, direct).await.unwrap();
        for (number, begin) in places.into_iter().enumerate() {
            for end in places[number..].iter().copied().chain([length + 5000, usize::MAX]) {
                let (count, found) = sent(&file, begin as u64..end as u64).await.unwrap();
                let expected = &bytes[begin..end.min(length)];
                assert_eq!(count as usize, expected.len(), "{begin}..{end}, direct: {direct}");
                assert!(found == expected, "{begin}..{end}, direct: {direct}");
            }
        }
        assert_eq!(sent(&file, length as u64 + 9..u64::MAX).await.unwrap(), (0, Vec::new()));
    }
}

#[runtime::test]
async fn what_arrives_fills_a_range_of_a_file_and_the_rest_stays_in_the_stream() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bytes = pattern(3 * PART + 1234);
    for (direct, begin, length) in [
        (false, 0, 3 * PART + 1234),
        (false, 77, 5),
        (false, 1000, 2 * PART + 3),
        (true, 0, 3 * PART),
        (true, 4096, 4096),
        (true, 4096, PART + 4096),
    ] {
        let path = directory.path().join(format!("file-{direct}-{begin}-{length}"));
        let file = opened(&path, direct).await.unwrap();
        let (mut client, mut server) = pair().await.unwrap();
        let upload = bytes.clone();
        let sending = spawn_local(async move {
            // In pieces, so that parts are put together of several receives.
            for piece in upload.chunks(10_007) {
                client.write_all(piece).await.unwrap();
            }
        });
        let range = begin as u64..(begin + length) as u64;
        assert_eq!(receive_file(&server, &file, range).await.unwrap(), length as u64);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        sending.await.unwrap();
        assert!(rest == bytes[length..]);
        let written = fs::read(&path).await.unwrap();
        assert!(written[..begin].iter().all(|&byte| byte == 0));
        assert!(written[begin..] == bytes[..length]);
    }
}

#[runtime::test]
async fn a_stream_that_ends_before_the_range_does_is_told_by_the_count() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::create(directory.path().join("file")).await.unwrap();
    let (mut client, server) = UnixStream::pair().unwrap();
    client.write_all(&pattern(1000)).await.unwrap();
    drop(client);
    assert_eq!(receive_file(&server, &file, 0..u64::MAX).await.unwrap(), 1000);
    assert_eq!(receive_file(&server, &file, 0..10).await.unwrap(), 0);
}

#[runtime::test]
async fn a_direct_file_takes_whole_blocks_only_and_says_so_before_anything_is_received() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = opened(&directory.path().join("file"), true).await.unwrap();
    let (mut client, mut server) = pair().await.unwrap();
    client.write_all(b"not received").await.unwrap();
    for range in [1..4097, 0..100] {
        let stopped = receive_file(&server, &file, range).await.unwrap_err();
        assert_eq!((stopped.read, stopped.written), (0, 0));
        assert_eq!(stopped.error.kind(), ErrorKind::InvalidInput);
        assert!(stopped.error.get_ref().unwrap().is::<AlignmentError>());
    }
    let mut bytes = [0; 12];
    server.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"not received");
    // One that ends within a block is found out at its end.
    client.write_all(&[7; 5000]).await.unwrap();
    drop(client);
    let stopped = receive_file(&server, &file, 0..u64::MAX).await.unwrap_err();
    assert_eq!((stopped.read, stopped.written), (5000, 0));
    assert!(stopped.error.get_ref().unwrap().is::<AlignmentError>());
}

#[runtime::test]
async fn a_full_disk_stops_at_once_and_says_what_was_received_and_what_was_written() {
    let file = OpenOptions::new().write(true).open("/dev/full").await.unwrap();
    let (mut client, mut server) = pair().await.unwrap();
    client.write_all(&[7; 1000]).await.unwrap();
    // The peer sends no more, and waits for an answer: nothing else would end it.
    let receiving = timeout(Duration::from_secs(20), receive_file(&server, &file, 0..u64::MAX));
    let stopped = receiving.await.expect("the error ends it").unwrap_err();
    assert_eq!((stopped.read, stopped.written), (1000, 0));
    assert_eq!(stopped.error.kind(), ErrorKind::StorageFull);
    let message = "stopped after reading 1000 bytes and writing 0: No space left on device";
    assert!(stopped.to_string().starts_with(message), "{stopped}");
    // What comes after that is not lost.
    client.write_all(b"the rest").await.unwrap();
    let mut bytes = [0; 8];
    server.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"the rest");
    assert_eq!(io::Error::from(stopped).raw_os_error(), Some(libc::ENOSPC));
}

#[runtime::test]
async fn a_peer_that_resets_ends_both_ways_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, pattern(64 * PART)).await.unwrap();
    let file = opened(&path, false).await.unwrap();
    let (client, server) = pair().await.unwrap();
    let resetting = spawn_local(async move {
        let (_, _) = client.read_owned(Vec::with_capacity(1000)).await.unwrap();
        client.set_zero_linger().unwrap();
    });
    let stopped = send_file(&file, 0..u64::MAX, &server).await.unwrap_err();
    resetting.await.unwrap();
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(kinds.contains(&stopped.error.kind()), "{stopped:?}");
    assert!(stopped.written < stopped.read && stopped.read < 64 * PART as u64, "{stopped:?}");
    let (client, server) = pair().await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let stopped = receive_file(&server, &file, 0..u64::MAX).await.unwrap_err();
    assert_eq!(stopped.error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn transfers_share_a_pool_that_has_fewer_leases_than_they_would_take() {
    let mut builder = Builder::new_current_thread();
    builder.pool(PoolConfig::new().limit(2 * PART).arena(2 * PART));
    let run = builder.run(async {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("file");
        let bytes = pattern(10 * PART + 1);
        fs::write(&path, &bytes).await?;
        let file = Arc::new(File::open(&path).await?);
        let transfers: Vec<_> = (0..8)
            .map(|_| {
                let file = file.clone();
                spawn_local(async move { sent(&file, 0..u64::MAX).await })
            })
            .collect();
        for transfer in transfers {
            let (count, found) = transfer.await.map_err(io::Error::other)??;
            assert!(count as usize == bytes.len() && found == bytes);
        }
        assert_eq!(buffers::occupancy().leased, 0);
        io::Result::Ok(())
    });
    run.unwrap().unwrap();
}

#[runtime::test]
async fn who_waits_for_a_peer_has_no_lease_before_something_moves_and_two_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, pattern(256 * PART)).await.unwrap();
    let file = Arc::new(opened(&path, false).await.unwrap());
    let (mut client, server) = pair().await.unwrap();
    let upload = file.clone();
    let receiving = spawn_local(async move { receive_file(&server, &upload, 0..100).await });
    sleep(Duration::from_millis(5)).await;
    assert_eq!(buffers::occupancy().leased, 0);
    client.write_all(&[7; 100]).await.unwrap();
    assert_eq!(receiving.await.unwrap().unwrap(), 100);
    // A peer that doesn't read: the connection's own buffers fill up, and then it stops.
    let (client, server) = pair().await.unwrap();
    let sending = spawn_local(async move { send_file(&file, 0..u64::MAX, &server).await });
    let stalled = async {
        let submitted = || Handle::current().metrics().driver_counts(0).submitted;
        let mut before = u64::MAX;
        while before != submitted() {
            before = submitted();
            sleep(Duration::from_millis(50)).await;
        }
        buffers::occupancy().leased
    };
    let leased = stalled.await;
    assert!(leased == PART || leased == 2 * PART, "{leased}");
    drop(client);
    sending.await.unwrap().unwrap_err();
    assert_eq!(buffers::occupancy().leased, 0);
}

#[runtime::test]
async fn a_dropped_transfer_leaves_nothing_behind() {
    let mut dice = Dice::from_environment();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let bytes = pattern(8 * PART);
    fs::write(&path, &bytes).await.unwrap();
    let file = opened(&path, false).await.unwrap();
    for _ in 0..100 {
        let (mut client, server) = pair().await.unwrap();
        let receiving = spawn_local(async move {
            let mut found = Vec::new();
            client.read_to_end(&mut found).await.map(|_| found)
        });
        let pause = Duration::from_micros(dice.below(500));
        let _ = timeout(pause, send_file(&file, 0..u64::MAX, &server)).await;
        drop(server);
        let found = receiving.await.unwrap().unwrap();
        assert!(bytes.starts_with(&found), "{} bytes", found.len());
    }
    while buffers::occupancy().leased > 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

/// A file goes to another host, is written there, and comes back.
async fn there_and_back(length: usize) -> io::Result<()> {
    let (one, other) = pair().await?;
    let bytes = pattern(length);
    fs::write("/here", &bytes).await?;
    let receiving = spawn_local(async move {
        let file = OpenOptions::new().read(true).write(true).create(true).open("/there").await?;
        let count = receive_file(&other, &file, 0..length as u64).await?;
        assert_eq!(count as usize, length);
        send_file(&file, 0..u64::MAX, &other).await?;
        io::Result::Ok(())
    });
    let file = File::open("/here").await?;
    assert_eq!(send_file(&file, 0..u64::MAX, &one).await? as usize, length);
    let back = File::create("/back").await?;
    assert_eq!(receive_file(&one, &back, 0..u64::MAX).await? as usize, length);
    receiving.await.map_err(io::Error::other)??;
    assert!(fs::read("/there").await? == bytes && fs::read("/back").await? == bytes);
    assert_eq!(buffers::occupancy().leased, 0);
    Ok(())
}

#[test]
fn transfers_are_whole_whatever_is_short_and_late() {
    for_each_seed(seeds(common::count("RINGHOLD_SEEDS", 100).into()), |seed| {
        let mut simulation = Simulation::new(seed);
        let rings = if seed % 2 == 0 { (2, 4) } else { (64, 128) };
        let config = HostConfig::new("host")
            .faults(Faults::harmless().with(Fault::ShortTransfer, 0.3))
            .ring_entries(rings.0, rings.1)
            // Both ends of a connection are here, and each may hold two parts.
            .pool_limit(4 * PART);
        let host = simulation.host(config);
        let length = Dice::of(seed).below(5 * PART as u64) as usize;
        simulation.start(host, move || there_and_back(length));
        simulation.run()
    });
}
