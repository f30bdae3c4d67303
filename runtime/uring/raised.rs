//! A flag that many raise and one lowers: only who raises it has to tell.

use ringhold_kernel::sync::atomic::{AtomicBool, Ordering};

/// Whether a shard was told that there is something for it, and has not come to it yet.
#[derive(Debug)]
pub(crate) struct Raised(AtomicBool);

impl Raised {
    pub(crate) fn new() -> Raised {
        Raised(AtomicBool::new(false))
    }

    /// Says whether it was down: then the caller has to tell. Otherwise who raised it does, and
    /// what the caller has published before is seen by [`Raised::lower`]'s caller.
    pub(crate) fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// To be called when the shard was told, and before it looks for what there is.
    pub(crate) fn lower(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}
