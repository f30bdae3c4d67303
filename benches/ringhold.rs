//! Ringhold: `read_fixed` into a lease a task, or `read_at` into a `Vec`, given on from read to
//! read.

use std::future::Future;
use std::io;
use std::rc::Rc;

use runtime::buffers::{self, Lease};
use runtime::fs::File;

use crate::load::{GiveWay, Load, PAGE_BYTES, Share, Workload};
use crate::meter::{Meter, Sample};

/// Which read is measured.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    Fixed,
    At,
}

pub fn run(load: &Load, read: Read) -> io::Result<Sample> {
    let mut builder = runtime::Builder::new_current_thread();
    // Under valgrind one thread runs at a time, and lets no other run while it waits in
    // io_uring_enter: a shard would wait for ever for the thread that makes the pool grow.
    builder.pool_prefill(load.tasks * PAGE_BYTES);
    builder.run(async {
        match (load.workload, read) {
            (Workload::Read, Read::Fixed) => read_fixed(load).await,
            (Workload::Read, Read::At) => read_at(load).await,
            (Workload::Echo, _) => Err(load.is_served()),
            (Workload::Spawn, _) => {
                spawn_and_join(load, load.warm_up_ops).await;
                let meter = Meter::start();
                spawn_and_join(load, load.ops).await;
                Ok(meter.stop(load.ops, None))
            }
            (Workload::Yield, _) => {
                give_way(load.warm_up_shares()).await;
                let meter = Meter::start();
                give_way(load.measured_shares(None)).await;
                Ok(meter.stop(load.ops, None))
            }
        }
    })?
}

async fn read_fixed(load: &Load) -> io::Result<Sample> {
    let mut leases = Vec::with_capacity(load.tasks);
    for _ in 0..load.tasks {
        leases.push(buffers::lease(PAGE_BYTES).await?);
    }
    read(load, leases, fixed_share).await
}

async fn read_at(load: &Load) -> io::Result<Sample> {
    let vecs = (0..load.tasks).map(|_| Vec::with_capacity(PAGE_BYTES)).collect();
    read(load, vecs, at_share).await
}

async fn read<B, R>(
    load: &Load,
    buffers: Vec<B>,
    read_share: fn(Rc<File>, B, Share) -> R,
) -> io::Result<Sample>
where
    B: 'static,
    R: Future<Output = B> + 'static,
{
    let file = Rc::new(File::open(&load.file).await?);
    let buffers = read_all(&file, buffers, load.warm_up_shares(), read_share).await;
    let latencies = load.latencies();
    let shares = load.measured_shares(latencies.as_ref());
    let meter = Meter::start();
    read_all(&file, buffers, shares, read_share).await;
    Ok(meter.stop(load.ops, latencies.as_deref()))
}

async fn read_all<B, R>(
    file: &Rc<File>,
    buffers: Vec<B>,
    shares: Vec<Share>,
    read_share: fn(Rc<File>, B, Share) -> R,
) -> Vec<B>
where
    B: 'static,
    R: Future<Output = B> + 'static,
{
    let readers = buffers.into_iter().zip(shares);
    let readers: Vec<_> = readers
        .map(|(buffer, share)| runtime::task::spawn_local(read_share(file.clone(), buffer, share)))
        .collect();
    let mut buffers = Vec::with_capacity(readers.len());
    for reader in readers {
        buffers.push(reader.await.expect("a reader panicked"));
    }
    buffers
}

async fn fixed_share(file: Rc<File>, mut lease: Lease, mut share: Share) -> Lease {
    while let Some(offset) = share.next_offset() {
        let (read, back) = file.read_fixed(lease, offset).await.expect("a read");
        share.check(&back[..read], offset);
        lease = back;
    }
    lease
}

async fn at_share(file: Rc<File>, mut buffer: Vec<u8>, mut share: Share) -> Vec<u8> {
    while let Some(offset) = share.next_offset() {
        let (read, back) = file.read_at(buffer, offset).await.expect("a read");
        share.check(&back[..read], offset);
        buffer = back;
    }
    buffer
}

async fn spawn_and_join(load: &Load, ops: u64) {
    let mut tasks = Vec::with_capacity(load.tasks);
    let mut left = ops;
    while left > 0 {
        let now = left.min(load.tasks as u64);
        tasks.extend((0..now).map(|_| runtime::spawn(async {})));
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
    let tasks: Vec<_> = turns.map(runtime::spawn).collect();
    for task in tasks {
        task.await.expect("a task panicked");
    }
}
