//! FIFOs: one end waits for the other, and holds up nothing else meanwhile.

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use runtime::fs::{self, File, OpenOptions};
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::time::timeout;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(20);

fn fifos(names: &[&str]) -> (TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<_> = names.iter().map(|name| directory.path().join(name)).collect();
    paths
        .iter()
        .for_each(|path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap());
    (directory, paths)
}

/// How many opens are dropped.
fn drops() -> u32 {
    std::env::var("RINGHOLD_OPENS").map_or(200, |drops| drops.parse().unwrap())
}

async fn to_write(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).open(path).await
}

/// Whether a process has the FIFO open for reading.
fn has_reader(path: &Path) -> bool {
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Polls until the open has gone to where it waits.
async fn start<F: Future>(mut open: Pin<&mut F>) {
    for _ in 0..50 {
        let poll = open.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending(), "it didn't wait");
        runtime::time::sleep(Duration::from_millis(1)).await;
    }
}

#[runtime::test]
async fn an_end_to_write_waits_for_one_to_read() {
    let (_directory, paths) = fifos(&["fifo"]);
    let open = to_write(&paths[0]);
    let mut open = std::pin::pin!(open);
    start(open.as_mut()).await;
    let path = paths[0].clone();
    let reader = std::thread::spawn(move || {
        let mut found = String::new();
        std::fs::File::open(path).unwrap().read_to_string(&mut found).unwrap();
        found
    });
    let mut file = timeout(LONG, open).await.unwrap().unwrap();
    file.write_all(b"hello").await.unwrap();
    file.close().await.unwrap();
    assert_eq!(reader.join().unwrap(), "hello");
}

#[runtime::test]
async fn an_end_to_read_waits_for_one_to_write_even_if_that_writes_nothing() {
    let (_directory, paths) = fifos(&["there", "back"]);
    let open = File::open(&paths[0]);
    let mut open = std::pin::pin!(open);
    start(open.as_mut()).await;
    let (there, back) = (paths[0].clone(), paths[1].clone());
    let other = std::thread::spawn(move || {
        let mut there = std::fs::OpenOptions::new().write(true).open(there).unwrap();
        // The other side goes on to its second FIFO before anything was written to the first.
        let _back = std::fs::File::open(back).unwrap();
        there.write_all(b"hello").unwrap();
    });
    let mut file = timeout(LONG, open).await.unwrap().unwrap();
    let back = timeout(LONG, to_write(&paths[1])).await.unwrap().unwrap();
    let mut found = String::new();
    file.read_to_string(&mut found).await.unwrap();
    assert_eq!(found, "hello");
    other.join().unwrap();
    drop(back);
}

#[runtime::test]
async fn an_end_to_read_has_what_a_writer_left_that_came_and_went() {
    let (_directory, paths) = fifos(&["fifo"]);
    for bytes in ["hello", ""] {
        let path = paths[0].clone();
        let writer = std::thread::spawn(move || {
            let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all(bytes.as_bytes()).unwrap();
        });
        let found = timeout(LONG, fs::read_to_string(&paths[0])).await.unwrap().unwrap();
        assert_eq!(found, bytes);
        writer.join().unwrap();
    }
}

#[runtime::test]
async fn two_ends_of_one_runtime_find_each_other() {
    let (_directory, paths) = fifos(&["fifo"]);
    for round in 0..50 {
        let (reader, writer) = runtime::join!(
            timeout(LONG, File::open(&paths[0])),
            timeout(LONG, to_write(&paths[0]))
        );
        let (mut reader, mut writer) = (reader.unwrap().unwrap(), writer.unwrap().unwrap());
        writer.write_u32(round).await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(reader.read_u32().await.unwrap(), round);
        drop(writer);
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    }
}

#[runtime::test]
async fn an_open_that_is_dropped_waits_no_longer() {
    let (_directory, paths) = fifos(&["read", "written"]);
    for drop in 0..drops() {
        let wait = Duration::from_micros(u64::from(drop) * 37 % 3000);
        if drop % 2 == 0 {
            assert!(timeout(wait, File::open(&paths[0])).await.is_err());
        } else {
            assert!(timeout(wait, to_write(&paths[1])).await.is_err());
        }
    }
    let begun = Instant::now();
    while has_reader(&paths[0]) {
        assert!(begun.elapsed() < LONG, "a dropped open still holds the FIFO");
        runtime::time::sleep(Duration::from_millis(1)).await;
    }
}

#[runtime::test]
async fn opens_that_wait_hold_up_nothing_else() {
    let (directory, paths) = fifos(&["fifo"]);
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let path = paths[0].clone();
            runtime::spawn(async move { to_write(&path).await })
        })
        .collect();
    runtime::time::sleep(Duration::from_millis(50)).await;
    let file = directory.path().join("file");
    let work = async {
        for round in 0..20 {
            fs::write(&file, [7; 10_000]).await.unwrap();
            File::open(&file).await.unwrap().sync_all().await.unwrap();
            fs::rename(&file, directory.path().join(format!("{round}"))).await.unwrap();
        }
    };
    timeout(LONG, work).await.expect("the others go on");
    let reader = timeout(LONG, File::open(&paths[0])).await.unwrap().unwrap();
    for open in waiting {
        timeout(LONG, open).await.unwrap().unwrap().unwrap();
    }
    drop(reader);
}

#[test]
fn a_runtime_ends_at_once_with_opens_that_wait() {
    let (_directory, paths) = fifos(&["fifo"]);
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for to_read in [true, false].repeat(20) {
            let path = paths[0].with_extension(to_read.to_string());
            if !path.exists() {
                mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            }
            runtime::spawn(async move {
                if to_read { File::open(&path).await } else { to_write(&path).await }
            });
        }
        runtime::time::sleep(Duration::from_millis(50)).await;
    });
    let begun = Instant::now();
    drop(runtime);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!has_reader(&paths[0].with_extension("true")), "an open goes on");
}

#[runtime::test]
async fn who_does_not_want_to_wait_is_answered_at_once() {
    let (directory, paths) = fifos(&["fifo"]);
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NONBLOCK);
    let error = options.clone().write(true).open(&paths[0]).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
    timeout(LONG, options.read(true).open(&paths[0])).await.unwrap().unwrap();
    let both = OpenOptions::new().read(true).write(true).open(&paths[0]).await;
    both.unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = to_write(&socket).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
    let error = to_write(&directory.path().join("none")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[runtime::test]
async fn a_fifo_below_a_directory_is_waited_for_too() {
    let (directory, paths) = fifos(&["fifo"]);
    let root = File::open(directory.path()).await.unwrap();
    let mut options = OpenOptions::new();
    options.write(true);
    let open = options.open_beneath(&root, "fifo");
    let mut open = std::pin::pin!(open);
    start(open.as_mut()).await;
    let path = paths[0].clone();
    let reader = std::thread::spawn(move || std::fs::File::open(path).unwrap());
    timeout(LONG, open).await.unwrap().unwrap();
    reader.join().unwrap();
}
