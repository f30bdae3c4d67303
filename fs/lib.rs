//! Files and directories on the Ringhold runtime.
//!
//! Applications use the face, package `ringhold`, which has all of this as its module `fs`.
//!
//! A [`File`] reads and writes by operations that take a buffer and give it back, through
//! registered buffers (`read_fixed`, `write_fixed`) or any others (`read_at`, `write_at`); and it
//! has tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek`. The functions have the names and
//! signatures of tokio's. What io_uring has an opcode for goes by the ring; the rest are *cold
//! calls*, which the kernel's side does on threads of its own.
//!
//! ```
//! # ringhold_runtime::Builder::new_current_thread().run(async {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("log");
//! use ringhold_fs::File;
//!
//! let file = File::create_new(&path).await?;
//! file.write_all_at(Vec::from("first record"), 0).await?;
//! file.sync_data().await?;
//! let (count, buffer) = file.read_at(Vec::with_capacity(4096), 6).await?;
//! assert_eq!((count, &buffer[..]), (6, &b"record"[..]));
//! # std::io::Result::Ok(()) })??;
//! # std::io::Result::Ok(())
//! ```

mod advice;
mod allocation;
mod conversions;
mod create_dir;
mod cursor;
mod direct;
mod fifo;
mod file;
mod metadata;
mod names;
mod open_options;
mod path;
mod positional;
mod read_dir;
mod remove_dir_all;
mod standing;
mod stat;
mod streams;
mod whole;

pub use advice::Advice;
pub use allocation::Allocation;
pub use create_dir::{DirBuilder, create_dir, create_dir_all};
pub use file::File;
pub use metadata::{metadata, set_permissions, symlink_metadata, try_exists};
pub use names::{canonicalize, hard_link, read_link, remove_dir, remove_file, rename, symlink};
pub use open_options::OpenOptions;
pub use read_dir::{DirEntry, ReadDir, read_dir};
pub use remove_dir_all::remove_dir_all;
pub use ringhold_runtime::ops::{Alignment, AlignmentError, Misaligned};
pub use stat::{Stat, statx};
pub use whole::{copy, read, read_to_string, write};
