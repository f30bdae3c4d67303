//! The cursor of a file: tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek` over operations that own
//! their buffer.
//!
//! ```text
//!             ┌──── Reading, ReadingShared ◄─── poll_read, nothing unread
//!   Idle ◄────┼──── Writing, WritingShared ◄─── poll_write, which copied and said so
//!             ├──── Seeking ◄────────────────── start_seek, where the kernel has to be waited for
//!             └──── Waiting ◄────────────────── a stream that doesn't wait was not ready
//! ```
//!
//! Whoever polls next drives what is in flight to its end first, so reads and writes never pass
//! each other and a dropped poll loses nothing: what a read brought stays in `unread` until it is
//! taken, or goes back to where it came from.
//!
//! A file that is nobody else's is read and written at offsets on the ring. Once others may have
//! it, `read(2)` and `write(2)` take their place: the ring neither holds a shared position during a
//! transfer nor moves it in one step with that
//! (docs/decisions/0023-a-shared-file-stands-where-the-kernel-says.md).

use std::future::poll_fn;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use ringhold_buffers::{IoBuf, Slice};
use ringhold_runtime::ops::{PollReady, Read, Write};
use ringhold_runtime::{Ahead, Call, ColdCall, Failed, Op};
use tokio::io::ReadBuf;

use crate::direct::aligned;
use crate::file::Target;
use crate::standing::{KERNELS, Standing};

/// The most that one read or write moves where nothing else was said, in bytes: tokio's.
pub(crate) const MOST_BYTES: usize = 2 * 1024 * 1024;

/// Whose position it is that transfers happen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours: the file is nobody else's, and the kernel is told of each offset.
    Own,
    /// The kernel's, by which all who have the file read and write.
    Shared,
    /// That of what has none, or none that matters: a pipe, a terminal, a socket.
    Stream,
}

type ReadOp = Op<Read<Slice<Vec<u8>>>>;
type WriteOp = Op<Write<Slice<Vec<u8>>, false>>;

enum State {
    Idle,
    /// The first bytes are not asked for, but have to be read.
    Reading {
        read: ReadOp,
        skipped: usize,
    },
    ReadingShared(Op<ColdCall>),
    Writing {
        write: WriteOp,
        at: u64,
    },
    WritingShared(Op<ColdCall>),
    Seeking(Op<ColdCall>),
    /// Then the write goes on, if it was one.
    Waiting {
        ready: Op<PollReady>,
        write: Option<Slice<Vec<u8>>>,
    },
}

pub(crate) struct Cursor {
    state: State,
    kind: Kind,
    /// Shared with the copies of the file.
    standing: Arc<Standing>,
    /// What a read brought that was not taken yet; nothing at all means that the end was reached.
    unread: Option<Ahead>,
    /// How often the copies had been put elsewhere when that was read.
    seeks: u64,
    failed_read: Option<io::Error>,
    failed_write: Option<io::Error>,
    sought: Option<io::Result<u64>>,
    /// A buffer to use again.
    spare: Vec<u8>,
    limit: usize,
}

impl Cursor {
    pub(crate) fn new(kind: Kind, standing: Arc<Standing>) -> Cursor {
        Cursor {
            state: State::Idle,
            kind,
            standing,
            unread: None,
            seeks: 0,
            failed_read: None,
            failed_write: None,
            sought: None,
            spare: Vec::new(),
            limit: MOST_BYTES,
        }
    }

    /// The cursor of a copy of the file.
    pub(crate) fn copy(&mut self, target: &Target) -> Cursor {
        self.notice_sharing(target);
        Cursor { limit: self.limit, ..Cursor::new(self.kind, self.standing.clone()) }
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

    /// What was read ahead goes back to who else has the file, or is forgotten.
    pub(crate) fn give_back(&mut self) {
        self.unread = None;
    }

    /// Waits until nothing is in flight. An error of a write stays, for who writes or flushes next.
    pub(crate) async fn settle(&mut self, target: &Target) {
        poll_fn(|cx| self.poll_settle(target, cx)).await;
    }

    /// Waits for a buffered write, and says how it went.
    pub(crate) async fn flush(&mut self, target: &Target) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(target, cx)).await
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
            self.start_reading(target, into.remaining().min(self.limit));
        }
    }

    /// Hands over what an earlier read brought, unless a copy was put elsewhere since.
    fn take_unread(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let Some(mut unread) = self.unread.take() else { return false };
        let is_old = self.kind == Kind::Shared && self.seeks != self.standing.seeks();
        if !is_old {
            let count = unread.rest().len().min(into.remaining());
            into.put_slice(&unread.rest()[..count]);
            unread.take(count);
            if self.kind == Kind::Own {
                self.standing.set_position(self.standing.position() + count as u64);
            }
            if !unread.rest().is_empty() {
                self.unread = Some(unread);
                return true;
            }
        }
        self.spare = unread.keep();
        !is_old
    }

    /// Where we stand in a file of our own. After an appending write only the kernel knows.
    fn own_position(&self, target: &Target) -> u64 {
        if self.standing.position() == KERNELS {
            self.standing.set_position(target.stands_at().unwrap_or(0));
        }
        self.standing.position()
    }

    fn start_reading(&mut self, target: &Target, length: usize) {
        let spare = std::mem::take(&mut self.spare);
        if self.kind == Kind::Shared {
            let room = target.whole_blocks_around(0, length);
            let (buffer, _) = aligned(spare, target.memory(), room);
            let ahead = Ahead::at_position(target.descriptor.held(), buffer, room);
            self.seeks = self.standing.seeks();
            let call = ColdCall::new(Call::ReadHere { ahead });
            self.state = State::ReadingShared(Op::new(call));
            return;
        }
        let (at, skipped) = match self.kind {
            Kind::Own => target.block_of(self.own_position(target)),
            Kind::Shared | Kind::Stream => (KERNELS, 0),
        };
        let room = target.whole_blocks_around(skipped, length);
        let (buffer, begin) = aligned(spare, target.memory(), room);
        let read = Op::new(Read {
            file: target.descriptor.clone(),
            alignment: target.alignment,
            buffer: buffer.slice(begin..begin + room),
            offset: at,
        });
        self.state = State::Reading { read, skipped };
    }

    /// Copies from `parts`, starts the write, and says how much that is.
    pub(crate) fn poll_write<'a>(
        &mut self,
        target: &Target,
        cx: &mut Context<'_>,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_settle(target, cx));
        if let Some(error) = self.failed_write.take() {
            return Poll::Ready(Err(error));
        }
        let offered = parts.clone().map(<[u8]>::len).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        if self.kind != Kind::Stream {
            self.give_back();
        }
        let at = match self.kind {
            Kind::Own if !target.appends => self.own_position(target),
            _ => KERNELS,
        };
        let count = target.writable_now(at, offered, self.limit)?;
        let (mut bytes, begin) = aligned(std::mem::take(&mut self.spare), target.memory(), count);
        for part in parts {
            let left = begin + count - bytes.len();
            bytes.extend_from_slice(&part[..part.len().min(left)]);
        }
        if self.kind == Kind::Shared {
            self.write_shared(target, bytes, begin);
        } else {
            if self.kind == Kind::Own {
                self.standing.set_position(if at == KERNELS { at } else { at + count as u64 });
            }
            self.write(target, bytes.slice(begin..begin + count), at);
        }
        // The bytes are written whether or not there is another poll; the next one brings a waker.
        let mut nobody = Context::from_waker(Waker::noop());
        let _ = self.poll_settle(target, &mut nobody);
        Poll::Ready(Ok(count))
    }

    fn write(&mut self, target: &Target, buffer: Slice<Vec<u8>>, at: u64) {
        let write = Op::new(Write::<_, false> {
            file: target.descriptor.clone(),
            alignment: target.alignment,
            appends: target.appends,
            buffer,
            offset: at,
        });
        self.state = State::Writing { write, at };
    }

    fn write_shared(&mut self, target: &Target, bytes: Vec<u8>, begin: usize) {
        let call = Call::WriteHere { file: target.descriptor.held(), bytes, begin };
        self.state = State::WritingShared(Op::new(ColdCall::new(call)));
    }

    pub(crate) fn poll_flush(
        &mut self,
        target: &Target,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let is_writing = match &self.state {
            State::Writing { .. } | State::WritingShared(_) => true,
            State::Waiting { write, .. } => write.is_some(),
            _ => false,
        };
        if is_writing {
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
        self.notice_sharing(target);
        let (offset, whence) = match to {
            SeekFrom::Start(position) if self.kind == Kind::Own => {
                return self.seek_own(target, Some(position));
            }
            SeekFrom::Current(offset) if self.kind == Kind::Own => {
                return self.seek_own(target, self.own_position(target).checked_add_signed(offset));
            }
            SeekFrom::Start(position) => {
                (i64::try_from(position).map_err(|_| invalid())?, libc::SEEK_SET)
            }
            SeekFrom::Current(offset) => (offset, libc::SEEK_CUR),
            SeekFrom::End(offset) => (offset, libc::SEEK_END),
        };
        if whence == libc::SEEK_CUR && self.kind == Kind::Shared {
            self.give_back();
        }
        let call = |file| Call::Seek { file, offset, whence, position: 0 };
        self.state = State::Seeking(Op::new(ColdCall::on(&target.descriptor, call)));
        Ok(())
    }

    /// The kernel says whether the file can have such a position.
    fn seek_own(&mut self, target: &Target, position: Option<u64>) -> io::Result<()> {
        let position = position.and_then(|position| i64::try_from(position).ok());
        let position = target.seek(position.ok_or_else(invalid)?, libc::SEEK_SET)?;
        self.standing.set_position(position);
        self.forget_unread();
        self.sought = Some(Ok(position));
        Ok(())
    }

    fn forget_unread(&mut self) {
        if let Some(unread) = self.unread.take() {
            self.spare = unread.keep();
        }
    }

    pub(crate) fn poll_seek(
        &mut self,
        target: &Target,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<u64>> {
        ready!(self.poll_settle(target, cx));
        let position = match self.standing.position() {
            KERNELS => 0,
            position => position,
        };
        Poll::Ready(self.sought.take().unwrap_or(Ok(position)))
    }

    /// Drives what is in flight to its end, and keeps what it brought.
    fn poll_settle(&mut self, target: &Target, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Idle => {
                    self.notice_sharing(target);
                    return Poll::Ready(());
                }
                State::Reading { read, skipped } => {
                    let (outcome, skipped) = (ready!(Pin::new(read).poll(cx)), *skipped);
                    self.state = State::Idle;
                    self.finish_read(target, outcome, skipped);
                }
                State::Writing { write, at } => {
                    let (outcome, at) = (ready!(Pin::new(write).poll(cx)), *at);
                    self.state = State::Idle;
                    self.finish_write(target, outcome, at);
                }
                State::ReadingShared(call) | State::WritingShared(call) | State::Seeking(call) => {
                    let outcome = ready!(Pin::new(call).poll(cx));
                    let state = std::mem::replace(&mut self.state, State::Idle);
                    self.finish_call(target, &state, outcome);
                }
                State::Waiting { ready, write } => {
                    let _ = ready!(Pin::new(ready).poll(cx));
                    let write = write.take();
                    self.state = State::Idle;
                    if let Some(buffer) = write {
                        self.write(target, buffer, KERNELS);
                    }
                }
            }
        }
    }

    /// Once others may have the file, its position is the kernel's.
    fn notice_sharing(&mut self, target: &Target) {
        if self.kind != Kind::Own || !self.standing.is_shared() {
            return;
        }
        self.kind = target.kind_of_shared();
        if self.kind == Kind::Shared {
            // It was read at offsets, and nothing is missed at the kernel's position.
            self.forget_unread();
        }
    }

    fn wait(&mut self, target: &Target, events: i16, write: Option<Slice<Vec<u8>>>) {
        let ready = Op::new(PollReady::new(target.descriptor.clone(), events as u32));
        self.state = State::Waiting { ready, write };
    }

    fn finish_read(&mut self, target: &Target, outcome: Brought, skipped: usize) {
        match outcome {
            Ok((count, buffer)) => {
                let taken = buffer.begin() + skipped.min(count);
                self.unread = Some(Ahead::of_own(buffer.into_inner(), taken));
            }
            Err(Failed { error, buffer }) => {
                self.spare = buffer.into_inner();
                match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // Whether it waits is the open file's matter, and others may have said no.
                    io::ErrorKind::WouldBlock => self.wait(target, libc::POLLIN, None),
                    _ => self.failed_read = Some(error),
                }
            }
        }
    }

    fn finish_write(&mut self, target: &Target, outcome: Brought, at: u64) {
        let (count, buffer) = match outcome {
            Ok(written) => written,
            Err(Failed { error, buffer }) => match error.kind() {
                io::ErrorKind::Interrupted => return self.write(target, buffer, at),
                io::ErrorKind::WouldBlock => {
                    return self.wait(target, libc::POLLOUT, Some(buffer));
                }
                _ => return self.fail_write(error, at),
            },
        };
        let (begin, end) = (buffer.begin() + count, buffer.end());
        let at = if at == KERNELS { KERNELS } else { at + count as u64 };
        if begin == end {
            self.spare = buffer.into_inner();
        } else if count == 0 {
            self.fail_write(io::ErrorKind::WriteZero.into(), at);
        } else {
            self.write(target, buffer.into_inner().slice(begin..end), at);
        }
    }

    fn fail_write(&mut self, error: io::Error, at: u64) {
        self.failed_write = Some(error);
        if self.kind == Kind::Own && !self.standing.is_shared() {
            self.standing.set_position(at);
        }
    }

    fn finish_call(&mut self, target: &Target, state: &State, outcome: io::Result<(u32, Call)>) {
        match (outcome, state) {
            (Ok((_, Call::ReadHere { ahead })), _) => self.unread = Some(ahead),
            (Ok((count, Call::WriteHere { bytes, begin, .. })), _) => {
                let begin = begin + count as usize;
                if begin == bytes.len() {
                    self.spare = bytes;
                } else if count == 0 {
                    self.failed_write = Some(io::ErrorKind::WriteZero.into());
                } else {
                    self.write_shared(target, bytes, begin);
                }
            }
            (Ok((_, Call::Seek { position, .. })), _) => {
                self.forget_unread();
                self.standing.note_seek(position);
                self.sought = Some(Ok(position));
            }
            (Ok((_, call)), _) => unreachable!("a cursor's call was answered by {call:?}"),
            (Err(error), State::ReadingShared(_)) => {
                self.failed_read = Some(target.explain(error));
            }
            (Err(error), State::WritingShared(_)) => {
                self.failed_write = Some(target.explain(error));
            }
            (Err(error), _) => self.sought = Some(Err(error)),
        }
    }
}

type Brought = Result<(usize, Slice<Vec<u8>>), Failed<Slice<Vec<u8>>>>;

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}
