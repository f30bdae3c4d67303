//! What a driver counts.

/// Counts since the shard started.
///
/// In flight are `submitted - completed` operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverCounts {
    /// Operations that the kernel was given.
    pub submitted: u64,
    /// Operations whose final completion came.
    pub completed: u64,
    /// Completions that arrived for operations whose future was gone.
    pub reclaimed: u64,
    /// Times the kernel was entered.
    pub enters: u64,
    /// Operations that had to wait for room.
    pub delayed: u64,
    /// Times the completion queue was found overflown. Nothing is lost by it, but time: rings that
    /// are larger avoid it.
    pub overflows: u64,
    /// Completions that named no operation. Anything but 0 is a bug.
    pub strays: u64,
}
