//! What a socket can be waited for, and what it turned out to be ready for.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// What is asked about a socket; tokio's type of this name belongs to its own driver.
///
/// ```
/// use ringhold_net::Interest;
///
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.is_readable() && both.is_writable() && !both.is_priority());
/// assert_eq!(both.remove(Interest::WRITABLE), Some(Interest::READABLE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// That there is something to be read, or the peer will send no more.
    pub const READABLE: Interest = Interest(1);
    /// That there is room for what is to be written.
    pub const WRITABLE: Interest = Interest(2);
    /// That there is urgent data.
    pub const PRIORITY: Interest = Interest(4);
    /// That there is an error to be taken.
    pub const ERROR: Interest = Interest(8);

    /// Whether it includes [`READABLE`](Interest::READABLE).
    pub const fn is_readable(self) -> bool {
        self.0 & Interest::READABLE.0 != 0
    }

    /// Whether it includes [`WRITABLE`](Interest::WRITABLE).
    pub const fn is_writable(self) -> bool {
        self.0 & Interest::WRITABLE.0 != 0
    }

    /// Whether it includes [`PRIORITY`](Interest::PRIORITY).
    pub const fn is_priority(self) -> bool {
        self.0 & Interest::PRIORITY.0 != 0
    }

    /// Whether it includes [`ERROR`](Interest::ERROR).
    pub const fn is_error(self) -> bool {
        self.0 & Interest::ERROR.0 != 0
    }

    /// Both.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "tokio has this name")]
    pub const fn add(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// This without `other`, if anything is left.
    #[must_use = "this returns the result and changes nothing"]
    pub const fn remove(self, other: Interest) -> Option<Interest> {
        let left = self.0 & !other.0;
        if left == 0 { None } else { Some(Interest(left)) }
    }

    /// `POLL*`, as the kernel is asked.
    pub(crate) fn events(self) -> u32 {
        let mut events = 0;
        if self.is_readable() {
            events |= libc::POLLIN | libc::POLLRDHUP;
        }
        if self.is_writable() {
            events |= libc::POLLOUT;
        }
        if self.is_priority() {
            events |= libc::POLLPRI;
        }
        if self.is_error() {
            events |= libc::POLLERR;
        }
        events as u16 as u32
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        self.add(other)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Interest) {
        *self = self.add(other);
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["READABLE", "WRITABLE", "PRIORITY", "ERROR"];
        write_names(f, usize::from(self.0), &names)
    }
}

fn write_names(f: &mut fmt::Formatter<'_>, bits: usize, names: &[&str]) -> fmt::Result {
    let is_set = |(index, _): &(usize, &&str)| bits >> index & 1 == 1;
    let set: Vec<&str> = names.iter().enumerate().filter(is_set).map(|(_, name)| *name).collect();
    f.write_str(if set.is_empty() { "EMPTY" } else { "" })?;
    f.write_str(&set.join(" | "))
}

/// What a socket is ready for; tokio's type of this name belongs to its own driver.
///
/// ```
/// use ringhold_net::{Interest, Ready};
///
/// let ready = Ready::READABLE | Ready::WRITE_CLOSED;
/// assert!(ready.is_readable() && ready.is_writable() && !ready.is_read_closed());
/// assert!(Ready::from_interest(Interest::READABLE).contains(Ready::READ_CLOSED));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ready(usize);

impl Ready {
    /// Nothing.
    pub const EMPTY: Ready = Ready(0);
    /// There is something to be read.
    pub const READABLE: Ready = Ready(1);
    /// There is room for what is to be written.
    pub const WRITABLE: Ready = Ready(2);
    /// The peer will send no more.
    pub const READ_CLOSED: Ready = Ready(4);
    /// The peer will take no more.
    pub const WRITE_CLOSED: Ready = Ready(8);
    /// There is urgent data.
    pub const PRIORITY: Ready = Ready(16);
    /// There is an error to be taken.
    pub const ERROR: Ready = Ready(32);
    /// Everything.
    pub const ALL: Ready = Ready(63);

    /// What answers an interest.
    pub fn from_interest(interest: Interest) -> Ready {
        let mut ready = Ready::EMPTY;
        if interest.is_readable() {
            ready |= Ready::READABLE | Ready::READ_CLOSED;
        }
        if interest.is_writable() {
            ready |= Ready::WRITABLE | Ready::WRITE_CLOSED;
        }
        if interest.is_priority() {
            ready |= Ready::PRIORITY | Ready::READ_CLOSED;
        }
        if interest.is_error() {
            ready |= Ready::ERROR;
        }
        ready
    }

    /// What the kernel's `POLL*` say.
    pub(crate) fn from_events(events: u32) -> Ready {
        let has = |event: i16| events & event as u16 as u32 != 0;
        let mut ready = Ready::EMPTY;
        if has(libc::POLLIN) {
            ready |= Ready::READABLE;
        }
        if has(libc::POLLOUT) {
            ready |= Ready::WRITABLE;
        }
        if has(libc::POLLHUP) || has(libc::POLLRDHUP) {
            ready |= Ready::READ_CLOSED;
        }
        if has(libc::POLLHUP) || has(libc::POLLERR) {
            ready |= Ready::WRITE_CLOSED;
        }
        if has(libc::POLLPRI) {
            ready |= Ready::PRIORITY;
        }
        if has(libc::POLLERR) {
            ready |= Ready::ERROR;
        }
        ready
    }

    /// Whether it is nothing.
    pub fn is_empty(self) -> bool {
        self == Ready::EMPTY
    }

    /// Whether a read would not wait.
    pub fn is_readable(self) -> bool {
        self.contains(Ready::READABLE) || self.is_read_closed()
    }

    /// Whether a write would not wait.
    pub fn is_writable(self) -> bool {
        self.contains(Ready::WRITABLE) || self.is_write_closed()
    }

    /// Whether the peer will send no more.
    pub fn is_read_closed(self) -> bool {
        self.contains(Ready::READ_CLOSED)
    }

    /// Whether the peer will take no more.
    pub fn is_write_closed(self) -> bool {
        self.contains(Ready::WRITE_CLOSED)
    }

    /// Whether there is urgent data.
    pub fn is_priority(self) -> bool {
        self.contains(Ready::PRIORITY)
    }

    /// Whether there is an error to be taken.
    pub fn is_error(self) -> bool {
        self.contains(Ready::ERROR)
    }

    /// Whether all of `other` is in it.
    pub fn contains(self, other: Ready) -> bool {
        self & other == other
    }
}

impl BitOr for Ready {
    type Output = Ready;

    fn bitor(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }
}

impl BitOrAssign for Ready {
    fn bitor_assign(&mut self, other: Ready) {
        self.0 |= other.0;
    }
}

impl BitAnd for Ready {
    type Output = Ready;

    fn bitand(self, other: Ready) -> Ready {
        Ready(self.0 & other.0)
    }
}

impl Sub for Ready {
    type Output = Ready;

    fn sub(self, other: Ready) -> Ready {
        Ready(self.0 & !other.0)
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["READABLE", "WRITABLE", "READ_CLOSED", "WRITE_CLOSED", "PRIORITY", "ERROR"];
        write_names(f, self.0, &names)
    }
}
