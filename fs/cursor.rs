//! The cursor of a file: tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek` over operations that own
//! their buffer.
//!
//! ```text
//!             ┌──── Reading ◄──── poll_read, nothing unread
//!   Idle ◄────┼──── Writing ◄──── poll_write, which copied and said so
//!             ├──── Locating ◄─── a position is needed that only the kernel knows
//!             └──── Seeking ◄──── start_seek from where only the kernel knows
//! ```
//!
//! Whoever polls next drives what is in flight to its end first, so reads and writes never pass
//! each other and a dropped poll loses nothing: what a read brought stays in `unread` until
//! somebody takes it.

use std::future::poll_fn;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use ringhold_buffers::{IoBuf, Slice};
use ringhold_runtime::ops::{Read, Write};
use ringhold_runtime::{Call, ColdCall, Failed, Op};
use tokio::io::ReadBuf;

use crate::file::Target;

/// The most that one read or write moves where nobody said otherwise, in bytes: tokio's.
pub(crate) const MOST_BYTES: usize = 2 * 1024 * 1024;

/// A position that only the kernel knows; as an offset, it means just that to the kernel.
const KERNELS: u64 = u64::MAX;

/// What a position means for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Somebody else opened it: not known yet.
    Unknown,
    /// It has a position, and we keep it.
    Seekable,
    /// As `Seekable`, but each write goes to the end and the kernel says where that was.
    Append,
    /// It has none: a pipe, a terminal, a socket.
    Stream,
}

type ReadOp = Op<Read<Slice<Vec<u8>>>>;
type WriteOp = Op<Write<Slice<Vec<u8>>, false>>;

enum State {
    Idle,
    Reading { read: ReadOp, at: u64 },
    Writing { write: WriteOp, at: u64 },
    Locating(Op<ColdCall>),
    Seeking(Op<ColdCall>),
}

/// What a read brought and nobody took yet; nothing at all means that the end was reached.
struct Unread {
    bytes: Vec<u8>,
    taken: usize,
    /// Where the first byte that is left stood.
    at: u64,
}

pub(crate) struct Cursor {
    state: State,
    kind: Kind,
    /// Shared with the copies of the file.
    position: Arc<AtomicU64>,
    unread: Option<Unread>,
    failed_read: Option<io::Error>,
    failed_write: Option<io::Error>,
    sought: Option<io::Result<u64>>,
    /// A buffer to use again.
    spare: Vec<u8>,
    limit: usize,
}

impl Cursor {
    /// Of a file that was just opened by its path.
    pub(crate) fn at_start(append: bool) -> Cursor {
        Cursor::new(if append { Kind::Append } else { Kind::Seekable }, Arc::new(AtomicU64::new(0)))
    }

    /// Of a file that comes from elsewhere.
    pub(crate) fn somewhere() -> Cursor {
        Cursor::new(Kind::Unknown, Arc::new(AtomicU64::new(KERNELS)))
    }

    fn new(kind: Kind, position: Arc<AtomicU64>) -> Cursor {
        Cursor {
            state: State::Idle,
            kind,
            position,
            unread: None,
            failed_read: None,
            failed_write: None,
            sought: None,
            spare: Vec::new(),
            limit: MOST_BYTES,
        }
    }

    /// The cursor of a copy of the file.
    pub(crate) fn share(&self) -> Cursor {
        Cursor { limit: self.limit, ..Cursor::new(self.kind, self.position.clone()) }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The file changed under it.
    pub(crate) fn forget_unread(&mut self) {
        self.unread = None;
    }

    /// Where the kernel's own position is to be put when the file leaves; `None` where it stands
    /// right already.
    pub(crate) fn position_for_kernel(&self) -> Option<u64> {
        match self.position() {
            KERNELS => None,
            position => Some(position),
        }
    }

    /// Waits until nothing is in flight. An error of a write stays, for who writes or flushes next.
    pub(crate) async fn settle(&mut self, target: &Target) {
        poll_fn(|cx| self.poll_settle(target, cx)).await;
    }

    /// Waits for a buffered write, and says how it went.
    pub(crate) async fn flush(&mut self, target: &Target) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(target, cx)).await
    }

    /// Finds out where a file stands that comes from elsewhere.
    pub(crate) async fn locate(&mut self, target: &Target) {
        if self.kind == Kind::Unknown {
            self.start_locating(target);
            self.settle(target).await;
        }
    }

    fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    pub(crate) fn poll_read(
        &mut self,
        target: &Target,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.poll_settle(target, cx));
            if let Some(error) = self.failed_read.take() {
                return Poll::Ready(Err(error));
            }
            if self.take_unread(into) {
                return Poll::Ready(Ok(()));
            }
            if self.is_lost() {
                self.start_locating(target);
            } else {
                self.start_reading(target, into.remaining().min(self.limit));
            }
        }
    }

    /// Whether the next transfer needs a position that only the kernel knows.
    fn is_lost(&self) -> bool {
        match self.kind {
            Kind::Unknown => true,
            Kind::Seekable | Kind::Append => self.position() == KERNELS,
            Kind::Stream => false,
        }
    }

    /// Hands over what an earlier read brought, unless the cursor has moved away from it.
    fn take_unread(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let Some(mut unread) = self.unread.take() else { return false };
        let moved = self.kind != Kind::Stream && unread.at != self.position();
        if !moved {
            let left = &unread.bytes[unread.taken..];
            let count = left.len().min(into.remaining());
            into.put_slice(&left[..count]);
            unread.taken += count;
            if self.kind != Kind::Stream {
                unread.at += count as u64;
                self.set_position(unread.at);
            }
            if unread.taken < unread.bytes.len() {
                self.unread = Some(unread);
                return true;
            }
        }
        self.spare = unread.bytes;
        !moved
    }

    /// What an operation's offset is, and what the cursor's is.
    fn offset(&self) -> u64 {
        if self.kind == Kind::Stream { KERNELS } else { self.position() }
    }

    fn start_reading(&mut self, target: &Target, length: usize) {
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.clear();
        buffer.reserve_exact(length);
        let at = self.offset();
        let read = Op::new(Read {
            file: target.descriptor.clone(),
            alignment: target.alignment,
            buffer: buffer.slice(..length),
            offset: at,
        });
        self.state = State::Reading { read, at };
    }

    fn start_locating(&mut self, target: &Target) {
        let call = |file| Call::Position { file, position: 0, append: false };
        self.state = State::Locating(Op::new(ColdCall::on(&target.descriptor, call)));
    }

    /// Copies from `parts`, starts the write, and says how much that is.
    pub(crate) fn poll_write<'a>(
        &mut self,
        target: &Target,
        cx: &mut Context<'_>,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_settle(target, cx));
            if let Some(error) = self.failed_write.take() {
                return Poll::Ready(Err(error));
            }
            // Where an appending write goes is for the kernel to say.
            if self.kind == Kind::Unknown || (self.kind == Kind::Seekable && self.is_lost()) {
                self.start_locating(target);
                continue;
            }
            let bytes = self.copy(parts);
            let count = bytes.len();
            if count > 0 {
                if self.kind != Kind::Stream {
                    self.unread = None;
                }
                let at = if self.kind == Kind::Append { KERNELS } else { self.offset() };
                self.start_writing(target, bytes, at);
            }
            return Poll::Ready(Ok(count));
        }
    }

    fn copy<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        for part in parts {
            let room = self.limit - bytes.len();
            bytes.extend_from_slice(&part[..part.len().min(room)]);
        }
        bytes
    }

    fn start_writing(&mut self, target: &Target, bytes: Vec<u8>, at: u64) {
        let length = bytes.len();
        self.continue_writing(target, bytes.slice(..length), at);
        // The bytes are written whether or not anybody polls again; who does brings the waker.
        let mut nobody = Context::from_waker(Waker::noop());
        let _ = self.poll_settle(target, &mut nobody);
    }

    fn continue_writing(&mut self, target: &Target, buffer: Slice<Vec<u8>>, at: u64) {
        let write = Op::new(Write::<_, false> {
            file: target.descriptor.clone(),
            alignment: target.alignment,
            buffer,
            offset: at,
        });
        self.state = State::Writing { write, at };
    }

    pub(crate) fn poll_flush(
        &mut self,
        target: &Target,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Writing { .. } = self.state {
            ready!(self.poll_settle(target, cx));
        }
        Poll::Ready(self.failed_write.take().map_or(Ok(()), Err))
    }

    pub(crate) fn start_seek(&mut self, target: &Target, to: SeekFrom) -> io::Result<()> {
        if !self.is_idle() {
            return Err(io::Error::other(
                "another operation on the file is pending: call poll_complete before start_seek",
            ));
        }
        self.failed_read = None;
        let known = matches!(self.kind, Kind::Seekable | Kind::Append);
        let (offset, whence) = match to {
            SeekFrom::Start(position) => {
                let offset = i64::try_from(position).map_err(|_| invalid())?;
                if known {
                    return self.seek_here(Some(position));
                }
                (offset, libc::SEEK_SET)
            }
            SeekFrom::Current(offset) if known && self.position() != KERNELS => {
                return self.seek_here(self.position().checked_add_signed(offset));
            }
            SeekFrom::Current(offset) => (offset, libc::SEEK_CUR),
            SeekFrom::End(offset) => (offset, libc::SEEK_END),
        };
        let call = |file| Call::Seek { file, offset, whence, position: 0 };
        self.state = State::Seeking(Op::new(ColdCall::on(&target.descriptor, call)));
        Ok(())
    }

    fn seek_here(&mut self, position: Option<u64>) -> io::Result<()> {
        let position = position.filter(|&position| i64::try_from(position).is_ok());
        let position = position.ok_or_else(invalid)?;
        self.set_position(position);
        self.sought = Some(Ok(position));
        Ok(())
    }

    pub(crate) fn poll_seek(
        &mut self,
        target: &Target,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<u64>> {
        ready!(self.poll_settle(target, cx));
        let position = match self.position() {
            KERNELS => 0,
            position => position,
        };
        Poll::Ready(self.sought.take().unwrap_or(Ok(position)))
    }

    /// Drives what is in flight to its end, and keeps what it brought.
    fn poll_settle(&mut self, target: &Target, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Idle => return Poll::Ready(()),
                State::Reading { read, at } => {
                    let (outcome, at) = (ready!(Pin::new(read).poll(cx)), *at);
                    self.state = State::Idle;
                    self.finish_read(outcome, at);
                }
                State::Writing { write, at } => {
                    let (outcome, at) = (ready!(Pin::new(write).poll(cx)), *at);
                    self.state = State::Idle;
                    self.finish_write(target, outcome, at);
                }
                State::Locating(call) => {
                    let outcome = ready!(Pin::new(call).poll(cx));
                    self.state = State::Idle;
                    self.finish_locating(outcome);
                }
                State::Seeking(call) => {
                    let outcome = ready!(Pin::new(call).poll(cx));
                    self.state = State::Idle;
                    self.finish_seek(outcome);
                }
            }
        }
    }

    fn finish_read(&mut self, outcome: Brought, at: u64) {
        match outcome {
            Ok((_, buffer)) => {
                self.unread = Some(Unread { bytes: buffer.into_inner(), taken: 0, at });
            }
            Err(failed) => {
                self.spare = failed.buffer.into_inner();
                if failed.error.kind() != io::ErrorKind::Interrupted {
                    self.failed_read = Some(failed.error);
                }
            }
        }
    }

    fn finish_write(&mut self, target: &Target, outcome: Brought, at: u64) {
        let (count, buffer) = match outcome {
            Ok(written) => written,
            Err(failed) if failed.error.kind() == io::ErrorKind::Interrupted => {
                return self.continue_writing(target, failed.buffer, at);
            }
            Err(failed) => return self.fail_write(failed.error, failed.buffer),
        };
        let (begin, end) = (buffer.begin() + count, buffer.end());
        let at = if at == KERNELS { KERNELS } else { at + count as u64 };
        if self.kind != Kind::Stream {
            self.set_position(at);
        }
        if begin == end {
            self.spare = buffer.into_inner();
        } else if count == 0 {
            self.fail_write(io::ErrorKind::WriteZero.into(), buffer);
        } else {
            self.continue_writing(target, buffer.into_inner().slice(begin..end), at);
        }
    }

    fn fail_write(&mut self, error: io::Error, buffer: Slice<Vec<u8>>) {
        self.spare = buffer.into_inner();
        self.failed_write = Some(error);
    }

    fn finish_locating(&mut self, outcome: io::Result<(u32, Call)>) {
        match outcome {
            Ok((_, Call::Position { position, append, .. })) => {
                self.kind = if append { Kind::Append } else { Kind::Seekable };
                self.set_position(position);
            }
            Ok((_, call)) => unreachable!("a question for a position was answered by {call:?}"),
            // `ESPIPE`; and whatever else it is, the transfer that follows says better.
            Err(_) => self.kind = Kind::Stream,
        }
    }

    fn finish_seek(&mut self, outcome: io::Result<(u32, Call)>) {
        let sought = outcome.map(|(_, call)| match call {
            Call::Seek { position, .. } => position,
            call => unreachable!("a seek was answered by {call:?}"),
        });
        if let Ok(position) = sought {
            self.set_position(position);
        }
        self.sought = Some(sought);
    }
}

type Brought = Result<(usize, Slice<Vec<u8>>), Failed<Slice<Vec<u8>>>>;

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}
