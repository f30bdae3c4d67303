//! The error of an operation that was given a buffer: it gives the buffer back.

use std::error::Error;
use std::fmt;
use std::io;

/// An operation failed, and here is its buffer.
///
/// It converts into [`io::Error`], so `?` works where the buffer isn't wanted; a lease that is
/// dropped with it goes back to its pool.
///
/// ```
/// # use ringhold_runtime::Failed;
/// fn read() -> Result<(usize, Vec<u8>), Failed<Vec<u8>>> {
///     Err(Failed { error: std::io::ErrorKind::NotFound.into(), buffer: vec![7] })
/// }
/// let failed = read().unwrap_err();
/// assert_eq!(failed.buffer, [7]);
/// assert_eq!(std::io::Error::from(failed).kind(), std::io::ErrorKind::NotFound);
/// ```
pub struct Failed<B> {
    /// What went wrong.
    pub error: io::Error,
    /// The buffer, as it was given: its bytes are unspecified where the kernel may have written.
    pub buffer: B,
}

impl<B> Failed<B> {
    /// The error and the buffer, for callers that come from `(Result, B)` interfaces.
    pub fn into_parts(self) -> (io::Error, B) {
        (self.error, self.buffer)
    }
}

impl<B> fmt::Debug for Failed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<B> fmt::Display for Failed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<B> Error for Failed<B> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<B> From<Failed<B>> for io::Error {
    fn from(failed: Failed<B>) -> io::Error {
        failed.error
    }
}

/// Turns `Result<(T, B), Failed<B>>` into the `(Result<T>, B)` that other runtimes of completion
/// rings return.
pub trait IntoBufResult<T, B> {
    /// The result and the buffer, side by side.
    fn into_buf_result(self) -> (io::Result<T>, B);
}

impl<T, B> IntoBufResult<T, B> for Result<(T, B), Failed<B>> {
    fn into_buf_result(self) -> (io::Result<T>, B) {
        match self {
            Ok((value, buffer)) => (Ok(value), buffer),
            Err(failed) => (Err(failed.error), failed.buffer),
        }
    }
}
