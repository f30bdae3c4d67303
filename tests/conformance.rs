//! One suite over both kernels: each scenario runs on Linux, on ext4 and on tmpfs, and on the
//! simulated kernel, left alone and harassed; with the smallest queues and with large ones, on one
//! shard and on two. What it expects is written once, so the kernels can't differ.

mod common;

/// Makes of each scenario a module of tests: one for each kernel and each size of queues.
macro_rules! on_both_kernels {
    ($($scenario:ident),+ $(,)?) => {
        $(mod $scenario {
            use crate::place::{Kernel, LARGE, SMALLEST, check};

            #[test]
            fn ext4_with_the_smallest_rings() {
                check(Kernel::Ext4, SMALLEST, super::$scenario);
            }

            #[test]
            fn ext4_with_large_rings() {
                check(Kernel::Ext4, LARGE, super::$scenario);
            }

            #[test]
            fn tmpfs_with_the_smallest_rings() {
                check(Kernel::Tmpfs, SMALLEST, super::$scenario);
            }

            #[test]
            fn tmpfs_with_large_rings() {
                check(Kernel::Tmpfs, LARGE, super::$scenario);
            }

            #[test]
            fn simulated_with_the_smallest_rings() {
                check(Kernel::Simulated, SMALLEST, super::$scenario);
            }

            #[test]
            fn simulated_with_large_rings() {
                check(Kernel::Simulated, LARGE, super::$scenario);
            }

            #[test]
            fn harassed_with_the_smallest_rings() {
                check(Kernel::Harassed, SMALLEST, super::$scenario);
            }

            #[test]
            fn harassed_with_large_rings() {
                check(Kernel::Harassed, LARGE, super::$scenario);
            }
        })+
    };
}

#[path = "conformance/cancelling.rs"]
mod cancelling;
#[path = "conformance/cursor.rs"]
mod cursor;
#[path = "conformance/datagrams.rs"]
mod datagrams;
#[path = "conformance/directories.rs"]
mod directories;
#[path = "conformance/ending.rs"]
mod ending;
#[path = "conformance/leases.rs"]
mod leases;
#[path = "conformance/lengths.rs"]
mod lengths;
#[path = "conformance/listening.rs"]
mod listening;
#[path = "conformance/metadata.rs"]
mod metadata;
#[path = "conformance/names.rs"]
mod names;
#[path = "conformance/opening.rs"]
mod opening;
#[path = "conformance/place.rs"]
mod place;
#[path = "conformance/shards.rs"]
mod shards;
#[path = "conformance/streams.rs"]
mod streams;
#[path = "conformance/tasks.rs"]
mod tasks;
#[path = "conformance/time.rs"]
mod time;
#[path = "conformance/transfers.rs"]
mod transfers;
