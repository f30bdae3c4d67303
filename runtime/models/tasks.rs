//! The life of a task, whose wakers, handles and outputs are other threads' business: its state
//! word, its count, and who may touch its cells when.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};

use ringhold_buffers::sync::atomic::Ordering;
use ringhold_buffers::sync::model;

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

/// Fails by deadlock where `SCHEDULED` is cleared after the poll instead of before, and where a
/// wake-up elsewhere sets it without sending the task home.
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

/// Pending until its waker was woken twice; hands the waker to a thread at each poll.
struct Twice {
    polls: Arc<AtomicUsize>,
    wakers: Option<Box<dyn FnOnce(&Waker) + Send>>,
    done: Arc<Signal>,
}

impl Future for Twice {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        if let Some(start) = self.wakers.take() {
            start(cx.waker());
        }
        let given = self.done.given.load(Ordering::Acquire);
        if given { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Fails where a wake-up queues a task that is `SCHEDULED` already: it is then in a list twice, and
/// its link is overwritten. Fails as a race where the last reference is given up without an acquire
/// load, or a reference without release.
#[test]
fn two_threads_wake_one_task_and_drop_its_last_references() {
    model(|| {
        let machine = Machine::new();
        let (polls, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Signal::default()));
        let giver = done.clone();
        let wakers = Box::new(move |waker: &Waker| {
            let (first, second) = (waker.clone(), waker.clone());
            start(move || {
                giver.given.store(true, Ordering::Release);
                first.wake();
            });
            start(move || second.wake_by_ref());
        });
        let task = Twice { polls: polls.clone(), wakers: Some(wakers), done };
        assert!(finish(&machine, machine.shard.spawn(task)).is_ok());
        assert!((1..=3).contains(&count(&polls)));
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

/// Fails by deadlock where an abort doesn't send the task home, and by its assertions where a
/// result is given before the future was dropped.
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
/// the shard takes the waker without having seen `JOIN_WAKER`; by its assertions where the
/// completion doesn't wake.
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

/// Fails by deadlock where a completion doesn't look whether there is a join waker after it has set
/// `COMPLETE`, and where the handle sets its waker without looking whether the task completed.
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

/// Fails by its count where `detach` and the completion both leave the output to the other, or both
/// drop it; as a race where either change of the state is relaxed.
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
