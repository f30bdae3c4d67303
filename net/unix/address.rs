//! The names of Unix sockets.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as StdAddress;
use std::path::Path;

use ringhold_runtime::SocketAddress;

/// The name of a Unix socket: a path, an abstract name, or none.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_net::UnixListener;
///
/// # let name = format!("\0ringhold-address-{}", std::process::id());
/// // A path that begins with a NUL is an abstract name, which no file system knows.
/// let listener = UnixListener::bind(&name)?;
/// let address = listener.local_addr()?;
/// assert_eq!(address.as_abstract_name(), Some(&name.as_bytes()[1..]));
/// assert_eq!((address.as_pathname(), address.is_unnamed()), (None, false));
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct SocketAddr(pub(super) SocketAddress);

impl SocketAddr {
    fn name(&self) -> &[u8] {
        self.0.unix_name().unwrap_or_default()
    }

    /// Whether it has no name.
    pub fn is_unnamed(&self) -> bool {
        self.name().is_empty()
    }

    /// The path, if it is one.
    pub fn as_pathname(&self) -> Option<&Path> {
        match self.name() {
            [] | [0, ..] => None,
            path => Some(Path::new(OsStr::from_bytes(path))),
        }
    }

    /// The abstract name, if it is one, without the NUL that it begins with.
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match self.name() {
            [0, name @ ..] => Some(name),
            _ => None,
        }
    }
}

impl fmt::Debug for SocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_pathname(), self.as_abstract_name()) {
            (Some(path), _) => write!(f, "{path:?} (pathname)"),
            (None, Some(name)) => write!(f, "\"{}\" (abstract)", name.escape_ascii()),
            (None, None) => f.write_str("(unnamed)"),
        }
    }
}

impl From<StdAddress> for SocketAddr {
    fn from(address: StdAddress) -> SocketAddr {
        let name = match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => path.as_os_str().as_bytes().to_vec(),
            (None, Some(name)) => [&[0], name].concat(),
            (None, None) => Vec::new(),
        };
        SocketAddr(SocketAddress::unix(&name).expect("what std has as an address is one"))
    }
}

/// A path of 108 bytes, which a peer that is no program of std's may be bound to, is more than std
/// can make an address of: it becomes one without a name.
impl From<SocketAddr> for StdAddress {
    fn from(address: SocketAddr) -> StdAddress {
        let unnamed = || StdAddress::from_pathname("").expect("no name is one");
        match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => StdAddress::from_pathname(path).unwrap_or_else(|_| unnamed()),
            (None, Some(name)) => {
                StdAddress::from_abstract_name(name).unwrap_or_else(|_| unnamed())
            }
            (None, None) => unnamed(),
        }
    }
}

/// What the kernel said.
pub(super) fn address(address: &SocketAddress) -> io::Result<SocketAddr> {
    Ok(SocketAddr(*address))
}

/// The address that a path means.
pub(super) fn named(path: &Path) -> io::Result<SocketAddress> {
    SocketAddress::unix(path.as_os_str().as_bytes())
}
