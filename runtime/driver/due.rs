//! What completions leave to be done.

use std::task::Waker;

use crate::kernel::Cqe;
use crate::op::Orphan;
use crate::task::TaskRef;

/// An operation whose future is gone, and its final completion.
pub(crate) type Reclaimed = (Box<dyn Orphan>, Cqe);

/// What a completion leaves to be done when the driver is no longer borrowed, since it runs foreign
/// code.
pub(crate) enum Due {
    Wake(Waker),
    /// The task was queued already; this reference may be its last.
    Forget(TaskRef),
    Release(Reclaimed),
}
