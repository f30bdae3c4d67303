//! Datagrams: none is lost or cut off by a receive that is dropped, and none is sent by a send that
//! is dropped.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::drops::{Drops, PATIENCE, Pace, run};
use super::rt::io::Interest;
use super::{Peer, Socket, Target, at, connect, is, numbers, pair};

/// So many may be on their way: more of them than a socket has room for would be lost by UDP.
const ON_THEIR_WAY: usize = 32;

/// Sends the numbers to `target`, while there is room in `window`.
fn send_all(peer: Peer, target: Target, window: SyncSender<()>, mut pace: Pace) -> JoinHandle<()> {
    thread::spawn(move || {
        for number in 0..numbers::count() {
            window.send(()).unwrap();
            pace.rest();
            peer.send_to(numbers::line(number).as_bytes(), at(&target)).unwrap();
        }
    })
}

/// Takes all datagrams by calls that are dropped. A call gives what it took, or `None` when it has
/// to be made again.
fn take_all(once: impl AsyncFn(&Socket, &Target) -> io::Result<Option<Vec<u8>>>) {
    let mut drops = Drops::from_environment();
    run(async {
        let (socket, ours, peer, theirs, _directory) = pair().await;
        let (window, room) = sync_channel(ON_THEIR_WAY);
        let sending = send_all(peer, ours, window, drops.pace());
        let mut taken = numbers::Numbers::default();
        while taken.seen < numbers::count() {
            let took = drops.poll(once(&socket, &theirs)).await.transpose().unwrap();
            if let Some(bytes) = took.flatten() {
                assert_eq!(bytes.len(), 8);
                taken.take(&bytes);
                room.recv().unwrap();
            }
        }
        sending.join().unwrap();
        let error = socket.try_recv(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "there is one more");
    });
    drops.were_many();
}

fn tried(result: io::Result<usize>, bytes: [u8; 64]) -> io::Result<Option<Vec<u8>>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        result => Ok(Some(bytes[..result?].to_vec())),
    }
}

#[test]
fn recv() {
    take_all(async |socket, _| {
        let mut bytes = [0; 64];
        let count = socket.recv(&mut bytes).await;
        tried(count, bytes)
    });
}

#[test]
fn recv_from() {
    take_all(async |socket, theirs| {
        let mut bytes = [0; 64];
        let (count, from) = socket.recv_from(&mut bytes).await?;
        assert!(is(&from, theirs), "it is from {from:?}");
        tried(Ok(count), bytes)
    });
}

#[test]
fn recv_buf() {
    take_all(async |socket, _| {
        let mut bytes = Vec::with_capacity(64);
        socket.recv_buf(&mut bytes).await?;
        Ok(Some(bytes))
    });
}

#[test]
fn recv_buf_from() {
    take_all(async |socket, theirs| {
        let mut bytes = Vec::with_capacity(64);
        let (_, from) = socket.recv_buf_from(&mut bytes).await?;
        assert!(is(&from, theirs), "it is from {from:?}");
        Ok(Some(bytes))
    });
}

#[test]
fn readable() {
    take_all(async |socket, _| {
        socket.readable().await?;
        let mut bytes = [0; 64];
        tried(socket.try_recv(&mut bytes), bytes)
    });
}

#[test]
fn ready_to_receive() {
    take_all(async |socket, _| {
        assert!(socket.ready(Interest::READABLE).await?.is_readable());
        let mut bytes = [0; 64];
        tried(socket.try_recv(&mut bytes), bytes)
    });
}

/// Receives the numbers, slowly, and makes room for more of them.
fn receive_all(peer: Peer, room: Receiver<()>, mut dice: crate::dice::Dice) -> JoinHandle<()> {
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::spawn(move || {
        let (mut taken, mut bytes) = (numbers::Numbers::default(), [0; 64]);
        while taken.seen < numbers::count() {
            numbers::rest(&mut dice);
            let count = peer.recv(&mut bytes).unwrap();
            assert_eq!(count, 8);
            taken.take(&bytes[..count]);
            room.recv().unwrap();
        }
        peer.set_nonblocking(true).unwrap();
        let error = peer.recv(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "there is one more");
    })
}

/// Gives all datagrams by calls that are dropped. A call says whether it sent the one of its bytes.
fn give_all(once: impl AsyncFn(&Socket, &[u8], &Target) -> io::Result<bool>) {
    let mut drops = Drops::from_environment();
    run(async {
        let (socket, _, peer, theirs, _directory) = pair().await;
        connect(&socket, &theirs).await;
        let (window, room) = sync_channel(ON_THEIR_WAY);
        let receiving = receive_all(peer, room, drops.dice.split());
        for number in 0..numbers::count() {
            window.send(()).unwrap();
            let line = numbers::line(number);
            while drops
                .poll_late(once(&socket, line.as_bytes(), &theirs))
                .await
                .transpose()
                .unwrap()
                != Some(true)
            {}
        }
        receiving.join().unwrap();
    });
    drops.were_many();
}

fn sent(result: io::Result<usize>) -> io::Result<bool> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        result => {
            assert_eq!(result?, 8);
            Ok(true)
        }
    }
}

#[test]
fn send() {
    give_all(async |socket, bytes, _| sent(socket.send(bytes).await));
}

#[test]
fn send_to() {
    let mut drops = Drops::from_environment();
    run(async {
        let (socket, _, peer, theirs, _directory) = pair().await;
        let (window, room) = sync_channel(ON_THEIR_WAY);
        let receiving = receive_all(peer, room, drops.dice.split());
        for number in 0..numbers::count() {
            window.send(()).unwrap();
            let line = numbers::line(number);
            let count = loop {
                let send = socket.send_to(line.as_bytes(), at(&theirs));
                if let Some(count) = drops.poll_late(send).await {
                    break count;
                }
            };
            assert_eq!(count.unwrap(), 8);
        }
        receiving.join().unwrap();
    });
    drops.were_many();
}

#[test]
fn writable() {
    give_all(async |socket, bytes, _| {
        socket.writable().await?;
        sent(socket.try_send(bytes))
    });
}

#[test]
fn ready_to_send() {
    give_all(async |socket, bytes, _| {
        assert!(socket.ready(Interest::WRITABLE).await?.is_writable());
        sent(socket.try_send(bytes))
    });
}
