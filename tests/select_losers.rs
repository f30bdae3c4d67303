//! `select!`: what becomes of the operations on files that lose.

mod common;
mod watched;

use std::future::Future;
use std::path::PathBuf;

use common::{count, proc};
use runtime::buffers::{self, PoolConfig};
use runtime::fs::File;
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::task::{spawn_local, yield_now};
use watched::{RINGS, Random, Watch, alone, pipe, settle, watchdog, watched};

const PAGE: usize = 4096;

fn rounds() -> usize {
    count("RINGHOLD_ROUNDS", 2_000) as usize
}

/// Ready after some turns of the shard: at once, while an operation is queued, while it is in
/// flight, or when it has completed; and every fourth time never, so that the operation wins.
fn turns(random: &mut Random) -> impl Future<Output = ()> + use<> {
    let turns = if random.below(4) == 0 { usize::MAX } else { random.below(4) };
    async move {
        for _ in 0..turns {
            yield_now().await;
        }
    }
}

/// A file of a page of sevens, in a directory that goes when the handle does.
fn page_file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [7; PAGE]).unwrap();
    (directory, path)
}

/// Both ways to end came up, or the test has shown nothing.
#[track_caller]
fn assert_both(won: usize, lost: usize) {
    assert!(won > 20 && lost > 20, "{won} won, {lost} lost");
}

#[test]
fn reads_of_a_stream_that_lose_lose_no_byte() {
    let _alone = alone();
    let _watchdog = watchdog("a stream that is read in a select", 60);
    let mut random = Random::from_environment();
    for rings in RINGS {
        let watch = Watch::new();
        let run = watched(&watch, rings).run(async {
            let pipe = pipe();
            let (mut reader, mut writer, meddler) = (pipe.reader, pipe.writer, pipe.meddler);
            drop(meddler);
            let sent: Vec<u8> = (0..64 * 1024 / 4).flat_map(u32::to_be_bytes).collect();
            let expected = sent.clone();
            let writing = spawn_local(async move {
                for part in sent.chunks(100) {
                    writer.write_all(part).await.unwrap();
                    writer.flush().await.unwrap();
                }
            });
            let (mut received, mut buffer) = (Vec::new(), [0; 1000]);
            let (mut won, mut lost) = (0, 0);
            loop {
                runtime::select! {
                    count = reader.read(&mut buffer[..random.below(1000) + 1]) => {
                        let count = count.unwrap();
                        if count == 0 {
                            break;
                        }
                        won += 1;
                        received.extend_from_slice(&buffer[..count]);
                    }
                    () = turns(&mut random) => lost += 1,
                }
            }
            writing.await.unwrap();
            assert_both(won, lost);
            assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
            drop(reader);
            settle(&watch).await;
        });
        run.unwrap();
        watch.balance();
    }
}

#[test]
fn fixed_reads_that_lose_give_their_leases_back() {
    let _alone = alone();
    let _watchdog = watchdog("fixed reads in a select", 60);
    let mut random = Random::from_environment();
    for rings in RINGS {
        let watch = Watch::new();
        let pool = PoolConfig::new().limit(4 * PAGE).arena(4 * PAGE).keep(4 * PAGE);
        let run = watched(&watch, rings).pool(pool).run(async {
            let (_directory, path) = page_file();
            let file = File::open(path).await.unwrap();
            let (mut won, mut lost) = (0, 0);
            for _ in 0..rounds() {
                let lease = buffers::lease(PAGE).await.unwrap();
                runtime::select! {
                    read = file.read_fixed(lease, 0) => {
                        let (count, lease) = read.unwrap();
                        assert_eq!((count, &lease[..]), (PAGE, &[7; PAGE][..]));
                        won += 1;
                    }
                    () = turns(&mut random) => lost += 1,
                }
            }
            assert_both(won, lost);
            file.close().await.unwrap();
            settle(&watch).await;
            let occupancy = buffers::occupancy();
            assert_eq!((occupancy.leased, occupancy.waiters), (0, 0));
            assert_eq!(occupancy.free, occupancy.mapped);
        });
        run.unwrap();
        watch.balance();
    }
}

#[test]
fn opens_that_lose_leave_nothing_open() {
    let _alone = alone();
    let _watchdog = watchdog("opens in a select", 60);
    let mut random = Random::from_environment();
    for rings in RINGS {
        let watch = Watch::new();
        let run = watched(&watch, rings).run(async {
            let (_directory, path) = page_file();
            let before = proc::open_descriptors();
            let (mut won, mut lost) = (0, 0);
            for _ in 0..rounds() {
                runtime::select! {
                    file = File::open(&path) => {
                        drop(file.unwrap());
                        won += 1;
                    }
                    () = turns(&mut random) => lost += 1,
                }
            }
            assert_both(won, lost);
            settle(&watch).await;
            assert_eq!(proc::open_descriptors(), before);
        });
        run.unwrap();
        watch.balance();
    }
}

#[test]
fn writes_that_lose_write_their_own_bytes_or_none() {
    let _alone = alone();
    let _watchdog = watchdog("writes in a select", 60);
    let mut random = Random::from_environment();
    for rings in RINGS {
        let watch = Watch::new();
        let (_directory, path) = page_file();
        let mut wins = Vec::new();
        let run = watched(&watch, rings).run(async {
            let file = File::create(&path).await.unwrap();
            for round in 0..rounds() {
                let bytes = (round as u32 + 1).to_be_bytes().to_vec();
                wins.push(runtime::select! {
                    written = file.write_all_at(bytes, 4 * round as u64) => {
                        written.unwrap();
                        true
                    }
                    () = turns(&mut random) => false,
                });
            }
            file.set_len(4 * rounds() as u64).await.unwrap();
            file.close().await.unwrap();
            settle(&watch).await;
        });
        run.unwrap();
        watch.balance();
        let won = wins.iter().filter(|&&won| won).count();
        assert_both(won, wins.len() - won);
        let written = std::fs::read(&path).unwrap();
        assert_eq!(written.len(), 4 * rounds());
        for (round, (number, won)) in written.chunks(4).zip(wins).enumerate() {
            let own = (round as u32 + 1).to_be_bytes();
            assert!(number == own || (!won && number == [0; 4]), "round {round}: {number:?}");
        }
    }
}
