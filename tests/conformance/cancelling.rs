//! Operations that nobody awaits to their end.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use runtime::buffers;
use runtime::fs::{self, File, OpenOptions};
use runtime::task::yield_now;
use runtime::time::{Instant, sleep, timeout};

use crate::place::{Place, kind, read_from};

on_both_kernels! {
    what_is_never_polled_never_happens,
    a_dropped_write_happened_or_not,
    dropped_reads_give_their_leases_back,
    dropped_opens_leave_nothing_open,
    a_timeout_ends_what_takes_too_long,
    a_select_takes_what_is_first,
    a_task_that_is_aborted_drops_its_operations,
    a_future_moves_to_another_shard,
}

async fn opened(place: &Place) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).open(place.at("file")).await
}

async fn what_is_never_polled_never_happens(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    let mut lease = buffers::lease(100).await?;
    lease.resize(100, 7);
    drop(file.write_at("bytes", 0));
    drop(file.write_fixed(lease, 0));
    drop(file.set_len(100));
    drop(fs::remove_file(place.at("file")));
    drop(fs::write(place.at("other"), "bytes"));
    drop(buffers::lease(100));
    assert_eq!(buffers::occupancy().leased, 0);
    file.sync_all().await?;
    assert_eq!(fs::read(place.at("file")).await?, b"");
    assert!(!fs::try_exists(place.at("other")).await?);
    Ok(())
}

async fn a_dropped_write_happened_or_not(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.write_all_at(vec![0; 1000], 0).await?;
    for round in 1..=30_u8 {
        let mut write = pin!(file.write_at(vec![round; 1000], 0));
        let _ = futures::poll!(write.as_mut());
        for _ in 0..round % 4 {
            yield_now().await;
        }
        // It may also happen later, so that each earlier round's bytes may still come.
        let found = read_from(&file, 0, 1000).await?;
        assert!(found.iter().all(|byte| *byte <= round), "round {round}");
        assert_eq!(found.len(), 1000);
    }
    Ok(())
}

async fn dropped_reads_give_their_leases_back(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.write_all_at(vec![7; 5000], 0).await?;
    for round in 0..30 {
        let lease = buffers::lease(5000).await?;
        let mut read = pin!(file.read_fixed(lease, 0));
        let _ = futures::poll!(read.as_mut());
        for _ in 0..round % 4 {
            yield_now().await;
        }
    }
    while buffers::occupancy().leased > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(file.read_exact_at(vec![0; 5000], 0).await?.1, [7; 5000]);
    Ok(())
}

async fn dropped_opens_leave_nothing_open(place: Place) -> io::Result<()> {
    // That nothing is left open is looked at by the simulation; on Linux other tests count.
    fs::write(place.at("file"), "bytes").await?;
    for round in 0..30 {
        let mut open = pin!(File::open(place.at("file")));
        let _ = futures::poll!(open.as_mut());
        for _ in 0..round % 4 {
            yield_now().await;
        }
    }
    assert_eq!(fs::read(place.at("file")).await?, b"bytes");
    Ok(())
}

async fn a_timeout_ends_what_takes_too_long(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    let begun = Instant::now();
    let late = timeout(Duration::from_millis(20), pending::<io::Result<()>>()).await;
    assert!(late.is_err() && begun.elapsed() >= Duration::from_millis(20));
    let error: io::Error = late.expect_err("it never ends").into();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let long = Duration::from_secs(3600);
    assert_eq!(timeout(long, file.write_all_at("bytes", 0)).await??.0, 5);
    assert_eq!(timeout(Duration::ZERO, async { 7 }).await?, 7);
    let whole = buffers::lease(crate::place::POOL_BYTES).await?;
    let waiting = timeout(Duration::from_millis(5), buffers::lease(1)).await;
    assert!(waiting.is_err());
    drop(whole);
    buffers::lease(1).await?;
    Ok(())
}

async fn a_select_takes_what_is_first(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.write_all_at("bytes", 0).await?;
    for _ in 0..10 {
        let taken = runtime::select! {
            read = file.read_exact_at(vec![0; 5], 0) => read?.1,
            () = sleep(Duration::from_secs(3600)) => unreachable!("an hour is longer"),
        };
        assert_eq!(taken, b"bytes");
        let taken = runtime::select! {
            biased;
            () = pending() => 1,
            () = yield_now() => 2,
            () = sleep(Duration::from_secs(3600)) => 3,
        };
        assert_eq!(taken, 2);
    }
    Ok(())
}

async fn a_task_that_is_aborted_drops_its_operations(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.write_all_at(vec![7; 5000], 0).await?;
    for shard in 0..place.shards {
        let (held, file) = (place.alive.clone(), file.try_clone().await?);
        let task = runtime::spawn_on(shard, || async move {
            let _held = held;
            loop {
                let lease = buffers::lease(5000).await?;
                file.read_exact_fixed(lease, 0).await?;
                if false {
                    return io::Result::Ok(());
                }
            }
        });
        sleep(Duration::from_millis(1)).await;
        task.abort();
        let error = task.await.expect_err("it was aborted");
        assert!(error.is_cancelled() && !error.is_panic());
        assert_eq!(kind(io::Result::<()>::Err(error.into())), ErrorKind::Other);
    }
    while buffers::occupancy().leased > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn a_future_moves_to_another_shard(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.write_all_at(vec![7; 5000], 0).await?;
    for _ in 0..10 {
        let mut read = Box::pin(file.read_exact_at(vec![0; 5000], 0));
        let bytes = match futures::poll!(read.as_mut()) {
            std::task::Poll::Ready(read) => read?.1,
            std::task::Poll::Pending => runtime::spawn_on(place.last_shard(), || read).await??.1,
        };
        assert_eq!(bytes, [7; 5000]);
    }
    Ok(())
}
