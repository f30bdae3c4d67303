//! A descriptor is not the file: all who have an open file share one position, and lose nothing.

use std::future::Future;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use runtime::fs::{File, OpenOptions};
use runtime::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use runtime::process::Command;
use runtime::time::timeout;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    (directory, path)
}

/// How often what happens beside others is tried.
fn rounds() -> u32 {
    std::env::var("RINGHOLD_SHARED").map_or(50, |rounds| rounds.parse().unwrap())
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn position(file: BorrowedFd<'_>) -> u64 {
    let mut std = std::fs::File::from(file.try_clone_to_owned().unwrap());
    std.stream_position().unwrap()
}

#[runtime::test]
async fn two_files_of_one_open_file_write_after_each_other() {
    let (_directory, path) = place();
    for made_by in ["from_std", "try_clone", "as_fd"] {
        let (mut one, mut other) = match made_by {
            "from_std" => {
                let std = std::fs::File::create(&path).unwrap();
                (File::from_std(std.try_clone().unwrap()), File::from_std(std))
            }
            "try_clone" => {
                let file = File::create(&path).await.unwrap();
                (file.try_clone().await.unwrap(), file)
            }
            _ => {
                let file = File::create(&path).await.unwrap();
                (File::from(file.as_fd().try_clone_to_owned().unwrap()), file)
            }
        };
        let mut expected = String::new();
        for round in 0..rounds() {
            for (name, file) in [("one", &mut one), ("other", &mut other)] {
                let line = format!("{name} {round}\n");
                file.write_all(line.as_bytes()).await.unwrap();
                file.flush().await.unwrap();
                expected += &line;
            }
        }
        assert!(std::fs::read_to_string(&path).unwrap() == expected, "{made_by}: lines were lost");
    }
}

#[runtime::test(shards = 2)]
async fn no_record_is_lost_where_many_write_at_once() {
    const RECORDS: u64 = 40;
    let (_directory, path) = place();
    for round in 0..rounds() / 10 {
        let std = std::fs::File::create(&path).unwrap();
        let writers = (0..4_u64).map(|writer| {
            let mut file = File::from_std(std.try_clone().unwrap());
            runtime::spawn_on(writer as usize % 2, move || async move {
                for record in 0..RECORDS {
                    file.write_all(&(writer << 32 | record).to_le_bytes()).await.unwrap();
                }
                file.flush().await.unwrap();
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut beside = std.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            for record in 0..RECORDS {
                beside.write_all(&(4 << 32 | record).to_le_bytes()).unwrap();
            }
        });
        for writer in writers {
            writer.await.unwrap();
        }
        thread.join().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let records =
            bytes.chunks_exact(8).map(|record| u64::from_le_bytes(record.try_into().unwrap()));
        let mut records: Vec<u64> = records.collect();
        records.sort_unstable();
        let expected: Vec<u64> = (0..5_u64)
            .flat_map(|writer| (0..RECORDS).map(move |record| writer << 32 | record))
            .collect();
        assert!(
            records == expected,
            "round {round}: {} records of {}",
            records.len(),
            expected.len()
        );
    }
}

#[runtime::test]
async fn a_log_that_is_a_childs_output_has_the_lines_of_both() {
    let (_directory, path) = place();
    for appends in [false, true] {
        let mut options = OpenOptions::new();
        let _ = std::fs::remove_file(&path);
        let mut log = options.create(true).write(true).append(appends).open(&path).await.unwrap();
        let mut expected = String::new();
        for round in 0..rounds() / 10 {
            log.write_all(format!("before {round}\n").as_bytes()).await.unwrap();
            log.flush().await.unwrap();
            let output = log.try_clone().await.unwrap().into_std().await;
            let mut child = Command::new("sh");
            child.arg("-c").arg("echo one; echo two").stdout(output);
            assert!(child.status().await.unwrap().success());
            log.write_all(format!("after {round}\n").as_bytes()).await.unwrap();
            log.flush().await.unwrap();
            expected += &format!("before {round}\none\ntwo\nafter {round}\n");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }
}

#[runtime::test]
async fn each_byte_is_read_once_by_two_that_drop_reads() {
    let (_directory, path) = place();
    let numbers: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &numbers).unwrap();
    let mut one = File::open(&path).await.unwrap();
    let mut other = one.try_clone().await.unwrap();
    let mut found = Vec::new();
    for round in 0_usize.. {
        let file = if round % 3 == 0 { &mut other } else { &mut one };
        let mut part = vec![0; 4 * (1 + round * 37 % 50)];
        let count = if round % 2 == 0 {
            match poll_once(file.read(&mut part)) {
                Poll::Ready(count) => count.unwrap(),
                Poll::Pending => continue,
            }
        } else {
            let count = file.read(&mut part).await.unwrap();
            // At the end the other one may have something left that a dropped read of it brought.
            if count == 0 && one.read(&mut []).await.is_ok() && round % 3 != 0 {
                let mut rest = Vec::new();
                other.read_to_end(&mut rest).await.unwrap();
                found.extend(rest);
                one.read_to_end(&mut found).await.unwrap();
                break;
            }
            count
        };
        found.extend_from_slice(&part[..count]);
    }
    let mut found: Vec<u32> = found
        .chunks_exact(4)
        .map(|number| u32::from_le_bytes(number.try_into().unwrap()))
        .collect();
    found.sort_unstable();
    assert!(found == (0..20_000).collect::<Vec<_>>(), "{} numbers of 20000", found.len());
}

#[runtime::test]
async fn what_was_read_and_not_taken_goes_back_to_who_else_has_the_file() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    for leaves_by in ["drop", "into_std", "write", "in flight", "seek", "close"] {
        let mut std = OpenOptions::new();
        let std = std.read(true).write(true).open(&path).await.unwrap().into_std().await;
        let copy = std.try_clone().unwrap();
        let link = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let mut file = File::from_std(copy);
        let mut other = std;
        assert_eq!(file.read_u8().await.unwrap(), b'0');
        assert!(poll_once(file.read(&mut [0; 4])).is_pending());
        if leaves_by != "in flight" {
            // The read has ended when metadata was asked for.
            file.metadata().await.unwrap();
        }
        match leaves_by {
            "into_std" => drop(file.into_std().await),
            "write" => {
                file.write_all(b"1").await.unwrap();
                file.flush().await.unwrap();
                other.seek(SeekFrom::Current(-1)).unwrap();
            }
            "seek" => assert_eq!(file.seek(SeekFrom::Current(0)).await.unwrap(), 1),
            "close" => file.close().await.unwrap(),
            _ => drop(file),
        }
        // A read in flight has the file until it has given back what it took. Before it took that,
        // the file stood in the same place.
        let begun = Instant::now();
        while leaves_by == "in flight" && std::fs::read_link(&link).is_ok_and(|at| at == path) {
            assert!(begun.elapsed() < Duration::from_secs(10), "the read doesn't end");
            runtime::task::yield_now().await;
        }
        assert_eq!(other.stream_position().unwrap(), 1, "{leaves_by}");
        let mut rest = String::new();
        other.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "123456789", "{leaves_by}");
    }
}

#[runtime::test]
async fn what_others_read_meanwhile_is_not_read_again() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let mut other = std::fs::File::open(&path).unwrap();
    let mut file = File::from_std(other.try_clone().unwrap());
    assert!(poll_once(file.read(&mut [0; 4])).is_pending());
    file.metadata().await.unwrap();
    let mut two = [0; 2];
    other.read_exact(&mut two).unwrap();
    assert_eq!(&two, b"45");
    drop(file);
    other.read_exact(&mut two).unwrap();
    assert_eq!(&two, b"67");
}

#[runtime::test]
async fn who_sees_the_descriptor_reads_and_writes_where_the_file_stands() {
    let (_directory, path) = place();
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).open(&path).await.unwrap();
    file.write_all(b"abc").await.unwrap();
    // The write may still be in flight: it is where the position will be.
    assert_eq!(position(file.as_fd()), 3);
    std::fs::File::from(file.as_fd().try_clone_to_owned().unwrap()).write_all(b"def").unwrap();
    file.write_all(b"ghi").await.unwrap();
    file.flush().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"abcdefghi");
    assert_eq!(file.stream_position().await.unwrap(), 9);
    assert_eq!(file.seek(SeekFrom::Start(2)).await.unwrap(), 2);
    assert_eq!(position(file.as_fd()), 2);
    assert_eq!(file.read_u8().await.unwrap(), b'c');
    let mut three = [0; 3];
    std::fs::File::from(file.as_fd().try_clone_to_owned().unwrap()).read_exact(&mut three).unwrap();
    assert_eq!(&three, b"def");
    assert_eq!(file.read_u8().await.unwrap(), b'g');

    let mut file = File::open(&path).await.unwrap();
    assert_eq!(file.read_u8().await.unwrap(), b'a');
    assert!(poll_once(file.read(&mut three)).is_pending());
    assert_eq!(position(file.as_fd()), 1);
    file.read_exact(&mut three).await.unwrap();
    assert_eq!(&three, b"bcd");
}

#[runtime::test]
async fn operations_at_offsets_leave_the_position_where_it_is() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let std = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut other = std.try_clone().unwrap();
    let mut file = File::from_std(std);
    assert_eq!(file.read_u8().await.unwrap(), b'0');
    file.read_at(vec![0; 4], 5).await.unwrap();
    file.write_at("x", 7).await.unwrap();
    assert_eq!(other.stream_position().unwrap(), 1);
    assert_eq!(file.read_u8().await.unwrap(), b'1');
}

/// Says for all who have a pipe's end that it doesn't wait.
fn do_not_wait(end: impl AsFd) {
    rustix::fs::fcntl_setfl(end, rustix::fs::OFlags::NONBLOCK).unwrap();
}

#[runtime::test]
async fn a_pipe_that_others_made_not_wait_is_waited_for() {
    let (reader, writer) = std::io::pipe().unwrap();
    do_not_wait(&reader);
    do_not_wait(&writer);
    let mut reader = File::from(OwnedFd::from(reader));
    let mut writer = File::from(OwnedFd::from(writer));
    let reading = runtime::spawn(async move {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.map(|count| (count, bytes))
    });
    runtime::task::yield_now().await;
    // Far more than a pipe holds.
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|byte| (byte % 251) as u8).collect();
    let all = async {
        writer.write_all(&bytes).await.unwrap();
        writer.flush().await.unwrap();
        drop(writer);
        reading.await.unwrap().unwrap()
    };
    let (count, found) = timeout(Duration::from_secs(20), all).await.unwrap();
    assert_eq!(count, 1_000_000);
    assert!(found == bytes, "the bytes are others");
}

#[runtime::test]
async fn a_seek_goes_where_the_kernel_lets_it_go() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    for shared in [false, true] {
        let mut file = File::open(&path).await.unwrap();
        let mut std = std::fs::File::open(&path).unwrap();
        if shared {
            file.as_fd();
        }
        for to in [
            0,
            1 << 31,
            1 << 40,
            (1 << 44) - 4097,
            (1 << 44) - 1,
            1 << 44,
            1 << 62,
            i64::MAX as u64,
        ] {
            let of_std = std.seek(SeekFrom::Start(to)).map_err(|error| error.raw_os_error());
            let ours = file.seek(SeekFrom::Start(to)).await.map_err(|error| error.raw_os_error());
            assert_eq!(ours, of_std, "to {to}, shared: {shared}");
            let of_std = std.seek(SeekFrom::Current(1)).map_err(|error| error.raw_os_error());
            let ours = file.seek(SeekFrom::Current(1)).await.map_err(|error| error.raw_os_error());
            assert_eq!(ours, of_std, "one beyond {to}, shared: {shared}");
        }
        let error = file.seek(SeekFrom::Start(u64::MAX)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
