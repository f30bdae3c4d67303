//! The life of a task, whose wakers, handles and outputs are other threads' business: its state
//! word, its count, and who may touch its cells when.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};

use ringhold_kernel::sync::atomic::Ordering;
use ringhold_kernel::sync::model;

use super::{Counted, Machine, Signal, count, poll, start, stop};
use crate::task::JoinHandle;

/// Turns until `task` is done, and gives its result.
fn finish<T>(machine: &Machine, mut task: JoinHandle<T>) -> Result<T, crate::task::JoinError> {
    while !task.is_finished() {
        machine.shard.turn(&|| task.is_finished());
    }
    match poll(&mut task, Waker::noop()) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a finished task's handle is pending"),
    }
}

/// Fails where `SCHEDULED` is cleared after the poll, and by deadlock where a wake-up elsewhere
/// sets it without sending the task home.
#[test]
fn a_wake_up_during_the_poll_is_not_lost() {
    model(|| {
        let machine = Machine::new();
        let signal = Arc::new(Signal::default());
        let giver = signal.clone();
        let task = machine.shard.spawn(async move { signal.wait().await });
        let giver = start(move || giver.give());
        assert!(finish(&machine, task).is_ok());
        giver.join().expect("the giver ends");
        machine.shut_down();
    });
}

type HandOut = Box<dyn FnOnce(&Waker) + Send>;

/// Hands its waker out at its first poll, and is pending until it is done.
struct Given {
    polls: Arc<AtomicUsize>,
    hand_out: Option<HandOut>,
    done: Arc<Signal>,
}

impl Future for Given {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        if let Some(hand_out) = self.hand_out.take() {
            hand_out(cx.waker());
        }
        let given = self.done.given.load(Ordering::Acquire);
        if given { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Fails by an assertion of the task's where a wake-up queues a task that is `SCHEDULED` already;
/// by deadlock where the task is taken out of the queue by a relaxed step; and as a race where a
/// reference is given up relaxed, or the last one without an acquire load.
#[test]
fn two_threads_wake_one_task_and_drop_its_last_references() {
    model(|| {
        let machine = Machine::new();
        let (polls, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Signal::default()));
        let giver = done.clone();
        let threads = Arc::new(std::sync::Mutex::new(Vec::new()));
        let started = threads.clone();
        let hand_out = Box::new(move |waker: &Waker| {
            let (first, second) = (waker.clone(), waker.clone());
            let first = start(move || {
                first.wake_by_ref();
                giver.given.store(true, Ordering::Release);
                first.wake();
            });
            let second = start(move || second.wake_by_ref());
            started.lock().expect("no holder panics").extend([first, second]);
        });
        let task = Given { polls: polls.clone(), hand_out: Some(hand_out), done };
        assert!(finish(&machine, machine.shard.spawn(task)).is_ok());
        assert!((1..=4).contains(&count(&polls)));
        for thread in threads.lock().expect("no holder panics").drain(..) {
            thread.join().expect("the waking thread ends");
        }
        machine.shut_down();
    });
}

/// Fails as a race where `TaskRef`'s drop ends without the acquire load, or gives up its count
/// relaxed: the cell of the future is freed while another thread's last access is not over.
#[test]
fn the_last_of_three_references_frees_the_task() {
    model(|| {
        let machine = Machine::new();
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = Counted(drops.clone());
        let task = machine.shard.spawn(async move { counted });
        let aborts = [task.abort_handle(), task.abort_handle()];
        let droppers = aborts.map(|abort| start(move || drop(abort)));
        machine.shard.turn(&|| true);
        assert!(task.is_finished());
        drop(task);
        droppers.into_iter().for_each(|dropper| dropper.join().expect("the dropper ends"));
        assert_eq!(count(&drops), 1);
        machine.shut_down();
    });
}

/// Fails by deadlock where an abort doesn't send the task home, and as a race where the last
/// reference is given up without an acquire load.
#[test]
fn a_task_that_is_aborted_elsewhere_ends_once() {
    model(|| {
        let machine = Machine::new();
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = Counted(drops.clone());
        let task = machine.shard.spawn(async move {
            let _counted = counted;
            crate::task::yield_now().await;
        });
        let abort = task.abort_handle();
        let aborter = start(move || abort.abort());
        let result = finish(&machine, task);
        assert_eq!(count(&drops), 1);
        assert!(result.is_ok() || result.is_err_and(|error| error.is_cancelled()));
        aborter.join().expect("the aborter ends");
        machine.shut_down();
    });
}

/// Fails by deadlock where an abort of a waiting task is not sent home.
#[test]
fn a_waiting_task_that_is_aborted_elsewhere_is_cancelled() {
    model(|| {
        let machine = Machine::new();
        let task = machine.shard.spawn(std::future::pending::<()>());
        let abort = task.abort_handle();
        let aborter = start(move || abort.abort());
        let result = finish(&machine, task);
        assert!(result.is_err_and(|error| error.is_cancelled()));
        aborter.join().expect("the aborter ends");
        machine.shut_down();
    });
}

/// Fails as a race where the join handle writes its waker without taking the cell back, and where
/// `COMPLETE` is set by a relaxed step; by deadlock where the completion doesn't wake.
#[test]
fn a_join_handle_changes_its_waker_while_the_task_completes() {
    model(|| {
        let machine = Machine::new();
        let mut task = machine.shard.spawn(async { 7 });
        let (handle, remote) = (machine.handle.clone(), machine.remote().clone());
        let joiner = start(move || {
            match poll(&mut task, Waker::noop()) {
                Poll::Ready(result) => assert_eq!(result.unwrap(), 7),
                Poll::Pending => assert_eq!(handle.block_on(task).unwrap(), 7),
            }
            stop(&remote);
        });
        machine.serve();
        joiner.join().expect("the joiner ends");
        machine.shut_down();
    });
}

/// Fails by deadlock where the completion doesn't wake, and where the handle sets its waker without
/// looking whether the task completed.
#[test]
fn a_join_handle_elsewhere_is_woken_by_the_completion() {
    model(|| {
        let machine = Machine::new();
        let task = machine.shard.spawn(async { 7 });
        let (handle, remote) = (machine.handle.clone(), machine.remote().clone());
        let joiner = start(move || {
            assert_eq!(handle.block_on(task).unwrap(), 7);
            stop(&remote);
        });
        machine.serve();
        joiner.join().expect("the joiner ends");
        machine.shut_down();
    });
}

/// Fails as a race where `JOIN` is cleared, or `COMPLETE` is set, by a relaxed step.
#[test]
fn an_output_is_dropped_once_when_its_handle_goes_while_it_comes() {
    model(|| {
        let machine = Machine::new();
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = Counted(drops.clone());
        let task = machine.shard.spawn(async move { counted });
        let dropper = start(move || drop(task));
        machine.shard.turn(&|| true);
        dropper.join().expect("the dropper ends");
        assert_eq!(count(&drops), 1);
        machine.shut_down();
    });
}
