//! Operations that are begun, polled or dropped away from their shard: each is resolved once, and
//! what it holds is released once, where the kernel is done with it.

#![allow(unsafe_code)] // An operation of its own, which points to nothing.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Poll, Waker};

use io_uring::opcode;
use ringhold_kernel::sync::model;

use super::{Counted, Machine, count, poll, start, stop};
use crate::collector::Collector;
use crate::op::{Entry, Op, Operation};
use crate::ops::Told;

/// A nop that holds something, which is released with it.
struct Holding {
    _held: Counted,
}

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for Holding {
    type Output = io::Result<()>;

    fn entry(&mut self) -> Entry {
        opcode::Nop::new().build().into()
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}

fn holding() -> (Op<Holding>, Arc<AtomicUsize>) {
    let drops = Arc::new(AtomicUsize::new(0));
    (Op::new(Holding { _held: Counted(drops.clone()) }), drops)
}

/// A nop that tells something before it ends.
struct Telling(Arc<dyn Collector>);

// SAFETY: the entry points to nothing, so S1 and S2 ask nothing.
unsafe impl Operation for Telling {
    type Output = io::Result<()>;

    fn collector(&self) -> Option<&Arc<dyn Collector>> {
        Some(&self.0)
    }

    fn entry(&mut self) -> Entry {
        opcode::Nop::new().build().into()
    }

    fn finish(self, outcome: io::Result<u32>) -> io::Result<()> {
        outcome.map(drop)
    }
}

/// Starts an operation on the machine's shard, where it stays in flight.
fn started(machine: &Machine) -> (Op<Holding>, Arc<AtomicUsize>) {
    let (op, drops) = holding();
    (start_on(machine, op), drops)
}

fn start_on<T: Operation>(machine: &Machine, op: Op<T>) -> Op<T> {
    machine.gate.hold();
    let place = Arc::new(std::sync::Mutex::new(Some(op)));
    let inside = place.clone();
    let task = machine.shard.spawn(async move {
        let mut op = inside.lock().unwrap();
        assert!(poll(op.as_mut().expect("it is there"), Waker::noop()).is_pending());
    });
    machine.shard.turn(&|| true);
    assert!(task.is_finished());
    place.lock().unwrap().take().expect("it is there")
}

/// Fails by deadlock where the outcome is put into the cell without waking, and where `poll` leaves
/// its waker there without having looked for an outcome under the same lock.
#[test]
fn an_operation_that_is_begun_elsewhere_is_resolved() {
    model(|| {
        let machine = Machine::new();
        let (handle, remote) = (machine.handle.clone(), machine.remote().clone());
        let other = start(move || {
            let (mut op, drops) = holding();
            let entered = handle.enter();
            // The waker changes, maybe while the outcome comes.
            if poll(&mut op, Waker::noop()).is_pending() {
                handle.block_on(op).expect("a nop succeeds");
            }
            drop(entered);
            assert_eq!(count(&drops), 1);
            stop(&remote);
        });
        machine.serve();
        other.join().expect("the other thread ends");
        machine.shut_down();
    });
}

/// Fails by a panic of the driver's where the message of `Away::abandon` doesn't look for an
/// outcome under the lock.
#[test]
fn an_operation_that_is_begun_and_dropped_elsewhere_is_released_once() {
    model(|| {
        let machine = Machine::new();
        let (op, drops) = holding();
        let (handle, remote) = (machine.handle.clone(), machine.remote().clone());
        let other = start(move || {
            let _entered = handle.enter();
            let mut op = op;
            let _ = poll(&mut op, Waker::noop());
            drop(op);
            stop(&remote);
        });
        machine.serve();
        other.join().expect("the other thread ends");
        machine.shut_down();
        assert_eq!(count(&drops), 1);
    });
}

/// Fails by deadlock where an operation that is followed doesn't wake its future for what came
/// before the shard heard of that, and where one that is awaited elsewhere is not waited for again
/// after a completion before its last.
#[test]
fn what_an_operation_tells_before_its_end_comes_to_who_awaits_it_elsewhere() {
    model(|| {
        let machine = Machine::new();
        let told = Arc::<Told>::default();
        let mut op = start_on(&machine, Op::new(Telling(told.clone())));
        let (gate, remote) = (machine.gate.clone(), machine.remote().clone());
        let handle = machine.handle.clone();
        let device = start(move || gate.tell());
        let gate = machine.gate.clone();
        let other = start(move || {
            handle.block_on(poll_fn(|cx| {
                // What comes after the look wakes who polled before it.
                assert!(Pin::new(&mut op).poll(cx).is_pending());
                if told.count() > 0 { Poll::Ready(()) } else { Poll::Pending }
            }));
            gate.finish();
            handle.block_on(op).expect("a nop succeeds");
            stop(&remote);
        });
        machine.serve();
        device.join().expect("the device ends");
        other.join().expect("the other thread ends");
        machine.shut_down();
    });
}

/// Fails by its assertion where a drop elsewhere releases what the kernel still has.
#[test]
fn an_operation_of_a_shard_that_is_dropped_elsewhere_is_released_at_home() {
    model(|| {
        let machine = Machine::new();
        let (op, drops) = started(&machine);
        let (gate, remote) = (machine.gate.clone(), machine.remote().clone());
        let alive = drops.clone();
        let device = start(move || {
            gate.finish_with(|| assert_eq!(count(&alive), 0, "the kernel still has it"));
        });
        let other = start(move || {
            drop(op);
            stop(&remote);
        });
        machine.serve();
        device.join().expect("the device ends");
        other.join().expect("the other thread ends");
        machine.shut_down();
        assert_eq!(count(&drops), 1);
    });
}

/// Fails by deadlock where `follow` doesn't look whether the completion came before its message.
#[test]
fn an_operation_of_a_shard_that_is_awaited_elsewhere_is_resolved() {
    model(|| {
        let machine = Machine::new();
        let (op, drops) = started(&machine);
        let (gate, remote, handle) =
            (machine.gate.clone(), machine.remote().clone(), machine.handle.clone());
        let device = start(move || gate.finish());
        let other = start(move || {
            handle.block_on(op).expect("a nop succeeds");
            stop(&remote);
        });
        machine.serve();
        device.join().expect("the device ends");
        other.join().expect("the other thread ends");
        machine.shut_down();
        assert_eq!(count(&drops), 1);
    });
}

/// Fails by deadlock where a follower's message that is refused doesn't resolve, and by its
/// expectation where the end refuses before it has put down what is owed.
#[test]
fn an_operation_that_outlives_its_shard_is_owed_its_outcome() {
    model(|| {
        let machine = Machine::new();
        let (op, drops) = started(&machine);
        let (gate, handle) = (machine.gate.clone(), machine.handle.clone());
        gate.finish();
        let other = start(move || handle.block_on(op).expect("what it came to was left behind"));
        machine.shut_down();
        other.join().expect("the other thread ends");
        assert_eq!(count(&drops), 1);
    });
}

/// Fails by its count where `send` doesn't refuse, where the refusal of a message leaks what it
/// holds, and where the shard says that it has ended after its last look at the inbox.
#[test]
fn an_operation_that_is_dropped_while_its_shard_ends_is_released_once() {
    model(|| {
        let machine = Machine::new();
        let (op, drops) = started(&machine);
        let other = start(move || drop(op));
        machine.shut_down();
        other.join().expect("the other thread ends");
        assert_eq!(count(&drops), 1);
    });
}

/// Fails by deadlock where a start that is refused doesn't resolve its cell.
#[test]
fn an_operation_that_is_begun_while_the_shard_ends_is_resolved() {
    model(|| {
        let machine = Machine::new();
        let (op, drops) = holding();
        let handle = machine.handle.clone();
        let other = start(move || {
            let _either = handle.block_on(op);
        });
        machine.shut_down();
        other.join().expect("the other thread ends");
        assert_eq!(count(&drops), 1);
    });
}
