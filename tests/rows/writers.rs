//! What gives bytes to a stream and is cancel safe: what was dropped has given none.

use std::io::{self, ErrorKind, IoSlice};

use bytes::{Buf, Bytes};

use super::drops::{Drops, run};
use super::rt::io::{AsyncWriteExt, Interest};
use super::{Stream, numbers, pair};

/// Gives the lines by calls that are dropped. A call takes what it gave away from the bytes.
fn give_all(once: impl AsyncFn(&mut Stream, &mut Bytes, usize) -> io::Result<()>) {
    let mut drops = Drops::from_environment();
    run(async {
        let (mut stream, peer) = pair().await;
        let reading = numbers::read(peer, drops.dice.split());
        let all = Bytes::from(numbers::lines(numbers::many()));
        let mut left = all.clone();
        while left.has_remaining() {
            let most = left.len().min(1 + drops.dice.below(16 << 10) as usize);
            drops.poll(once(&mut stream, &mut left, most)).await.transpose().unwrap();
        }
        stream.shutdown().await.unwrap();
        assert!(reading.join().unwrap() == all, "the peer has other bytes");
    });
    drops.were_many();
}

/// A call that never waits gave nothing where it was too early.
fn tried(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

#[test]
fn write() {
    give_all(async |stream, left, most| {
        let count = stream.write(&left[..most]).await?;
        left.advance(count);
        Ok(())
    });
}

#[test]
fn write_vectored() {
    give_all(async |stream, left, most| {
        let (first, second) = left[..most].split_at(most / 2);
        let count = stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]).await?;
        left.advance(count);
        Ok(())
    });
}

#[test]
fn write_buf() {
    give_all(async |stream, left, most| {
        stream.write_buf(&mut left.take(most)).await?;
        Ok(())
    });
}

/// What was dropped has given some, and taken as much away.
#[test]
fn write_all_buf() {
    give_all(async |stream, left, most| stream.write_all_buf(&mut left.take(most)).await);
}

#[test]
fn writable() {
    give_all(async |stream, left, most| {
        stream.writable().await?;
        left.advance(tried(stream.try_write(&left[..most]))?);
        Ok(())
    });
}

#[test]
fn ready() {
    give_all(async |stream, left, most| {
        assert!(stream.ready(Interest::WRITABLE).await?.is_writable());
        left.advance(tried(stream.try_write(&left[..most]))?);
        Ok(())
    });
}
