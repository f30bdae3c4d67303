//! Who the peer of a Unix stream is.

/// The user, group and process that made the other end.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// let (left, _right) = ringhold_net::UnixStream::pair()?;
/// assert_eq!(left.peer_cred()?.pid(), Some(std::process::id() as i32));
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UCred {
    pid: u32,
    uid: u32,
    gid: u32,
}

impl UCred {
    pub(super) fn new([pid, uid, gid]: [u32; 3]) -> UCred {
        UCred { pid, uid, gid }
    }

    /// The user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// The process, if it can be seen from here.
    pub fn pid(&self) -> Option<i32> {
        i32::try_from(self.pid).ok().filter(|&pid| pid > 0)
    }
}
