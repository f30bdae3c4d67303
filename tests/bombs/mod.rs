//! Panics that tests expect, and whether a runtime is well after one.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code, unused_imports)]

mod trap;
mod wakers;

use std::any::Any;
use std::sync::Once;
use std::thread;
use std::time::Duration;

use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::{Builder, Handle, Runtime, task, time};

pub use trap::Trap;
pub use wakers::{Chain, Fuses, Grump};

/// What the tests panic with. The hook keeps quiet about these.
pub const EXPECTED: &str = "expected";

pub fn expected() -> ! {
    panic!("{}", EXPECTED)
}

/// Keeps twenty thousand reports off the standard error, and lets every other through.
pub fn quiet() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let is_quiet =
                text(payload) == Some(EXPECTED) || payload.is::<u32>() || payload.is::<Chain>();
            if !is_quiet {
                loud(info);
            }
        }));
    });
}

pub fn text(payload: &dyn Any) -> Option<&str> {
    let string = payload.downcast_ref::<String>().map(String::as_str);
    string.or_else(|| payload.downcast_ref::<&'static str>().copied())
}

pub fn two_shards() -> Runtime {
    quiet();
    Builder::new_multi_thread().shards(2).build().unwrap()
}

/// The shards are well: each runs a task, an operation and a timer.
pub async fn well() {
    for shard in 0..Handle::current().shards() {
        let done = task::spawn_on(shard, || async {
            Op::new(Nop).await.unwrap();
            time::sleep(Duration::from_millis(1)).await;
            7
        });
        assert_eq!(done.await.unwrap(), 7);
    }
}

/// Panics when it is dropped.
#[derive(Debug)]
pub struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            expected();
        }
    }
}
