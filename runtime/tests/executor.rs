//! The executor and the driver, by the least that shows they work together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringhold_runtime::ops::Nop;
use ringhold_runtime::task::{spawn, spawn_local, spawn_on, yield_now};
use ringhold_runtime::{Builder, Op};

#[test]
fn a_nop_goes_to_the_kernel_and_comes_back() {
    let done = Builder::new_current_thread().run(async { Op::new(Nop).await }).unwrap();
    assert!(done.is_ok());
}

#[test]
fn a_thousand_nops_pass_through_queues_of_two_and_four() {
    let count = Builder::new_current_thread()
        .ring_entries(2, 4)
        .run(async {
            let tasks: Vec<_> = (0..1000).map(|_| spawn_local(Op::new(Nop))).collect();
            let mut count = 0;
            for task in tasks {
                task.await.unwrap().unwrap();
                count += 1;
            }
            count
        })
        .unwrap();
    assert_eq!(count, 1000);
}

#[test]
fn every_shard_runs_what_is_spawned_on_it() {
    let runtime = Builder::new_multi_thread().shards(3).build().unwrap();
    let sum = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        for shard in 0..3 {
            let sum = sum.clone();
            let task = spawn_on(shard, move || async move {
                let local = std::rc::Rc::new(shard + 1);
                Op::new(Nop).await.unwrap();
                yield_now().await;
                sum.fetch_add(*local, Ordering::SeqCst);
            });
            task.await.unwrap();
        }
    });
    assert_eq!(sum.load(Ordering::SeqCst), 6);
}

#[test]
fn an_operation_that_is_first_polled_off_the_shards_takes_a_hop() {
    let runtime = Builder::new_multi_thread().shards(2).build().unwrap();
    runtime.block_on(Op::new(Nop)).unwrap();
    let joined = runtime.block_on(async { spawn(async { 7 }).await.unwrap() });
    assert_eq!(joined, 7);
}

#[test]
fn a_panic_stays_in_its_task() {
    let error = Builder::new_current_thread()
        .run(async { spawn_local(async { panic!("only here") }).await.unwrap_err() })
        .unwrap();
    assert!(error.is_panic());
    assert_eq!(*error.into_panic().downcast::<&str>().unwrap(), "only here");
}

#[test]
fn an_aborted_task_is_cancelled_after_its_future_was_dropped() {
    struct Flag(Arc<AtomicUsize>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let flag = Flag(dropped.clone());
    let error = Builder::new_current_thread()
        .run(async move {
            let task = spawn_local(async move {
                let _flag = flag;
                std::future::pending::<()>().await;
            });
            yield_now().await;
            task.abort();
            let error = task.await.unwrap_err();
            assert_eq!(dropped.load(Ordering::SeqCst), 1);
            error
        })
        .unwrap();
    assert!(error.is_cancelled());
}
