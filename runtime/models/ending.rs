//! The end of a shard: what is sent to one that ends is taken in or refused, and nothing is left
//! between the two.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ringhold_kernel::sync::model;

use super::{Counted, Machine, Signal, count, start};
use crate::inbox::Message;

/// Fails by its count where `send` doesn't refuse, and where the shard says that it has ended after
/// its last look at the inbox.
#[test]
fn a_message_to_a_shard_that_ends_is_dropped_once() {
    model(|| {
        let machine = Machine::new();
        let drops = Arc::new(AtomicUsize::new(0));
        // Its inbox stays, so that nothing but a refusal empties it.
        let inbox = machine.remote().clone();
        let (remote, counted) = (inbox.clone(), Counted(drops.clone()));
        let sender = start(move || {
            remote.send(Message::Run(Box::new(move |_| drop(counted))));
        });
        machine.shut_down();
        sender.join().expect("the sender ends");
        assert_eq!(count(&drops), 1);
        drop(inbox);
    });
}

/// Fails by deadlock where an adoption that is dropped doesn't shut its task down, where `send`
/// doesn't refuse, and where the shard says that it has ended after its last look at the inbox.
#[test]
fn a_task_that_is_sent_to_a_shard_that_ends_is_cancelled_or_runs() {
    model(|| {
        let machine = Machine::new();
        let drops = Arc::new(AtomicUsize::new(0));
        let (handle, counted) = (machine.handle.clone(), Counted(drops.clone()));
        let spawner = start(move || {
            let task = handle.spawn(async move { drop(counted) });
            let result = handle.block_on(task);
            assert!(result.is_ok() || result.is_err_and(|error| error.is_cancelled()));
        });
        machine.shut_down();
        spawner.join().expect("the spawner ends");
        assert_eq!(count(&drops), 1);
    });
}

/// Fails as a race where the last reference to the task, which may be the waker's, is given up
/// without an acquire load.
#[test]
fn a_wake_up_while_the_shard_drops_its_tasks_does_nothing() {
    model(|| {
        let machine = Machine::new();
        let signal = Arc::new(Signal::default());
        let (giver, drops) = (signal.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = Counted(drops.clone());
        let task = machine.shard.spawn(async move {
            let _counted = counted;
            signal.wait().await;
        });
        machine.shard.turn(&|| true);
        drop(task);
        let giver = start(move || giver.give());
        machine.shut_down();
        giver.join().expect("the giver ends");
        assert_eq!(count(&drops), 1);
    });
}
