//! tokio's current-thread runtime. It has no read at an offset, so `read` does what its users do: a
//! positional read on the pool of blocking threads, the buffer handed there and back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::load::{GiveWay, Load, PAGE_BYTES, Share, Workload};
use crate::meter::{Meter, Sample};

pub fn run(load: &Load) -> io::Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        match load.workload {
            Workload::Read => read(load).await,
            Workload::Echo => Err(load.is_served()),
            Workload::Spawn => {
                spawn_and_join(load, load.warm_up_ops).await;
                let meter = Meter::start();
                spawn_and_join(load, load.ops).await;
                Ok(meter.stop(load.ops, None))
            }
            Workload::Yield => {
                give_way(load.warm_up_shares()).await;
                let meter = Meter::start();
                give_way(load.measured_shares(None)).await;
                Ok(meter.stop(load.ops, None))
            }
        }
    })
}

async fn read(load: &Load) -> io::Result<Sample> {
    let file = Arc::new(File::open(&load.file)?);
    let buffers = (0..load.tasks).map(|_| vec![0; PAGE_BYTES]).collect();
    let buffers = read_all(&file, buffers, load.warm_up_shares()).await;
    let latencies = load.latencies();
    let shares = load.measured_shares(latencies.as_ref());
    let meter = Meter::start();
    read_all(&file, buffers, shares).await;
    Ok(meter.stop(load.ops, latencies.as_deref()))
}

async fn read_all(file: &Arc<File>, buffers: Vec<Vec<u8>>, shares: Vec<Share>) -> Vec<Vec<u8>> {
    let readers = buffers.into_iter().zip(shares);
    let readers: Vec<_> = readers
        .map(|(buffer, share)| tokio::spawn(read_share(file.clone(), buffer, share)))
        .collect();
    let mut buffers = Vec::with_capacity(readers.len());
    for reader in readers {
        buffers.push(reader.await.expect("a reader panicked"));
    }
    buffers
}

async fn read_share(file: Arc<File>, mut buffer: Vec<u8>, mut share: Share) -> Vec<u8> {
    while let Some(offset) = share.next_offset() {
        let there = file.clone();
        let read = move || there.read_exact_at(&mut buffer, offset).map(|()| buffer);
        let back = tokio::task::spawn_blocking(read).await.expect("a closure panicked");
        buffer = back.expect("a read");
        share.check(&buffer, offset);
    }
    buffer
}

async fn spawn_and_join(load: &Load, ops: u64) {
    let mut tasks = Vec::with_capacity(load.tasks);
    let mut left = ops;
    while left > 0 {
        let now = left.min(load.tasks as u64);
        tasks.extend((0..now).map(|_| tokio::spawn(async {})));
        for task in tasks.drain(..) {
            task.await.expect("an empty task panicked");
        }
        left -= now;
    }
}

async fn give_way(shares: Vec<Share>) {
    let turns = shares.into_iter().map(|share| async move {
        for _ in 0..share.left() {
            GiveWay::default().await;
        }
    });
    let tasks: Vec<_> = turns.map(tokio::spawn).collect();
    for task in tasks {
        task.await.expect("a task panicked");
    }
}
