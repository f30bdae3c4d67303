//! The inbox and the shard that sleeps: whatever comes while a shard gets ready to wait is seen by
//! the shard, or ends its wait.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ringhold_kernel::sync::atomic::Ordering;
use ringhold_kernel::sync::model;

use super::{Machine, Signal, count, start, stop};
use crate::inbox::Message;
use crate::op::Op;
use crate::ops::Nop;
use crate::runtime::run_root;

/// Fails by deadlock without the fence in `wake`, without the one in `prepare_to_sleep`, where the
/// shard doesn't look for messages between that and its wait, or looks before, and where a sender
/// wakes before the message is in the inbox.
#[test]
fn a_message_reaches_a_shard_that_is_about_to_sleep() {
    model(|| {
        let machine = Machine::new();
        let remote = machine.remote().clone();
        let sender = start(move || stop(&remote));
        machine.serve();
        sender.join().expect("the sender ends");
        machine.shut_down();
    });
}

/// Fails by deadlock where a sender clears `asleep` without unparking, and by all that the model
/// above fails by.
#[test]
fn messages_of_two_threads_arrive_both_though_one_unparks() {
    model(|| {
        let machine = Machine::new();
        let arrived = Arc::new(AtomicUsize::new(0));
        let senders = [(); 2].map(|()| {
            let (remote, arrived) = (machine.remote().clone(), arrived.clone());
            start(move || {
                remote.send(Message::Run(Box::new(move |shard| {
                    if arrived.fetch_add(1, Ordering::Relaxed) == 1 {
                        shard.stop();
                    }
                })));
            })
        });
        machine.serve();
        senders.into_iter().for_each(|sender| sender.join().expect("the sender ends"));
        assert_eq!(count(&arrived), 2);
        machine.shut_down();
    });
}

/// Fails by deadlock where the shard's wait doesn't ask whether the root future was woken, and
/// where `Root` wakes the shard before it says so.
#[test]
fn the_root_future_is_polled_again_when_another_thread_wakes_it() {
    model(|| {
        let machine = Machine::new();
        let signal = Arc::new(Signal::default());
        let giver = signal.clone();
        let giver = start(move || giver.give());
        let output = run_root(&machine.shard, Box::pin(async move { signal.wait().await }));
        assert!(output.is_ok());
        giver.join().expect("the giver ends");
        machine.shut_down();
    });
}

/// Fails by deadlock without either fence, and where the wait doesn't ask its caller whether it is
/// awake.
#[test]
fn a_message_and_a_completion_come_at_the_same_time() {
    model(|| {
        let machine = Machine::new();
        machine.gate.hold();
        let (gate, remote) = (machine.gate.clone(), machine.remote().clone());
        let task = machine.shard.spawn(async { Op::new(Nop).await.expect("a nop succeeds") });
        machine.shard.turn(&|| true);
        let arrived = Arc::new(AtomicUsize::new(0));
        let arriving = arrived.clone();
        let device = start(move || gate.finish());
        let sender = start(move || {
            remote.send(Message::Run(Box::new(move |_| {
                arriving.fetch_add(1, Ordering::Relaxed);
            })));
        });
        while !task.is_finished() || count(&arrived) == 0 {
            machine.shard.turn(&|| task.is_finished() && count(&arrived) > 0);
        }
        device.join().expect("the device ends");
        sender.join().expect("the sender ends");
        machine.shut_down();
    });
}
