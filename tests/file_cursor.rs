//! The cursor of a file: tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek`, done in order.

use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use ringhold_sim::{HostConfig, Simulation, for_each_seed, seeds};
use runtime::fs::{self, File, OpenOptions};
use runtime::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    (directory, path)
}

async fn read_write(path: &PathBuf) -> File {
    OpenOptions::new().read(true).write(true).create(true).open(path).await.unwrap()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[runtime::test]
async fn reads_go_on_where_the_last_one_ended() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let mut file = File::open(&path).await.unwrap();
    let mut four = [0; 4];
    assert_eq!(file.read(&mut four).await.unwrap(), 4);
    assert_eq!(&four, b"0123");
    file.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"4567");
    let mut rest = String::new();
    assert_eq!(file.read_to_string(&mut rest).await.unwrap(), 2);
    assert_eq!(rest, "89");
    assert_eq!(file.read(&mut four).await.unwrap(), 0);
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"ab").unwrap();
    assert_eq!(file.read(&mut four).await.unwrap(), 2);
    assert_eq!(&four[..2], b"ab");
}

#[runtime::test]
async fn seeking_moves_reads_and_writes() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let mut file = read_write(&path).await;
    assert_eq!(file.seek(SeekFrom::Start(4)).await.unwrap(), 4);
    file.write_all(b"AB").await.unwrap();
    assert_eq!(file.seek(SeekFrom::Current(-3)).await.unwrap(), 3);
    let mut three = [0; 3];
    file.read_exact(&mut three).await.unwrap();
    assert_eq!(&three, b"3AB");
    assert_eq!(file.seek(SeekFrom::End(-1)).await.unwrap(), 9);
    assert_eq!(file.read_u8().await.unwrap(), b'9');
    assert_eq!(file.stream_position().await.unwrap(), 10);
    file.rewind().await.unwrap();
    assert_eq!(file.read_u8().await.unwrap(), b'0');
    assert_eq!(file.seek(SeekFrom::Start(12)).await.unwrap(), 12);
    file.write_all(b"z").await.unwrap();
    file.flush().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"0123AB6789\0\0z");
}

#[runtime::test]
async fn a_seek_to_before_the_start_fails_and_moves_nothing() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let mut file = File::open(&path).await.unwrap();
    file.seek(SeekFrom::Start(2)).await.unwrap();
    for to in [SeekFrom::Current(-3), SeekFrom::End(-11), SeekFrom::Start(u64::MAX)] {
        let error = file.seek(to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{to:?}");
    }
    assert_eq!(file.read_u8().await.unwrap(), b'2');
}

#[runtime::test]
async fn a_dropped_read_loses_nothing() {
    let (_directory, path) = place();
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &bytes).unwrap();
    let mut file = File::open(&path).await.unwrap();
    let (mut found, mut seed) = (Vec::new(), 0x5eed_u64);
    println!("seed {seed:#x}");
    let mut dropped = 0;
    while found.len() < bytes.len() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut part = vec![0; 1 + (seed >> 33) as usize % 5000];
        if seed >> 60 < 8 {
            let mut read = pin!(file.read(&mut part));
            if let Poll::Ready(count) = poll_once(read.as_mut()) {
                let count = count.unwrap();
                found.extend_from_slice(&part[..count]);
            } else {
                dropped += 1;
                runtime::task::yield_now().await;
            }
        } else {
            let count = file.read(&mut part).await.unwrap();
            assert!(count > 0, "the end came at {} of {}", found.len(), bytes.len());
            found.extend_from_slice(&part[..count]);
        }
    }
    assert!(dropped > 10, "only {dropped} reads were dropped in flight");
    assert!(found == bytes, "the bytes are others");
}

#[runtime::test]
async fn what_a_dropped_read_brought_is_not_read_after_a_seek_or_a_write() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let mut file = read_write(&path).await;
    let mut two = [0; 2];
    assert!(poll_once(pin!(file.read(&mut two))).is_pending());
    file.seek(SeekFrom::Start(5)).await.unwrap();
    file.read_exact(&mut two).await.unwrap();
    assert_eq!(&two, b"56");
    assert!(poll_once(pin!(file.read(&mut two))).is_pending());
    file.write_all(b"XY").await.unwrap();
    file.read_exact(&mut two[..1]).await.unwrap();
    assert_eq!(two[0], b'9');
    assert_eq!(std::fs::read(&path).unwrap(), b"0123456XY9");
}

#[runtime::test]
async fn a_write_is_ready_when_it_is_copied_and_done_when_it_is_flushed() {
    let (_directory, path) = place();
    let mut file = read_write(&path).await;
    let first = poll_once(pin!(file.write(b"abc")));
    assert!(matches!(first, Poll::Ready(Ok(3))), "{first:?}");
    file.write_all(b"def").await.unwrap();
    file.flush().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"abcdef");
    let parts = [b"gh".as_slice(), b"", b"ij"].map(std::io::IoSlice::new);
    assert_eq!(file.write_vectored(&parts).await.unwrap(), 4);
    file.shutdown().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"abcdefghij");
}

#[runtime::test]
async fn a_buffered_write_is_waited_for_by_what_depends_on_it() {
    let (_directory, path) = place();
    let mut file = read_write(&path).await;
    file.write_all(&[1; 100_000]).await.unwrap();
    assert_eq!(file.metadata().await.unwrap().len(), 100_000);
    file.write_all(&[2; 100_000]).await.unwrap();
    file.set_len(150_000).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 150_000);
    file.write_all(&[3; 100_000]).await.unwrap();
    file.sync_all().await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 300_000);
    file.write_all(&[4; 100_000]).await.unwrap();
    file.close().await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 400_000);
}

/// On the simulated kernel, what is in flight at the same time completes in any order.
#[test]
fn a_length_is_set_after_the_write_that_was_buffered_before() {
    for_each_seed(seeds(100), |seed| {
        let mut simulation = Simulation::new(seed);
        let host = simulation.host(HostConfig::new("writer"));
        simulation.start(host, || async {
            let mut file = File::create_new("/file").await?;
            for length in [4_000, 6_000, 1] {
                file.rewind().await?;
                file.write_all(&[1; 10_000]).await?;
                file.set_len(length).await?;
                file.flush().await?;
                assert_eq!(fs::metadata("/file").await?.len(), length);
            }
            std::io::Result::Ok(())
        });
        simulation.run()
    });
}

/// What was written through the cursor is as durable after a sync as what was written by an offset.
#[test]
fn a_sync_makes_the_write_durable_that_was_buffered_before() {
    for_each_seed(seeds(100), |seed| {
        let mut simulation = Simulation::new(seed);
        let host = simulation.host(HostConfig::new("writer"));
        simulation.start(host, move || async move {
            let mut file = File::create_new("/file").await?;
            File::open("/").await?.sync_all().await?;
            file.write_all(&[7; 10_000]).await?;
            match seed % 2 {
                0 => file.sync_all().await?,
                _ => file.sync_data().await?,
            }
            // Ends before the file is dropped, which would write it, too.
            std::future::pending::<std::io::Result<()>>().await
        });
        simulation.run_for(std::time::Duration::from_secs(60))?;
        simulation.lose_power(host);
        simulation.start(host, || async {
            assert!(fs::read("/file").await? == [7; 10_000], "what was synced is gone");
            std::io::Result::Ok(())
        });
        simulation.run()
    });
}

#[runtime::test]
async fn a_buffered_write_of_a_dropped_file_is_done_all_the_same() {
    let (_directory, path) = place();
    for round in 0..50 {
        let mut file = File::create(&path).await.unwrap();
        file.write_all(&[7; 100_000]).await.unwrap();
        drop(file);
        let mut turns = 0;
        while std::fs::metadata(&path).unwrap().len() < 100_000 {
            turns += 1;
            assert!(turns < 1_000_000, "round {round}: the write never came");
            runtime::task::yield_now().await;
        }
    }
}

#[runtime::test]
async fn an_error_of_a_buffered_write_reaches_whoever_asks_next() {
    let full = || async { OpenOptions::new().write(true).open("/dev/full").await.unwrap() };
    let code = |error: std::io::Error| error.raw_os_error();
    let mut file = full().await;
    file.write_all(b"x").await.unwrap();
    assert_eq!(code(file.flush().await.unwrap_err()), Some(libc::ENOSPC));
    file.flush().await.unwrap();
    file.write_all(b"x").await.unwrap();
    assert_eq!(code(file.write_all(b"y").await.unwrap_err()), Some(libc::ENOSPC));
    file.write_all(b"x").await.unwrap();
    assert_eq!(code(file.sync_data().await.unwrap_err()), Some(libc::ENOSPC));
    file.write_all(b"x").await.unwrap();
    assert_eq!(code(file.close().await.unwrap_err()), Some(libc::ENOSPC));
}

#[runtime::test]
async fn an_appending_file_writes_at_the_end_and_reads_on_from_there() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let mut file = OpenOptions::new().read(true).append(true).open(&path).await.unwrap();
    assert_eq!(file.read_u8().await.unwrap(), b'0');
    file.write_all(b"ab").await.unwrap();
    assert_eq!(file.stream_position().await.unwrap(), 12);
    assert_eq!(file.read(&mut [0; 4]).await.unwrap(), 0);
    file.seek(SeekFrom::Start(8)).await.unwrap();
    let mut four = [0; 4];
    file.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"89ab");
    file.seek(SeekFrom::Start(1)).await.unwrap();
    file.write_all(b"cd").await.unwrap();
    let mut std = file.into_std().await;
    assert_eq!(std.stream_position().unwrap(), 14);
    assert_eq!(std::fs::read(&path).unwrap(), b"0123456789abcd");
}

#[runtime::test]
async fn the_cursor_comes_from_std_and_goes_back() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let mut std = std::fs::File::open(&path).unwrap();
    std.seek(SeekFrom::Start(3)).unwrap();
    let mut file = File::from_std(std);
    assert_eq!(file.read_u8().await.unwrap(), b'3');
    assert_eq!(file.seek(SeekFrom::Current(2)).await.unwrap(), 6);
    let mut std = file.into_std().await;
    let mut one = [0];
    std.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"6");
    let mut file = File::from_std(std);
    assert_eq!(file.seek(SeekFrom::Current(1)).await.unwrap(), 8);
    let mut std = file.try_into_std().unwrap();
    std.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"8");
    let appending = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let mut file = File::from_std(appending);
    file.write_all(b"ab").await.unwrap();
    file.flush().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"0123456789ab");
}

#[runtime::test]
async fn copies_of_a_file_share_the_cursor() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    for from_std in [false, true] {
        let mut file = match from_std {
            false => File::open(&path).await.unwrap(),
            true => File::from_std(std::fs::File::open(&path).unwrap()),
        };
        let mut copy = file.try_clone().await.unwrap();
        assert_eq!(file.read_u8().await.unwrap(), b'0');
        assert_eq!(copy.read_u8().await.unwrap(), b'1');
        assert!(poll_once(pin!(file.read(&mut [0; 4]))).is_pending());
        copy.seek(SeekFrom::Start(7)).await.unwrap();
        assert_eq!(file.read_u8().await.unwrap(), b'7');
    }
}

#[runtime::test]
async fn what_has_no_position_is_read_and_written_as_a_stream() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut reader = File::from(std::os::fd::OwnedFd::from(reader));
    let mut writer = File::from(std::os::fd::OwnedFd::from(writer));
    let mut three = [0; 3];
    for _ in 0..3 {
        // The first poll asks for the position, the second one reads; both are dropped.
        assert!(poll_once(pin!(reader.read(&mut three))).is_pending());
        runtime::task::yield_now().await;
    }
    writer.write_all(b"hello").await.unwrap();
    writer.flush().await.unwrap();
    reader.read_exact(&mut three).await.unwrap();
    assert_eq!(&three, b"hel");
    let error = writer.seek(SeekFrom::Start(0)).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESPIPE));
    drop(writer);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"lo");
    let mut zeros = File::open("/dev/zero").await.unwrap();
    zeros.read_exact(&mut three).await.unwrap();
    assert_eq!(three, [0; 3]);
}

#[runtime::test]
async fn a_fifo_opened_by_its_path_is_a_stream() {
    let (_directory, path) = place();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let mut file = read_write(&path).await;
    for round in 0..3_u8 {
        file.write_all(&[round; 5]).await.unwrap();
        let mut five = [9; 5];
        file.read_exact(&mut five).await.unwrap();
        assert_eq!(five, [round; 5]);
    }
}

#[runtime::test]
async fn one_transfer_moves_at_most_the_set_size() {
    let (_directory, path) = place();
    let mut file = read_write(&path).await;
    assert_eq!(file.max_buf_size(), 2 * 1024 * 1024);
    file.set_max_buf_size(10);
    assert_eq!(file.write(&[7; 25]).await.unwrap(), 10);
    file.write_all(&[7; 25]).await.unwrap();
    file.rewind().await.unwrap();
    assert_eq!(file.read(&mut [0; 25]).await.unwrap(), 10);
    assert_eq!(file.try_clone().await.unwrap().max_buf_size(), 10);
}

#[runtime::test]
async fn tokios_utilities_work_on_files() {
    let (_directory, path) = place();
    fs::write(&path, "one\ntwo\n\nfour").await.unwrap();
    let mut lines = BufReader::new(File::open(&path).await.unwrap()).lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        found.push(line);
    }
    assert_eq!(found, ["one", "two", "", "four"]);
    let mut from = File::open(&path).await.unwrap();
    let mut to = File::create(path.with_extension("copy")).await.unwrap();
    assert_eq!(runtime::io::copy(&mut from, &mut to).await.unwrap(), 13);
    to.flush().await.unwrap();
    assert_eq!(fs::read(path.with_extension("copy")).await.unwrap(), b"one\ntwo\n\nfour");
}

#[runtime::test]
async fn a_seek_while_something_is_pending_is_refused() {
    use runtime::io::AsyncSeek;
    let (_directory, path) = place();
    let mut file = read_write(&path).await;
    file.write_all(b"abc").await.unwrap();
    let error = Pin::new(&mut file).start_seek(SeekFrom::Start(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    let position = poll_fn(|cx| Pin::new(&mut file).poll_complete(cx)).await.unwrap();
    assert_eq!(position, 3);
    Pin::new(&mut file).start_seek(SeekFrom::Start(1)).unwrap();
    assert_eq!(poll_fn(|cx| Pin::new(&mut file).poll_complete(cx)).await.unwrap(), 1);
}
