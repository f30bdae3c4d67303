//! What is found when a log is opened, and what is done about it.
//!
//! The writer has one frame on its way at any time. So only the last frame can be torn, and a bad
//! frame with a sound one behind it had been acknowledged: that is damage, and nothing is cut off.
//!
//! What is read after a crash may be in the page cache only, from a write whose sync failed. Such
//! bytes look well and no sync writes them again. So the last frame, the checkpoint and an empty
//! segment are written anew before they are believed.

use std::path::{Path, PathBuf};

use runtime::fs::{self, File};

use super::error::Error;
use super::files::{self, Checkpoint, Reader, segment_path};
use super::frame::{BLOCK_BYTES, FRAME_BYTES_MAX, Kind};

/// What the directory holds.
#[derive(Debug)]
pub struct Found {
    pub checkpoint: Option<Checkpoint>,
    /// The first numbers of segments that the checkpoint has made needless.
    pub needless: Vec<u64>,
    /// Those of the others.
    pub needed: Vec<u64>,
    /// The end of the last segment; there is none if the log is new.
    pub tail: Option<Tail>,
    /// The number that the next record gets.
    pub next: u64,
}

/// The sound part of a segment.
#[derive(Debug)]
pub struct Tail {
    pub path: PathBuf,
    /// Where the sound frames end.
    pub end: u64,
    /// Where the file ends.
    pub length: u64,
    /// Where the last sound frame begins.
    last_frame: Option<u64>,
}

/// Reads all that is there, and changes nothing. `visit` is given each record that the checkpoint
/// doesn't stand for, with its number.
pub async fn scan(directory: &Path, visit: &mut dyn FnMut(u64, &[u8])) -> Result<Found, Error> {
    let checkpoint = files::read_checkpoint(directory).await?;
    let start = checkpoint.as_ref().map_or(1, |checkpoint| checkpoint.next);
    let mut needless = files::list_segments(directory).await?;
    if needless.is_empty() && checkpoint.is_none() {
        return Ok(Found { checkpoint, needless, needed: Vec::new(), tail: None, next: start });
    }
    let begin = needless.iter().rposition(|first| *first <= start);
    let needed = needless.split_off(begin.ok_or(Error::Missing { number: start })?);
    let mut visit_later = |number, record: &[u8]| {
        if number >= start {
            visit(number, record);
        }
    };
    let mut next = needed[0];
    let mut tail = None;
    for (index, first) in needed.iter().enumerate() {
        if *first != next {
            return Err(Error::Missing { number: next });
        }
        let is_last = index + 1 == needed.len();
        let segment;
        (segment, next) = read_segment(directory, *first, is_last, &mut visit_later).await?;
        tail = Some(segment);
    }
    if next < start {
        return Err(Error::Missing { number: next });
    }
    Ok(Found { checkpoint, needless, needed, tail, next })
}

/// Returns what is sound of a segment, and the number that comes after it.
async fn read_segment(
    directory: &Path,
    first: u64,
    is_last: bool,
    visit: &mut dyn FnMut(u64, &[u8]),
) -> Result<(Tail, u64), Error> {
    let path = segment_path(directory, first);
    let mut reader = Reader::open(&path).await?;
    let mut next = first;
    let mut last_frame = None;
    while let Some(frame) = reader.frame(Kind::Records).await? {
        if frame.first != next {
            break;
        }
        frame.records().for_each(|(number, record)| visit(number, record));
        next += frame.count;
        let bytes = frame.bytes as u64;
        last_frame = Some(reader.offset);
        reader.offset += bytes;
    }
    let (end, length) = (reader.offset, reader.length);
    let is_torn = is_last && !has_later_frame(&mut reader, next).await?;
    reader.close().await?;
    if end < length && !is_torn {
        return Err(Error::Damaged { path, offset: end });
    }
    Ok((Tail { path, end, length, last_frame }, next))
}

/// Whether behind the sound frames there is more than one frame that was never acknowledged.
async fn has_later_frame(reader: &mut Reader, next: u64) -> Result<bool, Error> {
    let end = reader.offset;
    if reader.length.saturating_sub(end) > FRAME_BYTES_MAX as u64 {
        return Ok(true);
    }
    while reader.offset < reader.length {
        if reader.frame(Kind::Records).await?.is_some_and(|frame| frame.first > next) {
            return Ok(true);
        }
        reader.offset += BLOCK_BYTES as u64;
    }
    Ok(false)
}

/// Makes the directory what a writer can go on with, and all that was found durable. Returns the
/// last segment.
pub async fn repair(directory: &Path, found: &Found) -> Result<File, Error> {
    if let Some(checkpoint) = &found.checkpoint {
        let lease = files::lease(FRAME_BYTES_MAX).await?;
        files::write_checkpoint(directory, checkpoint, lease).await?;
    }
    for first in &found.needless {
        let path = segment_path(directory, *first);
        fs::remove_file(&path).await.map_err(Error::at("removing", &path))?;
    }
    match &found.tail {
        Some(Tail { path, end, length, last_frame: Some(begin) }) => {
            rewrite_tail(path, *begin, *end, *length).await
        }
        _ => files::create_segment(directory, found.needed.last().copied().unwrap_or(1)).await,
    }
}

/// Cuts a segment off behind its last sound frame, and writes that frame anew.
async fn rewrite_tail(path: &Path, begin: u64, end: u64, length: u64) -> Result<File, Error> {
    let mut options = File::options();
    let file =
        options.read(true).write(true).open(path).await.map_err(Error::at("opening", path))?;
    if length > end {
        file.set_len(end).await.map_err(Error::at("cutting off the end of", path))?;
    }
    let lease = files::lease((end - begin) as usize).await?;
    let read = file.read_exact_fixed(lease, begin).await;
    let (_, lease) = read.map_err(|failed| Error::at("reading", path)(failed.error))?;
    let written = file.write_all_fixed(lease, begin).await;
    written.map_err(|failed| Error::at("writing", path)(failed.error))?;
    file.sync_data().await.map_err(Error::at("syncing", path))?;
    Ok(file)
}
