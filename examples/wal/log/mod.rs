//! A write-ahead log: records are appended to segments, and are on the disk when acknowledged.
//!
//! The directory of a log has segments, each named for the number of its first record, and maybe a
//! checkpoint, which stands for the records before its own number. Records are numbered from 1 on.
//! One program at a time may have a log open; the log doesn't check that.
//!
//! What is acknowledged survives kills, losses of power and failed syncs. What is damaged
//! afterwards is never given out as a record. It is an error ([`Error::Damaged`],
//! [`Error::Missing`]) but in one place: if it is the very last frame, then it looks as if the
//! power had been lost while that was written, and is cut off; [`Recovery::cut_bytes`] tells.

mod error;
mod files;
mod frame;
mod recovery;
mod writer;

use std::path::Path;

use runtime::sync::{mpsc, oneshot};

pub use error::Error;
pub use files::Checkpoint;
pub use frame::RECORD_BYTES_MAX;
use writer::{Request, Writer};

/// The most requests that wait to be taken by the writer.
const REQUESTS_MAX: usize = 256;

/// What was found in a log.
#[derive(Debug)]
pub struct Recovery {
    /// The checkpoint, if there is one.
    pub checkpoint: Option<Checkpoint>,
    /// The number that the next record gets.
    pub next: u64,
    /// How many segments are needed.
    pub segments: usize,
    /// How many bytes are behind the last sound frame.
    pub cut_bytes: u64,
}

impl Recovery {
    fn of(found: recovery::Found) -> Recovery {
        Recovery {
            checkpoint: found.checkpoint,
            next: found.next,
            segments: found.needed.len(),
            cut_bytes: found.tail.map_or(0, |tail| tail.length - tail.end),
        }
    }
}

/// An open log. Its clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    requests: mpsc::Sender<Request>,
}

impl Log {
    /// Opens the log in a directory that is there, and durably so. `visit` is given each record
    /// that the checkpoint doesn't stand for, in order, with its number; they count only if all of
    /// this succeeds. A segment that is longer than `segment_bytes` gets no more frames.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] and [`Error::Missing`] where records were acknowledged and are gone;
    /// [`Error::Io`], after which it may be tried again.
    pub async fn open(
        directory: impl AsRef<Path>,
        segment_bytes: u64,
        mut visit: impl FnMut(u64, &[u8]),
    ) -> Result<(Log, Recovery), Error> {
        let directory = directory.as_ref();
        let found = recovery::scan(directory, &mut visit).await?;
        let file = recovery::repair(directory, &found).await?;
        let writer = Writer::new(directory, segment_bytes, &found, file).await?;
        let (requests, taken) = mpsc::channel(REQUESTS_MAX);
        runtime::spawn(writer.serve(taken));
        Ok((Log { requests }, Recovery::of(found)))
    }

    /// Gives a record its place in the log, without waiting for the disk: what one task appends is
    /// there in that order, with one sync for many.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`], [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing was appended.
    pub async fn append(&self, record: Vec<u8>) -> Result<Appending, Error> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(Error::TooLong { length: record.len() });
        }
        let (answer, answered) = oneshot::channel();
        let room = self.requests.reserve().await.map_err(|_| Error::Closed)?;
        room.send(Request::Append { record, answer });
        Ok(Appending { answered })
    }

    /// Lets `state` stand for all records before number `next`, and removes segments that have no
    /// others.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRecord`], [`Error::TooLong`]; [`Error::Io`], after which the checkpoint is
    /// this one or the one before, and the log goes on.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: the checkpoint may be this one or the one before.
    pub async fn checkpoint(&self, next: u64, state: Vec<u8>) -> Result<(), Error> {
        let checkpoint = Checkpoint { next, state };
        self.ask(|answer| Request::Checkpoint { checkpoint, answer }).await
    }

    /// Waits for all that was begun, and closes the log for all of its clones.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if it was closed before, [`Error::Io`].
    pub async fn close(self) -> Result<(), Error> {
        self.ask(|answer| Request::Close { answer }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| Error::Closed)?;
        answered.await.unwrap_or(Err(Error::Closed))
    }
}

/// A record that has its place, and is on its way to the disk.
#[derive(Debug)]
#[must_use = "the record isn't on the disk before it is acknowledged"]
pub struct Appending {
    answered: oneshot::Receiver<Result<u64, Error>>,
}

impl Appending {
    /// Returns the record's number when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if it could not be written: then it may be in the log or not, and the log
    /// takes no more until it is opened anew.
    ///
    /// # Cancel safety
    ///
    /// Outcome unknown: the record may be in the log or not, and never in part or twice.
    pub async fn acknowledged(self) -> Result<u64, Error> {
        self.answered.await.unwrap_or(Err(Error::Closed))
    }
}

/// Reads a log that nobody has open, and changes nothing.
///
/// # Errors
///
/// As for [`Log::open`].
pub async fn replay(
    directory: impl AsRef<Path>,
    mut visit: impl FnMut(u64, &[u8]),
) -> Result<Recovery, Error> {
    Ok(Recovery::of(recovery::scan(directory.as_ref(), &mut visit).await?))
}
