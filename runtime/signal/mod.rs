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
/// Safe, but what comes while nobody listens is told to nobody: keep the future, or use
/// [`signal`], to hear of every one. A loop that makes it anew in each round also pays for that,
/// with some microseconds where nobody else on the shard listens.
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
