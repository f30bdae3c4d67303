//! Signals of the operating system, with tokio's names and meaning.
//!
//! Nothing is blocked in any thread, and children get no other mask. The first listener for a
//! signal installs a handler, which does nothing but write to an event of each shard that has
//! listeners; they wait for it on the ring.

mod hub;
pub mod unix;

use std::future::poll_fn;
use std::io;

use unix::{SignalKind, signal};

/// Waits for the next `SIGINT`, which a terminal sends for ctrl-c. Listening begins with the first
/// poll.
///
/// As in tokio the signal's default action doesn't come back when the future is gone: from the
/// first call on, no `SIGINT` ends the process.
///
/// # Errors
///
/// `EMFILE` where the process has no descriptor left.
///
/// # Cancel safety
///
/// Safe: what comes while a loop is busy with another branch of its `select!` is told by the next
/// call of the same task, as [`signal`] says. A loop that makes the future anew in each round pays
/// for that, with some microseconds where nothing else on the shard listens.
///
/// # Kernel
///
/// As for [`signal`].
///
/// ```no_run
/// # async fn serve() {}
/// # async fn run() -> std::io::Result<()> {
/// use ringhold_runtime::{signal, task};
///
/// let serving = task::spawn(serve());
/// signal::ctrl_c().await?;
/// serving.abort();
/// # Ok(())
/// # }
/// ```
pub async fn ctrl_c() -> io::Result<()> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    poll_fn(|cx| interrupts.poll_signal(cx)).await
}
