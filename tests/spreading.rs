//! How work and values are spread over the shards.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use ringhold_sim::{HostConfig, Simulation};
use runtime::sync::oneshot;
use runtime::task::{ShardLocal, on_every_shard, spawn_balanced, spawn_on};
use runtime::{Builder, Runtime, spawn};

fn shards(shards: usize) -> Runtime {
    Builder::new_multi_thread().shards(shards).build().unwrap()
}

/// Tasks that run until they are told to end; each notes its thread.
fn hold(
    runtime: &Runtime,
    tasks: usize,
) -> (Vec<oneshot::Sender<()>>, Arc<Mutex<Vec<thread::ThreadId>>>) {
    let threads = Arc::new(Mutex::new(Vec::new()));
    let (began, begun) = mpsc::channel();
    let mut ends = Vec::new();
    for _ in 0..tasks {
        let (end, ended) = oneshot::channel::<()>();
        let (threads, began) = (threads.clone(), began.clone());
        let _detached = runtime.handle().spawn_balanced(async move {
            threads.lock().unwrap().push(thread::current().id());
            began.send(()).unwrap();
            let _ = ended.await;
        });
        ends.push(end);
    }
    drop(began);
    assert_eq!(begun.iter().take(tasks).count(), tasks);
    (ends, threads)
}

#[test]
fn balanced_tasks_are_spread_evenly_though_they_are_spawned_at_once() {
    let runtime = shards(3);
    let (ends, threads) = hold(&runtime, 300);
    let threads = threads.lock().unwrap().clone();
    let mut counts: Vec<usize> = Vec::new();
    let mut known: Vec<thread::ThreadId> = Vec::new();
    for thread in threads {
        match known.iter().position(|other| *other == thread) {
            Some(index) => counts[index] += 1,
            None => {
                known.push(thread);
                counts.push(1);
            }
        }
    }
    assert_eq!(counts, [100, 100, 100]);
    assert_eq!(runtime.handle().metrics().num_alive_tasks(), 300);
    drop(ends);
}

#[test]
fn balanced_tasks_avoid_the_shard_that_has_many() {
    let runtime = shards(2);
    let (first, second) = runtime.block_on(async {
        let (mut ends, mut on_first) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            let (end, ended) = oneshot::channel::<()>();
            ends.push(end);
            on_first.push(spawn_on(0, || async move { ended.await.is_err() }));
        }
        let id_of = |shard| spawn_on(shard, || async { thread::current().id() });
        let (first, second) = (id_of(0).await.unwrap(), id_of(1).await.unwrap());
        let mut threads = Vec::new();
        for _ in 0..40 {
            threads.push(spawn_balanced(async { thread::current().id() }).await.unwrap());
        }
        assert!(threads.iter().all(|thread| *thread == second), "one ran on the busy shard");
        drop(ends);
        for task in on_first {
            assert!(task.await.unwrap());
        }
        (first, second)
    });
    assert_ne!(first, second);
}

#[test]
fn a_balanced_task_of_a_runtime_that_has_ended_is_cancelled() {
    let runtime = shards(2);
    let handle = runtime.handle().clone();
    drop(runtime);
    let task = handle.spawn_balanced(async { 1 });
    let error = futures::executor::block_on(task).unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(handle.metrics().num_alive_tasks(), 0);
}

#[test]
fn something_is_spawned_on_every_shard_in_their_order() {
    let runtime = shards(3);
    let numbers = runtime.block_on(async {
        let mut numbers = Vec::new();
        for handle in on_every_shard(|shard| async move { (shard, Rc::new(shard)).0 }) {
            numbers.push(handle.await.unwrap());
        }
        numbers
    });
    assert_eq!(numbers, [0, 1, 2]);
}

static COUNT: ShardLocal<Cell<u32>> = ShardLocal::new(|| Cell::new(40));

#[test]
fn each_shard_has_a_value_of_its_own_until_it_ends() {
    for _ in 0..2 {
        let runtime = shards(2);
        let add = |by: u32| COUNT.with(|count| count.replace(count.get() + by));
        let counts = runtime.block_on(async {
            spawn_on(0, move || async move { add(1) }).await.unwrap();
            spawn_on(1, move || async move { add(10) }).await.unwrap();
            let first = spawn_on(0, move || async move { add(0) }).await.unwrap();
            let second = spawn_on(1, move || async move { add(0) }).await.unwrap();
            [first, second]
        });
        assert_eq!(counts, [41, 50]);
    }
    assert_eq!(COUNT.try_with(Cell::get), None);
}

#[test]
fn a_value_is_asked_for_off_the_shards_in_vain() {
    let payload = catch_unwind(|| COUNT.with(Cell::get)).unwrap_err();
    let message = payload.downcast_ref::<&str>().unwrap();
    assert!(message.contains("there is no shard on this thread"), "{message}");
}

/// Notes its drop, and whether another value was there then.
struct Last(Arc<AtomicUsize>);

static LAST: ShardLocal<RefCell<Option<Last>>> = ShardLocal::new(|| RefCell::new(None));
static ANOTHER: ShardLocal<u8> = ShardLocal::new(|| 7);

impl Drop for Last {
    fn drop(&mut self) {
        let other = ANOTHER.with(|value| usize::from(*value));
        self.0.fetch_add(other, Ordering::SeqCst);
        panic!("meant");
    }
}

#[test]
fn values_are_dropped_on_their_shards_and_may_panic_and_make_others() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let runtime = shards(2);
    runtime.block_on(async {
        let noted = dropped.clone();
        let put = on_every_shard(move |_| {
            let noted = noted.clone();
            async move { LAST.with(|last| *last.borrow_mut() = Some(Last(noted))) }
        });
        for put in put {
            put.await.unwrap();
        }
    });
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(runtime);
    assert_eq!(dropped.load(Ordering::SeqCst), 14);
}

#[test]
fn a_value_that_asks_for_itself_while_it_is_made_panics() {
    static DEPTH: ShardLocal<Cell<u32>> = ShardLocal::new(|| Cell::new(0));
    static TWICE: ShardLocal<u32> = ShardLocal::new(|| {
        let depth = DEPTH.with(|depth| depth.replace(depth.get() + 1));
        if depth == 0 { TWICE.with(|value| *value) } else { depth }
    });
    let runtime = Builder::new_current_thread().build().unwrap();
    let error =
        runtime.block_on(async { spawn(async { TWICE.with(|value| *value) }).await.unwrap_err() });
    let payload = error.into_panic();
    let message = payload.downcast_ref::<&str>().unwrap();
    assert!(message.contains("asked for that very value"), "{message}");
}

#[test]
fn simulated_shards_on_one_thread_have_a_value_each() {
    let mut simulation = Simulation::new(3);
    let host = simulation.host(HostConfig::new("store").shards(2));
    simulation.start(host, || async {
        let counts = on_every_shard(|shard| async move {
            COUNT.with(|count| count.set(shard as u32));
        });
        for count in counts {
            count.await.unwrap();
        }
        for (shard, count) in
            on_every_shard(|_| async { COUNT.with(Cell::get) }).into_iter().enumerate()
        {
            assert_eq!(count.await.unwrap(), shard as u32);
        }
    });
    simulation.run().unwrap();
}

#[test]
fn a_panic_while_a_value_is_made_leaves_room_for_another_attempt() {
    static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);
    static FRAGILE: ShardLocal<u8> = ShardLocal::new(|| {
        assert!(ATTEMPTS.fetch_add(1, Ordering::SeqCst) > 0, "meant");
        9
    });
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert!(spawn(async { FRAGILE.with(|value| *value) }).await.unwrap_err().is_panic());
        let first = catch_unwind(AssertUnwindSafe(|| FRAGILE.try_with(|value| *value)));
        assert!(matches!(first, Ok(Some(9) | None)), "{first:?}");
        assert_eq!(spawn(async { FRAGILE.with(|value| *value) }).await.unwrap(), 9);
    });
}
