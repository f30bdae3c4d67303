//! compio: `read_at` into an owned buffer a task, given on from read to read; it has no reads into
//! registered buffers.
//!
//! With DEFER_TASKRUN, which it doesn't set by itself, and which makes it faster.

use std::io;
use std::rc::Rc;

use compio::driver::ProactorBuilder;
use compio::fs::File;
use compio::io::AsyncReadAt;
use compio::runtime::RuntimeBuilder;

use crate::load::{GiveWay, Load, PAGE_BYTES, Share, Workload};
use crate::meter::{Meter, Sample};

pub fn run(load: &Load) -> io::Result<Sample> {
    let mut proactor = ProactorBuilder::new();
    proactor
        .capacity((load.tasks as u32).next_power_of_two().max(256))
        .single_issuer(true)
        .defer_taskrun(true)
        .taskrun_flag(true);
    let runtime = RuntimeBuilder::new().with_proactor(proactor).build()?;
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
    let file = Rc::new(File::open(&load.file).await?);
    let buffers = (0..load.tasks).map(|_| Vec::with_capacity(PAGE_BYTES)).collect();
    let buffers = read_all(&file, buffers, load.warm_up_shares()).await;
    let latencies = load.latencies();
    let shares = load.measured_shares(latencies.as_ref());
    let meter = Meter::start();
    read_all(&file, buffers, shares).await;
    Ok(meter.stop(load.ops, latencies.as_deref()))
}

async fn read_all(file: &Rc<File>, buffers: Vec<Vec<u8>>, shares: Vec<Share>) -> Vec<Vec<u8>> {
    let readers = buffers.into_iter().zip(shares);
    let readers: Vec<_> = readers
        .map(|(buffer, share)| compio::runtime::spawn(read_share(file.clone(), buffer, share)))
        .collect();
    let mut buffers = Vec::with_capacity(readers.len());
    for reader in readers {
        buffers.push(reader.await.expect("a reader panicked"));
    }
    buffers
}

async fn read_share(file: Rc<File>, mut buffer: Vec<u8>, mut share: Share) -> Vec<u8> {
    while let Some(offset) = share.next_offset() {
        buffer.clear();
        let (read, back) = file.read_at(buffer, offset).await.into();
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
        tasks.extend((0..now).map(|_| compio::runtime::spawn(async {})));
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
    let tasks: Vec<_> = turns.map(compio::runtime::spawn).collect();
    for task in tasks {
        task.await.expect("a task panicked");
    }
}
