//! The connections that come to a listener, as a stream.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use ringhold_runtime::ops::PollReady;
use ringhold_runtime::time::{Sleep, sleep};
use ringhold_runtime::{Fd, Op, poll_budget};

/// How long nothing is accepted after the first failure for want of something, and after many.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(crate) mod sealed {
    use super::{Arc, Fd, io};

    pub trait Listens {
        type Stream;

        /// What is waited for until there is a connection, and with which events.
        fn target(&self) -> (&Fd, u32);

        fn accept_now(&self) -> io::Result<Self::Stream>;
    }

    impl<L: Listens> Listens for &L {
        type Stream = L::Stream;

        fn target(&self) -> (&Fd, u32) {
            (**self).target()
        }

        fn accept_now(&self) -> io::Result<L::Stream> {
            (**self).accept_now()
        }
    }

    impl<L: Listens> Listens for Arc<L> {
        type Stream = L::Stream;

        fn target(&self) -> (&Fd, u32) {
            (**self).target()
        }

        fn accept_now(&self) -> io::Result<L::Stream> {
            (**self).accept_now()
        }
    }
}

/// A listener, one that is borrowed, or one that is shared.
pub trait Listener: sealed::Listens {}

impl<L: sealed::Listens> Listener for L {}

/// The connections that come to a listener; made by `incoming` and `into_incoming`, or of an `Arc`
/// of a listener by [`new`](Incoming::new).
///
/// It is a `Stream`, and has [`next`](Incoming::next) for those who want nothing else. It goes on
/// after errors. After one that says that something has run out – descriptors, or memory – it tries
/// again by itself, 5 ms later and then ever less often, up to once a second, until there is enough
/// again: a loop that only logs errors doesn't spin. What waits to be accepted meanwhile stays in
/// the listener. It ends with the runtime.
///
/// Any number may accept from one listener; each connection comes to one of them.
///
/// # Cancel safety
///
/// Safe: a dropped `next`, or the stream itself, has taken no connection.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let mut incoming = listener.incoming();
/// let server = incoming.next().await.expect("it ends with the runtime")?;
/// assert_eq!(server.peer_addr()?, client.local_addr()?);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub struct Incoming<L> {
    // Dropped before the listener.
    waiting: Option<Op<PollReady>>,
    listener: L,
    pausing: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
    is_over: bool,
}

impl<L> fmt::Debug for Incoming<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("is_pausing", &self.pausing.is_some())
            .finish_non_exhaustive()
    }
}

// The listener is never pinned.
impl<L> Unpin for Incoming<L> {}

impl<L: Listener> Incoming<L> {
    /// Of a listener, which may be borrowed or shared.
    pub fn new(listener: L) -> Incoming<L> {
        Incoming {
            listener,
            waiting: None,
            pausing: None,
            next_pause: SHORTEST_PAUSE,
            is_over: false,
        }
    }

    /// The next connection, once there is one.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM` leave the connection where it is;
    /// `ConnectionAborted` is about one that is gone. It goes on after any of them.
    ///
    /// # Cancel safety
    ///
    /// Safe: one that is dropped has taken no connection.
    pub async fn next(&mut self) -> Option<io::Result<L::Stream>> {
        poll_fn(|cx| self.poll_connection(cx)).await
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<L::Stream>>> {
        ready!(poll_budget(cx));
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            if let Some(pausing) = &mut self.pausing {
                ready!(pausing.as_mut().poll(cx));
                self.pausing = None;
            }
            if let Some(waiting) = &mut self.waiting {
                let outcome = ready!(Pin::new(waiting).poll(cx));
                self.waiting = None;
                if let Err(error) = outcome {
                    self.is_over = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match self.listener.accept_now() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let (target, events) = self.listener.target();
                    self.waiting = Some(Op::new(PollReady::new(target.clone(), events)));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => {
                    self.note(&outcome);
                    return Poll::Ready(Some(outcome));
                }
            }
        }
    }

    fn note(&mut self, outcome: &io::Result<L::Stream>) {
        match outcome {
            Ok(_) => self.next_pause = SHORTEST_PAUSE,
            Err(error) if has_run_out(error) => {
                self.pausing = Some(Box::pin(sleep(self.next_pause)));
                self.next_pause = LONGEST_PAUSE.min(self.next_pause * 2);
            }
            Err(_) => {}
        }
    }
}

/// Whether it is about something that there may be again.
fn has_run_out(error: &io::Error) -> bool {
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| exhausted.contains(&code))
}

impl<L: Listener> Stream for Incoming<L> {
    type Item = io::Result<L::Stream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_connection(cx)
    }
}

/// Methods of a listener.
macro_rules! incoming {
    ($listener:ty, $stream:ty) => {
        impl $listener {
            /// The connections that come, as a stream, which waits a moment where descriptors or
            /// memory have run out.
            pub fn incoming(&self) -> $crate::Incoming<&$listener> {
                $crate::Incoming::new(self)
            }

            /// As [`incoming`](Self::incoming), with the listener in the stream.
            pub fn into_incoming(self) -> $crate::Incoming<$listener> {
                $crate::Incoming::new(self)
            }
        }

        impl $crate::incoming::sealed::Listens for $listener {
            type Stream = $stream;

            fn target(&self) -> (&ringhold_runtime::Fd, u32) {
                self.0.target($crate::sides::Direction::In)
            }

            fn accept_now(&self) -> std::io::Result<$stream> {
                self.accept_now().map(|(stream, _)| stream)
            }
        }
    };
}

pub(crate) use incoming;
