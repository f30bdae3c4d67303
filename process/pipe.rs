//! The pipes to and from a child.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::process::{self, Stdio};
use std::task::{Context, Poll, ready};

use ringhold_runtime::{Fd, Gate, Waiting, descriptor, system};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// This process's end of a pipe.
///
/// Whatever is asked of it is first tried. If that would wait, an operation on the ring waits until
/// the pipe is ready, and it is tried again. So whoever is dropped while waiting has taken nothing
/// that could be lost.
struct Pipe {
    waiting: Waiting,
    /// What is waited for, so that the wait doesn't hold the end open.
    gate: Gate,
    /// There until it is given away or dropped.
    end: Option<Fd>,
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.fmt(f)
    }
}

impl Pipe {
    fn new(end: OwnedFd) -> io::Result<Pipe> {
        let processes = system();
        processes.processes()?.set_waits(end.as_raw_fd(), false)?;
        let end = descriptor::adopt(end);
        end.set_passing();
        Ok(Pipe { waiting: Waiting::looking(), gate: Gate::default(), end: Some(end) })
    }

    fn end(&self) -> &Fd {
        self.end.as_ref().expect("a pipe has its end until it is given away")
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let end = self.end();
        let processes = end.system().processes()?;
        let room = buffer.initialize_unfilled();
        let attempt = || processes.read_now(end.descriptor(), room);
        let (target, events) = self.gate.of(end, libc::POLLIN as u32);
        let count = ready!(self.waiting.poll_io(target, events, cx, attempt))?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let end = self.end();
        let processes = end.system().processes()?;
        let attempt = || processes.write_now(end.descriptor(), buffers);
        let (target, events) = self.gate.of(end, libc::POLLOUT as u32);
        self.waiting.poll_io(target, events, cx, attempt)
    }

    /// Hands the end over, as std has it: one that waits.
    fn into_owned(mut self) -> io::Result<OwnedFd> {
        self.end().system().processes()?.set_waits(self.end().descriptor(), true)?;
        drop(mem::take(&mut self.waiting));
        let end = self.end.take().expect("a pipe is given away once");
        end.settle();
        match descriptor::release(end) {
            Ok(owned) => Ok(owned),
            // What waited for it, and was dropped just now, holds it a little longer.
            Err(shared) => descriptor::borrow(&shared).try_clone_to_owned(),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(mem::take(&mut self.waiting));
        if let Some(end) = self.end.take() {
            // Here and now, since the child may wait for it. Where something holds it a little
            // longer, that closes it.
            drop(end.close_now());
        }
    }
}

macro_rules! pipe {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Debug)]
        pub struct $name(Pipe);

        impl $name {
            /// Takes over a pipe of std's.
            ///
            /// # Errors
            ///
            /// `Unsupported` on a simulated host, which has no processes.
            pub fn from_std(inner: process::$name) -> io::Result<$name> {
                Pipe::new(inner.into()).map($name)
            }

            /// Hands the descriptor over. Reads and writes of it wait, as std's do.
            ///
            /// # Errors
            ///
            /// `EMFILE` where an operation that was dropped still holds the pipe, and the process
            /// has no other descriptor left.
            pub fn into_owned_fd(self) -> io::Result<OwnedFd> {
                self.0.into_owned()
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.0.end().real_descriptor()
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                descriptor::borrow(self.0.end())
            }
        }

        /// For another child.
        impl TryFrom<$name> for Stdio {
            type Error = io::Error;

            fn try_from(pipe: $name) -> io::Result<Stdio> {
                pipe.into_owned_fd().map(Stdio::from)
            }
        }
    };
}

pipe! {
    /// The pipe to a child's standard input. Dropped, on any thread and whatever waited for it, it
    /// is closed when the drop returns, and the child comes to the input's end.
    ///
    /// As in tokio, `flush` and `shutdown` have nothing to do, and the pipe is still open after
    /// them.
    ///
    /// A write to a child that reads no more is a `BrokenPipe`. Programs in Rust ignore `SIGPIPE`
    /// from their start; in one that doesn't (its `main` is not Rust's, or has set the signal back)
    /// the write raises none since Linux 6.18 (`RWF_NOSIGNAL`). Before, it ends the process there,
    /// as every write to a pipe does.
    ///
    /// # Cancel safety
    ///
    /// A write that is dropped has written nothing.
    ChildStdin
}

pipe! {
    /// The pipe from a child's standard output.
    ///
    /// # Cancel safety
    ///
    /// A read that is dropped has taken nothing.
    ChildStdout
}

pipe! {
    /// The pipe from a child's standard error.
    ///
    /// # Cancel safety
    ///
    /// A read that is dropped has taken nothing.
    ChildStderr
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ChildStdout {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buffer)
    }
}

impl AsyncRead for ChildStderr {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buffer)
    }
}
