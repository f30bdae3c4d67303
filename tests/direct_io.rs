//! Direct I/O: what is aligned goes past the page cache, what isn't is refused by name.

use std::io::{ErrorKind, SeekFrom};
use std::path::PathBuf;

use runtime::buffers;
use runtime::fs::{AlignmentError, File, Misaligned, OpenOptions};
use runtime::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
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

#[runtime::test]
async fn an_appending_direct_file_takes_any_offset_and_wants_whole_blocks_at_its_end() {
    let (_directory, path) = place();
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).direct(true).open(&path).await.unwrap();
    let wanted = u64::from(file.alignment().unwrap().offset);
    let block = |byte| async move {
        let mut lease = buffers::lease(4096).await.unwrap();
        lease.resize(4096, byte);
        lease
    };
    file.write_all_fixed(block(1).await, 1).await.unwrap();
    file.write_at(block(2).await, 77).await.unwrap();
    file.writev_at(vec![block(3).await, block(4).await], 5).await.unwrap();
    let expected: Vec<u8> = [1, 2, 3, 4].iter().flat_map(|&byte| [byte; 4096]).collect();
    assert!(std::fs::read(&path).unwrap() == expected, "the bytes are others");

    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let expected = AlignmentError { what: Misaligned::End, wanted, given: 1000 };
    let failed = file.write_all_fixed(block(5).await, 0).await.unwrap_err();
    assert_eq!(misaligned(&failed.error), expected);
    assert!(failed.error.to_string().contains("the rest of its last block"), "{}", failed.error);
    let failed = file.writev_at(vec![block(5).await], 0).await.unwrap_err();
    assert_eq!(misaligned(&failed.error), expected);
    let mut file = file;
    assert_eq!(misaligned(&file.write(&[5; 4096]).await.unwrap_err()), expected);
    file.flush().await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1000);
}

#[runtime::test]
async fn a_direct_file_is_a_stream_of_whole_blocks_to_write_and_of_bytes_to_read() {
    let (_directory, path) = place();
    for shared in [false, true] {
        let _ = std::fs::remove_file(&path);
        let mut file = open_direct(&path).await;
        let copy = if shared { Some(file.try_clone().await.unwrap()) } else { None };
        let bytes: Vec<u8> = (0..40_960_u32).map(|byte| (byte % 251) as u8).collect();
        file.write_all(&bytes).await.unwrap();
        file.flush().await.unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes, "the bytes were written otherwise");
        let wanted = u64::from(file.alignment().unwrap().offset);
        let error = file.write(&[7; 100]).await.unwrap_err();
        let expected = AlignmentError { what: Misaligned::Length, wanted, given: 100 };
        assert_eq!(misaligned(&error), expected);
        assert!(!error.to_string().contains("lease"), "{error}");
        // The whole blocks of it are written, and the rest is refused.
        let error = file.write_all(&[9; 4196]).await.unwrap_err();
        assert_eq!(misaligned(&error), expected);
        file.flush().await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 45_056);

        file.rewind().await.unwrap();
        let mut found = vec![0; 100];
        for _ in 0..200 {
            let begin = found.len() - 100;
            file.read_exact(&mut found[begin..]).await.unwrap();
            found.resize(found.len() + 100, 0);
        }
        found.truncate(found.len() - 100);
        file.read_to_end(&mut found).await.unwrap();
        assert!(found[..40_960] == bytes, "the bytes were read otherwise");
        assert_eq!(found.len(), 45_056);
        file.rewind().await.unwrap();
        let copied = runtime::io::copy(&mut file, &mut runtime::io::sink()).await.unwrap();
        assert_eq!(copied, 45_056);
        drop(copy);
    }
}

#[runtime::test]
async fn a_direct_file_is_read_from_any_position_and_written_where_a_block_begins() {
    let (_directory, path) = place();
    let bytes: Vec<u8> = (0..10_000_u32).map(|byte| (byte % 251) as u8).collect();
    std::fs::write(&path, &bytes).unwrap();
    let mut file = open_direct(&path).await;
    file.seek(SeekFrom::Start(4_100)).await.unwrap();
    let mut found = Vec::new();
    file.read_to_end(&mut found).await.unwrap();
    assert!(found == bytes[4_100..], "the bytes are others");
    let wanted = u64::from(file.alignment().unwrap().offset);
    let expected = AlignmentError { what: Misaligned::Offset, wanted, given: 10_000 };
    assert_eq!(misaligned(&file.write(&[1; 4096]).await.unwrap_err()), expected);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[runtime::test]
async fn a_direct_file_of_std_is_known_to_be_one() {
    use std::os::unix::fs::OpenOptionsExt;
    let (_directory, path) = place();
    std::fs::write(&path, [7; 8192]).unwrap();
    let ours = open_direct(&path).await;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT);
    let file = File::from_std(options.open(&path).unwrap());
    assert!(file.is_direct());
    assert_eq!(file.alignment(), ours.alignment());
    let failed = file.write_at(vec![1; 100], 0).await.unwrap_err();
    misaligned(&failed.error);
    for file in [&file, &ours] {
        let (client, mut server) = runtime::net::UnixStream::pair().unwrap();
        assert_eq!(runtime::io::send_file(file, 100..200, &client).await.unwrap(), 100);
        drop(client);
        let mut found = Vec::new();
        server.read_to_end(&mut found).await.unwrap();
        assert_eq!(found, [7; 100]);
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let mut writer = File::from(std::os::fd::OwnedFd::from(writer));
    assert!(!writer.is_direct());
    writer.write_all(b"odd").await.unwrap();
    drop((writer, reader));
    assert!(!File::from_std(std::fs::File::open(&path).unwrap()).is_direct());
}
