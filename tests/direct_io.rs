//! Direct I/O: what is aligned goes past the page cache, what isn't is refused by name.

use std::io::ErrorKind;
use std::path::PathBuf;

use runtime::buffers;
use runtime::fs::{AlignmentError, File, Misaligned, OpenOptions};
use tempfile::TempDir;

/// A place on a file system with direct I/O: the build directory, since the temporary one may lie
/// in memory.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("file");
    (directory, path)
}

async fn open_direct(path: &PathBuf) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).direct(true);
    options.open(path).await.unwrap()
}

fn misaligned(error: &std::io::Error) -> AlignmentError {
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    *error.get_ref().and_then(|inner| inner.downcast_ref()).expect("an alignment error")
}

#[runtime::test]
async fn aligned_transfers_carry_their_bytes_and_end_with_the_file() {
    let (_directory, path) = place();
    std::fs::write(&path, [7; 10_000]).unwrap();
    let file = open_direct(&path).await;
    assert!(file.is_direct());
    let wanted = file.alignment().unwrap();
    assert!(wanted.memory >= 512 && wanted.offset >= 512, "{wanted:?}");
    let lease = buffers::lease(8192).await.unwrap();
    let (count, lease) = file.read_fixed(lease, 0).await.unwrap();
    assert_eq!((count, &lease[..]), (8192, &[7; 8192][..]));
    let (count, lease) = file.read_fixed(lease, 8192).await.unwrap();
    assert_eq!((count, &lease[..]), (1808, &[7; 1808][..]));
    let failed = file.read_exact_fixed(lease, 8192).await.unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(&failed.buffer[..], [7; 1808]);
    let mut lease = failed.buffer;
    lease.clear();
    lease.resize(8192, 9);
    let (count, _) = file.write_all_fixed(lease, 4096).await.unwrap();
    assert_eq!(count, 8192);
    let mut expected = vec![7; 4096];
    expected.resize(12_288, 9);
    let found = std::fs::read(&path).unwrap();
    let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!((differs, found.len()), (None, expected.len()));
}

#[runtime::test]
async fn what_is_misaligned_is_refused_with_what_is_wanted_and_what_was_given() {
    let (_directory, path) = place();
    std::fs::write(&path, [7; 10_000]).unwrap();
    let file = open_direct(&path).await;
    let wanted = file.alignment().unwrap();
    let lease = buffers::lease(8192).await.unwrap();

    let failed = file.read_fixed(lease, 100).await.unwrap_err();
    let expected =
        AlignmentError { what: Misaligned::Offset, wanted: u64::from(wanted.offset), given: 100 };
    assert_eq!(misaligned(&failed.error), expected);
    let words = failed.error.to_string();
    assert!(words.contains(&format!("a multiple of {} bytes", wanted.offset)), "{words}");
    assert!(words.contains("was given 100 (100 past one)"), "{words}");

    let failed = file.read_at(buffers::lease(1000).await.unwrap(), 0).await.unwrap_err();
    let expected = AlignmentError { what: Misaligned::Length, given: 1000, ..expected };
    assert_eq!(misaligned(&failed.error), expected);
    assert_eq!(failed.buffer.capacity(), 1000);

    let mut lease = buffers::lease(8192).await.unwrap();
    lease.resize(8192, 1);
    let failed = file.write_fixed(lease.slice(1..4097), 0).await.unwrap_err();
    let error = misaligned(&failed.error);
    assert_eq!((error.what, error.wanted), (Misaligned::Address, u64::from(wanted.memory)));
    assert_eq!(error.given % 4096, 1);

    let parts = vec![buffers::lease(4096).await.unwrap(), buffers::lease(100).await.unwrap()];
    let failed = file.readv_at(parts, 0).await.unwrap_err();
    let error = misaligned(&failed.error);
    assert_eq!((error.what, error.given), (Misaligned::Length, 100));
    assert_eq!(failed.buffer.len(), 2);
    assert_eq!(std::fs::read(&path).unwrap(), [7; 10_000]);
}

#[runtime::test]
async fn the_flag_alone_makes_a_file_direct() {
    let (_directory, path) = place();
    std::fs::write(&path, [7; 4096]).unwrap();
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_DIRECT).open(&path).await.unwrap();
    assert!(file.is_direct());
    let failed = file.read_at(vec![0; 100], 0).await.unwrap_err();
    misaligned(&failed.error);
    assert!(!File::open(&path).await.unwrap().is_direct());
}

#[runtime::test]
async fn a_file_system_without_direct_io_is_named_as_the_cause() {
    let mut options = OpenOptions::new();
    let error = options.read(true).direct(true).open("/proc/self/status").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with("this file system has no direct I/O"), "{error}");
}
