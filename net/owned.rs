//! The owned and the fixed forms: buffers go in with an operation of the ring, and come back.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ringhold_buffers::sync::atomic::Ordering;
use ringhold_buffers::{FixedBuf, FixedBufMut, IoBuf, IoBufMut, Slice};
use ringhold_runtime::ops::{
    Fixed, Keeper, Kept, Read, Receive, Send as SendOp, SendVectored, WriteStream, check_registered,
};
use ringhold_runtime::{Failed, Op, Operation};

use crate::sides::{Awaiting, Direction, Outbound, Ticket};
use crate::socket::interest;
use crate::stream::Stream;

/// How many bytes it was, and the buffer, which comes back with an error as well.
pub(crate) type Transfer<B> = Result<(usize, B), Failed<B>>;

impl Stream {
    pub(crate) async fn read_owned<B: IoBufMut>(&self, buffer: B) -> Transfer<B> {
        let receive = |buffer| Receive { file: self.socket.file().clone(), buffer };
        self.read_by(buffer, receive).await
    }

    pub(crate) async fn read_fixed<B: FixedBufMut>(&self, buffer: B) -> Transfer<B> {
        let file = || self.socket.file().clone();
        let read = |buffer| Fixed(Read { file: file(), alignment: None, buffer, offset: 0 });
        self.read_by(buffer, read).await
    }

    pub(crate) async fn write_owned<B: IoBuf>(&self, buffer: B) -> Transfer<B> {
        let send = |buffer| SendOp { file: self.socket.file().clone(), buffer };
        self.transfer::<_, _, Outbound>(Direction::Out, buffer, send).await
    }

    pub(crate) async fn write_vectored_owned<B: IoBuf>(&self, buffers: Vec<B>) -> Transfer<Vec<B>> {
        let send = |buffers| SendVectored::new(self.socket.file().clone(), buffers);
        self.transfer::<_, _, Outbound>(Direction::Out, buffers, send).await
    }

    pub(crate) async fn write_fixed<B: FixedBuf>(&self, buffer: B) -> Transfer<B> {
        if self.sends_fixed.load(Ordering::Relaxed) {
            return self.write_owned(check_fixed(buffer)?).await;
        }
        let write = |buffer| Fixed(WriteStream { file: self.socket.file().clone(), buffer });
        match self.transfer::<_, _, Outbound>(Direction::Out, buffer, write).await {
            Err(failed) if is_unsupported(&failed.error) => {
                self.sends_fixed.store(true, Ordering::Relaxed);
                self.write_owned(failed.buffer).await
            }
            outcome => outcome,
        }
    }

    pub(crate) async fn write_all_owned<B: IoBuf>(&self, buffer: B) -> Transfer<B> {
        let length = buffer.bytes_init();
        let send = |buffer: Slice<B>| SendOp { file: self.socket.file().clone(), buffer };
        self.write_all(buffer, length, send).await
    }

    pub(crate) async fn write_all_fixed<B: FixedBuf>(&self, buffer: B) -> Transfer<B> {
        if self.sends_fixed.load(Ordering::Relaxed) {
            return self.write_all_owned(check_fixed(buffer)?).await;
        }
        let length = buffer.bytes_init();
        let file = || self.socket.file().clone();
        let write = |buffer: Slice<B>| Fixed(WriteStream { file: file(), buffer });
        match self.write_all(buffer, length, write).await {
            // The first piece was refused, so nothing was written.
            Err(failed) if is_unsupported(&failed.error) => {
                self.sends_fixed.store(true, Ordering::Relaxed);
                self.write_all_owned(failed.buffer).await
            }
            outcome => outcome,
        }
    }

    async fn write_all<B, T>(
        &self,
        buffer: B,
        length: usize,
        make: impl Fn(Slice<B>) -> T,
    ) -> Transfer<B>
    where
        B: IoBuf,
        T: Operation<Output = Transfer<Slice<B>>>,
    {
        let mut rest = buffer.slice(..length);
        // An empty buffer goes through once: what is fixed says then that it is empty.
        loop {
            let begin = rest.begin();
            match self.transfer::<_, _, Outbound>(Direction::Out, rest, &make).await {
                Ok((count, part)) if begin + count == length => {
                    return Ok((length, part.into_inner()));
                }
                Ok((0, part)) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Err(Failed { error, buffer: part.into_inner() });
                }
                Ok((count, part)) => rest = part.into_inner().slice(begin + count..length),
                Err(Failed { error, buffer }) => {
                    return Err(Failed { error, buffer: buffer.into_inner() });
                }
            }
        }
    }

    /// Reads by an operation, unless an earlier one has brought something already.
    #[inline]
    async fn read_by<B, T>(&self, mut buffer: B, make: impl Fn(B) -> T) -> Transfer<B>
    where
        B: IoBufMut,
        T: Operation<Output = Transfer<B>>,
    {
        let side = self.side(Direction::In);
        if side.may_hold_something() {
            self.settle(Direction::In).await;
            match side.deliver_into(&mut buffer) {
                Some(Ok(count)) => return Ok((count, buffer)),
                Some(Err(error)) => return Err(Failed { error, buffer }),
                None => {}
            }
        }
        self.transfer::<_, _, Ticket>(Direction::In, buffer, make).await
    }

    /// Waits for this direction's orphans, and runs an operation of which nothing gets lost.
    #[inline]
    async fn transfer<B, T, K>(
        &self,
        direction: Direction,
        mut buffer: B,
        make: impl Fn(B) -> T,
    ) -> Transfer<B>
    where
        T: Operation<Output = Transfer<B>>,
        K: Keeper<Transfer<B>> + From<Ticket> + Into<Ticket>,
    {
        loop {
            if self.side(direction).has_orphan() {
                self.settle(direction).await;
            }
            match Transferring::<_, _, K>::new(self, direction, make(buffer)).await {
                // The opcodes of files don't wait on a socket that doesn't block.
                Err(failed) if failed.error.kind() == io::ErrorKind::WouldBlock => {
                    buffer = failed.buffer;
                    let events = interest(direction);
                    if let Err(error) = self.socket.ready(events).await {
                        return Err(Failed { error, buffer });
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

/// Whether the kernel, one before Linux 6.18, can't write a registered buffer without raising
/// `SIGPIPE` where the peer is gone.
fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

/// Refuses what the fixed opcode would refuse, for who goes on by another.
fn check_fixed<B: FixedBuf>(buffer: B) -> Result<B, Failed<B>> {
    match check_registered(&buffer) {
        Ok(()) => Ok(buffer),
        Err(error) => Err(Failed { error, buffer }),
    }
}

/// An operation that is an orphan if this is dropped before it is ready.
struct Transferring<'a, B, T, K>
where
    T: Operation<Output = Transfer<B>>,
    K: Keeper<Transfer<B>>,
{
    /// Dropped before the operation.
    awaiting: Awaiting<'a>,
    operation: Op<Kept<T, K>>,
}

impl<'a, B, T, K> Transferring<'a, B, T, K>
where
    T: Operation<Output = Transfer<B>>,
    K: Keeper<Transfer<B>> + From<Ticket>,
{
    #[inline]
    fn new(stream: &'a Stream, direction: Direction, operation: T) -> Self {
        let keeper = Ticket::new(&stream.sides, direction).into();
        Transferring {
            awaiting: Awaiting::new(stream.side(direction)),
            operation: Op::new(Kept { operation, keeper }),
        }
    }
}

impl<B, T, K> Unpin for Transferring<'_, B, T, K>
where
    T: Operation<Output = Transfer<B>>,
    K: Keeper<Transfer<B>>,
{
}

impl<B, T, K> Future for Transferring<'_, B, T, K>
where
    T: Operation<Output = Transfer<B>>,
    K: Keeper<Transfer<B>> + Into<Ticket>,
{
    type Output = Transfer<B>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Transfer<B>> {
        let (outcome, keeper) = ready!(Pin::new(&mut self.operation).poll(cx)).take();
        self.awaiting.finish(keeper.into());
        Poll::Ready(outcome)
    }
}
