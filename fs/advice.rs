//! What `File::advise` says of a range.

/// How a range of a file will be used, for [`File::advise`](crate::File::advise).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// In no way that could be told beforehand.
    #[default]
    Normal,
    /// From its beginning to its end: the kernel reads further ahead.
    Sequential,
    /// At random: the kernel doesn't read ahead.
    Random,
    /// Soon: the kernel begins to read it.
    WillNeed,
    /// Not soon: the kernel drops its clean pages from the cache.
    DontNeed,
    /// Once.
    NoReuse,
}

impl Advice {
    /// `POSIX_FADV_*`.
    pub(crate) fn code(self) -> i32 {
        match self {
            Advice::Normal => libc::POSIX_FADV_NORMAL,
            Advice::Sequential => libc::POSIX_FADV_SEQUENTIAL,
            Advice::Random => libc::POSIX_FADV_RANDOM,
            Advice::WillNeed => libc::POSIX_FADV_WILLNEED,
            Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
            Advice::NoReuse => libc::POSIX_FADV_NOREUSE,
        }
    }
}
