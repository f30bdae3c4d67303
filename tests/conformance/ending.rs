//! The end of a runtime, with everything still going on. That nothing outlives it is looked at by
//! who runs a scenario.

use std::future::pending;
use std::io;
use std::time::Duration;

use runtime::buffers;
use runtime::fs::{self, File, OpenOptions};
use runtime::io::AsyncReadExt;
use runtime::net::{TcpListener, UdpSocket, UnixStream};
use runtime::task::{spawn_on, yield_now};
use runtime::time::sleep;

use crate::place::Place;

on_both_kernels! {
    operations_in_flight,
    tasks_that_wait_for_each_other,
    files_and_leases_that_tasks_hold,
    tasks_that_are_dropped_in_the_middle_of_many_operations,
    sockets_that_wait,
}

async fn operations_in_flight(place: Place) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).open(place.at("file")).await?;
    file.write_all_at(vec![7; 100_000], 0).await?;
    for index in 0..40 {
        let alive = place.alive.clone();
        let lease = buffers::lease(4096).await?;
        let (read, write) = (file.read_fixed(lease, 0), file.write_at(vec![8; 1000], 0));
        let sync = file.try_clone().await?;
        drop(spawn_on(index % place.shards, || async move {
            let _alive = alive;
            let _ = futures::join!(read, write, sync.sync_all());
            pending::<()>().await;
        }));
    }
    Ok(())
}

async fn tasks_that_wait_for_each_other(place: Place) -> io::Result<()> {
    let whole = buffers::lease(crate::place::POOL_BYTES).await?;
    for index in 0..20 {
        let alive = place.alive.clone();
        let inner = spawn_on(index % place.shards, || async move {
            let _alive = alive;
            let _lease = buffers::lease(4096).await;
            sleep(Duration::from_secs(3600)).await;
        });
        let alive = place.alive.clone();
        drop(spawn_on((index + 1) % place.shards, || async move {
            let _alive = alive;
            let _ = inner.await;
        }));
        yield_now().await;
    }
    drop(whole);
    Ok(())
}

async fn files_and_leases_that_tasks_hold(place: Place) -> io::Result<()> {
    let mut ready = Vec::new();
    for index in 0..20 {
        let (alive, path) = (place.alive.clone(), place.at(&format!("{index}")));
        let (sender, receiver) = runtime::sync::oneshot::channel();
        ready.push(receiver);
        drop(spawn_on(index % place.shards, || async move {
            let held = (alive, File::create(path).await, buffers::lease(1000).await);
            let _ = sender.send(());
            pending::<()>().await;
            drop(held);
        }));
    }
    for ready in ready {
        ready.await.expect("each says that it is there");
    }
    assert!(fs::try_exists(place.at("19")).await?);
    Ok(())
}

async fn tasks_that_are_dropped_in_the_middle_of_many_operations(place: Place) -> io::Result<()> {
    for index in 0..10 {
        let (alive, path) = (place.alive.clone(), place.at(&format!("{index}")));
        drop(spawn_on(index % place.shards, || async move {
            let _alive = alive;
            for round in 0..u64::MAX {
                fs::write(&path, format!("{round}")).await?;
                let file = File::open(&path).await?;
                let (_, lease) = file.read_fixed(buffers::lease(100).await?, 0).await?;
                fs::rename(&path, path.with_extension("renamed")).await?;
                drop(lease);
                file.close().await?;
            }
            io::Result::Ok(())
        }));
    }
    sleep(Duration::from_millis(3)).await;
    Ok(())
}

async fn sockets_that_wait(place: Place) -> io::Result<()> {
    let mut kept = Vec::new();
    for shard in 0..place.shards {
        let (alive, listener) = (place.alive.clone(), TcpListener::bind("127.0.0.1:0").await?);
        let datagrams = UdpSocket::bind("127.0.0.1:0").await?;
        let lease = buffers::lease(4096).await?;
        let mut pairs = Vec::new();
        for _ in 0..4 {
            let (here, there) = UnixStream::pair()?;
            kept.push(here);
            pairs.push(there);
        }
        let (sender, receiver) = runtime::sync::oneshot::channel();
        drop(spawn_on(shard, || async move {
            let _alive = alive;
            let [mut polled, owned, fixed, mut leased] =
                <[UnixStream; 4]>::try_from(pairs).expect("there are four");
            let (mut byte, mut datagram) = ([0; 1], [0; 8]);
            let mut leases = leased.leases(4096);
            let all = futures::future::join3(
                futures::future::join(listener.accept(), datagrams.recv(&mut datagram)),
                futures::future::join(polled.read(&mut byte), owned.read_owned(vec![0; 8])),
                futures::future::join(fixed.read_fixed(lease), leases.next()),
            );
            let mut all = Box::pin(all);
            let _ = sender.send(futures::poll!(&mut all).is_pending());
            let _ = all.await;
        }));
        assert!(receiver.await.expect("it says so"));
    }
    // Half of them are told that their peer is gone while they end.
    kept.truncate(kept.len() / 2);
    drop(spawn_on(0, || async move {
        pending::<()>().await;
        drop(kept);
    }));
    Ok(())
}
