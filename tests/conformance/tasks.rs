//! Tasks: joining, aborting, panics, sets of them, and blocking closures.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use runtime::fs;
use runtime::sync::{mpsc, oneshot};
use runtime::task::{JoinSet, spawn, spawn_blocking, spawn_local, spawn_on, yield_now};
use runtime::time::sleep;

use crate::place::Place;

on_both_kernels! {
    tasks_give_their_outputs,
    a_panic_stays_in_its_task,
    aborted_tasks_are_cancelled,
    a_set_joins_and_aborts,
    blocking_closures_run,
    channels_cross_shards,
    a_dropped_handle_detaches,
}

async fn tasks_give_their_outputs(place: Place) -> io::Result<()> {
    assert_eq!(spawn(async { 7 }).await?, 7);
    let shared = Rc::new(Cell::new(0));
    let inner = shared.clone();
    spawn_local(async move { inner.set(8) }).await?;
    assert_eq!(shared.get(), 8);
    for shard in 0..place.shards {
        let task = spawn_on(shard, move || async move {
            // What stays on its shard need not be sendable.
            let count = Rc::new(Cell::new(shard));
            yield_now().await;
            count.get()
        });
        assert_eq!(task.await?, shard);
    }
    Ok(())
}

async fn a_panic_stays_in_its_task(place: Place) -> io::Result<()> {
    for shard in 0..place.shards {
        let alive = place.alive.clone();
        let task = spawn_on(shard, || async move {
            let _alive = alive;
            yield_now().await;
            panic!("meant")
        });
        let error: runtime::task::JoinError = task.await.map(|(): ()| ()).expect_err("it panics");
        assert!(error.is_panic());
        assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"meant"));
    }
    fs::write(place.at("file"), "and on it goes").await
}

async fn aborted_tasks_are_cancelled(place: Place) -> io::Result<()> {
    for shard in 0..place.shards {
        let alive = place.alive.clone();
        let task = spawn_on(shard, || async move {
            let _alive = alive;
            pending::<()>().await;
        });
        yield_now().await;
        assert!(!task.is_finished());
        task.abort_handle().abort();
        assert!(task.await.expect_err("it was aborted").is_cancelled());
    }
    let done = spawn(async { 1 });
    while !done.is_finished() {
        yield_now().await;
    }
    done.abort();
    assert_eq!(done.await?, 1);
    Ok(())
}

async fn a_set_joins_and_aborts(place: Place) -> io::Result<()> {
    let mut set = JoinSet::new();
    for index in 0..20_u32 {
        let path = place.at(&format!("{index}"));
        set.spawn(async move {
            fs::write(&path, vec![7; index as usize]).await?;
            io::Result::Ok((index, fs::read(&path).await?.len()))
        });
    }
    let mut found = Vec::new();
    while let Some(joined) = set.join_next().await {
        found.push(joined??);
    }
    found.sort_unstable();
    assert_eq!(found, (0..20).map(|index| (index, index as usize)).collect::<Vec<_>>());
    for _ in 0..5 {
        let alive = place.alive.clone();
        set.spawn(async move {
            let _alive = alive;
            pending().await
        });
    }
    assert_eq!(set.len(), 5);
    set.shutdown().await;
    assert!(set.is_empty());
    Ok(())
}

async fn blocking_closures_run(place: Place) -> io::Result<()> {
    let tasks: Vec<_> = (0..10).map(|index| spawn_blocking(move || index * index)).collect();
    for (index, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await?, index * index);
    }
    let error = spawn_blocking(|| panic!("meant")).await.map(|(): ()| ());
    assert!(error.expect_err("it panics").is_panic());
    let (sender, receiver) = oneshot::channel();
    spawn_on(place.last_shard(), || async move {
        let squared = spawn_blocking(|| 7 * 7).await;
        let _ = sender.send(squared);
    })
    .await?;
    assert_eq!(receiver.await.expect("it was sent")?, 49);
    Ok(())
}

async fn channels_cross_shards(place: Place) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel(3);
    let mut tasks = Vec::new();
    for shard in 0..place.shards {
        let sender = sender.clone();
        tasks.push(spawn_on(shard, move || async move {
            for index in 0..100 {
                sender.send((shard, index)).await.expect("somebody receives");
            }
        }));
    }
    drop(sender);
    let mut next = vec![0; place.shards];
    while let Some((shard, index)) = receiver.recv().await {
        assert_eq!(index, next[shard]);
        next[shard] += 1;
    }
    assert_eq!(next, vec![100; place.shards]);
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn a_dropped_handle_detaches(place: Place) -> io::Result<()> {
    let path = place.at("file");
    let there = path.clone();
    drop(spawn_on(place.last_shard(), || async move {
        sleep(Duration::from_millis(1)).await;
        fs::write(there, "written").await
    }));
    while fs::read(&path).await.ok().as_deref() != Some(b"written") {
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
