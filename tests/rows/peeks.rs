//! What looks and takes nothing is cancel safe, and what is taken next is what was seen.

use std::net::UdpSocket as StdSocket;
use std::sync::mpsc::sync_channel;
use std::thread;

use super::drops::{Drops, run};
use super::numbers::{self, Numbers};
use super::rt::io::AsyncReadExt;
use super::rt::net::UdpSocket;

#[test]
fn peek_of_a_tcp_stream() {
    let mut drops = Drops::from_environment();
    run(async {
        let (mut stream, peer) = super::tcp::pair().await;
        let writing = numbers::write(peer, drops.pace());
        let mut taken = Numbers::default();
        loop {
            let mut seen = vec![0; 1 + drops.dice.below(64) as usize];
            let Some(count) = drops.poll(stream.peek(&mut seen)).await else { continue };
            match count.unwrap() {
                0 => break,
                count => seen.truncate(count),
            }
            let mut bytes = vec![0; seen.len()];
            stream.read_exact(&mut bytes).await.unwrap();
            assert_eq!(bytes, seen);
            taken.take(&bytes);
        }
        writing.join().unwrap();
        taken.are(numbers::count());
    });
    drops.were_many();
}

/// Receives what was seen before; `$peek` says what that was.
macro_rules! rows_of_datagrams {
    ($($row:ident: $peek:expr;)*) => {$(
        #[test]
        fn $row() {
            let mut drops = Drops::from_environment();
            run(async {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let peer = StdSocket::bind("127.0.0.1:0").unwrap();
                let (ours, theirs) = (socket.local_addr().unwrap(), peer.local_addr().unwrap());
                let (window, room) = sync_channel(32);
                let mut pace = drops.pace();
                let sending = thread::spawn(move || {
                    for number in 0..numbers::count() {
                        window.send(()).unwrap();
                        pace.rest();
                        peer.send_to(numbers::line(number).as_bytes(), ours).unwrap();
                    }
                });
                let mut taken = Numbers::default();
                while taken.seen < numbers::count() {
                    let Some(seen) = drops.poll($peek(&socket)).await else { continue };
                    let mut bytes = [0; 64];
                    let (count, from) = socket.try_recv_from(&mut bytes).unwrap();
                    assert_eq!((count, from), (8, theirs));
                    assert!(seen.is_empty() || seen == bytes[..8]);
                    taken.take(&bytes[..8]);
                    room.recv().unwrap();
                }
                sending.join().unwrap();
            });
            drops.were_many();
        }
    )*};
}

rows_of_datagrams! {
    peek: async |socket: &UdpSocket| {
        let mut bytes = vec![0; 64];
        let count = socket.peek(&mut bytes).await.unwrap();
        bytes.truncate(count);
        bytes
    };
    peek_from: async |socket: &UdpSocket| {
        let mut bytes = vec![0; 64];
        let (count, _) = socket.peek_from(&mut bytes).await.unwrap();
        bytes.truncate(count);
        bytes
    };
    peek_sender: async |socket: &UdpSocket| {
        socket.peek_sender().await.unwrap();
        Vec::<u8>::new()
    };
}
