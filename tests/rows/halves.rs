//! Readiness of halves, borrowed and owned: waiting for it takes nothing.

use std::io::{ErrorKind, Result};

use super::drops::{Drops, run};
use super::numbers::{self, Numbers};
use super::pair;
use super::rt::io::{AsyncWriteExt, Interest};

/// A row for each direction, which waits by `$reads` or `$writes` on the halves that `$halves`
/// makes.
macro_rules! rows_of_halves {
    (
        $read:ident, $write:ident, $halves:ident,
        $reads:ident($($readable:expr)?), $writes:ident($($writable:expr)?)
    ) => {
        #[test]
        fn $read() {
            let mut drops = Drops::from_environment();
            run(async {
                #[allow(unused_mut)] // One way to split takes the stream.
                let (mut stream, peer) = pair().await;
                let (reader, _writer) = stream.$halves();
                let writing = numbers::write(peer, drops.pace());
                let mut taken = Numbers::default();
                loop {
                    let ready = drops.poll(reader.$reads($($readable)?)).await;
                    let Some(_) = ready.transpose().unwrap() else { continue };
                    let mut bytes = vec![0; 1 + drops.dice.below(64) as usize];
                    match settle(reader.try_read(&mut bytes)) {
                        Some(0) => break,
                        Some(count) => taken.take(&bytes[..count]),
                        None => {}
                    }
                }
                writing.join().unwrap();
                taken.are(numbers::count());
            });
            drops.were_many();
        }

        #[test]
        fn $write() {
            let mut drops = Drops::from_environment();
            run(async {
                #[allow(unused_mut)] // As above.
                let (mut stream, peer) = pair().await;
                let (_reader, mut writer) = stream.$halves();
                let reading = numbers::read(peer, drops.dice.split());
                let bytes = numbers::lines(numbers::many());
                let mut at = 0;
                while at < bytes.len() {
                    let ready = drops.poll(writer.$writes($($writable)?)).await;
                    let Some(_) = ready.transpose().unwrap() else { continue };
                    let end = bytes.len().min(at + 1 + drops.dice.below(8 << 10) as usize);
                    at += settle(writer.try_write(&bytes[at..end])).unwrap_or(0);
                }
                writer.shutdown().await.unwrap();
                assert!(reading.join().unwrap() == bytes, "the peer has other bytes");
            });
            drops.were_many();
        }
    };
}

rows_of_halves!(split_readable, split_writable, split, readable(), writable());
rows_of_halves!(owned_readable, owned_writable, into_split, readable(), writable());
rows_of_halves!(
    split_ready_to_read,
    split_ready_to_write,
    split,
    ready(Interest::READABLE),
    ready(Interest::WRITABLE)
);
rows_of_halves!(
    owned_ready_to_read,
    owned_ready_to_write,
    into_split,
    ready(Interest::READABLE),
    ready(Interest::WRITABLE)
);

fn settle(result: Result<usize>) -> Option<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        result => Some(result.unwrap()),
    }
}
