//! What completions leave to be done.

use ringhold_buffers::foreign::ForeignWaker;
use ringhold_kernel::Cqe;

use crate::op::Custody;
use crate::task::TaskRef;

/// An operation whose future is gone, and its final completion.
pub(crate) type Reclaimed = (Custody, Cqe);

/// What a completion leaves to be done when the driver is no longer borrowed, since it runs foreign
/// code.
pub(crate) enum Due {
    Wake(ForeignWaker),
    /// The task was queued already; this reference may be its last.
    Forget(TaskRef),
    Release(Reclaimed),
}
