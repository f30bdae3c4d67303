//! Numbered lines of eight bytes, which show what is lost, comes twice or out of order.

use std::io::{Read, Write};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::drops::Pace;
use crate::common;
use crate::dice::Dice;

/// How many numbers a row sends or receives.
pub fn count() -> u64 {
    common::count("RINGHOLD_ROWS", 2_000).into()
}

/// As many as don't fit between the two ends of a stream.
pub fn many() -> u64 {
    count() * 128
}

pub fn line(number: u64) -> String {
    format!("{number:07}\n")
}

pub fn lines(numbers: u64) -> Vec<u8> {
    (0..numbers).flat_map(|number| line(number).into_bytes()).collect()
}

/// Checks that bytes are those of the lines, in order.
#[derive(Default)]
pub struct Numbers {
    pub seen: u64,
    part: Vec<u8>,
}

impl Numbers {
    pub fn take(&mut self, bytes: &[u8]) {
        self.part.extend_from_slice(bytes);
        let whole = self.part.len() / 8 * 8;
        for bytes in self.part[..whole].chunks_exact(8) {
            assert_eq!(str::from_utf8(bytes).unwrap(), line(self.seen));
            self.seen += 1;
        }
        self.part.drain(..whole);
    }

    #[track_caller]
    pub fn are(&self, count: u64) {
        assert_eq!((self.seen, self.part.len()), (count, 0), "lines, and bytes of another one");
    }
}

/// Sometimes waits a moment.
pub fn rest(dice: &mut Dice) {
    if dice.below(2) == 0 {
        thread::sleep(Duration::from_micros(dice.below(50)));
    }
}

/// Writes the lines in pieces of any size, in haste and with breaks, and then ends the stream.
pub fn write(mut peer: impl Write + Send + 'static, mut pace: Pace) -> JoinHandle<()> {
    thread::spawn(move || {
        let bytes = lines(count());
        let mut at = 0;
        while at < bytes.len() {
            pace.rest();
            let end = bytes.len().min(at + 1 + pace.dice.below(48) as usize);
            peer.write_all(&bytes[at..end]).unwrap();
            at = end;
        }
    })
}

/// Reads the stream to its end, now and then too slowly, and gives what came.
pub fn read(mut peer: impl Read + Send + 'static, mut dice: Dice) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut all, mut piece) = (Vec::new(), vec![0; 4 << 10]);
        loop {
            let most = 1 + dice.below(piece.len() as u64) as usize;
            match peer.read(&mut piece[..most]).unwrap() {
                0 => return all,
                count => all.extend_from_slice(&piece[..count]),
            }
            rest(&mut dice);
        }
    })
}
