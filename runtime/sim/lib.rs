//! The simulated kernel of the Ringhold runtime: the same calls and the same choices give the same
//! results, the same disk and the same time.

pub mod choose;
pub mod disk;
