//! A set of tasks whose members end on other threads.

use ringhold_kernel::sync::model;

use super::{Machine, start, stop};
use crate::task::JoinSet;

/// Fails by deadlock where `pop_or_wait` leaves its waker under another lock than that under which
/// it has looked, and where a bell rings without waking.
#[test]
fn members_that_end_while_the_set_is_waited_for_are_found() {
    model(|| {
        let machine = Machine::new();
        let (handle, remote) = (machine.handle.clone(), machine.remote().clone());
        let waiter = start(move || {
            let _entered = handle.enter();
            let mut set = JoinSet::new();
            set.spawn(async { 1 });
            set.spawn(async { 2 });
            let sum = handle.block_on(async {
                let mut sum = 0;
                while let Some(result) = set.join_next().await {
                    sum += result.expect("it ran");
                }
                sum
            });
            assert_eq!(sum, 3);
            stop(&remote);
        });
        machine.serve();
        waiter.join().expect("the waiter ends");
        machine.shut_down();
    });
}
