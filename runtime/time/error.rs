//! What can go wrong with time.

use std::error::Error;
use std::fmt;
use std::io;

/// A time limit was reached before the value was there.
///
/// ```
/// use std::io;
///
/// # ringhold_runtime::Runtime::new().unwrap().block_on(async {
/// use ringhold_runtime::time::{Duration, timeout};
///
/// let never = std::future::pending::<()>();
/// let elapsed = timeout(Duration::from_millis(1), never).await.unwrap_err();
/// assert_eq!(elapsed.to_string(), "deadline has elapsed");
/// assert_eq!(io::Error::from(elapsed).kind(), io::ErrorKind::TimedOut);
/// # });
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl Elapsed {
    pub(crate) fn new() -> Elapsed {
        Elapsed(())
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("deadline has elapsed")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(_: Elapsed) -> io::Error {
        io::ErrorKind::TimedOut.into()
    }
}
