//! The task that writes: it gathers what waits into one frame, writes it, syncs it, and answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::buffers::Lease;
use runtime::fs::{self, File};
use runtime::sync::{mpsc, oneshot};

use super::error::Error;
use super::files::{self, Checkpoint, segment_path};
use super::frame::{Draft, FRAME_BYTES_MAX, Kind};
use super::recovery::Found;

type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What the writer is asked for.
#[derive(Debug)]
pub enum Request {
    Append { record: Vec<u8>, answer: Answer<u64> },
    Checkpoint { checkpoint: Checkpoint, answer: Answer<()> },
    Close { answer: Answer<()> },
}

#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    segment_bytes: u64,
    /// The first numbers of the segments, the one that is written to last.
    segments: Vec<u64>,
    file: File,
    /// Where the file ends.
    end: u64,
    /// The number that the next record gets.
    next: u64,
    /// The number that the checkpoint has.
    checkpointed: u64,
    /// What frames are made in. It is kept, so that the log never waits for others' leases.
    lease: Option<Lease>,
    failed: Option<Error>,
}

impl Writer {
    /// Goes on behind what was found.
    pub async fn new(
        directory: &Path,
        segment_bytes: u64,
        found: &Found,
        file: File,
    ) -> Result<Writer, Error> {
        let segments = if found.needed.is_empty() { vec![1] } else { found.needed.clone() };
        Ok(Writer {
            directory: directory.to_owned(),
            segment_bytes,
            segments,
            file,
            end: found.tail.as_ref().map_or(0, |tail| tail.end),
            next: found.next,
            checkpointed: found.checkpoint.as_ref().map_or(1, |checkpoint| checkpoint.next),
            lease: Some(files::lease(FRAME_BYTES_MAX).await?),
            failed: None,
        })
    }

    /// Does what it is asked for until it is asked to close, or nobody is left to ask.
    pub async fn serve(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut held = None;
        loop {
            let request = match held.take() {
                Some(request) => request,
                None => match requests.recv().await {
                    Some(request) => request,
                    None => return,
                },
            };
            match request {
                Request::Append { record, answer } => {
                    held = self.append(record, answer, &mut requests).await;
                }
                Request::Checkpoint { checkpoint, answer } => {
                    // Who no longer waits needs no answer, here and below.
                    let _ = answer.send(self.checkpoint(&checkpoint).await);
                }
                Request::Close { answer } => {
                    // What is asked for from here on is told that the log was closed.
                    drop(requests);
                    let path = self.path();
                    let closed = self.file.close().await.map_err(Error::at("closing", &path));
                    let _ = answer.send(closed);
                    return;
                }
            }
        }
    }

    fn path(&self) -> PathBuf {
        segment_path(&self.directory, *self.segments.last().expect("there is always one"))
    }

    /// One frame of this record and of all that wait behind it and fit. Returns what was asked for
    /// next, if that is in none.
    async fn append(
        &mut self,
        record: Vec<u8>,
        answer: Answer<u64>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<Request> {
        if let Some(failed) = &self.failed {
            let _ = answer.send(Err(failed.clone()));
            return None;
        }
        let lease = self.lease.take().expect("a writer that has not failed has its lease");
        let mut draft = Draft::new(lease, Kind::Records, self.next);
        let mut answers = Vec::new();
        let mut request = Some(Request::Append { record, answer });
        while let Some(Request::Append { record, answer }) = request {
            if !draft.push(&record) {
                request = Some(Request::Append { record, answer });
                break;
            }
            answers.push(answer);
            request = requests.try_recv().ok();
        }
        let first = self.next;
        match self.commit(draft).await {
            Ok(()) => {
                for (number, answer) in (first..).zip(answers) {
                    let _ = answer.send(Ok(number));
                }
            }
            Err(error) => {
                // Nobody knows what the disk has of it now. A sync that is tried again would not
                // write it again, and would say that all is well.
                let failed = Error::Failed(Arc::new(error));
                for answer in answers {
                    let _ = answer.send(Err(failed.clone()));
                }
                self.failed = Some(failed);
            }
        }
        request
    }

    /// Writes a frame, and makes it durable.
    async fn commit(&mut self, draft: Draft) -> Result<(), Error> {
        let (count, lease) = draft.finish();
        if self.end > 0 && self.end + lease.len() as u64 > self.segment_bytes {
            self.file = files::create_segment(&self.directory, self.next).await?;
            self.segments.push(self.next);
            self.end = 0;
        }
        let written = self.file.write_all_fixed(lease, self.end).await;
        let (bytes, lease) =
            written.map_err(|failed| Error::at("writing", &self.path())(failed.error))?;
        self.file.sync_data().await.map_err(|error| Error::at("syncing", &self.path())(error))?;
        self.end += bytes as u64;
        self.next += count;
        self.lease = Some(lease);
        Ok(())
    }

    /// Puts the state in the place of the records before its number. If that fails, the one before
    /// or this one is there, and so are the records of both.
    async fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if !(self.checkpointed..=self.next).contains(&checkpoint.next) {
            return Err(Error::NoSuchRecord { number: checkpoint.next });
        }
        let lease = files::lease(FRAME_BYTES_MAX).await?;
        files::write_checkpoint(&self.directory, checkpoint, lease).await?;
        self.checkpointed = checkpoint.next;
        while let [first, second, ..] = self.segments[..]
            && second <= checkpoint.next
        {
            let path = segment_path(&self.directory, first);
            fs::remove_file(&path).await.map_err(Error::at("removing", &path))?;
            self.segments.remove(0);
        }
        Ok(())
    }
}
