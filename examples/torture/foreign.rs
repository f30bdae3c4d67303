//! Threads that the runtime knows nothing of: they poll, drop and abort what shards began.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

type Errand = Box<dyn FnOnce() + Send>;

/// A few threads that run errands.
#[derive(Debug)]
pub struct Foreign {
    errands: Mutex<Option<Sender<Errand>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Foreign {
    /// Starts the threads.
    pub fn start(count: usize) -> Foreign {
        let (errands, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..count).map(|_| {
            let queue = queue.clone();
            thread::spawn(move || run(&queue))
        });
        let threads = Mutex::new(threads.collect());
        Foreign { errands: Mutex::new(Some(errands)), threads }
    }

    /// Has it run on one of the threads.
    pub fn run(&self, errand: impl FnOnce() + Send + 'static) {
        let errands = self.errands.lock().unwrap_or_else(PoisonError::into_inner);
        let errands = errands.as_ref().expect("errands come before the end");
        errands.send(Box::new(errand)).expect("the threads take errands until the end");
    }

    /// Ends the threads when all errands are done.
    pub fn end(&self) {
        drop(self.errands.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            thread.join().expect("errands' panics are caught");
        }
    }
}

fn run(queue: &Mutex<Receiver<Errand>>) {
    loop {
        let errand = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(errand) = errand else { return };
        // A panic that was not drawn was counted by the hook.
        let _ = catch_unwind(AssertUnwindSafe(errand));
    }
}
