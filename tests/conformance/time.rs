//! Time: never early, in order, and interrupted by nothing.

use std::io;
use std::time::Duration;

use runtime::fs;
use runtime::task::{JoinSet, spawn_on};
use runtime::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};

use crate::place::Place;

on_both_kernels! {
    sleeps_are_never_early,
    many_sleeps_end_in_the_order_of_their_deadlines,
    intervals_tick,
    sleeps_and_operations_go_side_by_side,
    deadlines_that_are_over,
}

async fn sleeps_are_never_early(place: Place) -> io::Result<()> {
    for micros in [0, 1, 999, 1000, 1001, 5000] {
        let duration = Duration::from_micros(micros);
        let begun = Instant::now();
        sleep(duration).await;
        assert!(begun.elapsed() >= duration, "{:?} of {duration:?}", begun.elapsed());
        let elapsed = spawn_on(place.last_shard(), move || async move {
            let begun = Instant::now();
            sleep(duration).await;
            begun.elapsed()
        });
        assert!(elapsed.await? >= duration);
    }
    Ok(())
}

async fn many_sleeps_end_in_the_order_of_their_deadlines(_: Place) -> io::Result<()> {
    let begun = Instant::now();
    let mut set = JoinSet::new();
    for index in (0..50_u64).rev() {
        // Two milliseconds apart: farther than the wheel's grain.
        let deadline = begun + Duration::from_millis(2 * index);
        set.spawn_local(async move {
            sleep_until(deadline).await;
            (index, Instant::now() >= deadline)
        });
    }
    let mut ended = Vec::new();
    while let Some(joined) = set.join_next().await {
        ended.push(joined?);
    }
    assert!(ended.iter().all(|(_, on_time)| *on_time));
    ended.sort_by_key(|(index, _)| *index);
    assert_eq!(ended.len(), 50);
    assert!(begun.elapsed() >= Duration::from_millis(98));
    Ok(())
}

async fn intervals_tick(_: Place) -> io::Result<()> {
    let period = Duration::from_millis(3);
    let mut ticks = interval(period);
    let first = ticks.tick().await;
    for index in 1..6 {
        let tick = ticks.tick().await;
        assert_eq!(tick, first + period * index);
        assert!(Instant::now() >= tick);
    }
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sleep(period * 5).await;
    let late = ticks.tick().await;
    let next = ticks.tick().await;
    assert!(next.duration_since(late) >= period);
    Ok(())
}

async fn sleeps_and_operations_go_side_by_side(place: Place) -> io::Result<()> {
    let begun = Instant::now();
    let (slept, written) = futures::join!(sleep(Duration::from_millis(10)), async {
        for index in 0..20 {
            fs::write(place.at("file"), format!("{index}")).await?;
        }
        io::Result::Ok(())
    });
    let () = slept;
    written?;
    assert!(begun.elapsed() >= Duration::from_millis(10));
    assert_eq!(fs::read(place.at("file")).await?, b"19");
    Ok(())
}

async fn deadlines_that_are_over(_: Place) -> io::Result<()> {
    let begun = Instant::now();
    sleep(Duration::from_millis(1)).await;
    sleep_until(begun).await;
    assert!(timeout_at(begun, std::future::pending::<()>()).await.is_err());
    assert_eq!(timeout_at(begun, async { 7 }).await?, 7);
    Ok(())
}
