//! A clock that a test stops: it stands still, jumps to the next timer, and is moved by hand.

mod common;
mod watched;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use runtime::time::{self, Duration, Instant, Interval, MissedTickBehavior, Sleep};
use runtime::{Builder, Runtime, spawn};
use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task};
use watched::watchdog;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn paused() -> Runtime {
    Builder::new_current_thread().start_paused(true).build().unwrap()
}

#[runtime::test]
async fn the_clock_can_be_paused_in_a_test() {
    time::pause();
    let start = Instant::now();
    std::thread::sleep(ms(2));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[runtime::test]
async fn the_clock_can_be_paused_in_a_task() {
    let task = spawn(async { time::pause() });
    task.await.unwrap();
    let start = Instant::now();
    std::thread::sleep(ms(2));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[runtime::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "in a runtime of one shard; this one has 2")]
async fn the_clock_of_two_shards_can_not_be_paused() {
    time::pause();
}

#[runtime::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_two_shards_can_not_be_paused_in_a_task_either() {
    let task = spawn(async { time::pause() });
    assert!(task.await.unwrap_err().is_panic());
}

#[runtime::test(start_paused = true)]
#[should_panic(expected = "the clock is already paused")]
async fn a_paused_clock_can_not_be_paused() {
    time::pause();
}

#[runtime::test]
#[should_panic(expected = "the clock is not paused")]
async fn a_running_clock_can_not_be_resumed() {
    time::resume();
}

#[runtime::test]
#[should_panic(expected = "the clock is not paused")]
async fn a_running_clock_can_not_be_advanced() {
    time::advance(ms(1)).await;
}

#[test]
#[should_panic(expected = "there is no runtime here")]
fn without_a_runtime_there_is_no_clock_to_pause() {
    time::pause();
}

#[runtime::test(start_paused = true)]
async fn waiting_for_an_hour_takes_no_time() {
    let (start, real) = (Instant::now(), std::time::Instant::now());
    time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(3600));
    assert!(real.elapsed() < Duration::from_secs(60));
}

#[test]
fn paused_time_is_the_same_in_each_run() {
    fn run() -> Vec<Duration> {
        Builder::new_current_thread()
            .start_paused(true)
            .run(async {
                let (start, mut state, mut times) = (Instant::now(), 1u64, Vec::new());
                for _ in 0..10_000 {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                    time::sleep(Duration::from_nanos((state >> 33) % 1_000_000_000)).await;
                    times.push(start.elapsed());
                }
                times
            })
            .unwrap()
    }
    let first = run();
    assert_eq!(first, run());
    assert!(first.is_sorted() && first[9_999] > Duration::from_secs(1000));
}

#[runtime::test(start_paused = true)]
async fn advancing_less_than_the_deadline_leaves_a_polled_sleep_pending() {
    let start = Instant::now();
    let mut sleep = task::spawn(time::sleep_until(start + ms(300)));
    assert_pending!(sleep.poll());
    time::advance(ms(100)).await;
    assert_eq!(start.elapsed(), ms(100));
    assert!(!sleep.is_woken());
    assert_pending!(sleep.poll());
}

#[runtime::test(start_paused = true)]
async fn advancing_less_than_the_deadline_leaves_a_new_sleep_pending() {
    let start = Instant::now();
    time::advance(ms(1)).await;
    let mut sleep = task::spawn(time::sleep_until(start + ms(300)));
    time::advance(ms(100)).await;
    assert_eq!(start.elapsed(), ms(101));
    assert_pending!(sleep.poll());
}

/// Advances the clock within the poll of one future that also has the sleep.
struct AdvancesItself {
    sleep: Pin<Box<Sleep>>,
    advance: Option<Pin<Box<dyn Future<Output = ()>>>>,
    poll_before: bool,
}

impl Future for AdvancesItself {
    type Output = Duration;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Duration> {
        if self.poll_before {
            assert_pending!(self.sleep.as_mut().poll(cx));
            self.poll_before = false;
        }
        let advance = self.advance.get_or_insert_with(|| Box::pin(time::advance(ms(100))));
        if advance.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        assert_pending!(self.sleep.as_mut().poll(cx));
        Poll::Ready(self.sleep.deadline() - Instant::now())
    }
}

#[runtime::test(start_paused = true)]
async fn a_task_may_advance_the_clock_while_it_sleeps() {
    for poll_before in [true, false] {
        let sleep = Box::pin(time::sleep(ms(299)));
        let left = AdvancesItself { sleep, advance: None, poll_before }.await;
        assert_eq!(left, ms(199));
    }
}

fn poll_tick(interval: &mut task::Spawn<Interval>) -> Poll<Instant> {
    interval.enter(|cx, mut interval| interval.poll_tick(cx))
}

#[runtime::test(start_paused = true)]
async fn an_interval_ticks_as_the_clock_is_advanced() {
    let start = Instant::now();
    time::advance(ms(1)).await;
    let mut interval = task::spawn(time::interval_at(start, ms(300)));
    assert_ready_eq!(poll_tick(&mut interval), start);
    assert_pending!(poll_tick(&mut interval));

    time::advance(ms(100)).await;
    assert_pending!(poll_tick(&mut interval));

    time::advance(ms(200)).await;
    assert_ready_eq!(poll_tick(&mut interval), start + ms(300));
    assert_pending!(poll_tick(&mut interval));

    time::advance(ms(400)).await;
    assert_ready_eq!(poll_tick(&mut interval), start + ms(600));
    assert_pending!(poll_tick(&mut interval));

    time::advance(ms(500)).await;
    assert_ready_eq!(poll_tick(&mut interval), start + ms(900));
    assert_ready_eq!(poll_tick(&mut interval), start + ms(1200));
    assert_pending!(poll_tick(&mut interval));
}

#[runtime::test(start_paused = true)]
async fn a_value_that_is_ready_is_not_cut_off_though_its_limit_has_passed() {
    let (sender, value) = runtime::sync::oneshot::channel();
    let mut limited = task::spawn(time::timeout(ms(3), value));
    assert_pending!(limited.poll());
    time::advance(ms(5)).await;
    assert!(limited.is_woken());
    sender.send(7).unwrap();
    assert_ready_eq!(limited.poll(), Ok(Ok(7)));
}

/// When the ticks of a 100 ms interval are due and when they are seen, if other work takes 250 ms
/// after the first.
async fn ticks_after_late_work(behavior: MissedTickBehavior) -> [(Duration, Duration); 5] {
    let start = Instant::now();
    let mut interval = time::interval(ms(100));
    interval.set_missed_tick_behavior(behavior);
    assert_eq!(interval.missed_tick_behavior(), behavior);
    let mut ticks = [(Duration::ZERO, Duration::ZERO); 5];
    for (number, tick) in ticks.iter_mut().enumerate() {
        *tick = (interval.tick().await - start, start.elapsed());
        if number == 0 {
            time::sleep(ms(250)).await;
        }
    }
    ticks
}

#[runtime::test(start_paused = true)]
async fn burst_catches_up_with_the_schedule() {
    let ticks = ticks_after_late_work(MissedTickBehavior::Burst).await;
    let expected = [(0, 0), (100, 250), (200, 250), (300, 300), (400, 400)];
    assert_eq!(ticks, expected.map(|(due, seen)| (ms(due), ms(seen))));
}

#[runtime::test(start_paused = true)]
async fn delay_begins_a_new_schedule() {
    let ticks = ticks_after_late_work(MissedTickBehavior::Delay).await;
    let expected = [(0, 0), (100, 250), (350, 350), (450, 450), (550, 550)];
    assert_eq!(ticks, expected.map(|(due, seen)| (ms(due), ms(seen))));
}

#[runtime::test(start_paused = true)]
async fn skip_leaves_missed_ticks_out() {
    let ticks = ticks_after_late_work(MissedTickBehavior::Skip).await;
    let expected = [(0, 0), (100, 250), (300, 300), (400, 400), (500, 500)];
    assert_eq!(ticks, expected.map(|(due, seen)| (ms(due), ms(seen))));
}

#[runtime::test(start_paused = true)]
async fn an_interval_can_be_reset() {
    let start = Instant::now();
    let mut interval = time::interval(ms(100));
    assert_eq!(interval.period(), ms(100));
    assert_eq!(interval.tick().await, start);
    time::sleep(ms(50)).await;
    interval.reset();
    assert_eq!(interval.tick().await, start + ms(150));
    interval.reset_immediately();
    assert_eq!(interval.tick().await, start + ms(150));
    interval.reset_after(ms(20));
    assert_eq!(interval.tick().await, start + ms(170));
    interval.reset_at(start + ms(1000));
    assert_eq!(interval.tick().await, start + ms(1000));
    assert_eq!(interval.tick().await, start + ms(1100));
}

#[runtime::test(start_paused = true)]
async fn the_clock_advances_by_exactly_what_it_is_told() {
    for micros in [1000, 1000, 51_592, 1, 3_141_592, 3_123_456] {
        let start = Instant::now();
        time::advance(Duration::from_micros(micros)).await;
        assert_eq!(start.elapsed(), Duration::from_micros(micros));
    }
    let start = Instant::now();
    time::advance(Duration::ZERO).await;
    time::advance(Duration::from_nanos(1)).await;
    assert_eq!(start.elapsed(), Duration::from_nanos(1));
}

#[runtime::test(start_paused = true)]
async fn a_long_sleep_survives_a_step_of_less_than_a_millisecond() {
    let start = Instant::now();
    time::advance(ms(1)).await;
    let mut sleep = task::spawn(time::sleep_until(start + Duration::from_secs(60)));
    assert_pending!(sleep.poll());
    time::advance(Duration::from_micros(51_592)).await;
    assert!(!sleep.is_woken());
    assert_pending!(sleep.poll());
}

#[runtime::test(start_paused = true)]
async fn a_due_timer_has_fired_when_advance_returns() {
    let mut sleep = task::spawn(time::sleep(ms(1)));
    assert_pending!(sleep.poll());
    time::advance(Duration::from_micros(250)).await;
    assert_pending!(sleep.poll());
    time::advance(Duration::from_micros(1500)).await;
    assert!(sleep.is_woken());
    assert_ready!(sleep.poll());
}

#[runtime::test(start_paused = true)]
async fn a_timer_fires_at_the_step_that_reaches_it_exactly() {
    let mut sleep = task::spawn(time::sleep(ms(1)));
    assert_pending!(sleep.poll());
    for _ in 0..3 {
        time::advance(Duration::from_micros(250)).await;
        assert!(!sleep.is_woken());
        assert_pending!(sleep.poll());
    }
    time::advance(Duration::from_micros(250)).await;
    assert!(sleep.is_woken());
    assert_ready!(sleep.poll());
}

#[runtime::test(start_paused = true)]
async fn timers_fire_in_the_order_of_their_deadlines() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = [300, 100, 400, 200]
        .map(|millis| {
            let order = order.clone();
            spawn(async move {
                time::sleep(ms(millis)).await;
                order.lock().unwrap().push(millis);
            })
        })
        .into();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [100, 200, 300, 400]);
}

#[runtime::test(start_paused = true)]
async fn time_does_not_run_past_work_on_another_thread() {
    let start = Instant::now();
    let blocking = async {
        runtime::spawn_blocking(|| std::thread::sleep(ms(20))).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    };
    runtime::join!(blocking, time::sleep(ms(100)));
    assert_eq!(start.elapsed(), ms(100));
}

#[runtime::test(start_paused = true)]
async fn time_does_not_run_past_a_file_operation() {
    let start = Instant::now();
    let reading = async {
        runtime::fs::read("/proc/self/status").await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    };
    runtime::join!(reading, time::sleep(ms(100)));
    assert_eq!(start.elapsed(), ms(100));
}

#[runtime::test(start_paused = true)]
async fn a_resumed_clock_runs_on_from_where_it_stood() {
    let start = Instant::now();
    time::advance(Duration::from_secs(10)).await;
    time::resume();
    assert!(start.elapsed() >= Duration::from_secs(10));
    let resumed = Instant::now();
    time::sleep(ms(2)).await;
    assert!(resumed.elapsed() >= ms(2));
    time::pause();
    let again = Instant::now();
    assert!(again >= resumed + ms(2));
    time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(again.elapsed(), Duration::from_secs(3600));
}

#[test]
fn a_thread_in_block_on_has_the_paused_clock_too() {
    for _ in 0..200 {
        let runtime = paused();
        let waited = runtime.block_on(async {
            let start = Instant::now();
            time::sleep(Duration::from_secs(3600)).await;
            time::advance(ms(5)).await;
            start.elapsed()
        });
        assert_eq!(waited, Duration::from_secs(3600) + ms(5));
    }
}

#[test]
fn time_stands_still_while_a_thread_in_block_on_works() {
    let runtime = paused();
    let late = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let flag = late.clone();
        let task = spawn(async move {
            time::sleep(ms(100)).await;
            flag.store(true, Ordering::SeqCst);
        });
        std::thread::sleep(ms(20));
        assert!(!late.load(Ordering::SeqCst));
        task.await.unwrap();
    });
    assert!(late.load(Ordering::SeqCst));
}

#[test]
fn a_task_moves_time_while_a_thread_in_block_on_works() {
    let _watchdog = watchdog("time that a task moves", 20);
    let runtime = paused();
    runtime.block_on(async {
        let moved = spawn(async {
            let begin = Instant::now();
            time::advance(ms(5)).await;
            begin.elapsed()
        });
        // This thread waits for nothing, so it never lets go of the clock.
        while !moved.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(moved.await.unwrap(), ms(5));
    });
}

#[runtime::test(start_paused = true)]
async fn a_limit_out_of_range_is_not_a_point_that_time_jumps_to() {
    let start = Instant::now();
    let forever = time::timeout(Duration::MAX, std::future::pending::<()>());
    runtime::select! {
        _ = forever => panic!("there is no such limit"),
        () = time::sleep(ms(10)) => {}
    }
    assert_eq!(start.elapsed(), ms(10));
}

#[test]
fn a_clock_that_is_moved_by_600_years_stands_at_the_end_of_time() {
    const YEARS: Duration = Duration::from_secs(600 * 365 * 86_400);
    let _watchdog = watchdog("the end of time", 20);
    let mut builder = Builder::new_current_thread();
    builder.start_paused(true);
    builder
        .run(async {
            let sleeping = spawn(time::sleep(Duration::from_secs(3600)));
            let begin = Instant::now();
            time::advance(YEARS).await;
            assert_eq!(begin.elapsed(), YEARS);
            sleeping.await.unwrap();
            // From here on all times have come.
            time::sleep(Duration::from_secs(3600)).await;
            spawn(time::sleep(Duration::from_secs(3600))).await.unwrap();
            let limit = Duration::from_secs(1);
            assert!(time::timeout(limit, std::future::pending::<()>()).await.is_err());
            time::advance(YEARS).await;
        })
        .unwrap();
}
