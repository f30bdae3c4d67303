//! Addresses of hosts: what can be turned into some, and how names are resolved.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use ringhold_runtime::{SocketAddress, task};

/// What [`lookup_host`] and the functions that bind or connect take: addresses, `"host:port"`, and
/// pairs of a host and a port. As in tokio, it can't be implemented outside.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::TcpListener;
///
/// let by_text = TcpListener::bind("127.0.0.1:0").await?;
/// let by_parts = TcpListener::bind(("127.0.0.1", 0)).await?;
/// assert_ne!(by_text.local_addr()?, by_parts.local_addr()?);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub trait ToSocketAddrs: sealed::Named {}

/// Addresses, or what has to be asked for.
#[derive(Debug)]
pub enum Targets {
    /// It is known already.
    Known(Vec<SocketAddr>),
    /// A host and a port.
    Host(String, u16),
    /// It is no address.
    Invalid(&'static str),
}

mod sealed {
    use super::Targets;

    /// Seals what can be turned into addresses.
    pub trait Named {
        fn targets(&self) -> Targets;
    }
}

macro_rules! known {
    ($($type:ty),*) => {$(
        impl ToSocketAddrs for $type {}

        impl sealed::Named for $type {
            fn targets(&self) -> Targets {
                Targets::Known(vec![SocketAddr::from(*self)])
            }
        }
    )*};
}

known!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl ToSocketAddrs for &[SocketAddr] {}

impl sealed::Named for &[SocketAddr] {
    fn targets(&self) -> Targets {
        Targets::Known(self.to_vec())
    }
}

impl ToSocketAddrs for (&str, u16) {}

impl sealed::Named for (&str, u16) {
    fn targets(&self) -> Targets {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(ip) => Targets::Known(vec![SocketAddr::new(ip, port)]),
            Err(_) => Targets::Host(host.to_owned(), port),
        }
    }
}

impl ToSocketAddrs for (String, u16) {}

impl sealed::Named for (String, u16) {
    fn targets(&self) -> Targets {
        (self.0.as_str(), self.1).targets()
    }
}

impl ToSocketAddrs for str {}

impl sealed::Named for str {
    fn targets(&self) -> Targets {
        if let Ok(address) = self.parse::<SocketAddr>() {
            return Targets::Known(vec![address]);
        }
        let Some((host, port)) = self.rsplit_once(':') else {
            return Targets::Invalid("invalid socket address: it is not of the form host:port");
        };
        match port.parse() {
            Ok(port) => Targets::Host(host.to_owned(), port),
            Err(_) => Targets::Invalid("invalid port value"),
        }
    }
}

impl ToSocketAddrs for String {}

impl sealed::Named for String {
    fn targets(&self) -> Targets {
        self.as_str().targets()
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {}

impl<T: sealed::Named + ?Sized> sealed::Named for &T {
    fn targets(&self) -> Targets {
        (**self).targets()
    }
}

/// The addresses; names are asked for on a thread that may block.
pub(crate) async fn resolve(targets: Targets) -> io::Result<Vec<SocketAddr>> {
    match targets {
        Targets::Known(addresses) => Ok(addresses),
        Targets::Invalid(what) => Err(io::Error::new(io::ErrorKind::InvalidInput, what)),
        Targets::Host(host, port) => {
            let system = ringhold_runtime::system();
            let ask = move || system.sockets().resolve(&host, port);
            match task::spawn_blocking(ask).await {
                Ok(addresses) => addresses,
                Err(error) => Err(io::Error::other(error)),
            }
        }
    }
}

/// Tries each of the addresses, and gives the first success or the last error.
pub(crate) async fn first_that<T, F: Future<Output = io::Result<T>>>(
    targets: Targets,
    attempt: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut last = None;
    for address in resolve(targets).await? {
        match attempt(address).await {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

/// How many turns of the shard it takes at most until a socket is closed that was dropped with an
/// operation in flight: the cancel, its completion, the close.
const TURNS_TO_CLOSE: usize = 4;

/// As [`first_that`], for what takes an address. One that is in use may be so by a socket that was
/// dropped just now, and is tried again when that is closed.
pub(crate) async fn first_bound<T>(
    targets: Targets,
    attempt: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let attempt = &attempt;
    first_that(targets, |address| async move {
        let mut outcome = attempt(address);
        for _ in 0..TURNS_TO_CLOSE {
            match &outcome {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                _ => break,
            }
            task::yield_now().await;
            outcome = attempt(address);
        }
        outcome
    })
    .await
}

#[cold]
fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any address")
}

/// What the kernel said, in std's words.
pub(crate) fn inet(address: &SocketAddress) -> io::Result<SocketAddr> {
    address.to_inet().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the socket is none of the Internet's families")
    })
}

/// `AF_*` of an address.
pub(crate) fn family(address: SocketAddr) -> i32 {
    match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    }
}

/// The addresses of a host.
///
/// # Errors
///
/// `InvalidInput` for what is no address; otherwise what the resolver says.
///
/// # Cancel safety
///
/// Safe: it changes nothing.
///
/// # Kernel
///
/// An address is only parsed; a name is asked for on a thread that may block (`getaddrinfo`).
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// let mut addresses = ringhold_net::lookup_host("127.0.0.1:80").await?;
/// assert_eq!(addresses.next(), Some(([127, 0, 0, 1], 80).into()));
/// assert_eq!(addresses.next(), None);
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
pub async fn lookup_host<T>(host: T) -> io::Result<impl Iterator<Item = SocketAddr>>
where
    T: ToSocketAddrs,
{
    let targets = host.targets();
    resolve(targets).await.map(Vec::into_iter)
}

/// What an argument names.
pub(crate) fn targets<A: ToSocketAddrs>(address: &A) -> Targets {
    sealed::Named::targets(address)
}
