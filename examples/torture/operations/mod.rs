//! Every operation there is, by name.

mod descriptors;
mod memory;
mod names;
mod pipes;
mod positional;
mod tasks;
mod whole;

use crate::tally::Work;
use crate::world::Scene;

/// A kind of operations.
#[derive(Debug)]
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// Whether it may wait for ever, so that it has to be dropped in the end.
    pub unbounded: bool,
    /// Makes one.
    pub make: fn(Scene) -> Work,
}

macro_rules! kinds {
    ($($unbounded:literal: $($module:ident::$function:ident)*;)*) => {
        &[$($(Kind {
            name: stringify!($function),
            unbounded: $unbounded,
            make: |scene| Box::pin($module::$function(scene)),
        },)*)*]
    };
}

/// All kinds. Those that stand here twice are drawn twice as often.
pub const KINDS: &[Kind] = kinds! {
    false:
        positional::read_at positional::read_exact_at positional::readv_at
        positional::read_fixed positional::read_fixed positional::read_exact_fixed
        positional::write_at positional::write_all_at positional::writev_at
        positional::write_fixed positional::write_fixed positional::write_all_fixed
        positional::write_frozen;
    false:
        descriptors::open descriptors::close descriptors::try_clone descriptors::into_std
        descriptors::sync descriptors::ask descriptors::advise descriptors::set_attributes
        descriptors::set_len descriptors::allocate descriptors::wobbly_read
        descriptors::wobbly_write;
    false:
        whole::cursor whole::appending whole::write_and_read whole::copy whole::directory_tree
        whole::dropped_cursor;
    false:
        names::rename names::hard_link names::symlink names::remove_file names::remove_dir
        names::create_dir names::create_dir_all names::read_dir names::remove_dir_all
        names::ask_by_name names::write names::read;
    false:
        memory::lease_and_hold memory::try_lease memory::freeze memory::split
        memory::large_lease memory::occupancy memory::sweep;
    false:
        tasks::sleep tasks::interval tasks::timeout tasks::yields tasks::spawn tasks::join_set
        tasks::blocking tasks::channel tasks::locks;
    true:
        pipes::silent_read pipes::silent_read_fixed pipes::piped_read pipes::piped_write;
};
