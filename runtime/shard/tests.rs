//! What a shard and the table of its arenas say of themselves.

use std::ptr::NonNull;
use std::sync::Arc;

use ringhold_buffers::Registrar;
use ringhold_kernel::{ArenaId, KernelConfig};

use super::Shard;
use crate::arenas::Arenas;
use crate::builder::Builder;
use crate::time::clock::Clock;

#[test]
fn a_shard_is_shown_by_its_name_and_a_table_by_its_entries() {
    let system = Builder::default_system();
    let arenas = Arenas::new(system.clone(), Clock::new(system.clone()));
    assert_eq!(format!("{arenas:?}"), "Arenas { entries: [], .. }");
    let kernel = system.boot(&KernelConfig::default()).unwrap();
    let shard = Shard::new(kernel, arenas, Clock::new(Arc::clone(&system)), 7);
    assert_eq!(format!("{shard:?}"), format!("Shard {{ id: {:?}, .. }}", shard.id()));
    shard.end(true);
}

#[test]
fn a_table_that_is_closed_takes_no_arena() {
    let system = Builder::default_system();
    let arenas = Arenas::new(system.clone(), Clock::new(system));
    arenas.close();
    let arena = ArenaId { slot: 0, generation: 1 };
    let error = arenas.register(arena, NonNull::dangling(), 4096).unwrap_err();
    let expected = "the runtime has shut down, and its shards take no operations";
    assert_eq!(error.to_string(), expected);
}
