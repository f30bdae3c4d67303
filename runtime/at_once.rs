//! What is asked of files in the midst of a poll, without ever waiting.
//!
//! Most of what a service asks about files stands in memory, and the kernel's answer takes less
//! time than the way to a thread that may wait for it. So it is asked here first, in the midst of a
//! poll; `None` says that the answer may have to be waited for, and the question then goes as an
//! operation.

use std::ffi::CStr;
use std::future::poll_fn;
use std::io;

use ringhold_kernel::AtOnce;

use crate::context;
use crate::fd::Fd;
use crate::task::budget;

/// What one step of a task's budget moves, in bytes.
const BYTES_A_STEP: usize = 64 * 1024;

/// Asks at once, as a step of the running task's budget. `None` where that isn't answered, and off
/// the shards of a runtime, and on a shard that takes no operations any more.
///
/// # Cancel safety
///
/// Safe: a drop before the answer asks nothing, and the answer comes within one poll.
pub async fn ask_at_once<T>(ask: impl FnOnce(&dyn AtOnce) -> Option<T>) -> Option<T> {
    poll_fn(|cx| budget::poll_step(cx)).await;
    let takes = context::with_shard(|shard| {
        shard.is_some_and(|shard| shard.driver().borrow().takes_operations())
    });
    if takes { ask(context::system().at_once()) } else { None }
}

/// As [`ask_at_once`], for a whole file, which takes steps by its length.
///
/// # Cancel safety
///
/// Safe: a drop before the answer asks nothing, and the answer comes within one poll.
pub async fn read_file_at_once(path: &CStr, most: usize) -> Option<io::Result<Vec<u8>>> {
    let read = ask_at_once(|at_once| at_once.read_file(path, most)).await?;
    budget::charge(read.as_ref().map_or(0, |bytes| (bytes.len() / BYTES_A_STEP) as u32));
    Some(read)
}

/// As [`ask_at_once`], for a read, which takes steps by its length.
///
/// # Cancel safety
///
/// Safe: a drop before the answer asks nothing, and the answer comes within one poll.
pub async fn read_at_once(
    file: &Fd,
    into: &mut Vec<u8>,
    most: usize,
    offset: u64,
) -> Option<usize> {
    let file = file.descriptor();
    let count = ask_at_once(|at_once| at_once.read(file, into, most, offset)).await?;
    budget::charge((count / BYTES_A_STEP) as u32);
    Some(count)
}
