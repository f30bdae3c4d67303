//! Reads and writes by offset: plain, fixed, vectored and direct.

use std::io::{self, ErrorKind};

use runtime::buffers::{self, IoBuf};
use runtime::fs::{self, AlignmentError, File, Misaligned, OpenOptions};

use crate::place::{Place, errno, kind, read_from};

on_both_kernels! {
    reads_end_with_the_file,
    exact_reads_say_where_the_file_ended,
    nothing_is_moved_where_nothing_is_asked_for,
    writes_beyond_the_end_leave_a_hole,
    fixed_transfers_carry_their_bytes,
    vectored_transfers_go_through_their_buffers,
    buffers_come_back_with_errors,
    offsets_beyond_every_file,
    many_transfers_at_once,
    direct_transfers_carry_their_bytes,
    what_is_misaligned_is_refused,
}

async fn opened(place: &Place, bytes: &[u8]) -> io::Result<File> {
    fs::write(place.at("file"), bytes).await?;
    OpenOptions::new().read(true).write(true).open(place.at("file")).await
}

async fn reads_end_with_the_file(place: Place) -> io::Result<()> {
    let file = opened(&place, b"0123456789").await?;
    let (count, buffer) = file.read_at(vec![b'x'; 4], 8).await?;
    let whole: &[u8] = if count == 1 && place.cuts_transfers() { b"8xxx" } else { b"89xx" };
    assert_eq!(buffer, whole, "{count}");
    assert!(count == 2 || place.cuts_transfers(), "{count}");
    for offset in [10, 11, 4096, 1 << 40] {
        assert_eq!(file.read_at(Vec::with_capacity(4), offset).await?, (0, Vec::new()));
    }
    let (count, buffer) = file.read_at(vec![b'x'; 3].slice(1..2), 5).await?;
    assert_eq!((count, &buffer.into_inner()[..]), (1, &b"x5x"[..]));
    assert_eq!(read_from(&file, 3, 100).await?, b"3456789");
    Ok(())
}

async fn exact_reads_say_where_the_file_ended(place: Place) -> io::Result<()> {
    let file = opened(&place, b"0123456789").await?;
    assert_eq!(file.read_exact_at(vec![0; 10], 0).await?, (10, b"0123456789".to_vec()));
    let failed = file.read_exact_at(vec![0; 10], 7).await.expect_err("three are left");
    assert_eq!(failed.error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(failed.buffer, b"789\0\0\0\0\0\0\0");
    let lease = buffers::lease(10).await?;
    let failed = file.read_exact_fixed(lease, 7).await.expect_err("three are left");
    assert_eq!(failed.error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(&failed.buffer[..], b"789");
    Ok(())
}

async fn nothing_is_moved_where_nothing_is_asked_for(place: Place) -> io::Result<()> {
    let file = opened(&place, b"0123456789").await?;
    assert_eq!(file.read_at(Vec::new(), 3).await?, (0, Vec::new()));
    assert_eq!(file.write_at(Vec::new(), 3).await?, (0, Vec::new()));
    assert_eq!(file.write_at(Vec::new(), 1 << 40).await?, (0, Vec::new()));
    assert_eq!(file.write_all_at(Vec::new(), 0).await?, (0, Vec::new()));
    assert_eq!(file.readv_at(Vec::<Vec<u8>>::new(), 0).await?.0, 0);
    assert_eq!(file.writev_at(Vec::<Vec<u8>>::new(), 0).await?.0, 0);
    assert_eq!(file.writev_at(vec![Vec::new(), Vec::<u8>::new()], 30).await?.0, 0);
    let failed = file.write_fixed(buffers::lease(512).await?, 0).await;
    assert_eq!(kind(failed), ErrorKind::InvalidInput);
    assert_eq!(kind(buffers::lease(0).await), ErrorKind::InvalidInput);
    assert_eq!(fs::read(place.at("file")).await?, b"0123456789");
    Ok(())
}

async fn writes_beyond_the_end_leave_a_hole(place: Place) -> io::Result<()> {
    let file = opened(&place, b"").await?;
    file.write_all_at("tail", 1_000_000).await?;
    assert_eq!(file.statx().await?.len(), 1_000_004);
    let mut expected = vec![0; 1_000_004];
    expected[1_000_000..].copy_from_slice(b"tail");
    assert!(read_from(&file, 0, 2_000_000).await? == expected, "the hole isn't zeros");
    file.write_all_at("middle", 500_000).await?;
    assert_eq!(read_from(&file, 499_998, 10).await?, b"\0\0middle\0\0");
    assert_eq!(file.statx().await?.len(), 1_000_004);
    Ok(())
}

async fn fixed_transfers_carry_their_bytes(place: Place) -> io::Result<()> {
    let file = opened(&place, b"").await?;
    let mut lease = buffers::lease(10_000).await?;
    lease.resize(10_000, 7);
    let (count, lease) = file.write_all_fixed(lease, 5).await?;
    assert_eq!((count, lease.len()), (10_000, 10_000));
    let (_, lease) = file.read_exact_fixed(lease, 0).await?;
    assert_eq!(&lease[..7], &[0, 0, 0, 0, 0, 7, 7]);
    let failed = file.read_exact_fixed(lease, 10_000).await.expect_err("five are left");
    assert_eq!(&failed.buffer[..], [7; 5]);
    let (count, slice) = file.write_all_fixed(failed.buffer.slice(1..3), 0).await?;
    assert_eq!((count, slice.begin()), (2, 1));
    let frozen = slice.into_inner().freeze().map_err(io::Error::from)?;
    assert_eq!(file.write_all_fixed(frozen.clone(), 2).await?.0, 5);
    assert_eq!(read_from(&file, 0, 8).await?, [7; 8]);
    let (count, part) = file.read_fixed(buffers::lease(100).await?.slice(10..20), 0).await?;
    assert!(count == 10 || place.cuts_transfers(), "{count}");
    assert_eq!(&part.into_inner()[10..10 + count], &[7; 10][..count]);
    Ok(())
}

async fn vectored_transfers_go_through_their_buffers(place: Place) -> io::Result<()> {
    let file = opened(&place, b"").await?;
    let parts = vec![b"ab".to_vec(), Vec::new(), b"cde".to_vec()];
    let (count, parts) = file.writev_at(parts, 1).await?;
    assert_eq!(parts.len(), 3);
    assert!(count == 5 || place.cuts_transfers(), "{count}");
    assert_eq!(fs::read(place.at("file")).await?, b"\0abcde"[..1 + count]);
    file.write_all_at("\0abcde", 0).await?;
    let empty = || Vec::with_capacity(4);
    let (count, parts) = file.readv_at(vec![empty(), empty(), empty()], 0).await?;
    assert_eq!(parts.concat(), b"\0abcde"[..count]);
    assert_eq!(parts[0].len(), count.min(4));
    assert!(count == 6 || place.cuts_transfers(), "{count}");
    let many: Vec<Vec<u8>> = (0..2000).map(|index| vec![index as u8]).collect();
    let (count, _) = file.writev_at(many, 0).await?;
    assert!(count == 1024 || place.cuts_transfers(), "the kernel takes 1024 parts, not {count}");
    Ok(())
}

async fn buffers_come_back_with_errors(place: Place) -> io::Result<()> {
    fs::write(place.at("file"), "0123456789").await?;
    let file = File::open(place.at("file")).await?;
    let failed = file.write_at(b"abc".to_vec(), 0).await.expect_err("it is open for reading");
    assert_eq!((failed.error.raw_os_error(), &failed.buffer[..]), (Some(libc::EBADF), &b"abc"[..]));
    let failed = file.writev_at(vec!["a", "b"], 0).await.expect_err("it is open for reading");
    assert_eq!((failed.error.raw_os_error(), failed.buffer), (Some(libc::EBADF), vec!["a", "b"]));
    let mut lease = buffers::lease(10).await?;
    lease.extend_from_slice(b"lease");
    let failed = file.write_fixed(lease, 0).await.expect_err("it is open for reading");
    let (errno, lease) = (failed.error.raw_os_error(), failed.buffer);
    assert_eq!((errno, &lease[..]), (Some(libc::EBADF), &b"lease"[..]));
    Ok(())
}

async fn offsets_beyond_every_file(place: Place) -> io::Result<()> {
    let file = opened(&place, b"0123456789").await?;
    for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
        assert_eq!(errno(file.read_at(vec![0; 4], offset).await), libc::EINVAL, "{offset}");
        assert_eq!(errno(file.write_at("x", offset).await), libc::EINVAL, "{offset}");
        assert_eq!(errno(file.readv_at(vec![vec![0; 4]], offset).await), libc::EINVAL, "{offset}");
    }
    assert_eq!(fs::read(place.at("file")).await?, b"0123456789");
    Ok(())
}

async fn many_transfers_at_once(place: Place) -> io::Result<()> {
    let file = opened(&place, b"").await?;
    let writes =
        (0..64_u8).map(|index| file.write_all_at(vec![index; 700], 700 * u64::from(index)));
    for written in futures::future::join_all(writes).await {
        assert_eq!(written?.0, 700);
    }
    let mut tasks = Vec::new();
    for index in 0..64_u8 {
        let shard = usize::from(index) % place.shards;
        let read = file.read_exact_at(vec![0; 700], 700 * u64::from(index));
        tasks.push(runtime::spawn_on(shard, || read));
    }
    for (index, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await??.1, [index as u8; 700]);
    }
    Ok(())
}

async fn direct_transfers_carry_their_bytes(place: Place) -> io::Result<()> {
    let path = place.at("file");
    fs::write(&path, vec![7; 10_000]).await?;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).direct(true).open(&path).await?;
    let wanted = file.alignment().expect("it is direct");
    // What is wanted is the device's business; that a page satisfies it is not.
    assert!(wanted.memory <= 4096 && wanted.offset <= 4096, "{wanted:?}");
    let (_, lease) = file.read_exact_fixed(buffers::lease(8192).await?, 0).await?;
    assert_eq!(&lease[..], [7; 8192]);
    let (count, lease) = file.read_fixed(lease, 8192).await?;
    assert!(count == 1808 || place.cuts_transfers(), "{count}");
    assert_eq!(&lease[..], &[7; 1808][..count]);
    assert_eq!(file.read_fixed(lease, 12_288).await?.0, 0);
    let failed = file.read_exact_fixed(buffers::lease(8192).await?, 8192).await;
    assert_eq!(kind(failed), ErrorKind::UnexpectedEof);
    let mut lease = buffers::lease(8192).await?;
    lease.resize(8192, 9);
    assert_eq!(file.write_all_fixed(lease, 4096).await?.0, 8192);
    let mut expected = vec![7; 4096];
    expected.resize(12_288, 9);
    assert!(fs::read(&path).await? == expected, "the bytes differ");
    Ok(())
}

async fn what_is_misaligned_is_refused(place: Place) -> io::Result<()> {
    let path = place.at("file");
    fs::write(&path, vec![7; 10_000]).await?;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).direct(true).open(&path).await?;
    let wanted = file.alignment().expect("it is direct");
    let said = |error: io::Error| {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<AlignmentError>());
        *inner.expect("the error says what is wanted")
    };
    let failed = file.read_fixed(buffers::lease(8192).await?, 100).await;
    let error = said(failed.expect_err("100 is no multiple").error);
    let offset = u64::from(wanted.offset);
    assert_eq!(error, AlignmentError { what: Misaligned::Offset, wanted: offset, given: 100 });
    let failed = file.read_at(buffers::lease(1000).await?, 0).await;
    let error = said(failed.expect_err("1000 is no multiple").error);
    assert_eq!(error, AlignmentError { what: Misaligned::Length, wanted: offset, given: 1000 });
    let mut lease = buffers::lease(8192).await?;
    lease.resize(8192, 1);
    let failed = file.write_fixed(lease.slice(1..4097), 0).await;
    let error = said(failed.expect_err("it begins at the second byte").error);
    assert_eq!((error.what, error.wanted), (Misaligned::Address, u64::from(wanted.memory)));
    assert!(fs::read(&path).await? == [7; 10_000], "the bytes differ");
    Ok(())
}
