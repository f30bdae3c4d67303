//! What the runtime says of itself: as events of `tracing`, whose subscribers are foreign code.

/// Makes an event of `tracing`. A subscriber that panics costs nobody anything.
macro_rules! tell {
    ($level:ident, $($event:tt)+) => {
        ringhold_buffers::foreign::contain(|| tracing::$level!($($event)+))
    };
}

pub(crate) use tell;

/// Whether somebody subscribed to events.
pub(crate) fn is_heard() -> bool {
    tracing::dispatcher::has_been_set()
}
