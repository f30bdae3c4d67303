//! The tables of registered buffers, where the kernel refuses to change them.

mod common;
mod watched;

use runtime::buffers::{self, PoolConfig};
use runtime::fs::File;
use watched::{Watch, watched};

/// Reads the first bytes of a file of sevens into a lease of the whole pool.
async fn read_sevens(file: &File) {
    let lease = buffers::lease(64 * 1024).await.unwrap();
    let (count, lease) = file.read_fixed(lease, 0).await.unwrap();
    assert_eq!((count, &lease[..]), (1000, &[7; 1000][..]));
}

#[test]
fn an_arena_that_a_shard_can_not_detach_goes_all_the_same_and_later_ones_work() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [7; 1000]).unwrap();
    let watch = Watch::new();
    let mut builder = watched(&watch, (256, 512));
    builder.pool(PoolConfig::new().limit(64 * 1024).arena(64 * 1024).keep(0));
    builder
        .run(async {
            let file = File::open(&path).await.unwrap();
            read_sevens(&file).await;
            watch.refuse_tables(libc::EINVAL);
            // The first sweep finds the arena used since the one before.
            buffers::pool().sweep();
            buffers::pool().sweep();
            while buffers::occupancy().mapped > 0 {
                runtime::task::yield_now().await;
            }
            read_sevens(&file).await;
            assert_eq!(buffers::occupancy().mapped, 64 * 1024);
        })
        .unwrap();
    watch.balance();
}
