//! The least that `spawn` and `yield` can cost: a single-threaded queue of tasks, without wakers.
//!
//! It does less than any runtime must (nothing can wake a task, a task that isn't done simply goes
//! to the end of the queue), and one allocation a task. So it is a floor to measure from, not a
//! runtime to compare with.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::load::{Load, Workload};
use crate::meter::{Meter, Sample};

pub fn run(load: &Load) -> io::Result<Sample> {
    let part = match load.workload {
        Workload::Read => return Err(io::Error::other("the bare executor reads nothing")),
        Workload::Echo => return Err(load.is_served()),
        Workload::Spawn => spawn_and_join,
        Workload::Yield => give_way,
    };
    part(load.tasks as u64, load.warm_up_ops);
    let meter = Meter::start();
    part(load.tasks as u64, load.ops);
    Ok(meter.stop(load.ops, None))
}

fn spawn_and_join(batch: u64, ops: u64) {
    let queue = Queue::default();
    let mut tasks = Vec::with_capacity(batch as usize);
    let mut left = ops;
    while left > 0 {
        let now = left.min(batch);
        tasks.extend((0..now).map(|_| queue.spawn(std::future::ready(()))));
        queue.run();
        assert!(tasks.drain(..).all(|task| task.done.get()), "a task that never ran");
        left -= now;
    }
}

fn give_way(tasks: u64, ops: u64) {
    let queue = Queue::default();
    for task in 0..tasks {
        let turns = ops / tasks + u64::from(task < ops % tasks);
        queue.spawn(Turns { left: turns });
    }
    queue.run();
}

/// Gives way `left` times.
struct Turns {
    left: u64,
}

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

struct Task<F> {
    done: Cell<bool>,
    future: RefCell<F>,
}

trait Step {
    fn step(&self, context: &mut Context<'_>) -> Poll<()>;
}

impl<F: Future<Output = ()> + Unpin> Step for Task<F> {
    fn step(&self, context: &mut Context<'_>) -> Poll<()> {
        let polled = Pin::new(&mut *self.future.borrow_mut()).poll(context);
        self.done.set(polled.is_ready());
        polled
    }
}

#[derive(Default)]
struct Queue {
    ready: RefCell<VecDeque<Rc<dyn Step>>>,
}

impl Queue {
    fn spawn<F: Future<Output = ()> + Unpin + 'static>(&self, future: F) -> Rc<Task<F>> {
        let task = Rc::new(Task { done: Cell::new(false), future: RefCell::new(future) });
        self.ready.borrow_mut().push_back(task.clone());
        task
    }

    fn run(&self) {
        let context = &mut Context::from_waker(Waker::noop());
        loop {
            // A statement of its own, so that the queue is free while the task runs.
            let next = self.ready.borrow_mut().pop_front();
            let Some(task) = next else { return };
            if task.step(context).is_pending() {
                self.ready.borrow_mut().push_back(task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_polled_until_it_is_done() {
        let queue = Queue::default();
        let task = queue.spawn(Turns { left: 3 });
        assert!(!task.done.get());
        queue.run();
        assert!(task.done.get());
        assert_eq!(task.future.borrow().left, 0);
    }
}
