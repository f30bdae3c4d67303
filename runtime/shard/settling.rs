//! Ends what was abandoned on a file that is about to be closed.

use std::cell::Cell;

use crate::context;
use crate::fd::Fd;
use crate::registry::Standing;
use crate::shard::Shard;

/// How many files are settled in one turn. Each costs a system call, and a walk of the kernel's
/// along what is in flight; who drops more than this at once has the rest ended by the turns that
/// follow.
const SETTLED_A_TURN: u32 = 256;

/// How often the kernel is entered for one file. One enter runs a part of the work that the kernel
/// has put off, at least twenty pieces.
const ROUNDS: u32 = 16;

/// How many files were settled, and in which turn.
#[derive(Default)]
pub(super) struct Settled(Cell<(u32, u32)>);

impl Settled {
    fn is_enough(&self, turn: u32) -> bool {
        let (known, count) = self.0.get();
        let count = if known == turn { count } else { 0 };
        self.0.set((turn, count + 1));
        count >= SETTLED_A_TURN
    }
}

/// Lets go of `file` what was abandoned on it on the shard that is running, if there is one: sends
/// the cancels, and takes what the kernel hands back for them. What else has completed stays for
/// the turn.
pub(crate) fn settle(file: &Fd) {
    context::with_shard(|shard| {
        if let Some(shard) = shard {
            shard.let_go(file);
        }
    });
}

/// Whether a shard is running that takes no more tasks: all that it has in flight is cancelled.
pub(crate) fn is_ending() -> bool {
    let ends = |shard: &Shard| shard.remote.standing() != Standing::Running;
    context::with_shard(|shard| shard.is_some_and(ends))
}

impl Shard {
    fn let_go(&self, file: &Fd) {
        // A shard that ends has one cancel for all.
        if self.remote.standing() != Standing::Running || self.settled.is_enough(self.turns.get()) {
            return;
        }
        for _ in 0..ROUNDS {
            let mut reclaimed = Vec::new();
            let goes_on = self.driver.borrow_mut().settle(file, self.ready.woken(), &mut reclaimed);
            for each in reclaimed {
                self.release(each);
            }
            if !goes_on || !file.is_shared() {
                return;
            }
        }
    }
}
