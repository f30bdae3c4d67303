//! `accept` is cancel safe: no connection is lost.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::thread;

use super::drops::{Drops, PATIENCE, run};
use super::rt::io::{AsyncReadExt, AsyncWriteExt};
use super::{Address, Peer, listen, numbers};
use crate::dice::Dice;

fn finish((number, mut stream): (u64, Peer)) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, numbers::line(number).as_bytes());
}

/// Connects many times, a few of them at once. Each connection is answered.
fn connect_often(address: &Address, mut dice: Dice) {
    let mut open = VecDeque::new();
    for number in 0..numbers::count() {
        let mut stream = Peer::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(numbers::line(number).as_bytes()).unwrap();
        open.push_back((number, stream));
        while open.len() as u64 > dice.below(8) {
            finish(open.pop_front().unwrap());
        }
    }
    open.into_iter().for_each(finish);
}

#[test]
fn accept() {
    let mut drops = Drops::from_environment();
    run(async {
        let (listener, address, _directory) = listen().await;
        let dice = drops.dice.split();
        let clients = thread::spawn(move || connect_often(&address, dice));
        let mut seen = numbers::Numbers::default();
        while seen.seen < numbers::count() {
            let Some(accepted) = drops.poll(listener.accept()).await else { continue };
            let (mut stream, mut line) = (accepted.unwrap().0, [0; 8]);
            stream.read_exact(&mut line).await.unwrap();
            seen.take(&line);
            stream.write_all(&line).await.unwrap();
        }
        clients.join().unwrap();
    });
    drops.were_many();
}
