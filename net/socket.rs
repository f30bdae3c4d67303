//! What all sockets have in common: try now, and wait for readiness on the ring if it is too early.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use ringhold_buffers::sync::atomic::{AtomicBool, Ordering};
use ringhold_runtime::ops::{Connect, PollReady};
use ringhold_runtime::{
    Fd, Gate, Op, SocketAddress, Sockets, Waiting, descriptor, poll_budget, system,
};

use crate::readiness::{Interest, Ready};
use crate::sides::Direction;

/// An open socket.
///
/// Whatever is asked of it in tokio's way is first tried. If that would block, an operation on the
/// ring waits until the socket is ready, and it is tried again. So whoever is dropped while waiting
/// has taken nothing that could be lost.
pub(crate) struct Socket {
    // Dropped before the descriptor, which they may hold as well.
    reader: Waiting,
    writer: Waiting,
    gates: [Gate; 2],
    descriptor: Descriptor,
}

/// A socket's descriptor, which is closed here and now when it is dropped: what holds a port gives
/// it back, and a peer sees the end, before the one who drops it goes on. The ring would do so at
/// the end of the turn, and waits no less for a socket that lingers.
struct Descriptor {
    file: Option<Fd>,
    /// It has, or may get, a name that others want to have after it: it is waited for through
    /// gates, so that no wait holds it open.
    is_named: AtomicBool,
    /// Other code has, or had, its number, and may have made others of it.
    is_lent: AtomicBool,
}

impl Descriptor {
    fn file(&self) -> &Fd {
        self.file.as_ref().expect("a socket has its descriptor until it is dropped")
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        if let Err(held) = file.close_now()
            && !self.is_lent.load(Ordering::Relaxed)
        {
            // An operation that was dropped on another shard holds it until that comes round. It is
            // nobody else's, so its peer may be told of the end now. What others may have as well
            // is left alone: to shut it down would end it for them, too.
            held.shut_down();
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file().fmt(f)
    }
}

fn is_too_early(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl Socket {
    pub(crate) fn new(file: Fd) -> Socket {
        file.set_passing();
        let descriptor = Descriptor {
            file: Some(file),
            is_named: AtomicBool::new(false),
            is_lent: AtomicBool::new(false),
        };
        let (reader, writer) = (Waiting::default(), Waiting::default());
        Socket { reader, writer, gates: Default::default(), descriptor }
    }

    /// Makes a socket of the entered runtime's system.
    pub(crate) fn open(domain: i32, kind: i32, protocol: i32) -> io::Result<Socket> {
        let system = system();
        let number = system.sockets().open(domain, kind, protocol)?;
        let socket = Socket::new(Fd::new(number, system));
        Ok(if kind == libc::SOCK_DGRAM { socket.named() } else { socket })
    }

    /// Makes two Unix sockets that are connected to each other.
    pub(crate) fn pair(kind: i32) -> io::Result<[Socket; 2]> {
        let system = system();
        let numbers = system.sockets().pair(kind)?;
        let socket = |number| Socket::new(Fd::new(number, system.clone()));
        let is_stream = kind == libc::SOCK_STREAM;
        Ok(numbers.map(|number| if is_stream { socket(number) } else { socket(number).named() }))
    }

    /// Takes over a socket of std's.
    #[track_caller]
    pub(crate) fn adopt(owned: OwnedFd) -> Socket {
        let socket = Socket::new(descriptor::adopt(owned));
        socket.descriptor.is_lent.store(true, Ordering::Relaxed);
        socket
    }

    /// The socket, as one whose name others may want when it is dropped.
    pub(crate) fn named(self) -> Socket {
        self.descriptor.is_named.store(true, Ordering::Relaxed);
        self
    }

    pub(crate) fn file(&self) -> &Fd {
        self.descriptor.file()
    }

    #[track_caller]
    pub(crate) fn borrow(&self) -> BorrowedFd<'_> {
        self.descriptor.is_lent.store(true, Ordering::Relaxed);
        descriptor::borrow(self.file())
    }

    /// Hands the descriptor over to std; another one of the same socket where an operation that was
    /// dropped still holds it.
    pub(crate) fn into_owned(self) -> io::Result<OwnedFd> {
        let Socket { reader, writer, gates, mut descriptor } = self;
        drop((reader, writer, gates));
        let file = descriptor.file.take().expect("a socket is given away once");
        file.settle();
        match descriptor::release(file) {
            Ok(owned) => Ok(owned),
            Err(shared) => descriptor::borrow(&shared).try_clone_to_owned(),
        }
    }

    /// Who answers at once, and the number to ask with.
    pub(crate) fn now(&self) -> (&dyn Sockets, i32) {
        let file = self.file();
        (file.system().sockets(), file.descriptor())
    }

    pub(crate) fn bind(&self, address: &SocketAddress) -> io::Result<()> {
        let (sockets, number) = self.now();
        sockets.bind(number, address)
    }

    pub(crate) fn listen(&self, backlog: u32) -> io::Result<()> {
        let (sockets, number) = self.now();
        sockets.listen(number, i32::try_from(backlog).unwrap_or(i32::MAX))?;
        self.descriptor.is_named.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddress> {
        let (sockets, number) = self.now();
        sockets.local_address(number)
    }

    pub(crate) fn peer_address(&self) -> io::Result<SocketAddress> {
        let (sockets, number) = self.now();
        sockets.peer_address(number)
    }

    /// Connects a socket of datagrams.
    pub(crate) fn connect_now(&self, address: &SocketAddress) -> io::Result<()> {
        let (sockets, number) = self.now();
        sockets.connect_now(number, address)
    }

    /// Connects, and waits for it on the ring.
    pub(crate) async fn connect(&self, address: &SocketAddress) -> io::Result<()> {
        Op::new(Connect::new(self.file().clone(), address)).await
    }

    /// Takes a connection that waits.
    pub(crate) fn accept_now(&self) -> io::Result<(Socket, SocketAddress)> {
        let (sockets, number) = self.now();
        let (accepted, peer) = sockets.accept_now(number)?;
        Ok((Socket::new(Fd::new(accepted, self.file().system().clone())), peer))
    }

    fn waiting(&self, direction: Direction) -> &Waiting {
        match direction {
            Direction::In => &self.reader,
            Direction::Out => &self.writer,
        }
    }

    /// What is waited for until a direction is ready, and with which events.
    pub(crate) fn target(&self, direction: Direction) -> (&Fd, u32) {
        let (file, events) = (self.file(), interest(direction).events());
        if self.descriptor.is_named.load(Ordering::Relaxed) {
            self.gates[direction as usize].of(file, events)
        } else {
            (file, events)
        }
    }

    /// Waits for all that an interest names, and says what of it is there: at least one event.
    async fn wait(&self, interest: Interest) -> io::Result<u32> {
        let (target, events) = match interest {
            Interest::READABLE => self.target(Direction::In),
            Interest::WRITABLE => self.target(Direction::Out),
            _ => (self.file(), interest.events()),
        };
        let is_gate = target.descriptor() != self.file().descriptor();
        loop {
            let told = Op::new(PollReady::new(target.clone(), events)).await?;
            if !is_gate {
                return Ok(told);
            }
            // A gate says that something has happened. What that was may be over, where another
            // process or thread was faster.
            let (sockets, number) = self.now();
            let ready = sockets.readiness(number, interest.events());
            if ready != 0 {
                return Ok(ready);
            }
        }
    }

    /// Waits until a direction is ready, for the one who polls it. It may be ready no more.
    pub(crate) fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let (target, events) = self.target(direction);
        self.waiting(direction).poll(target, events, cx)
    }

    /// Waits for more to be read, after a read that took less than there was room for.
    /// `told` is what [`told`](Socket::told) was before it.
    pub(crate) fn poll_more(&self, told: u32, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (target, events) = self.target(Direction::In);
        self.reader.poll_after_short_read(told, target, events, cx)
    }

    /// How often something was told of what there is to be read.
    pub(crate) fn told(&self) -> u32 {
        self.reader.told()
    }

    /// Waits until what was asked for is there.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        poll_fn(|cx| poll_budget(cx)).await;
        let events = self.wait(interest).await?;
        Ok(Ready::from_events(events) & Ready::from_interest(interest))
    }

    /// Tries until it isn't too early, for the one who polls this direction.
    pub(crate) fn poll_io<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        attempt: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let (target, events) = self.target(direction);
        self.waiting(direction).poll_io(target, events, cx, attempt)
    }

    /// Tries until it isn't too early, for any number of tasks.
    pub(crate) async fn io<R>(
        &self,
        interest: Interest,
        mut attempt: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        poll_fn(|cx| poll_budget(cx)).await;
        loop {
            match attempt() {
                Err(error) if is_too_early(&error) => {
                    self.wait(interest).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }
}

/// What a direction waits for.
pub(crate) fn interest(direction: Direction) -> Interest {
    match direction {
        Direction::In => Interest::READABLE,
        Direction::Out => Interest::WRITABLE,
    }
}
