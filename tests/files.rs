//! Files by offset: what a read brings, what a write leaves, and what comes back.

mod common;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Waker};

use ringhold_sim::{HostConfig, Simulation, for_each_seed, seeds};
use runtime::buffers::{self, IntoBufResult, IoBuf, Pool, PoolConfig};
use runtime::fs::{self, Advice, Allocation, File, OpenOptions};
use rustix::fs::fadvise;
use rustix::io::{FdFlags, ReadWriteFlags, fcntl_getfd, preadv2};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    (directory, path)
}

fn is_send_and_static<T: Send + 'static>(value: T) -> T {
    value
}

#[runtime::test]
async fn a_read_fills_from_the_start_and_is_short_at_the_end() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let file = File::open(&path).await.unwrap();
    let (count, buffer) = file.read_at(vec![b'x'; 4], 8).await.unwrap();
    assert_eq!((count, &buffer[..]), (2, &b"89xx"[..]));
    let (count, buffer) = file.read_at(Vec::with_capacity(4), 10).await.unwrap();
    assert_eq!((count, &buffer[..]), (0, &b""[..]));
    let (count, buffer) = file.read_at(vec![b'x'; 4].slice(1..3), 5).await.unwrap();
    assert_eq!((count, &buffer.into_inner()[..]), (2, &b"x56x"[..]));
}

#[runtime::test]
async fn the_futures_outlive_the_file_and_can_be_sent() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let file = File::open(&path).await.unwrap();
    let read = is_send_and_static(file.read_at(vec![0; 4], 0));
    let exact = is_send_and_static(file.read_exact_at(vec![0; 4], 4));
    let vectored = is_send_and_static(file.readv_at(vec![vec![0; 1], vec![0; 1]], 8));
    drop(file);
    assert_eq!(read.await.unwrap().1, b"0123");
    assert_eq!(runtime::spawn(exact).await.unwrap().unwrap().1, b"4567");
    assert_eq!(vectored.await.unwrap().1, [b"8", b"9"]);
}

#[runtime::test]
async fn an_exact_read_says_where_the_file_ended() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let file = File::open(&path).await.unwrap();
    let (count, buffer) = file.read_exact_at(vec![0; 10], 0).await.unwrap();
    assert_eq!((count, &buffer[..]), (10, &b"0123456789"[..]));
    let failed = file.read_exact_at(vec![0; 10], 7).await.unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(failed.buffer, b"789\0\0\0\0\0\0\0");
    let lease = buffers::lease(10).await.unwrap();
    let failed = file.read_exact_fixed(lease, 7).await.unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(&failed.buffer[..], b"789");
}

#[runtime::test]
async fn fixed_reads_and_writes_carry_their_bytes() {
    let (_directory, path) = place();
    let file = File::create_new(&path).await.unwrap();
    let mut lease = buffers::lease(10_000).await.unwrap();
    lease.resize(10_000, 7);
    let (count, lease) = file.write_all_fixed(lease, 5).await.unwrap();
    assert_eq!((count, lease.len()), (10_000, 10_000));
    let (count, lease) = file.read_fixed(lease, 0).await.unwrap();
    assert_eq!((count, lease.len(), &lease[..6]), (10_000, 10_000, &[0, 0, 0, 0, 0, 7][..]));
    let (count, lease) = file.read_fixed(lease, 10_000).await.unwrap();
    assert_eq!((count, &lease[..]), (5, &[7; 5][..]));
    let (count, slice) = file.write_fixed(lease.slice(1..3), 0).await.unwrap();
    assert_eq!((count, slice.begin()), (2, 1));
    let frozen = slice.into_inner().freeze().unwrap();
    assert_eq!(file.write_fixed(frozen.clone(), 2).await.unwrap().0, 5);
    assert_eq!(std::fs::read(&path).unwrap()[..8], [7; 8]);
}

#[runtime::test]
async fn writing_an_empty_lease_is_an_error_that_gives_it_back() {
    let (_directory, path) = place();
    let file = File::create_new(&path).await.unwrap();
    for round in 0..4 {
        let lease = buffers::lease(512).await.unwrap();
        let failed = match round {
            0 => file.write_fixed(lease, 0).await,
            1 => file.write_all_fixed(lease, 0).await,
            2 => file.write_at(lease, 0).await,
            _ => file.write_all_at(lease, 0).await,
        };
        let failed = failed.unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::InvalidInput, "round {round}");
        assert!(failed.error.to_string().starts_with("the lease is empty"), "{}", failed.error);
        assert_eq!(failed.buffer.capacity(), 512);
    }
    assert_eq!(file.write_all_at(Vec::new(), 0).await.unwrap().0, 0);
}

#[runtime::test]
async fn fixed_io_on_an_unregistered_lease_is_an_error_and_plain_io_is_not() {
    let (_directory, path) = place();
    let file = File::create_new(&path).await.unwrap();
    let pool = Pool::unregistered(PoolConfig::new().limit(1 << 20).arena(1 << 16));
    let mut lease = pool.try_lease(512).unwrap();
    lease.extend_from_slice(b"hello");
    let failed = file.write_fixed(lease, 0).await.unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::InvalidInput);
    assert!(failed.error.to_string().contains("not registered"), "{}", failed.error);
    let (_, lease) = file.write_all_at(failed.buffer, 0).await.unwrap();
    for round in 0..2 {
        let lease = pool.try_lease(512).unwrap();
        let failed = match round {
            0 => file.read_fixed(lease, 0).await,
            _ => file.read_exact_fixed(lease, 0).await,
        };
        assert_eq!(failed.unwrap_err().error.kind(), ErrorKind::InvalidInput);
    }
    let (count, lease) = file.read_at(lease, 0).await.unwrap();
    assert_eq!((count, &lease[..]), (5, &b"hello"[..]));
}

#[runtime::test]
async fn vectored_transfers_go_through_the_buffers_in_order() {
    let (_directory, path) = place();
    let file = File::create_new(&path).await.unwrap();
    let parts = vec![b"ab".to_vec(), Vec::new(), b"cde".to_vec()];
    let (count, parts) = file.writev_at(parts, 1).await.unwrap();
    assert_eq!((count, parts.len()), (5, 3));
    let empty = || Vec::with_capacity(4);
    let (count, parts) = file.readv_at(vec![empty(), empty(), empty()], 0).await.unwrap();
    assert_eq!((count, &parts[..]), (6, &[b"\0abc".to_vec(), b"de".to_vec(), vec![]][..]));
    let many: Vec<Vec<u8>> = (0..2000).map(|index| vec![index as u8]).collect();
    let (count, _) = file.writev_at(many, 0).await.unwrap();
    assert_eq!(count, 1024);
    let (count, _) = file.readv_at(vec![vec![0_u8; 1]; 2000], 0).await.unwrap();
    assert_eq!(count, 1024);
}

#[runtime::test]
async fn an_error_gives_the_buffer_back() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let file = File::open(&path).await.unwrap();
    let failed = file.write_at(b"abc".to_vec(), 0).await.unwrap_err();
    assert_eq!(failed.error.raw_os_error(), Some(libc::EBADF));
    assert_eq!(failed.buffer, b"abc");
    let (outcome, buffer) = file.writev_at(vec!["a", "b"], 0).await.into_buf_result();
    assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(buffer, ["a", "b"]);
    let error: io::Error = file.write_all_at("abc", 0).await.unwrap_err().into();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[runtime::test]
async fn an_offset_beyond_every_file_is_refused_and_never_means_the_cursor() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).await.unwrap();
    for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let error = file.read_at(vec![0; 4], offset).await.unwrap_err().error;
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{offset}");
        let error = file.write_at("x", offset).await.unwrap_err().error;
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{offset}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
}

/// Of a range that long, one operation does a part.
const LONG: u64 = 1 << 30;

#[runtime::test]
async fn a_long_range_is_allocated_and_given_back_to_the_byte() {
    let (_directory, path) = place();
    let file = OpenOptions::new().read(true).write(true).create(true).open(&path).await.unwrap();
    file.allocate(1000, LONG, Allocation::Extend).await.unwrap();
    let stat = file.statx().await.unwrap();
    assert_eq!(stat.len(), 1000 + LONG);
    let all = stat.blocks() * 512;
    assert!(all >= LONG, "{all} bytes are allocated");
    let begins = [900, LONG / 2 - 50, LONG + 900];
    for begin in begins {
        file.write_all_at(vec![7; 100], begin).await.unwrap();
    }
    file.allocate(950, LONG, Allocation::PunchHole).await.unwrap();
    for (begin, left) in begins.into_iter().zip([50, 0, 50]) {
        let (_, bytes) = file.read_at(vec![0; 100], begin).await.unwrap();
        assert_eq!(bytes.iter().filter(|&&byte| byte == 7).count(), left, "at {begin}");
    }
    let stat = file.statx().await.unwrap();
    assert_eq!(stat.len(), 1000 + LONG);
    // What is left are the pages at both ends.
    let left = stat.blocks() * 512;
    assert!(left <= 64 * 1024, "{left} bytes are allocated");
}

#[test]
fn a_dropped_allocation_of_a_long_range_ends_with_its_piece() {
    let (_directory, path) = place();
    let run = runtime::Builder::new_current_thread().run(async {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).open(&path).await.unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let polled = pin!(file.allocate(0, LONG, Allocation::Extend)).poll(&mut context);
        assert!(polled.is_pending());
    });
    run.unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length <= LONG / 8, "{length} bytes are allocated");
}

#[runtime::test]
async fn a_range_that_no_file_has_is_refused_at_once() {
    let (_directory, path) = place();
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).open(&path).await.unwrap();
    for (offset, length) in [(0, 1 << 61), (4096, i64::MAX as u64), (u64::MAX - 1, 4096)] {
        file.allocate(offset, length, Allocation::Extend).await.unwrap_err();
        assert_eq!(file.statx().await.unwrap().blocks(), 0);
    }
}

#[runtime::test]
async fn a_length_is_set_and_space_allocated_punched_and_zeroed() {
    let (_directory, path) = place();
    let file = File::create_new(&path).await.unwrap();
    file.set_len(10).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [0; 10]);
    file.write_all_at(vec![7; 16_384], 0).await.unwrap();
    file.allocate(4096, 4096, Allocation::PunchHole).await.unwrap();
    file.allocate(16_384, 4096, Allocation::Extend).await.unwrap();
    file.allocate(20_480, 4096, Allocation::KeepLength).await.unwrap();
    let mut expected = vec![7; 20_480];
    expected[4096..8192].fill(0);
    expected[16_384..].fill(0);
    assert_eq!(std::fs::read(&path).unwrap(), expected);
    file.set_len(3).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [7; 3]);
    let error = file.set_len(u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = File::open(&path).await.unwrap().set_len(0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = file.allocate(0, 0, Allocation::Extend).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[runtime::test]
async fn what_a_file_is_agrees_with_std() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let file = OpenOptions::new().write(true).open(&path).await.unwrap();
    file.set_permissions(PermissionsExt::from_mode(0o640)).await.unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    file.set_modified(then).await.unwrap();
    let std = std::fs::metadata(&path).unwrap();
    let theirs = file.metadata().await.unwrap();
    let ours = file.statx().await.unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((theirs.len(), theirs.mode(), theirs.modified().unwrap()), (10, 0o100_640, then));
    assert_eq!((ours.len(), ours.mode(), ours.modified()), (10, 0o100_640, then));
    assert_eq!((ours.ino(), ours.dev(), ours.nlink()), (std.ino(), std.dev(), std.nlink()));
    assert_eq!((ours.uid(), ours.gid(), ours.blocks()), (std.uid(), std.gid(), std.blocks()));
    assert_eq!(ours.created(), std.created().ok());
    assert!(ours.is_file() && !ours.is_dir() && !ours.is_symlink());
}

#[runtime::test]
async fn files_come_from_std_and_go_back() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let file = File::from_std(std::fs::File::open(&path).unwrap());
    let number = file.as_raw_fd();
    assert_eq!(file.read_at(vec![0; 2], 3).await.unwrap().1, b"34");
    let std = file.into_std().await;
    assert_eq!(std.as_raw_fd(), number);
    let file = File::from(OwnedFd::from(std));
    // An operation in flight keeps the file: std gets another descriptor of it.
    let read = file.read_at(vec![0; 2], 5);
    let file = file.try_into_std().unwrap_err();
    let std = file.into_std().await;
    assert_ne!(std.as_raw_fd(), number);
    let mut two = [0; 2];
    std.read_exact_at(&mut two, 7).unwrap();
    assert_eq!((&two, &read.await.unwrap().1[..]), (b"78", &b"56"[..]));
    assert_eq!(File::from(std).try_into_std().unwrap().metadata().unwrap().len(), 10);
}

#[runtime::test]
async fn closing_takes_the_descriptor_back_before_it_is_done() {
    let (_directory, path) = place();
    let file = File::create_new(&path).await.unwrap();
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let ours = || std::fs::read_link(&link).is_ok_and(|target| target == path);
    assert!(ours());
    file.close().await.unwrap();
    assert!(!ours());
}

#[runtime::test]
async fn a_copy_of_a_file_outlives_it() {
    let (_directory, path) = place();
    let file = File::create_new(&path).await.unwrap();
    let copy = file.try_clone().await.unwrap();
    assert_ne!(file.as_raw_fd(), copy.as_raw_fd());
    file.close().await.unwrap();
    copy.write_all_at("hello", 0).await.unwrap();
    copy.sync_all().await.unwrap();
    copy.sync_data().await.unwrap();
    assert_eq!(fs::read_to_string(&path).await.unwrap(), "hello");
}

#[runtime::test]
async fn opening_follows_the_rules_of_std() {
    let (_directory, path) = place();
    let error = OpenOptions::new().open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = OpenOptions::new().read(true).create(true).open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(File::open(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
    let error = File::open("a\0b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = File::create_new(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let link = path.with_file_name("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut options = OpenOptions::new();
    let error = options.read(true).custom_flags(libc::O_NOFOLLOW).open(&link).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
}

/// How many descriptors of this process lead to `path`.
fn count_open(path: &PathBuf) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    targets.filter(|target| target == path).count()
}

#[runtime::test]
async fn a_dropped_open_or_copy_leaves_no_descriptor() {
    let (_directory, path) = place();
    std::fs::write(&path, "0123456789").unwrap();
    let file = File::open(&path).await.unwrap();
    let mut creating = File::options();
    creating.write(true).create(true);
    for _ in 0..128 {
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(creating.open(&path)).poll(&mut context).is_pending());
        assert!(pin!(file.try_clone()).poll(&mut context).is_pending());
    }
    let mut turns = 0;
    // What was dropped is opened, and closed, within the next turns.
    while turns < 10_000 || count_open(&path) > 1 {
        turns += 1;
        assert!(turns < 100_000, "{} descriptors are left", count_open(&path) - 1);
        runtime::task::yield_now().await;
    }
}

#[runtime::test(shards = 2)]
async fn a_file_is_used_from_two_shards_at_once() {
    let (_directory, path) = place();
    let file = std::sync::Arc::new(File::create_new(&path).await.unwrap());
    let mut tasks = Vec::new();
    for index in 0..8_u8 {
        let file = file.clone();
        tasks.push(runtime::spawn_on(usize::from(index % 2), move || async move {
            let offset = u64::from(index) * 1000;
            for _ in 0..20 {
                file.write_all_at(vec![index; 1000], offset).await.unwrap();
                let (_, bytes) = file.read_exact_at(vec![0; 1000], offset).await.unwrap();
                assert_eq!(bytes, [index; 1000]);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.chunks(1000).enumerate().all(|(index, part)| part == [index as u8; 1000]));
}

/// What `sync_data` need not do, since the bytes can be read back without it.
#[test]
fn a_sync_of_everything_makes_permissions_durable() {
    for_each_seed(seeds(50), |seed| {
        let mut simulation = Simulation::new(seed);
        let host = simulation.host(HostConfig::new("keeper"));
        simulation.start(host, || async {
            let file = File::create_new("/file").await?;
            File::open("/").await?.sync_all().await?;
            file.set_permissions(PermissionsExt::from_mode(0o640)).await?;
            file.sync_all().await
        });
        simulation.run()?;
        simulation.lose_power(host);
        simulation.start(host, || async {
            let mode = fs::metadata("/file").await?.permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "what was synced is gone");
            io::Result::Ok(())
        });
        simulation.run()
    });
}

#[runtime::test]
async fn what_is_opened_is_not_inherited_by_children() {
    let (directory, path) = place();
    // One is made by the ring, the other is opened at once.
    let made = File::create_new(&path).await.unwrap();
    assert_eq!(fcntl_getfd(made.as_fd()).unwrap(), FdFlags::CLOEXEC);
    let file = File::open(&path).await.unwrap();
    assert_eq!(fcntl_getfd(file.as_fd()).unwrap(), FdFlags::CLOEXEC);
    let copy = file.try_clone().await.unwrap();
    assert_eq!(fcntl_getfd(copy.as_fd()).unwrap(), FdFlags::CLOEXEC);
    let root = File::open(directory.path()).await.unwrap();
    let beneath = OpenOptions::new().read(true).open_beneath(&root, "file").await.unwrap();
    assert_eq!(fcntl_getfd(beneath.as_fd()).unwrap(), FdFlags::CLOEXEC);
}

#[runtime::test]
async fn a_file_is_made_longer_than_four_gibibytes_and_cut_there() {
    let (_directory, path) = place();
    let file = File::create_new(&path).await.unwrap();
    file.set_len((1 << 32) + 5).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4_294_967_301);
    file.write_at("end", (1 << 32) + 2).await.unwrap();
    file.set_len((1 << 32) + 4).await.unwrap();
    let (count, bytes) = file.read_at(vec![0; 8], 1 << 32).await.unwrap();
    assert_eq!((count, &bytes[..4]), (4, &b"\0\0en"[..]));
}

/// Whether the page of `file` at `offset` is in the page cache.
fn is_cached(file: &std::fs::File, offset: u64) -> bool {
    let mut byte = [0; 1];
    let into = &mut [io::IoSliceMut::new(&mut byte)];
    preadv2(file, into, offset, ReadWriteFlags::NOWAIT) == Ok(1)
}

#[runtime::test]
async fn advice_is_about_its_range_and_no_other() {
    const PAGES: u64 = 64;
    let (_directory, path) = place();
    let mut options = std::fs::File::options();
    let standard = options.read(true).write(true).create_new(true).open(&path).unwrap();
    // Page by page, so that the cache has each on its own.
    let fill = || {
        for page in 0..PAGES {
            standard.write_all_at(&[7; 4096], page * 4096).unwrap();
        }
        standard.sync_all().unwrap();
    };
    fill();
    fadvise(&standard, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    if is_cached(&standard, 0) {
        common::skip("advice_is_about_its_range", "this file system takes no advice");
        return;
    }
    fill();
    let file = File::open(&path).await.unwrap();
    file.advise(PAGES / 2 * 4096, PAGES as u32 / 4 * 4096, Advice::DontNeed).await.unwrap();
    let cached = [0, 8, 31, 36, 40, 44, 52, 63].map(|page| is_cached(&standard, page * 4096));
    assert_eq!(cached, [true, true, true, false, false, false, true, true]);
}
