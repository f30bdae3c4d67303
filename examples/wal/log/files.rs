//! The log's files: segments, the checkpoint, and how a file gets its name.

use std::path::{Path, PathBuf};

use runtime::buffers::{self, Lease};
use runtime::fs::{self, File};

use super::error::Error;
use super::frame::{Draft, FRAME_BYTES_MAX, Frame, Kind};

/// What is read of a file at once: as much as holds a frame wherever it begins, and then some.
const WINDOW_BYTES: usize = 2 * FRAME_BYTES_MAX;

/// The name that a file has until it is whole.
const UNFINISHED: &str = "unfinished";

/// A state that stands for all records before a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of the first record that is not in the state.
    pub next: u64,
    /// The state: what it means is the log's user's matter.
    pub state: Vec<u8>,
}

pub fn segment_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.segment"))
}

pub fn checkpoint_path(directory: &Path) -> PathBuf {
    directory.join("checkpoint")
}

/// A lease that a frame is made in.
pub async fn lease(bytes: usize) -> Result<Lease, Error> {
    let leased = buffers::lease(bytes).await;
    leased.map_err(|error| Error::at("leasing a buffer for", Path::new("the log"))(error.into()))
}

/// The numbers of the segments' first records, in order.
pub async fn list_segments(directory: &Path) -> Result<Vec<u64>, Error> {
    let mut entries = fs::read_dir(directory).await.map_err(Error::at("listing", directory))?;
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(Error::at("listing", directory))? {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".segment"));
        found.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes a file with its contents and puts it under its name, durably: after a crash the name
/// leads to this file or to the one before, never to a part of it.
pub async fn install(
    directory: &Path,
    path: &Path,
    contents: Option<Lease>,
) -> Result<(File, Option<Lease>), Error> {
    let unfinished = directory.join(UNFINISHED);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(&unfinished).await.map_err(Error::at("creating", &unfinished))?;
    let mut lease = None;
    if let Some(contents) = contents {
        let written = file.write_all_fixed(contents, 0).await;
        let (_, given_back) =
            written.map_err(|failed| Error::at("writing", &unfinished)(failed.error))?;
        lease = Some(given_back);
    }
    file.sync_all().await.map_err(Error::at("syncing", &unfinished))?;
    fs::rename(&unfinished, path).await.map_err(Error::at("naming", path))?;
    sync_directory(directory).await?;
    Ok((file, lease))
}

/// Makes durable which names are in the directory.
pub async fn sync_directory(directory: &Path) -> Result<(), Error> {
    let opened = File::open(directory).await.map_err(Error::at("opening", directory))?;
    opened.sync_all().await.map_err(Error::at("syncing", directory))?;
    opened.close().await.map_err(Error::at("closing", directory))
}

pub async fn create_segment(directory: &Path, first: u64) -> Result<File, Error> {
    let (file, _) = install(directory, &segment_path(directory, first), None).await?;
    Ok(file)
}

/// Puts a checkpoint in the place of the one before. Returns the lease.
pub async fn write_checkpoint(
    directory: &Path,
    checkpoint: &Checkpoint,
    lease: Lease,
) -> Result<Lease, Error> {
    let mut draft = Draft::new(lease, Kind::Checkpoint, checkpoint.next);
    if !draft.push(&checkpoint.state) {
        return Err(Error::TooLong { length: checkpoint.state.len() });
    }
    let (_, lease) = draft.finish();
    let path = checkpoint_path(directory);
    let (file, lease) = install(directory, &path, Some(lease)).await?;
    file.close().await.map_err(Error::at("closing", &path))?;
    Ok(lease.expect("it was given"))
}

pub async fn read_checkpoint(directory: &Path) -> Result<Option<Checkpoint>, Error> {
    let path = checkpoint_path(directory);
    if !fs::try_exists(&path).await.map_err(Error::at("looking for", &path))? {
        return Ok(None);
    }
    let mut reader = Reader::open(&path).await?;
    let found = reader.frame(Kind::Checkpoint).await?.and_then(|frame| {
        let (next, state) = frame.records().next()?;
        Some(Checkpoint { next, state: state.to_vec() })
    });
    reader.close().await?;
    found.map(Some).ok_or(Error::Damaged { path, offset: 0 })
}

/// Reads a file's frames through a window of it.
#[derive(Debug)]
pub struct Reader {
    pub path: PathBuf,
    pub length: u64,
    /// Where the next frame is looked for.
    pub offset: u64,
    file: File,
    window: Option<Lease>,
    window_offset: u64,
}

impl Reader {
    pub async fn open(path: &Path) -> Result<Reader, Error> {
        let file = File::open(path).await.map_err(Error::at("opening", path))?;
        let length = file.statx().await.map_err(Error::at("asking for the length of", path))?.len();
        let window = Some(lease(WINDOW_BYTES).await?);
        Ok(Reader { path: path.to_owned(), length, offset: 0, file, window, window_offset: 0 })
    }

    /// The frame at the offset, if a sound one is there.
    pub async fn frame(&mut self, kind: Kind) -> Result<Option<Frame<'_>>, Error> {
        let end = self.length.min(self.offset + FRAME_BYTES_MAX as u64);
        let read = self.window.as_ref().map_or(0, |window| window.len());
        if self.offset < self.window_offset || end > self.window_offset + read as u64 {
            self.fill().await?;
        }
        let window = self.window.as_deref().unwrap_or_default();
        let begin = (self.offset - self.window_offset) as usize;
        Ok(window.get(begin..).and_then(|bytes| Frame::parse(bytes, kind)))
    }

    async fn fill(&mut self) -> Result<(), Error> {
        let mut window = match self.window.take() {
            Some(window) => window,
            None => lease(WINDOW_BYTES).await?,
        };
        window.clear();
        let count = self.length.saturating_sub(self.offset).min(WINDOW_BYTES as u64) as usize;
        self.window_offset = self.offset;
        if count > 0 {
            let read = self.file.read_exact_fixed(window.slice(..count), self.offset).await;
            let (_, part) =
                read.map_err(|failed| Error::at("reading", &self.path)(failed.error))?;
            window = part.into_inner();
        }
        self.window = Some(window);
        Ok(())
    }

    pub async fn close(self) -> Result<(), Error> {
        self.file.close().await.map_err(Error::at("closing", &self.path))
    }
}
