//! tokio's budget, which its channels, locks and streams take from, on our shards.
//!
//! The budget is a number of this thread that only tokio's executors set. So a loop that polls
//! tasks runs [`within`] one poll of one task of a `LocalSet`, where the number is finite. From
//! there on no executor of tokio's takes part: [`refill`] sets the number to where it began, by
//! the token of `poll_proceed`, which restores the budget that it found. docs/decisions/0012 says
//! more.

#![allow(unsafe_code)] // The task of the `LocalSet` has to be `'static`, and what it runs is not.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::mem::ManuallyDrop;
use std::panic::resume_unwind;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ringhold_buffers::foreign;
use tokio::runtime::Handle;
use tokio::task::LocalSet;
use tokio::task::coop::{RestoreOnPending, has_budget_remaining, poll_proceed, unconstrained};

thread_local! {
    /// Sets the whole budget when it is dropped. There is one while a loop runs within the budget.
    /// The cell has no destructor, so that reaching it is one load.
    static WHOLE: Cell<Option<ManuallyDrop<RestoreOnPending>>> = const { Cell::new(None) };
}

/// Called before each poll: sees to it that there is something left of the budget. To make it
/// whole each time would cost five times as much.
#[inline]
pub(crate) fn refill() {
    if !has_budget_remaining() {
        refill_used_up();
    }
}

#[cold]
fn refill_used_up() {
    if let Some(whole) = WHOLE.take() {
        drop(ManuallyDrop::into_inner(whole));
        WHOLE.set(remember());
    }
}

/// The token that will restore the budget as it is now, which is less by one then.
#[inline]
fn remember() -> Option<ManuallyDrop<RestoreOnPending>> {
    match poll_proceed(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(token) => Some(ManuallyDrop::new(token)),
        Poll::Pending => None,
    }
}

/// Forgets the token of a loop, and brings that of the loop around it back.
struct Before(Option<ManuallyDrop<RestoreOnPending>>);

impl Drop for Before {
    fn drop(&mut self) {
        let token = WHOLE.replace(self.0.take());
        drop(token.map(ManuallyDrop::into_inner));
    }
}

fn with_token<R>(run: impl FnOnce() -> R) -> R {
    let _before = Before(WHOLE.replace(remember()));
    run()
}

/// Runs `run`, which may block, without a budget: nobody would refill it.
pub(crate) fn without<R>(run: impl FnOnce() -> R) -> R {
    let mut run = Some(run);
    let once = poll_fn(|_| Poll::Ready(run.take().expect("polled once")()));
    match pin!(unconstrained(once)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("it is ready at once"),
    }
}

/// What a task of the `LocalSet` runs, as long as whoever lends it is there.
type Lent = Rc<RefCell<Option<Box<dyn FnOnce()>>>>;

/// Takes back what was lent, on every way out.
struct Lending(Lent);

impl Drop for Lending {
    fn drop(&mut self) {
        let lent = self.0.take();
        drop(lent);
    }
}

/// Runs `run`, a loop that polls tasks, within a budget that begins whole, and that [`refill`]
/// makes whole when it is used up. A panic of `run` goes on from here. Outside of it, [`refill`]
/// does nothing and no poll has a budget.
pub(crate) fn within<R>(run: impl FnOnce() -> R) -> R {
    // A thread that ends may have no budget any more.
    if Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed()) {
        return run();
    }
    let local = LocalSet::new();
    // tokio's `spawn_local` must find no `LocalSet` while `run` runs: a task of this one would
    // never be polled. A guard brings back what was entered when it was made, so one is made out
    // here and dropped in there, and another one the other way round.
    let hiding = Cell::new(Some(local.enter()));
    let output = Cell::new(None);
    let task: Box<dyn FnOnce() + '_> = Box::new(|| {
        drop(hiding.take());
        output.set(Some(foreign::run(|| with_token(run))));
        hiding.set(Some(local.enter()));
    });
    // SAFETY: only the lifetime changes. The box is reached through `lending` alone, whose drop
    // takes it out before anything that it borrows goes, on every way out of here; who takes it
    // earlier is the task's poll, which runs it at once, in a call that is on this stack (S11).
    let task: Box<dyn FnOnce() + 'static> = unsafe { std::mem::transmute(task) };
    let lending = Lending(Rc::new(RefCell::new(Some(task))));
    let lent = lending.0.clone();
    drop(local.spawn_local(async move {
        let task = lent.take();
        task.expect("polled once")();
    }));
    let polled = pin!(local.run_until(pending::<()>()));
    let _ = polled.poll(&mut Context::from_waker(Waker::noop()));
    drop(lending);
    drop(hiding);
    match output.into_inner().expect("a task that was spawned is polled") {
        Ok(output) => output,
        Err(payload) => resume_unwind(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many steps the coming poll has, up to a thousand. It takes them.
    fn take_all() -> u32 {
        let mut steps = 0;
        while steps < 1000
            && let Poll::Ready(step) = poll_proceed(&mut Context::from_waker(Waker::noop()))
        {
            step.made_progress();
            steps += 1;
        }
        steps
    }

    #[test]
    fn what_runs_within_borrows_returns_and_panics() {
        let mut text = String::from("a string of the lender's");
        let returned = within(|| {
            text.push_str(", longer");
            text.as_str()
        });
        assert_eq!(returned, "a string of the lender's, longer");
        let panicked = foreign::run(|| {
            within(|| {
                text.clear();
                std::panic::panic_any(7u32);
            });
        });
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&7u32));
        assert_eq!(text, "");
    }

    #[test]
    fn a_refill_makes_whole_what_is_used_up() {
        assert_eq!(take_all(), 1000, "no budget outside");
        within(|| {
            for _ in 0..10 {
                assert_eq!(take_all(), 127);
                assert_eq!(take_all(), 0);
                refill();
            }
            assert_eq!(without(take_all), 1000);
            assert_eq!(take_all(), 127);
            refill();
        });
        assert_eq!(take_all(), 1000);
    }

    #[test]
    fn a_loop_in_a_loop_has_a_budget_of_its_own() {
        within(|| {
            assert_eq!(take_all(), 127);
            within(|| {
                assert_eq!(take_all(), 127);
                refill();
                assert_eq!(take_all(), 127);
            });
            assert_eq!(take_all(), 0);
            refill();
            assert_eq!(take_all(), 127);
        });
        assert_eq!(take_all(), 1000);
    }
}
