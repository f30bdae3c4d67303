//! A Unix socket that is not yet a listener, a stream or a socket of datagrams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use crate::socket::Socket;
use crate::unix::address::named;
use crate::unix::{UnixDatagram, UnixListener, UnixStream};

/// A Unix socket that is given a name before it listens or connects.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::{UnixSocket, UnixStream};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("socket");
/// let socket = UnixSocket::new_stream()?;
/// socket.bind(&path)?;
/// let listener = socket.listen(16)?;
/// UnixStream::connect(&path).await?;
/// listener.accept().await?;
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct UnixSocket {
    socket: Socket,
    kind: i32,
}

impl UnixSocket {
    fn new(kind: i32) -> io::Result<UnixSocket> {
        Ok(UnixSocket { socket: Socket::open(libc::AF_UNIX, kind, 0)?, kind })
    }

    /// A socket of datagrams.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOBUFS`.
    pub fn new_datagram() -> io::Result<UnixSocket> {
        UnixSocket::new(libc::SOCK_DGRAM)
    }

    /// A socket of streams.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOBUFS`.
    pub fn new_stream() -> io::Result<UnixSocket> {
        UnixSocket::new(libc::SOCK_STREAM)
    }

    /// Refuses what only the other kind can do.
    fn check(&self, kind: i32, what: &'static str) -> io::Result<()> {
        match self.kind == kind {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, what)),
        }
    }

    /// Binds it to a path, or to an abstract name if the path begins with a NUL.
    ///
    /// # Errors
    ///
    /// `AddrInUse` where there is a file already; `NotFound`, `PermissionDenied`; `InvalidInput`
    /// for a path that is too long.
    pub fn bind(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.socket.bind(&named(path.as_ref())?)
    }

    /// Lets peers connect, of which at most `backlog` wait to be accepted.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a socket of datagrams, and for one without a name.
    pub fn listen(self, backlog: u32) -> io::Result<UnixListener> {
        self.check(libc::SOCK_STREAM, "a socket of datagrams can't listen")?;
        self.socket.listen(backlog)?;
        Ok(UnixListener::new(self.socket))
    }

    /// Connects to the listener at a path, or at an abstract name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a socket of datagrams; and as for
    /// [`UnixStream::connect`](UnixStream::connect).
    ///
    /// # Cancel safety
    ///
    /// Safe: the socket is closed.
    pub async fn connect(self, path: impl AsRef<Path>) -> io::Result<UnixStream> {
        self.check(libc::SOCK_STREAM, "a socket of datagrams is connected as a UnixDatagram")?;
        let address = named(path.as_ref())?;
        self.socket.connect(&address).await?;
        Ok(UnixStream::new(self.socket))
    }

    /// The socket of datagrams that it is.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a socket of streams.
    pub fn datagram(self) -> io::Result<UnixDatagram> {
        self.check(libc::SOCK_DGRAM, "a socket of streams carries no datagrams")?;
        Ok(UnixDatagram::new(self.socket))
    }
}

/// A simulated socket has no descriptor, and panics.
impl AsFd for UnixSocket {
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.borrow()
    }
}

/// A simulated socket has no descriptor, and panics.
impl AsRawFd for UnixSocket {
    #[track_caller]
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
