//! Dropping operations, by hand or with their tasks, at a moment of choice.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use runtime::task::{AbortHandle, JoinHandle, spawn_local, yield_now};

use super::{Flag, poll_flagged, turn_until};

/// When an operation is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before its first poll.
    Unpolled,
    /// Its entry is in the queue, and the kernel was not entered.
    Queued,
    /// The kernel holds it.
    InFlight,
    /// Its completion is in its slot, and nobody has looked.
    Arrived,
}

pub const WHENS: [When; 4] = [When::Unpolled, When::Queued, When::InFlight, When::Arrived];

pub type Dropped = Pin<Box<dyn Future<Output = ()>>>;

/// Something that is polled at most once, and then dropped by hand or with its task.
enum Held {
    Future(Dropped),
    Task(JoinHandle<()>),
}

/// Starts the operations as far as `when` says, and drops them, or aborts the tasks that hold them.
pub async fn start_and_drop(
    operations: Vec<Dropped>,
    when: When,
    flags: &[Arc<Flag>],
    abort: bool,
) {
    let mut held: Vec<Held> = operations
        .into_iter()
        .zip(flags)
        .map(|(mut operation, flag)| match (abort, when) {
            (true, _) => Held::Task(spawn_local(poll_and_hold(operation, flag.clone()))),
            (false, When::Unpolled) => Held::Future(operation),
            (false, _) => {
                poll_and_note(&mut operation, flag);
                Held::Future(operation)
            }
        })
        .collect();
    match when {
        When::Unpolled => {}
        When::Queued if abort => {
            // It runs right behind the tasks, in the same turn, before the kernel is entered.
            let tasks: Vec<_> = held.iter().filter_map(Held::abort_handle).collect();
            spawn_local(async move { tasks.iter().for_each(|task| task.abort()) }).await.unwrap();
        }
        When::Queued => {}
        When::InFlight => {
            yield_now().await;
            yield_now().await;
        }
        When::Arrived => turn_until(|| flags.iter().all(|flag| flag.is_set())).await,
    }
    held.iter().filter_map(Held::abort_handle).for_each(|task| task.abort());
    for held in &mut held {
        if let Held::Task(task) = held {
            assert!(task.await.unwrap_err().is_cancelled());
        }
    }
}

impl Held {
    fn abort_handle(&self) -> Option<AbortHandle> {
        match self {
            Held::Task(task) => Some(task.abort_handle()),
            Held::Future(_) => None,
        }
    }
}

/// With its result dropped as soon as it is there.
pub fn boxed<T>(future: impl Future<Output = T> + Unpin + 'static) -> Dropped {
    Box::pin(async move {
        future.await;
    })
}

/// Polls once, and sets the flag if there is nothing left to wait for.
fn poll_and_note(operation: &mut Dropped, flag: &Arc<Flag>) {
    if poll_flagged(operation, flag).is_ready() {
        flag.set();
    }
}

/// Polls once within a task, and then holds the future for good.
async fn poll_and_hold(mut operation: Dropped, flag: Arc<Flag>) {
    poll_fn(|_| {
        poll_and_note(&mut operation, &flag);
        Poll::Ready(())
    })
    .await;
    pending::<()>().await;
}
