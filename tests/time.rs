//! Timers on the system's clock: never early, late within bounds, wherever they are polled and
//! dropped.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures::executor;
use futures::future::join_all;
use runtime::task::consume_budget;
use runtime::time::error::Elapsed;
use runtime::time::{
    self, Duration, Instant, Interval, Sleep, Timeout, interval, sleep, sleep_until, timeout,
    timeout_at,
};
use runtime::{Builder, Runtime};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn shards(shards: usize) -> Runtime {
    Builder::new_multi_thread().shards(shards).build().unwrap()
}

/// A number below `limit`, from a generator whose seed the failing test's output shows.
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let seed = std::process::id() as u64 ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        println!("seed: {seed}");
        Random(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// A waker that counts, and whose own count shows who still has it.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Count>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Waits until `is_true`, which other threads bring about.
fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        thread::yield_now();
    }
}

#[test]
fn timers_are_send_sync_and_static() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Sleep>();
    check::<Interval>();
    check::<Timeout<Sleep>>();
    check::<Instant>();
}

#[test]
fn sleeps_are_never_early_and_a_second_late_at_most() {
    let sleeps = match std::env::var("RINGHOLD_SLEEPS") {
        Ok(sleeps) => sleeps.parse().expect("RINGHOLD_SLEEPS is a number"),
        Err(_) => 10_000,
    };
    let mut random = Random::seeded();
    let runtime = shards(2);
    let worst = runtime.block_on(async {
        let tasks: Vec<_> = (0..sleeps)
            .map(|number| {
                let duration = Duration::from_nanos(random.below(300_000_000));
                runtime::spawn_on(number % 2, move || async move {
                    let start = std::time::Instant::now();
                    sleep(duration).await;
                    let slept = start.elapsed();
                    assert!(slept >= duration, "{duration:?} took {slept:?}");
                    slept - duration
                })
            })
            .collect();
        let mut worst = Duration::ZERO;
        for task in tasks {
            worst = worst.max(task.await.unwrap());
        }
        worst
    });
    println!("{sleeps} sleeps, the latest by {worst:?}");
    assert!(worst < Duration::from_secs(1), "a sleep was late by {worst:?}");
}

/// Time limits and intervals are no earlier than sleeps, polled by tasks of every shard.
#[test]
fn timeouts_and_ticks_are_never_early() {
    let mut random = Random::seeded();
    let tasks = (0..3_000).map(|number| {
        let duration = Duration::from_nanos(1 + random.below(100_000_000));
        (number, duration)
    });
    let tasks: Vec<_> = tasks.collect();
    shards(2).block_on(async {
        let tasks = tasks.into_iter().map(|(number, duration)| {
            runtime::spawn_on(number % 2, move || async move {
                let start = std::time::Instant::now();
                let ends = match number % 3 {
                    0 => timeout(duration, pending::<()>()).await.is_err(),
                    1 => timeout_at(Instant::now() + duration, pending::<()>()).await.is_err(),
                    _ => {
                        let mut ticks = interval(duration);
                        // The first one is at once.
                        ticks.tick().await;
                        ticks.tick().await;
                        true
                    }
                };
                let took = start.elapsed();
                assert!(ends && took >= duration, "{number}: {duration:?} took {took:?}");
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

#[runtime::test]
async fn a_sleep_that_is_due_is_ready_at_once() {
    let now = Instant::now();
    for mut sleep in [sleep(Duration::ZERO), sleep_until(now)] {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sleep.is_elapsed());
        assert_eq!(Pin::new(&mut sleep).poll(&mut cx), Poll::Ready(()));
    }
}

#[runtime::test]
async fn a_sleep_out_of_range_is_far_away() {
    let now = Instant::now();
    let mut sleep = sleep(Duration::MAX);
    assert!(sleep.deadline() > now + Duration::from_secs(29 * 365 * 24 * 3600));
    assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(!sleep.is_elapsed());
}

/// Runs `busy` beside a task of the same shard, which ends it.
async fn lets_others_run<F: Future>(busy: impl Fn() -> F) {
    let done = Arc::new(AtomicBool::new(false));
    let other = runtime::task::spawn_local({
        let done = done.clone();
        async move { done.store(true, Ordering::SeqCst) }
    });
    let mut rounds = 0u64;
    while !done.load(Ordering::SeqCst) {
        busy().await;
        rounds += 1;
        assert!(rounds < 1_000_000, "the other task never ran");
    }
    other.await.unwrap();
}

#[runtime::test]
async fn a_loop_over_due_sleeps_lets_others_run() {
    lets_others_run(|| sleep(Duration::ZERO)).await;
}

#[runtime::test]
async fn a_loop_over_passed_limits_lets_others_run() {
    lets_others_run(|| timeout(Duration::ZERO, pending::<()>())).await;
}

#[runtime::test]
async fn an_interval_that_is_behind_lets_others_run() {
    let interval = Mutex::new(time::interval_at(
        Instant::now() - Duration::from_secs(1),
        Duration::from_nanos(1),
    ));
    let tick = || poll_fn(|cx| interval.lock().unwrap().poll_tick(cx));
    lets_others_run(tick).await;
}

#[runtime::test]
async fn a_value_that_is_ready_is_not_cut_off() {
    let passed = Instant::now();
    assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
    assert_eq!(timeout_at(passed, async { 2 }).await, Ok(2));
}

#[runtime::test]
async fn a_limit_that_passes_is_an_error_that_says_so() {
    let start = Instant::now();
    let elapsed: Elapsed = timeout(ms(2), pending::<()>()).await.unwrap_err();
    assert!(start.elapsed() >= ms(2));
    assert_eq!(elapsed.to_string(), "deadline has elapsed");
    assert_eq!(io::Error::from(elapsed).kind(), io::ErrorKind::TimedOut);
}

#[runtime::test]
async fn a_value_that_uses_up_the_budget_does_not_put_its_limit_off() {
    let greedy = async {
        loop {
            consume_budget().await;
        }
    };
    let start = Instant::now();
    assert!(timeout(ms(5), greedy).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[runtime::test]
async fn a_future_survives_its_limit_if_it_was_lent() {
    let (sender, mut value) = runtime::sync::oneshot::channel();
    assert!(timeout(ms(1), &mut value).await.is_err());
    sender.send(4).unwrap();
    assert_eq!(value.await, Ok(4));
    let mut limited = timeout(Duration::MAX, std::future::ready(5));
    assert_eq!(limited.get_ref().clone().into_inner(), 5);
    *limited.get_mut() = std::future::ready(6);
    assert_eq!(limited.into_inner().await, 6);
}

#[test]
#[should_panic(expected = "`period` must be non-zero.")]
fn an_interval_of_nothing_is_refused() {
    let _ = interval(Duration::ZERO);
}

#[runtime::test]
async fn an_interval_keeps_to_its_schedule() {
    let mut interval = interval(ms(2));
    let first = interval.tick().await;
    for number in 1..20 {
        assert_eq!(interval.tick().await - first, ms(2) * number);
        assert!(first.elapsed() >= ms(2) * number);
    }
}

#[runtime::test]
async fn a_reset_wakes_who_waits_at_the_new_deadline() {
    let waiting = Arc::new(Mutex::new(Box::pin(sleep(Duration::from_secs(3600)))));
    let waiter = runtime::task::spawn_local({
        let waiting = waiting.clone();
        poll_fn(move |cx| waiting.lock().unwrap().as_mut().poll(cx))
    });
    runtime::task::yield_now().await;
    let deadline = Instant::now() + ms(2);
    waiting.lock().unwrap().as_mut().reset(deadline);
    timeout(Duration::from_secs(20), waiter).await.unwrap().unwrap();
    assert!(Instant::now() >= deadline);
}

#[test]
fn a_reset_wakes_who_waits_also_from_elsewhere() {
    let runtime = shards(2);
    // Who polls: a shard or the thread in `block_on`; who resets: the other one.
    for poll_on_shard in [true, false] {
        let waiting = Arc::new(Mutex::new(Box::pin(sleep(Duration::from_secs(3600)))));
        let (polled, was_polled) = mpsc::channel();
        let waiter = {
            let waiting = waiting.clone();
            poll_fn(move |cx| {
                let result = waiting.lock().unwrap().as_mut().poll(cx);
                let _ = polled.send(());
                result
            })
        };
        let reset = move || {
            was_polled.recv().unwrap();
            let now = Instant::now();
            waiting.lock().unwrap().as_mut().reset(now + ms(3));
            now + ms(3)
        };
        let deadline = if poll_on_shard {
            let task = runtime.spawn(waiter);
            let deadline = runtime.block_on(async { reset() });
            runtime.block_on(timeout(Duration::from_secs(20), task)).unwrap().unwrap();
            deadline
        } else {
            let task = runtime.spawn(async move { reset() });
            runtime.block_on(timeout(Duration::from_secs(20), waiter)).unwrap();
            runtime.block_on(task).unwrap()
        };
        assert!(Instant::now() >= deadline);
    }
}

/// A sleep of an hour that shard 0 has polled with the waker.
fn polled_on_a_shard(runtime: &Runtime, count: &Arc<Count>) -> Sleep {
    let waker = Waker::from(count.clone());
    let poll_once = move || async move {
        let mut polled = sleep(Duration::from_secs(3600));
        assert!(Pin::new(&mut polled).poll(&mut Context::from_waker(&waker)).is_pending());
        [polled]
    };
    let [polled] = runtime.block_on(async { runtime::spawn_on(0, poll_once).await.unwrap() });
    polled
}

#[test]
fn a_timer_that_is_dropped_elsewhere_leaves_its_wheel() {
    let runtime = shards(2);
    let count = Arc::new(Count::default());
    let has_gone = || wait_until("the waker is freed", || Arc::strong_count(&count) == 1);

    let on_thread = polled_on_a_shard(&runtime, &count);
    assert_eq!(Arc::strong_count(&count), 2);
    thread::spawn(move || drop(on_thread)).join().unwrap();
    has_gone();

    let on_shard = polled_on_a_shard(&runtime, &count);
    let dropped = runtime
        .block_on(async { runtime::spawn_on(1, move || async move { drop(on_shard) }).await });
    dropped.unwrap();
    has_gone();

    let after_the_end = polled_on_a_shard(&runtime, &count);
    drop(runtime);
    assert_eq!(Arc::strong_count(&count), 1);
    drop(after_the_end);
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
}

#[test]
fn a_timer_moves_to_the_shard_that_polls_it() {
    let runtime = shards(2);
    for _ in 0..100 {
        let count = Arc::new(Count::default());
        let mut moved = polled_on_a_shard(&runtime, &count);
        let task = async move {
            let deadline = Instant::now() + Duration::from_micros(500);
            Pin::new(&mut moved).reset(deadline);
            (&mut moved).await;
            assert!(Instant::now() >= deadline);
        };
        let task = runtime.block_on(async { runtime::spawn_on(1, move || task).await });
        task.unwrap();
        wait_until("the first waker is freed", || Arc::strong_count(&count) == 1);
    }
}

#[test]
fn a_thread_in_block_on_sleeps_and_has_limits() {
    let runtime = shards(2);
    runtime.block_on(async {
        let start = Instant::now();
        let sleeps = (0..1000u64).map(|number| async move {
            let deadline = start + Duration::from_micros(number * 20);
            sleep_until(deadline).await;
            assert!(Instant::now() >= deadline);
        });
        join_all(sleeps).await;
        assert!(timeout(ms(2), pending::<()>()).await.is_err());
        assert_eq!(timeout(Duration::from_secs(3600), async { 7 }).await, Ok(7));
        let mut interval = interval(ms(1));
        let first = interval.tick().await;
        assert_eq!(interval.tick().await - first, ms(1));
    });
}

#[test]
fn a_timer_dropped_in_block_on_leaves_its_wheel() {
    let runtime = shards(1);
    let count = Arc::new(Count::default());
    let _entered = runtime.enter();
    for _ in 0..1000 {
        let mut sleep = sleep(Duration::from_secs(3600));
        let waker = Waker::from(count.clone());
        assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&count), 1);
    drop(runtime);
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
}

#[test]
fn another_executor_s_thread_sleeps_where_a_runtime_is_entered() {
    let runtime = shards(1);
    let _entered = runtime.enter();
    let start = Instant::now();
    executor::block_on(async {
        for _ in 0..300 {
            sleep(Duration::ZERO).await;
        }
        sleep(ms(2)).await;
    });
    assert!(start.elapsed() >= ms(2));
}

#[test]
fn a_timer_carried_from_block_on_to_a_shard_and_back_still_fires() {
    let runtime = shards(2);
    let poll_once = |sleep: &mut Sleep| {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(sleep).poll(&mut cx);
    };
    runtime.block_on(async {
        let mut carried = sleep(ms(50));
        let deadline = carried.deadline();
        poll_once(&mut carried);
        for shard in [0, 1, 0] {
            let task = runtime::spawn_on(shard, move || async move {
                poll_once(&mut carried);
                [carried]
            });
            [carried] = task.await.unwrap();
        }
        carried.await;
        assert!(Instant::now() >= deadline);
    });
}

#[test]
#[should_panic(expected = "there is no runtime here")]
fn without_a_runtime_a_sleep_that_has_to_wait_panics() {
    executor::block_on(sleep(Duration::from_secs(3600)));
}

#[test]
fn a_thread_that_sleeps_hears_of_the_runtime_s_end() {
    let runtime = shards(2);
    let handle = runtime.handle().clone();
    let (started, start) = mpsc::channel();
    let sleeper = thread::spawn(move || {
        handle.block_on(async {
            started.send(()).unwrap();
            sleep(Duration::from_secs(3600)).await;
        });
    });
    start.recv().unwrap();
    drop(runtime);
    let payload = sleeper.join().unwrap_err();
    let message = payload.downcast_ref::<&str>().expect("a message");
    assert_eq!(*message, "the runtime shut down while a thread outside of it waited for a timer");
}

#[test]
fn instants_are_the_system_s_and_compute_like_them() {
    let std = std::time::Instant::now();
    let instant = Instant::from_std(std);
    assert_eq!(std::time::Instant::from(instant), std);
    assert_eq!(Instant::from(std).into_std(), std);
    assert_eq!(instant.checked_add(Duration::MAX), None);
    assert_eq!(instant.checked_sub(Duration::MAX), None);
    let mut later = instant;
    later += ms(3);
    assert_eq!(later.duration_since(instant), ms(3));
    assert_eq!(later.checked_duration_since(instant), Some(ms(3)));
    assert_eq!(instant.checked_duration_since(later), None);
    assert_eq!(later - ms(3), instant);
    assert_eq!(instant - later, Duration::ZERO);
    later -= ms(3);
    assert_eq!(later, instant);
    assert!(Instant::now() >= instant);
}
