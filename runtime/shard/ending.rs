//! How a shard ends: law 9, as far as one shard goes.

use std::sync::atomic::Ordering;
use std::time::Instant;

use ringhold_buffers::foreign;
use ringhold_kernel::Wait;

use crate::context::ShardScope;
use crate::registry::Standing;
use crate::shard::Shard;
use crate::telling::{self, tell};
use crate::time::wheel::Wheel;

impl Shard {
    /// Law 9, this shard's part: no more tasks, drop those there are, cancel everything, drain.
    /// Says whether the drain was complete before `deadline`; if not, the kernel and all it may
    /// still write to are leaked.
    pub(crate) fn shut_down(self, deadline: Instant) -> bool {
        self.stop_intake();
        let drained = loop {
            if let Some(drained) = self.drain_step(deadline) {
                break drained;
            }
        };
        self.end(drained)
    }

    /// The first part of [`Shard::shut_down`]: no more tasks, drop those there are, cancel
    /// everything.
    pub(crate) fn stop_intake(&self) {
        let _scope = ShardScope::enter(self);
        self.remote.stop();
        self.receive();
        self.drop_tasks();
        self.locals().clear();
        let timers = self.timers.replace(Wheel::new());
        drop(timers);
        self.driver.borrow_mut().cancel_all();
        self.reap(self.driver.borrow_mut());
    }

    fn drop_tasks(&self) {
        self.clear_ready();
        // Nothing is listed any more from here on: what a destructor spawns is cancelled at once.
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for (_, task) in tasks {
            self.remote.tasks.fetch_sub(1, Ordering::Relaxed);
            task.shut_down();
            // A destructor may have woken other tasks; they are all going.
            self.clear_ready();
        }
        self.remote.remove_lanes();
    }

    fn clear_ready(&self) {
        self.ready.clear();
        self.lanes.clear();
    }

    /// One wait for what is still in flight. When none is needed any more it says whether the drain
    /// is complete.
    pub(crate) fn drain_step(&self, deadline: Instant) -> Option<bool> {
        let _scope = ShardScope::enter(self);
        self.receive();
        self.clear_ready();
        if self.driver.borrow().in_flight() == 0 {
            // From here on nothing can be started; what was sent meanwhile is received once more.
            self.driver.borrow_mut().close();
            self.receive();
            if self.driver.borrow().in_flight() == 0 {
                return Some(true);
            }
        }
        // The drain is real work on real descriptors, so it follows the kernel's clock, paused or
        // not.
        let now = self.driver.borrow().kernel().now();
        let left = deadline.checked_duration_since(now).filter(|left| !left.is_zero());
        let Some(left) = left else { return Some(false) };
        self.remote.prepare_to_sleep();
        let wait = if self.remote.has_messages() {
            Wait::No
        } else {
            Wait::For { timeout: Some(left), idle: false }
        };
        self.driver.borrow_mut().enter(wait);
        self.remote.awake();
        self.reap(self.driver.borrow_mut());
        None
    }

    /// The last part of [`Shard::shut_down`]: ends the kernel, or leaks it.
    pub(crate) fn end(self, drained: bool) -> bool {
        let Shard { remote, driver, .. } = self;
        let mut driver = driver.into_inner();
        remote.publish(driver.counts());
        if drained {
            let leftovers = driver.leftovers();
            driver.kernel_mut().unregister();
            drop(driver);
            remote.end(Standing::Drained, leftovers);
        } else {
            say_leaked(driver.operations());
            let leftovers = driver.leftovers();
            // Neither unregistered nor freed: kernels up to 6.12 would block, and the kernel may
            // still write.
            std::mem::forget(driver);
            remote.end(Standing::Leaked, leftovers);
        }
        drained
    }
}

/// A leak is said aloud, also where nothing has subscribed to the events of `tracing`.
#[cold]
fn say_leaked(in_flight: usize) {
    const WHAT: &str = "a shard could not be drained before its deadline; what the kernel may \
                        still write to is leaked";
    tell!(error, in_flight, "{WHAT}");
    if !telling::is_heard() {
        foreign::report(format_args!("{WHAT} ({in_flight} operations in flight)"));
    }
}
