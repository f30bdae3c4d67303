//! What takes bytes from a stream and is cancel safe: none is lost.

use std::io::{self, ErrorKind};

use super::drops::{Drops, run};
use super::numbers::{self, Numbers};
use super::rt::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use super::{Stream, pair};

/// Takes all bytes of a stream by calls that are dropped. A call gives what it took, which is
/// nothing at the end; or `None` when it has to be made again.
fn take_all<R>(
    reader: impl FnOnce(Stream) -> R,
    once: impl AsyncFn(&mut R, usize) -> io::Result<Option<Vec<u8>>>,
) {
    let mut drops = Drops::from_environment();
    run(async {
        let (stream, peer) = pair().await;
        let (mut reader, mut taken) = (reader(stream), Numbers::default());
        let writing = numbers::write(peer, drops.pace());
        loop {
            let most = 1 + drops.dice.below(64) as usize;
            match drops.poll(once(&mut reader, most)).await.transpose().unwrap().flatten() {
                Some(bytes) if bytes.is_empty() => break,
                Some(bytes) => taken.take(&bytes),
                None => {}
            }
        }
        writing.join().unwrap();
        taken.are(numbers::count());
    });
    drops.were_many();
}

/// What a call that never waits took, as `take_all` wants it.
fn tried(result: io::Result<usize>, mut bytes: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        result => {
            bytes.truncate(result?);
            Ok(Some(bytes))
        }
    }
}

#[test]
fn read() {
    take_all(
        |stream| stream,
        async |stream, most| {
            let mut bytes = vec![0; most];
            let count = stream.read(&mut bytes).await;
            tried(count, bytes)
        },
    );
}

#[test]
fn read_buf() {
    take_all(
        |stream| stream,
        async |stream, most| {
            let mut bytes = Vec::with_capacity(most);
            stream.read_buf(&mut bytes).await?;
            Ok(Some(bytes))
        },
    );
}

/// Each number of tokio's is a read in a loop; one byte is read whole or not at all.
#[test]
fn read_u8() {
    take_all(
        |stream| stream,
        async |stream, _| match stream.read_u8().await {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Some(vec![])),
            byte => Ok(Some(vec![byte?])),
        },
    );
}

#[test]
fn readable() {
    take_all(
        |stream| stream,
        async |stream, most| {
            stream.readable().await?;
            let mut bytes = vec![0; most];
            tried(stream.try_read(&mut bytes), bytes)
        },
    );
}

#[test]
fn ready() {
    take_all(
        |stream| stream,
        async |stream, most| {
            assert!(stream.ready(Interest::READABLE).await?.is_readable());
            let mut bytes = vec![0; most];
            tried(stream.try_read(&mut bytes), bytes)
        },
    );
}

#[test]
fn fill_buf() {
    take_all(BufReader::new, async |reader, most| {
        let bytes = reader.fill_buf().await?;
        let bytes = bytes[..most.min(bytes.len())].to_vec();
        reader.consume(bytes.len());
        Ok(Some(bytes))
    });
}

#[test]
fn next_line() {
    let lines = |stream| BufReader::with_capacity(24, stream).lines();
    take_all(lines, async |lines, _| {
        let line = lines.next_line().await?;
        Ok(Some(line.map(|line| line + "\n").unwrap_or_default().into_bytes()))
    });
}

/// What was read when it was dropped is in the buffer, and the next call goes on from there.
#[test]
fn read_until() {
    let reader = |stream| (BufReader::with_capacity(24, stream), Vec::new());
    take_all(reader, async |(reader, bytes), _| {
        reader.read_until(b'\n', bytes).await?;
        Ok(Some(std::mem::take(bytes)))
    });
}
