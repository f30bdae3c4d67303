//! The clock that tests pause, and timers that are waited for off any shard.

use std::sync::Arc;
use std::time::Duration;

use ringhold_buffers::sync::model;

use super::{Machine, Signal, start, stop};
use crate::time::sleep;

/// Fails by deadlock where the wake-up of a thread sets its flag after the unparking, and where the
/// thread parks without having looked at the flag.
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
/// looks for holds before it has said that it is about to sleep.
#[test]
fn a_shard_with_a_paused_clock_goes_on_when_the_last_hold_ends() {
    model(|| {
        let machine = Machine::new();
        assert!(machine.handle.clock().pause());
        let hold = machine.handle.clock().held();
        let task = machine.shard.spawn(sleep(Duration::from_secs(5)));
        let holder = start(move || drop(hold));
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

/// Fails by deadlock where `hang` doesn't look again whether its alarm was cleared, or a bell that
/// is dropped doesn't ring.
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
