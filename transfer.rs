//! From files to sockets and back, through leases.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;

use ringhold_buffers::{Lease, Slice};
use ringhold_fs::File;
use ringhold_runtime::{Failed, lease};
use tokio::try_join;

/// The bytes of a lease that a transfer takes, if the file's blocks aren't larger.
const PART: usize = 256 * 1024;

type Part = Slice<Lease>;

mod sealed {
    use super::{Failed, Future, Part, io};

    pub trait Receiving: Sync {
        fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

        fn receive(
            &self,
            part: Part,
        ) -> impl Future<Output = Result<(usize, Part), Failed<Part>>> + Send;
    }

    pub trait Sending: Sync {
        fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;

        fn send_all(
            &self,
            part: Part,
        ) -> impl Future<Output = Result<(usize, Part), Failed<Part>>> + Send;
    }
}

/// What a file can be received from: a stream, or a half of one.
pub trait ReceiveSide: sealed::Receiving {}

/// What a file can be sent to: a stream, or a half of one.
pub trait SendSide: sealed::Sending {}

macro_rules! receives {
    ($($stream:ty),*) => {$(
        impl sealed::Receiving for $stream {
            async fn readable(&self) -> io::Result<()> {
                self.readable().await
            }

            async fn receive(&self, part: Part) -> Result<(usize, Part), Failed<Part>> {
                self.read_owned(part).await
            }
        }

        impl ReceiveSide for $stream {}
    )*};
}

macro_rules! sends {
    ($($stream:ty),*) => {$(
        impl sealed::Sending for $stream {
            async fn writable(&self) -> io::Result<()> {
                self.writable().await
            }

            async fn send_all(&self, part: Part) -> Result<(usize, Part), Failed<Part>> {
                self.write_all_owned(part).await
            }
        }

        impl SendSide for $stream {}
    )*};
}

receives!(
    ringhold_net::TcpStream,
    ringhold_net::tcp::ReadHalf<'_>,
    ringhold_net::tcp::OwnedReadHalf,
    ringhold_net::UnixStream,
    ringhold_net::unix::ReadHalf<'_>,
    ringhold_net::unix::OwnedReadHalf
);
sends!(
    ringhold_net::TcpStream,
    ringhold_net::tcp::WriteHalf<'_>,
    ringhold_net::tcp::OwnedWriteHalf,
    ringhold_net::UnixStream,
    ringhold_net::unix::WriteHalf<'_>,
    ringhold_net::unix::OwnedWriteHalf
);

/// A transfer that stopped before its end, and how far it got.
#[derive(Debug)]
pub struct TransferError {
    /// What stopped it.
    pub error: io::Error,
    /// The bytes that were taken from where they come from.
    pub read: u64,
    /// The bytes that are known to have arrived where they go to.
    pub written: u64,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TransferError { error, read, written } = self;
        write!(f, "stopped after reading {read} bytes and writing {written}: {error}")
    }
}

impl std::error::Error for TransferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<TransferError> for io::Error {
    fn from(stopped: TransferError) -> io::Error {
        stopped.error
    }
}

/// Sends the bytes of `file` in `range` to a stream. Returns how many it was, which is fewer where
/// the file ends before.
///
/// It goes through leases of the pool, of which it has two at most: the next bytes are read while
/// the last ones are sent. A direct file is read in whole blocks, whatever the range. Nothing is
/// leased before the stream takes something.
///
/// # Errors
///
/// Those of the stream, the file and the pool, with how far it got.
///
/// # Cancel safety
///
/// Outcome unknown: some of the bytes may have been sent, in order.
///
/// # Kernel
///
/// `IORING_OP_READ_FIXED` and `IORING_OP_SEND`. There is no way on the ring for a file's pages to
/// go to a socket by themselves: `splice` and `sendfile` block a thread.
///
/// ```
/// # use runtime::{Builder, fs::{self, File}, io::{AsyncReadExt, send_file}, net::UnixStream};
/// # Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("page");
/// fs::write(&path, "hello world").await?;
/// let file = File::open(&path).await?;
/// let (mut client, server) = UnixStream::pair()?;
/// assert_eq!(send_file(&file, 6..11, &server).await?, 5);
/// drop(server);
/// let mut page = String::new();
/// client.read_to_string(&mut page).await?;
/// assert_eq!(page, "world");
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn send_file(
    file: &File,
    range: Range<u64>,
    stream: &impl SendSide,
) -> Result<u64, TransferError> {
    let mut from = FileSource::new(file, range);
    let mut into = StreamSink { stream, written: 0 };
    let outcome = match stream.writable().await {
        Ok(()) => pump(&mut from, &mut into).await,
        Err(error) => Err(error),
    };
    stopped(outcome, from.read, into.written)
}

/// Receives from a stream what fills `range` of `file`. Returns how many bytes it was, which is
/// fewer where the stream ends before.
///
/// It goes through leases of the pool, of which it has two at most: the next bytes are received
/// while the last ones are written. Nothing is leased before something has arrived. It is not
/// synced.
///
/// # Errors
///
/// Those of the stream, the file and the pool, with how far it got: of what was read, that many
/// bytes were not written, and are gone; what comes after them is still in the stream. A direct
/// file takes whole blocks only (`InvalidInput`): what begins or ends within one is refused before
/// anything is received, and a stream that ends within one is an error when it does.
///
/// # Cancel safety
///
/// Outcome unknown: bytes that were received and not written yet are gone.
///
/// # Kernel
///
/// `IORING_OP_RECV` and `IORING_OP_WRITE_FIXED`.
///
/// ```
/// # use runtime::{Builder, fs::{self, File}, io::{AsyncWriteExt, receive_file}, net::UnixStream};
/// # Builder::new_current_thread().run(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("upload");
/// let (mut client, server) = UnixStream::pair()?;
/// client.write_all(b"hello world").await?;
/// let file = File::create_new(&path).await?;
/// assert_eq!(receive_file(&server, &file, 0..5).await?, 5);
/// assert_eq!(fs::read(&path).await?, b"hello");
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn receive_file(
    stream: &impl ReceiveSide,
    file: &File,
    range: Range<u64>,
) -> Result<u64, TransferError> {
    let block = block(file);
    let mut from = StreamSource {
        stream,
        whole: file.is_direct(),
        part: part(block),
        left: range.end.saturating_sub(range.start),
        read: 0,
    };
    let mut into = FileSink { file, at: range.start, written: 0 };
    let outcome = match aligned(file, &range) {
        Ok(()) => pump(&mut from, &mut into).await,
        Err(error) => Err(error),
    };
    stopped(outcome, from.read, into.written)
}

fn stopped(outcome: io::Result<()>, read: u64, written: u64) -> Result<u64, TransferError> {
    outcome.map(|()| written).map_err(|error| TransferError { error, read, written })
}

/// What offsets in the file, and lengths, must be multiples of.
fn block(file: &File) -> u64 {
    file.alignment().map_or(1, |alignment| u64::from(alignment.offset))
}

/// How much is taken at once: room for a block behind one that is begun in the middle.
fn part(block: u64) -> usize {
    PART.max(2 * block as usize)
}

/// Takes bytes from somewhere, one part after the other.
trait Source {
    /// `None` at the end.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<Part>>> + Send;
}

/// Brings bytes to somewhere.
trait Sink {
    fn put(&mut self, part: Part) -> impl Future<Output = io::Result<()>> + Send;
}

/// Reads the next part while the last one is written. One that can't be read doesn't stop the
/// write, and a write that fails stops all.
async fn pump(from: &mut impl Source, into: &mut impl Sink) -> io::Result<()> {
    let mut next = from.next().await?;
    while let Some(part) = next {
        let read = async { Ok(from.next().await) };
        let (read, ()) = try_join!(read, into.put(part))?;
        next = read?;
    }
    Ok(())
}

struct FileSource<'a> {
    file: &'a File,
    block: u64,
    range: Range<u64>,
    read: u64,
}

impl FileSource<'_> {
    fn new(file: &File, range: Range<u64>) -> FileSource<'_> {
        FileSource { file, block: block(file), range, read: 0 }
    }
}

impl Source for FileSource<'_> {
    async fn next(&mut self) -> io::Result<Option<Part>> {
        if self.range.is_empty() {
            return Ok(None);
        }
        // Whole blocks, of which the first and the last are used in part.
        let begin = self.range.start - self.range.start % self.block;
        let skipped = (self.range.start - begin) as usize;
        let part = part(self.block);
        let left = usize::try_from(self.range.end - begin).unwrap_or(usize::MAX);
        let length = part.min(left.saturating_add(self.block as usize - 1));
        let length = length - length % self.block as usize;
        let room = lease(length).await?.slice(..length);
        let (count, room) = self.file.read_at(room, begin).await.map_err(|failed| failed.error)?;
        let end = count.min(left);
        if end <= skipped {
            self.range.start = self.range.end;
            return Ok(None);
        }
        self.range.start = begin + end as u64;
        self.read += (end - skipped) as u64;
        Ok(Some(room.into_inner().slice(skipped..end)))
    }
}

struct StreamSink<'a, S> {
    stream: &'a S,
    written: u64,
}

impl<S: SendSide> Sink for StreamSink<'_, S> {
    async fn put(&mut self, part: Part) -> io::Result<()> {
        let (count, _) = self.stream.send_all(part).await.map_err(|failed| failed.error)?;
        self.written += count as u64;
        Ok(())
    }
}

struct StreamSource<'a, S> {
    stream: &'a S,
    /// A part is filled before it goes on.
    whole: bool,
    part: usize,
    left: u64,
    read: u64,
}

impl<S: ReceiveSide> Source for StreamSource<'_, S> {
    async fn next(&mut self) -> io::Result<Option<Part>> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.part);
        if length == 0 {
            return Ok(None);
        }
        self.stream.readable().await?;
        let mut room = lease(length).await?;
        let mut filled = 0;
        while filled < length {
            let rest = room.slice(filled..length);
            let (count, rest) = self.stream.receive(rest).await.map_err(|failed| failed.error)?;
            room = rest.into_inner();
            filled += count;
            self.left -= count as u64;
            self.read += count as u64;
            if count == 0 {
                self.left = 0;
            }
            if count == 0 || !self.whole {
                break;
            }
        }
        Ok((filled > 0).then(|| room.slice(..filled)))
    }
}

struct FileSink<'a> {
    file: &'a File,
    at: u64,
    written: u64,
}

impl Sink for FileSink<'_> {
    async fn put(&mut self, part: Part) -> io::Result<()> {
        let written = self.file.write_all_at(part, self.at).await;
        let (count, _) = written.map_err(|failed| failed.error)?;
        self.at += count as u64;
        self.written += count as u64;
        Ok(())
    }
}

/// Whether a direct file can take what fills the range.
fn aligned(file: &File, range: &Range<u64>) -> io::Result<()> {
    let wanted = block(file);
    let refused = |what, given| {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            ringhold_fs::AlignmentError { what, wanted, given },
        ))
    };
    if !range.start.is_multiple_of(wanted) {
        return refused(ringhold_fs::Misaligned::Offset, range.start);
    }
    let length = range.end.saturating_sub(range.start);
    // A range without an end is filled up to the stream's.
    if range.end < u64::MAX && !length.is_multiple_of(wanted) {
        return refused(ringhold_fs::Misaligned::Length, length);
    }
    Ok(())
}
