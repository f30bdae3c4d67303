//! The one place where threads are started.

use std::io;

use crate::sync::thread;

/// Starts a thread. It is never joined: how its end is waited for is said where its work is.
pub fn start(
    name: String,
    stack_bytes: Option<usize>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    let mut builder = thread::Builder::new().name(name);
    if let Some(bytes) = stack_bytes {
        builder = builder.stack_size(bytes);
    }
    builder.spawn(work)
}
