//! The bytes that go to a client.
//!
//! A client that stalls must hold nothing that others need. What is copied is offered to the socket
//! when it takes something, and a lease lives only from the read of the file to that. Who takes all
//! of a part at once gets the next one without a copy. That lease is out until the client has
//! acknowledged the bytes, which may be never: only half of the pool may be out like this, and who
//! comes then is sent copies.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use runtime::buffers::{Lease, Slice, lease};
use runtime::fs::File;
use runtime::net::{Sending, TcpStream};
use runtime::sync::{OwnedSemaphorePermit, Semaphore};
use runtime::task::consume_budget;
use runtime::time::timeout;

use crate::response::{Piece, Response};

/// The bytes that are read at once for a client that takes all of them.
const LARGE_BYTES: usize = 256 * 1024;

/// The bytes that are read at once at first, and for a client that takes little at a time.
const SMALL_BYTES: usize = 64 * 1024;

/// A part of a body below this is sent together with what stands before it.
const TINY_BYTES: usize = 32 * 1024;

/// How many sends of a connection are unacknowledged at once.
const SENDINGS_MAX: usize = 2;

/// The unit of [`Limits::zero_copy`].
pub const ZERO_COPY_UNIT: usize = 4096;

/// What all connections share, and what each is held to.
#[derive(Clone)]
pub struct Limits {
    /// How much may be leased for sends that wait for an acknowledgement. Nothing, if all is
    /// copied.
    pub zero_copy: Arc<Semaphore>,
    pub head: Duration,
    pub idle: Duration,
    pub stall: Duration,
}

/// A send that the client has not acknowledged, and its share of the limit.
struct Unacknowledged {
    sending: Sending<Slice<Lease>>,
    _permit: OwnedSemaphorePermit,
}

/// A response on its way.
pub struct Outgoing<'a> {
    stream: &'a TcpStream,
    limits: &'a Limits,
    /// What goes before anything else, in one send; two tiny parts at most.
    text: Vec<u8>,
    unacknowledged: VecDeque<Unacknowledged>,
    /// Whether the client has taken a whole part at once.
    is_quick: bool,
}

/// The bytes of a file that were read for a range of it.
struct Part {
    bytes: Slice<Lease>,
    /// How many there are.
    count: usize,
}

impl<'a> Outgoing<'a> {
    pub fn new(stream: &'a TcpStream, limits: &'a Limits) -> Outgoing<'a> {
        Outgoing {
            stream,
            limits,
            text: Vec::new(),
            unacknowledged: VecDeque::new(),
            is_quick: false,
        }
    }

    /// Sends all of a response, and waits until no lease is out for it.
    pub async fn send(mut self, response: Response) -> io::Result<()> {
        self.text = response.head;
        for piece in response.body {
            match piece {
                Piece::Text(text) => self.text.extend_from_slice(&text),
                Piece::Part(file, range) => self.send_range(&file, range).await?,
            }
        }
        self.flush().await?;
        while let Some(Unacknowledged { sending, _permit }) = self.unacknowledged.pop_front() {
            in_time(self.limits.stall, async { Ok(sending.await) }).await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.copy_all(&text).await?;
        }
        Ok(())
    }

    async fn copy_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            consume_budget().await;
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.room().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the client takes something.
    async fn room(&self) -> io::Result<()> {
        in_time(self.limits.stall, self.stream.writable()).await
    }

    async fn send_range(&mut self, file: &File, mut range: Range<u64>) -> io::Result<()> {
        while !range.is_empty() {
            let most = if self.is_quick { LARGE_BYTES } else { SMALL_BYTES };
            // With what stands before it, and behind it, a tiny part is one send.
            let is_tiny = range.end - range.start < TINY_BYTES as u64;
            if !is_tiny || self.text.len() >= TINY_BYTES {
                // Before there is a lease, since this may wait for the client.
                self.flush().await?;
            }
            let part = read(file, &range, most).await?;
            let count = if is_tiny {
                self.text.extend_from_slice(&part.bytes);
                part.count
            } else {
                self.send_part(part).await?
            };
            range.start += count as u64;
        }
        Ok(())
    }

    /// Sends a part, or what the client takes of it now.
    async fn send_part(&mut self, part: Part) -> io::Result<usize> {
        let units = part.bytes.get_ref().capacity().div_ceil(ZERO_COPY_UNIT);
        let permit = match u32::try_from(units) {
            Ok(units) if self.is_quick => {
                self.limits.zero_copy.clone().try_acquire_many_owned(units).ok()
            }
            _ => None,
        };
        match permit {
            Some(permit) => self.send_zero_copy(part, permit).await,
            None => self.send_copy(part).await,
        }
    }

    async fn send_zero_copy(
        &mut self,
        part: Part,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<usize> {
        let stall = self.limits.stall;
        if self.unacknowledged.len() == SENDINGS_MAX {
            let oldest = self.unacknowledged.pop_front().expect("there are as many");
            in_time(stall, async { Ok(oldest.sending.await) }).await?;
        }
        let sent =
            async { self.stream.send_zero_copy(part.bytes).await.map_err(|failed| failed.error) };
        let (count, sending) = in_time(stall, sent).await?;
        self.unacknowledged.push_back(Unacknowledged { sending, _permit: permit });
        Ok(count)
    }

    /// What is not taken is read again when there is room for it.
    async fn send_copy(&mut self, part: Part) -> io::Result<usize> {
        match self.stream.try_write(&part.bytes) {
            Ok(count) => {
                self.is_quick = count == part.count;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_quick = false;
                drop(part);
                self.room().await?;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

/// Reads the beginning of a range: whole blocks, of which the first and the last are used in part.
async fn read(file: &File, range: &Range<u64>, most: usize) -> io::Result<Part> {
    let block = file.alignment().map_or(1, |alignment| u64::from(alignment.offset));
    let begin = range.start - range.start % block;
    let skipped = (range.start - begin) as usize;
    let wanted = usize::try_from(range.end - begin).unwrap_or(usize::MAX);
    let block = block as usize;
    let length = wanted.min(most.max(2 * block)).next_multiple_of(block);
    let room = lease(length).await?.slice(..length);
    let (count, room) = file.read_at(room, begin).await.map_err(|failed| failed.error)?;
    let end = count.min(wanted);
    if end <= skipped {
        // The head has promised more.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Part { bytes: room.into_inner().slice(skipped..end), count: end - skipped })
}

/// What doesn't get on in time is an error.
pub async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
