//! What becomes of an operation whose shard has ended, and left nothing of it behind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use ringhold_kernel::Cqe;

use super::*;
use crate::builder::Builder;
use crate::op::Orphan;

/// Counts how often it is released by a shut-down.
struct Counted(Arc<AtomicUsize>);

impl Orphan for Counted {
    fn collect(&self, cqe: Cqe) {
        panic!("nothing is collected, and {cqe:?} was")
    }

    fn release(self: Box<Counted>, outcome: io::Result<u32>) {
        assert_eq!(outcome.unwrap_err().to_string(), shut_down().to_string());
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn orphan(released: &Arc<AtomicUsize>) -> Custody {
    Custody::new(Counted(released.clone()))
}

#[test]
fn who_follows_an_operation_of_a_shard_that_nobody_knows_is_told_of_the_end() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let away = follow(ShardId::next(), Key::from_user_data(1), ForeignWaker::noop());
        let Poll::Ready(Err(error)) = away.poll(&Context::from_waker(Waker::noop())) else {
            panic!("it waits for a shard that is not there");
        };
        assert_eq!(error.to_string(), shut_down().to_string());
    });
}

#[test]
fn an_operation_of_a_shard_that_nobody_knows_is_released_where_it_is_dropped() {
    let released = Arc::default();
    abandon(ShardId::next(), Key::from_user_data(1), orphan(&released), true);
    assert_eq!(released.load(Ordering::SeqCst), 1);
}

#[test]
fn of_a_shard_that_drained_everything_is_free() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let remote = runtime.handle().any_shard();
    drop(runtime);
    assert_eq!(remote.standing(), Standing::Drained);
    let released = Arc::default();
    release_or_leak(orphan(&released), None, &remote);
    assert_eq!(released.load(Ordering::SeqCst), 1);
    release_or_leak(orphan(&released), Some(Err(shut_down())), &remote);
    assert_eq!(released.load(Ordering::SeqCst), 2);
}
