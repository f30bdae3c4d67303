//! Descriptors as they cross the seam: by their number, and with whoever closes them.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::system::System;

/// A descriptor that a kernel has made and that nothing has taken over yet. Its system closes it
/// when it is dropped.
pub struct NewDescriptor {
    number: RawFd,
    system: Arc<dyn System>,
}

impl NewDescriptor {
    /// One that `system` has made, and that nothing else closes.
    pub fn new(number: RawFd, system: Arc<dyn System>) -> NewDescriptor {
        NewDescriptor { number, system }
    }

    /// The number and who made it, for whoever closes it from now on.
    pub fn into_parts(mut self) -> (RawFd, Arc<dyn System>) {
        (std::mem::replace(&mut self.number, -1), self.system.clone())
    }
}

impl Drop for NewDescriptor {
    fn drop(&mut self) {
        if self.number >= 0 {
            self.system.close(self.number);
        }
    }
}

impl fmt::Debug for NewDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NewDescriptor").field(&self.number).finish()
    }
}

/// An open file that stays open, under its number, for as long as this is counted.
pub trait HeldFile: Send + Sync + fmt::Debug {
    /// The number.
    fn descriptor(&self) -> RawFd;
    /// Who made it.
    fn system(&self) -> &dyn System;
}
