//! What is not cancel safe: on both runtimes a dropped call loses the same, and no more than that.

use std::io::{Read, Write};

use super::drops::{Drops, run};
use super::rt::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use super::{numbers, pair};

/// Waits until something has come, without taking any of it.
async fn arrived(stream: &super::Stream) {
    stream.readable().await.unwrap();
}

/// What has come is in the buffer, and the next read goes on behind it.
#[test]
fn read_exact_loses_its_place() {
    let mut drops = Drops::from_environment();
    run(async {
        let (mut stream, mut peer) = pair().await;
        for _ in 0..20 {
            let mut bytes = [0; 8];
            peer.write_all(b"part").unwrap();
            arrived(&stream).await;
            drops.drop_waiting(stream.read_exact(&mut bytes)).await;
            assert_eq!(&bytes, b"part\0\0\0\0");
            peer.write_all(b"the rest").unwrap();
            stream.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"the rest");
        }
    });
    drops.were_dropped(20);
}

#[test]
fn read_to_end_leaves_what_came_in_its_vector() {
    let mut drops = Drops::from_environment();
    run(async {
        let (mut stream, mut peer) = pair().await;
        let mut bytes = b"before ".to_vec();
        for _ in 0..20 {
            peer.write_all(b"part ").unwrap();
            arrived(&stream).await;
            drops.drop_waiting(stream.read_to_end(&mut bytes)).await;
        }
        peer.write_all(b"end").unwrap();
        drop(peer);
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, [&b"before "[..], &b"part ".repeat(20), b"end"].concat());
    });
    drops.were_dropped(20);
}

#[test]
fn read_to_string_loses_what_came() {
    let mut drops = Drops::from_environment();
    run(async {
        let (mut stream, mut peer) = pair().await;
        let mut text = String::from("before ");
        peer.write_all(b"lost").unwrap();
        arrived(&stream).await;
        drops.drop_waiting(stream.read_to_string(&mut text)).await;
        assert_eq!(text, "", "and what was there before");
        peer.write_all(b"end").unwrap();
        drop(peer);
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "end");
    });
    drops.were_dropped(1);
}

#[test]
fn read_line_loses_the_part_of_a_line() {
    let mut drops = Drops::from_environment();
    run(async {
        let (stream, mut peer) = pair().await;
        let (mut reader, mut text) = (BufReader::new(stream), String::new());
        for _ in 0..20 {
            peer.write_all(b"lost").unwrap();
            arrived(reader.get_ref()).await;
            drops.drop_waiting(reader.read_line(&mut text)).await;
            assert_eq!(text, "");
            peer.write_all(b"line\nnext\n").unwrap();
            for line in ["line\n", "next\n"] {
                reader.read_line(&mut text).await.unwrap();
                assert_eq!(std::mem::take(&mut text), line);
            }
        }
    });
    drops.were_dropped(20);
}

/// The peer has a beginning of what was given, and nothing else before what is given next.
#[test]
fn write_all_loses_its_place() {
    let mut drops = Drops::from_environment();
    run(async {
        let (mut stream, mut peer) = pair().await;
        let long = numbers::lines(1 << 18);
        drops.drop_waiting(stream.write_all(&long)).await;
        let (reading, prefix) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            peer.read_to_end(&mut bytes).unwrap();
            reading.send(bytes).unwrap();
        });
        stream.write_all(b"end").await.unwrap();
        stream.shutdown().await.unwrap();
        thread.join().unwrap();
        let received: Vec<u8> = prefix.recv().unwrap();
        let begun = received.strip_suffix(b"end").unwrap();
        assert!(!begun.is_empty() && begun.len() < long.len());
        assert!(long.starts_with(begun), "the peer has other bytes");
    });
    drops.were_dropped(1);
}
