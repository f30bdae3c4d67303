//! Child processes on the Ringhold runtime.
//!
//! Applications use the face, package `ringhold`, which has all of this as its module `process`.
//!
//! The types, their functions and their meaning are tokio's. Starting a child is std's, and takes
//! the thread as long as `fork` and `exec` take. Its pipes are tried, and waited for on the ring
//! where it is too early. Its end is waited for on the ring as well, by a descriptor of the process
//! (`pidfd_open(2)`): no signal handler is installed, and nobody looks for children in turn.
//!
//! ```
//! # ringhold_runtime::Builder::new_current_thread().run(async {
//! use ringhold_process::Command;
//!
//! let output = Command::new("echo").arg("hello").output().await?;
//! assert!(output.status.success());
//! assert_eq!(output.stdout, b"hello\n");
//! # std::io::Result::Ok(()) })??;
//! # std::io::Result::Ok(())
//! ```

mod child;
mod command;
mod pipe;
mod reaping;
mod running;

pub use child::Child;
pub use command::Command;
pub use pipe::{ChildStderr, ChildStdin, ChildStdout};
