//! The clock that tests pause, and timers that are waited for off any shard.

use std::sync::Arc;
use std::time::Duration;

use ringhold_kernel::sync::model;

use super::{Machine, Signal, start, stop};
use crate::inbox::Message;
use crate::shard::Shard;
use crate::time::sleep;

/// Fails by deadlock where the wake-up of a thread sets its flag after the unparking.
#[test]
fn a_thread_in_block_on_is_woken() {
    model(|| {
        let machine = Machine::new();
        let signal = Arc::new(Signal::default());
        let giver = signal.clone();
        let giver = start(move || giver.give());
        machine.handle.block_on(signal.wait());
        giver.join().expect("the giver ends");
        machine.shut_down();
    });
}

/// Fails by deadlock where the last hold is given up without waking the shard, and where the shard
/// looks for holds before it has said that it is about to sleep; by its assertion where the shard
/// doesn't look for work once more before it moves the time.
#[test]
fn a_shard_with_a_paused_clock_goes_on_when_the_last_hold_ends() {
    model(|| {
        let machine = Machine::new();
        assert!(machine.handle.clock().pause());
        let (clock, remote) = (machine.handle.clock().clone(), machine.remote().clone());
        let (hold, began) = (clock.held(), clock.now());
        let task = machine.shard.spawn(sleep(Duration::from_secs(5)));
        let holder = start(move || {
            let look = move |_: &Shard| assert_eq!(clock.now(), began, "time ran past a hold");
            remote.send(Message::Run(Box::new(look)));
            drop(hold);
        });
        while !task.is_finished() {
            machine.shard.turn(&|| task.is_finished());
        }
        holder.join().expect("the holder ends");
        machine.shut_down();
    });
}

/// Fails by deadlock where a waker holds the clock after it has said that its thread is woken: the
/// thread gives up a hold that is not there yet, and the end of that hold wakes no shard.
#[test]
fn a_thread_that_is_woken_leaves_a_paused_clock_running() {
    model(|| {
        let machine = Machine::new();
        assert!(machine.handle.clock().pause());
        let signal = Arc::new(Signal::default());
        let giver = signal.clone();
        let giver = start(move || giver.give());
        let (handle, remote) = (machine.handle.clone(), machine.remote().clone());
        let waiter = start(move || {
            handle.block_on(async move {
                signal.wait().await;
                sleep(Duration::from_secs(5)).await;
            });
            stop(&remote);
        });
        machine.serve();
        giver.join().expect("the giver ends");
        waiter.join().expect("the waiter ends");
        machine.shut_down();
    });
}

/// Fails by deadlock where a bell is rung without waking, and where the waiting thread is unparked
/// before it is said to be woken.
#[test]
fn a_timer_that_is_waited_for_elsewhere_goes_off() {
    model(|| {
        let machine = Machine::new();
        assert!(machine.handle.clock().pause());
        let (handle, remote) = (machine.handle.clone(), machine.remote().clone());
        let waiter = start(move || {
            handle.block_on(sleep(Duration::from_secs(5)));
            stop(&remote);
        });
        machine.serve();
        waiter.join().expect("the waiter ends");
        machine.shut_down();
    });
}
