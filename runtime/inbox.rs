//! What one thread sends another's shard.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::context;
use crate::registry::Remote;
use crate::shard::Shard;
use crate::task::{TaskGroup, TaskRef};

/// A message to a shard. Dropping one that never arrived does what is right for it.
pub(crate) enum Message {
    /// A task that was woken elsewhere.
    Wake(TaskRef),
    /// A task that was spawned elsewhere, and lives on this shard from now on.
    Adopt(Adoption),
    /// Anything else: what the shard is to do on its own thread.
    Run(Box<dyn FnOnce(&Shard) + Send>),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Message::Wake(_) => "Wake",
            Message::Adopt(_) => "Adopt",
            Message::Run(_) => "Run",
        })
    }
}

/// A new task on its way to its shard. If it never gets there, its join handle sees it cancelled.
pub(crate) struct Adoption {
    task: Option<(TaskRef, TaskRef)>,
    group: Option<TaskGroup>,
    home: Arc<Remote>,
}

impl Adoption {
    /// `queued` and `listed` are the references that [`crate::task::new_task`] made for `home`,
    /// whose task it is from here on: who looks for the shard with the fewest sees it. It is of the
    /// group that is current.
    pub(crate) fn new(queued: TaskRef, listed: TaskRef, home: Arc<Remote>) -> Adoption {
        home.tasks.fetch_add(1, Ordering::Relaxed);
        Adoption { task: Some((queued, listed)), group: context::group(), home }
    }

    pub(crate) fn accept(mut self) -> (TaskRef, TaskRef, Option<TaskGroup>) {
        let (queued, listed) = self.task.take().expect("an adoption is accepted once");
        (queued, listed, self.group.take())
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        if let Some((_queued, listed)) = self.task.take() {
            // No shard has seen the task, so whoever drops this stands in for its home; what is
            // dropped is what was sent, and that is `Send`.
            self.home.tasks.fetch_sub(1, Ordering::Relaxed);
            listed.shut_down();
        }
    }
}
