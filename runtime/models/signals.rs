//! The listeners of a hub: whoever of them looks, waits, comes or goes meanwhile, a signal is told
//! to all.
//!
//! A listener that is made on a shard may be carried to any thread, so each of what it shares with
//! the others there, the hub and the operation that waits for the event, is used by two threads
//! here.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use ringhold_kernel::sync::{JoinHandle, model};

use super::{Machine, count, poll, start};
use crate::handle::Handle;
use crate::inbox::Message;
use crate::signal::unix::{Signal, SignalKind, signal};
use crate::task;

fn listen() -> Signal {
    signal(SignalKind::hangup()).expect("there is such a signal")
}

/// One that waits already.
fn waiting() -> Signal {
    let mut listener = listen();
    assert!(look(&mut listener).is_pending());
    listener
}

/// Whether it is told now.
fn look(listener: &mut Signal) -> Poll<Option<()>> {
    poll(&mut poll_fn(|cx| listener.poll_recv(cx)), Waker::noop())
}

/// What `make` makes on the machine's shard, where listeners share a hub.
fn on_shard<R: Send + 'static>(machine: &Machine, make: impl FnOnce() -> R + 'static) -> R {
    let place = Arc::new(std::sync::Mutex::new(None));
    let inside = place.clone();
    let _entered = machine.handle.enter();
    let task = machine.shard.spawn(async move {
        *inside.lock().expect("no holder panics") = Some(make());
    });
    while !task.is_finished() {
        machine.shard.turn(&|| true);
    }
    let made = place.lock().expect("no holder panics").take();
    made.expect("it was made")
}

fn spawn_told(machine: &Machine, mut listener: Signal) -> task::JoinHandle<()> {
    machine.shard.spawn(async move { assert_eq!(listener.recv().await, Some(())) })
}

fn raise(machine: &Machine) -> JoinHandle<()> {
    let gate = machine.gate.clone();
    start(move || gate.raise())
}

fn are_finished(tasks: &[task::JoinHandle<()>]) -> bool {
    tasks.iter().all(task::JoinHandle::is_finished)
}

fn turn_until(machine: &Machine, are_done: impl Fn() -> bool) {
    while !are_done() {
        machine.shard.turn(&are_done);
    }
}

/// Work on another thread, which sends the shard a message at its end.
struct Elsewhere {
    thread: JoinHandle<()>,
    arrived: Arc<AtomicUsize>,
}

impl Elsewhere {
    fn start(machine: &Machine, work: impl FnOnce(&Handle) + Send + 'static) -> Elsewhere {
        let arrived = Arc::new(AtomicUsize::new(0));
        let arriving = arrived.clone();
        let (handle, remote) = (machine.handle.clone(), machine.remote().clone());
        let thread = start(move || {
            work(&handle);
            remote.send(Message::Run(Box::new(move |_| {
                arriving.fetch_add(1, Ordering::Relaxed);
            })));
        });
        Elsewhere { thread, arrived }
    }

    fn told(machine: &Machine, mut listener: Signal) -> Elsewhere {
        Elsewhere::start(machine, move |handle| {
            assert_eq!(handle.block_on(listener.recv()), Some(()));
        })
    }

    fn finish(self, machine: &Machine, tasks: &[task::JoinHandle<()>]) {
        turn_until(machine, || are_finished(tasks) && count(&self.arrived) > 0);
        self.thread.join().expect("the other thread ends");
    }
}

/// Fails by deadlock where who takes what the event has counted doesn't wake the others.
#[test]
fn a_signal_is_told_to_both_listeners_of_a_shard() {
    model(|| {
        let machine = Machine::new();
        let listeners = on_shard(&machine, || [listen(), listen()]);
        let tasks = listeners.map(|listener| spawn_told(&machine, listener));
        let raiser = raise(&machine);
        turn_until(&machine, || are_finished(&tasks));
        raiser.join().expect("the raiser ends");
        machine.shut_down();
    });
}

/// Fails by deadlock where a listener leaves its waker under another lock than that under which it
/// has looked.
#[test]
fn a_signal_is_told_to_listeners_on_two_threads() {
    model(|| {
        let machine = Machine::new();
        let (here, there) = on_shard(&machine, || (listen(), listen()));
        let task = spawn_told(&machine, here);
        let raiser = raise(&machine);
        Elsewhere::told(&machine, there).finish(&machine, &[task]);
        raiser.join().expect("the raiser ends");
        machine.shut_down();
    });
}

/// The other one doesn't wait, so nobody's look helps this one. Fails by deadlock where a listener
/// leaves its waker after it has polled the operation.
#[test]
fn a_signal_is_told_to_the_only_listener_that_waits() {
    model(|| {
        let machine = Machine::new();
        let (waits, idle) = on_shard(&machine, || (listen(), listen()));
        let raiser = raise(&machine);
        Elsewhere::told(&machine, waits).finish(&machine, &[]);
        raiser.join().expect("the raiser ends");
        drop(idle);
        machine.shut_down();
    });
}

/// One listener, for which the operation waits, goes on another thread, and one stays.
fn one_goes(leave: fn(&Handle, Signal)) {
    model(move || {
        let machine = Machine::new();
        let (goes, stays) = on_shard(&machine, || (waiting(), listen()));
        let task = spawn_told(&machine, stays);
        let raiser = raise(&machine);
        Elsewhere::start(&machine, move |handle| leave(handle, goes)).finish(&machine, &[task]);
        raiser.join().expect("the raiser ends");
        machine.shut_down();
    });
}

/// Fails by deadlock where the end of the operation wakes only one listener, and where a listener
/// that goes takes the operation with it.
#[test]
fn a_signal_is_told_to_who_stays_when_one_that_was_woken_goes() {
    one_goes(|_, goes| drop(goes));
}

/// Its last look is in the middle of anything, with the operation or another one in its hands, and
/// may be the one that takes what the event has counted. Fails by deadlock where that wakes only
/// one listener, and where the operation wakes who polled it instead of all.
#[test]
fn a_signal_is_told_to_who_stays_when_one_that_has_just_looked_goes() {
    one_goes(|handle, mut goes| {
        let _entered = handle.enter();
        let _ = look(&mut goes);
        drop(goes);
    });
}

/// The new one is made while the old one is told. Fails by deadlock where the listeners are woken
/// before the signal is counted.
#[test]
fn a_new_listener_is_told_of_what_comes_from_then_on() {
    model(|| {
        let machine = Machine::new();
        let old = on_shard(&machine, listen);
        machine.gate.raise();
        let other = Elsewhere::told(&machine, old);
        let new = on_shard(&machine, listen);
        machine.gate.raise();
        other.finish(&machine, &[spawn_told(&machine, new)]);
        machine.shut_down();
    });
}

/// Nothing listens meanwhile. Fails by deadlock where a new listener begins at what has come.
#[test]
fn a_new_listener_is_told_of_what_has_come_since_the_last_one_went() {
    model(|| {
        let machine = Machine::new();
        on_shard(&machine, || drop(waiting()));
        let raiser = raise(&machine);
        let new = on_shard(&machine, listen);
        let task = spawn_told(&machine, new);
        turn_until(&machine, || task.is_finished());
        raiser.join().expect("the raiser ends");
        machine.shut_down();
    });
}

/// The signal comes while the new one is made. Fails by deadlock where that one's first look wakes
/// nobody.
#[test]
fn a_new_listener_takes_a_signal_from_nobody() {
    model(|| {
        let machine = Machine::new();
        let old = on_shard(&machine, listen);
        let raiser = raise(&machine);
        let other = Elsewhere::told(&machine, old);
        let new = on_shard(&machine, listen);
        other.finish(&machine, &[]);
        raiser.join().expect("the raiser ends");
        drop(new);
        machine.shut_down();
    });
}

/// Fails by going on for ever where an operation that is refused at once is pending at first, and
/// by deadlock where a listener whose operation has ended doesn't begin another one.
#[test]
fn listeners_elsewhere_are_let_go_when_their_shard_ends() {
    model(|| {
        let machine = Machine::new();
        let (mut first, mut second) = on_shard(&machine, || (waiting(), listen()));
        let handle = machine.handle.clone();
        let other = start(move || {
            assert_eq!(handle.block_on(second.recv()), None);
            assert_eq!(handle.block_on(first.recv()), None);
        });
        machine.shut_down();
        other.join().expect("the other thread ends");
    });
}
