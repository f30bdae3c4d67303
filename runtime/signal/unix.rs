//! Listening for signals by their kinds.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::raw::c_int;
use std::task::{Context, Poll};

use crate::signal::hub::Listener;

/// What no program can listen for: the kernel lets no program catch the first two, and after the
/// others a handler would return to the very instruction that failed.
const FORBIDDEN: [(c_int, &str); 5] = [
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGSEGV, "SIGSEGV"),
];

/// Which signal.
///
/// ```
/// use ringhold_runtime::signal::unix::SignalKind;
///
/// assert_eq!(SignalKind::from_raw(libc::SIGHUP), SignalKind::hangup());
/// assert_eq!(SignalKind::terminate().as_raw_value(), libc::SIGTERM);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignalKind(c_int);

impl SignalKind {
    /// The signal of this number.
    pub const fn from_raw(signum: c_int) -> SignalKind {
        SignalKind(signum)
    }

    /// Its number.
    pub const fn as_raw_value(&self) -> c_int {
        self.0
    }

    /// `SIGALRM`: a timer of `alarm(2)` is over. It ends the process by default.
    pub const fn alarm() -> SignalKind {
        SignalKind(libc::SIGALRM)
    }

    /// `SIGCHLD`: something became of a child. It is ignored by default.
    pub const fn child() -> SignalKind {
        SignalKind(libc::SIGCHLD)
    }

    /// `SIGHUP`: the terminal is gone. It ends the process by default.
    pub const fn hangup() -> SignalKind {
        SignalKind(libc::SIGHUP)
    }

    /// `SIGINT`: ctrl-c. It ends the process by default.
    pub const fn interrupt() -> SignalKind {
        SignalKind(libc::SIGINT)
    }

    /// `SIGIO`: a descriptor is ready, for those who asked to be told so. It ends the process by
    /// default.
    pub const fn io() -> SignalKind {
        SignalKind(libc::SIGIO)
    }

    /// `SIGPIPE`: a write to a pipe without a reader. It ends the process by default, but programs
    /// in Rust ignore it from their start.
    pub const fn pipe() -> SignalKind {
        SignalKind(libc::SIGPIPE)
    }

    /// `SIGQUIT`: ctrl-\. It ends the process and leaves a core by default.
    pub const fn quit() -> SignalKind {
        SignalKind(libc::SIGQUIT)
    }

    /// `SIGTERM`: the process is asked to end. It ends the process by default.
    pub const fn terminate() -> SignalKind {
        SignalKind(libc::SIGTERM)
    }

    /// `SIGUSR1`. It ends the process by default.
    pub const fn user_defined1() -> SignalKind {
        SignalKind(libc::SIGUSR1)
    }

    /// `SIGUSR2`. It ends the process by default.
    pub const fn user_defined2() -> SignalKind {
        SignalKind(libc::SIGUSR2)
    }

    /// `SIGWINCH`: the terminal has another size. It is ignored by default.
    pub const fn window_change() -> SignalKind {
        SignalKind(libc::SIGWINCH)
    }
}

impl From<c_int> for SignalKind {
    fn from(signum: c_int) -> SignalKind {
        SignalKind(signum)
    }
}

impl From<SignalKind> for c_int {
    fn from(kind: SignalKind) -> c_int {
        kind.0
    }
}

/// A listener for one kind of signal: see [`signal`].
#[must_use = "a listener does nothing unless it is polled"]
pub struct Signal {
    kind: SignalKind,
    listener: Listener,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Listens for a kind of signal from now on, or from where the last listener ended.
///
/// Each listener is told of each signal; of those that come before it looks it is told once.
///
/// A signal that was listened for once is remembered from then on. A listener begins where the last
/// one of its task on this shard ended, so that a loop which listens anew in each round misses
/// nothing that comes in between; where there was none, with what no listener of its shard has
/// heard of (of the process, on a shard that has not listened yet, and on no shard). What came
/// before anything in the process listened is told to no listener.
///
/// As in tokio the signal's default action doesn't come back when the last listener is gone: a
/// `SIGTERM` that is not listened for any more does nothing.
///
/// # Errors
///
/// `InvalidInput` for a number that is no signal, and for `SIGKILL`, `SIGSTOP`, `SIGILL`, `SIGFPE`
/// and `SIGSEGV`, which no program can listen for; `EMFILE` where the process has no descriptor
/// left.
///
/// # Kernel
///
/// The first listener for a signal installs a handler (`sigaction(2)`). It writes to an event
/// (`eventfd(2)`) of each shard that has listeners, which `IORING_OP_POLL_ADD` waits for. One that
/// is made on no shard has an event of its own.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_runtime::signal::unix::{SignalKind, signal};
///
/// let mut changes = signal(SignalKind::window_change())?;
/// // Somebody sends the process the signal: here it is the process itself.
/// # let own = std::process::id().to_string();
/// std::process::Command::new("kill").args(["-WINCH", &own]).status()?;
/// assert_eq!(changes.recv().await, Some(()));
///
/// let refused = signal(SignalKind::from_raw(libc::SIGKILL)).unwrap_err();
/// assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    check(kind)?;
    Ok(Signal { kind, listener: Listener::new(kind.0)? })
}

fn check(kind: SignalKind) -> io::Result<()> {
    let forbidden = FORBIDDEN.iter().find(|(number, _)| *number == kind.0);
    let what = match forbidden {
        None if kind.0 > 0 => return Ok(()),
        None => format!("{} is not the number of a signal", kind.0),
        Some((_, name)) => format!("nobody can listen for {name}: no handler may catch it"),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

impl Signal {
    /// Waits for the next signal. One that came since the listener last looked is told at once.
    ///
    /// It gives `None` only where nothing can be waited for any more, which is when its runtime has
    /// ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: a signal that comes for a dropped call is told by the next one.
    pub async fn recv(&mut self) -> Option<()> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Signal::recv), for those who poll by hand.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.poll_signal(cx).map(Result::ok)
    }

    pub(super) fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.listener.poll(cx)
    }
}
