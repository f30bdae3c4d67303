//! tokio-uring: `read_fixed_at` with its registry of fixed buffers, a buffer a task, given on from
//! read to read.
//!
//! As shipped, without DEFER_TASKRUN: it waits for its ring through tokio's epoll, which that flag
//! doesn't get along with.

use std::io;
use std::rc::Rc;

use tokio_uring::buf::fixed::{FixedBuf, FixedBufRegistry};
use tokio_uring::fs::File;

use crate::load::{GiveWay, Load, PAGE_BYTES, Share, Workload};
use crate::meter::{Meter, Sample};

pub fn run(load: &Load) -> io::Result<Sample> {
    let entries = (load.tasks as u32).next_power_of_two().max(256);
    tokio_uring::builder().entries(entries).start(async {
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
    let file = Rc::new(File::open(&load.file).await?);
    let registry = FixedBufRegistry::new((0..load.tasks).map(|_| vec![0_u8; PAGE_BYTES]));
    registry.register()?;
    let buffers = (0..load.tasks).map(|index| registry.check_out(index).expect("checked out once"));
    let buffers = read_all(&file, buffers.collect(), load.warm_up_shares()).await;
    let latencies = load.latencies();
    let shares = load.measured_shares(latencies.as_ref());
    let meter = Meter::start();
    read_all(&file, buffers, shares).await;
    Ok(meter.stop(load.ops, latencies.as_deref()))
}

async fn read_all(file: &Rc<File>, buffers: Vec<FixedBuf>, shares: Vec<Share>) -> Vec<FixedBuf> {
    let readers = buffers.into_iter().zip(shares);
    let readers: Vec<_> = readers
        .map(|(buffer, share)| tokio_uring::spawn(read_share(file.clone(), buffer, share)))
        .collect();
    let mut buffers = Vec::with_capacity(readers.len());
    for reader in readers {
        buffers.push(reader.await.expect("a reader panicked"));
    }
    buffers
}

async fn read_share(file: Rc<File>, mut buffer: FixedBuf, mut share: Share) -> FixedBuf {
    while let Some(offset) = share.next_offset() {
        let (read, back) = file.read_fixed_at(buffer, offset).await;
        share.check(&back[..read.expect("a read")], offset);
        buffer = back;
    }
    buffer
}

async fn spawn_and_join(load: &Load, ops: u64) {
    let mut tasks = Vec::with_capacity(load.tasks);
    let mut left = ops;
    while left > 0 {
        let now = left.min(load.tasks as u64);
        tasks.extend((0..now).map(|_| tokio_uring::spawn(async {})));
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
    let tasks: Vec<_> = turns.map(tokio_uring::spawn).collect();
    for task in tasks {
        task.await.expect("a task panicked");
    }
}
