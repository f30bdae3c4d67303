//! The pool: waiting for it, growing, freezing, and crossing shards.

use std::io::{self, ErrorKind};
use std::pin::pin;

use runtime::buffers::{self, LeaseErrorKind};
use runtime::fs::{self, OpenOptions};
use runtime::task::yield_now;

use crate::place::{POOL_BYTES, Place, kind};

on_both_kernels! {
    the_pool_grows_up_to_its_limit,
    who_waits_is_served_in_turn,
    who_stops_waiting_is_not_served,
    frozen_memory_is_shared_and_limited,
    leases_cross_shards,
    leases_are_cut_and_written_in_parts,
}

/// What one arena gives.
const ARENA_BYTES: usize = POOL_BYTES / 4;

async fn the_pool_grows_up_to_its_limit(_: Place) -> io::Result<()> {
    let mut leases = Vec::new();
    for count in 1..=4 {
        leases.push(buffers::lease(ARENA_BYTES).await?);
        assert_eq!(buffers::occupancy().arenas, count);
    }
    let error = buffers::try_lease(1).expect_err("everything is out");
    assert_eq!(error.kind(), LeaseErrorKind::Full);
    let error = buffers::lease(POOL_BYTES + 1).await.expect_err("it is more than there can be");
    assert_eq!(error.kind(), LeaseErrorKind::TooLarge);
    assert_eq!(buffers::occupancy().leased, POOL_BYTES);
    drop(leases);
    assert_eq!(buffers::occupancy().leased, 0);
    // One that takes everything needs the small arenas out of its way.
    let whole = buffers::lease(POOL_BYTES).await?;
    assert_eq!(whole.capacity(), POOL_BYTES);
    Ok(())
}

async fn who_waits_is_served_in_turn(_: Place) -> io::Result<()> {
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(buffers::lease(ARENA_BYTES).await?);
    }
    let mut first = pin!(buffers::lease(ARENA_BYTES));
    let mut second = pin!(buffers::lease(4096));
    assert!(futures::poll!(first.as_mut()).is_pending());
    assert!(futures::poll!(second.as_mut()).is_pending());
    assert_eq!(buffers::occupancy().waiters, 2);
    // Nobody overtakes who waits.
    assert_eq!(kind(buffers::try_lease(4096)), ErrorKind::WouldBlock);
    held.pop();
    let first = first.await?;
    assert!(futures::poll!(second.as_mut()).is_pending());
    drop(first);
    assert_eq!(second.await?.capacity(), 4096);
    assert_eq!(buffers::occupancy().waiters, 0);
    Ok(())
}

async fn who_stops_waiting_is_not_served(_: Place) -> io::Result<()> {
    let whole = buffers::lease(POOL_BYTES).await?;
    {
        let mut dropped = pin!(buffers::lease(POOL_BYTES));
        assert!(futures::poll!(dropped.as_mut()).is_pending());
    }
    let mut waiting = pin!(buffers::lease(100));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    assert_eq!(buffers::occupancy().waiters, 1);
    drop(whole);
    assert_eq!(waiting.await?.capacity(), 100);
    Ok(())
}

async fn frozen_memory_is_shared_and_limited(place: Place) -> io::Result<()> {
    let mut lease = buffers::lease(ARENA_BYTES).await?;
    lease.resize(ARENA_BYTES, 7);
    let frozen = lease.freeze().map_err(io::Error::from)?;
    let mut second = buffers::lease(ARENA_BYTES).await?;
    second.resize(ARENA_BYTES, 8);
    let second = second.freeze().map_err(io::Error::from)?;
    let mut third = buffers::lease(4096).await?;
    third.extend_from_slice(b"third");
    // Half of the pool is frozen, which is all that may be.
    let failed = third.freeze().expect_err("the share is used up");
    assert_eq!(&failed.into_lease()[..], b"third");
    drop(second);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).open(place.at("file")).await?;
    let parts = [frozen.clone().slice(..1000), frozen.clone().slice(5000..6000)];
    for (index, part) in parts.into_iter().enumerate() {
        file.write_all_fixed(part, 1000 * index as u64).await?;
    }
    assert!(fs::read(place.at("file")).await? == [7; 2000], "the bytes differ");
    assert_eq!(buffers::occupancy().frozen, ARENA_BYTES);
    drop(frozen);
    assert_eq!(buffers::occupancy().frozen, 0);
    Ok(())
}

async fn leases_cross_shards(place: Place) -> io::Result<()> {
    let path = place.at("file");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).open(&path).await?;
    for round in 0..10_u8 {
        let mut lease = buffers::lease(5000).await?;
        lease.resize(5000, round);
        let writing = file.write_all_fixed(lease, 0);
        let there = runtime::spawn_on(place.last_shard(), || writing);
        let (_, lease) = there.await??;
        let (_, lease) = file.read_exact_fixed(lease, 0).await?;
        assert_eq!(&lease[..], [round; 5000]);
        // Its pages come back from the other shard.
        runtime::spawn_on(place.last_shard(), || async move { drop(lease) }).await?;
    }
    while buffers::occupancy().leased > 0 {
        yield_now().await;
    }
    Ok(())
}

async fn leases_are_cut_and_written_in_parts(place: Place) -> io::Result<()> {
    let file = fs::File::create(place.at("file")).await?;
    let mut rest = buffers::lease(8192).await?;
    rest.extend_from_slice(b"headbody");
    let head = rest.split_to(4);
    let (written, too) =
        futures::join!(file.write_all_fixed(rest, 4), file.write_all_fixed(head, 0));
    assert_eq!((written?.0, too?.0), (4, 4));
    assert_eq!(fs::read(place.at("file")).await?, b"headbody");
    assert_eq!(buffers::occupancy().leased, 0);
    Ok(())
}
