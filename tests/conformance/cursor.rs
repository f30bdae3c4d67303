//! Files as streams: tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek`.

use std::io::{self, ErrorKind, SeekFrom};
use std::pin::pin;

use runtime::fs::{self, File, OpenOptions};
use runtime::io::{
    AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader, BufWriter,
};

use crate::place::{Place, kind};

on_both_kernels! {
    reads_go_on_where_the_last_one_ended,
    seeks_move_reads_and_writes,
    seeks_to_nowhere_fail_and_move_nothing,
    appends_go_to_the_end,
    copies_of_a_file_share_no_unread_bytes,
    copies_of_a_file_write_after_each_other,
    what_a_dropped_copy_had_read_goes_back,
    seeks_end_where_positions_do,
    a_dropped_read_loses_nothing,
    streams_are_copied_and_split_into_lines,
    errors_of_writes_are_told_at_the_flush,
}

async fn opened(place: &Place, bytes: &[u8]) -> io::Result<File> {
    fs::write(place.at("file"), bytes).await?;
    OpenOptions::new().read(true).write(true).open(place.at("file")).await
}

async fn reads_go_on_where_the_last_one_ended(place: Place) -> io::Result<()> {
    let mut file = opened(&place, b"0123456789").await?;
    let mut four = [0; 4];
    file.read_exact(&mut four).await?;
    assert_eq!(&four, b"0123");
    let mut rest = String::new();
    assert_eq!(file.read_to_string(&mut rest).await?, 6);
    assert_eq!(rest, "456789");
    assert_eq!(file.read(&mut four).await?, 0);
    assert_eq!(kind(file.read_exact(&mut four).await), ErrorKind::UnexpectedEof);
    let appending = OpenOptions::new().append(true).open(place.at("file")).await?;
    appending.write_all_at("ab", 0).await?;
    file.read_exact(&mut four[..2]).await?;
    assert_eq!(&four[..2], b"ab");
    Ok(())
}

async fn seeks_move_reads_and_writes(place: Place) -> io::Result<()> {
    let mut file = opened(&place, b"0123456789").await?;
    assert_eq!(file.seek(SeekFrom::Start(4)).await?, 4);
    file.write_all(b"AB").await?;
    assert_eq!(file.seek(SeekFrom::Current(-3)).await?, 3);
    let mut three = [0; 3];
    file.read_exact(&mut three).await?;
    assert_eq!(&three, b"3AB");
    assert_eq!(file.seek(SeekFrom::End(-1)).await?, 9);
    assert_eq!(file.read_u8().await?, b'9');
    assert_eq!(file.stream_position().await?, 10);
    file.rewind().await?;
    assert_eq!(file.read_u8().await?, b'0');
    assert_eq!(file.seek(SeekFrom::Start(12)).await?, 12);
    file.write_all(b"z").await?;
    file.flush().await?;
    assert_eq!(fs::read(place.at("file")).await?, b"0123AB6789\0\0z");
    Ok(())
}

async fn seeks_to_nowhere_fail_and_move_nothing(place: Place) -> io::Result<()> {
    let mut file = opened(&place, b"0123456789").await?;
    file.seek(SeekFrom::Start(2)).await?;
    for to in [SeekFrom::Current(-3), SeekFrom::End(-11), SeekFrom::Start(u64::MAX)] {
        assert_eq!(kind(file.seek(to).await), ErrorKind::InvalidInput, "{to:?}");
    }
    assert_eq!(file.read_u8().await?, b'2');
    Ok(())
}

async fn appends_go_to_the_end(place: Place) -> io::Result<()> {
    fs::write(place.at("file"), "head").await?;
    let mut options = OpenOptions::new();
    let mut file = options.append(true).read(true).open(place.at("file")).await?;
    file.rewind().await?;
    file.write_all(b"one").await?;
    file.rewind().await?;
    file.write_all(b"two").await?;
    file.flush().await?;
    let mut whole = String::new();
    file.rewind().await?;
    file.read_to_string(&mut whole).await?;
    assert_eq!(whole, "headonetwo");
    Ok(())
}

async fn copies_of_a_file_share_no_unread_bytes(place: Place) -> io::Result<()> {
    let mut file = opened(&place, b"0123456789").await?;
    assert_eq!(file.read_u8().await?, b'0');
    let mut copy = file.try_clone().await?;
    copy.seek(SeekFrom::Start(5)).await?;
    assert_eq!(copy.read_u8().await?, b'5');
    file.seek(SeekFrom::Start(1)).await?;
    assert_eq!(file.read_u8().await?, b'1');
    Ok(())
}

async fn copies_of_a_file_write_after_each_other(place: Place) -> io::Result<()> {
    let mut file = opened(&place, b"").await?;
    let mut copy = file.try_clone().await?;
    let mut expected = String::new();
    for round in 0..50 {
        for (name, writer) in [("file", &mut file), ("copy", &mut copy)] {
            let line = format!("{name} {round}\n");
            writer.write_all(line.as_bytes()).await?;
            writer.flush().await?;
            expected += &line;
        }
    }
    assert_eq!(fs::read_to_string(place.at("file")).await?, expected);
    assert_eq!(copy.stream_position().await?, expected.len() as u64);
    Ok(())
}

async fn what_a_dropped_copy_had_read_goes_back(place: Place) -> io::Result<()> {
    let mut file = opened(&place, b"0123456789").await?;
    for expected in 0..5 {
        let mut copy = file.try_clone().await?;
        let mut part = [0; 4];
        let read = futures::poll!(pin!(copy.read(&mut part)));
        assert!(read.is_pending(), "{read:?}");
        // The read has ended when metadata was asked for.
        copy.metadata().await?;
        drop(copy);
        assert_eq!(file.read_u8().await?, b'0' + expected);
    }
    Ok(())
}

async fn seeks_end_where_positions_do(place: Place) -> io::Result<()> {
    for shared in [false, true] {
        let mut file = opened(&place, b"0123456789").await?;
        let copy = if shared { Some(file.try_clone().await?) } else { None };
        assert_eq!(file.seek(SeekFrom::Start(1 << 40)).await?, 1 << 40);
        assert_eq!(kind(file.seek(SeekFrom::Start(u64::MAX)).await), ErrorKind::InvalidInput);
        assert_eq!(kind(file.seek(SeekFrom::Current(i64::MAX)).await), ErrorKind::InvalidInput);
        assert_eq!(kind(file.seek(SeekFrom::End(-11)).await), ErrorKind::InvalidInput);
        assert_eq!(file.stream_position().await?, 1 << 40);
        drop(copy);
    }
    Ok(())
}

async fn a_dropped_read_loses_nothing(place: Place) -> io::Result<()> {
    let bytes: Vec<u8> = (0..20_000_u32).map(|index| (index % 251) as u8).collect();
    let mut file = opened(&place, &bytes).await?;
    let mut found = Vec::new();
    for round in 0.. {
        let mut part = vec![0; 1 + round * 37 % 500];
        if round % 2 == 0 {
            let read = futures::poll!(pin!(file.read(&mut part)));
            if let std::task::Poll::Ready(count) = read {
                found.extend_from_slice(&part[..count?]);
            }
            continue;
        }
        let count = file.read(&mut part).await?;
        found.extend_from_slice(&part[..count]);
        if count == 0 {
            break;
        }
    }
    assert!(found == bytes, "the bytes differ");
    Ok(())
}

async fn streams_are_copied_and_split_into_lines(place: Place) -> io::Result<()> {
    let lines: Vec<String> = (0..500).map(|index| format!("line {index}")).collect();
    let mut writer = BufWriter::new(File::create(place.at("lines")).await?);
    for line in &lines {
        writer.write_all(line.as_bytes()).await?;
        writer.write_all(b"\n").await?;
    }
    writer.flush().await?;
    let mut source = File::open(place.at("lines")).await?;
    let mut target = File::create(place.at("copy")).await?;
    let length = fs::statx(place.at("lines"), true).await?.len();
    assert_eq!(runtime::io::copy(&mut source, &mut target).await?, length);
    target.shutdown().await?;
    let mut reader = BufReader::new(File::open(place.at("copy")).await?).lines();
    let mut found = Vec::new();
    while let Some(line) = reader.next_line().await? {
        found.push(line);
    }
    assert_eq!(found, lines);
    Ok(())
}

async fn errors_of_writes_are_told_at_the_flush(place: Place) -> io::Result<()> {
    fs::write(place.at("file"), "bytes").await?;
    let mut file = File::open(place.at("file")).await?;
    assert_eq!(file.write(b"xyz").await?, 3);
    assert_eq!(file.flush().await.expect_err("it is read-only").raw_os_error(), Some(libc::EBADF));
    file.flush().await?;
    let mut whole = String::new();
    file.rewind().await?;
    file.read_to_string(&mut whole).await?;
    assert_eq!(whole, "bytes");
    Ok(())
}
