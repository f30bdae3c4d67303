//! Which events are about a path.

use std::collections::BTreeMap;

use io_uring::opcode;

use crate::trace::{Event, What};

/// An operation, by its host, its shard and its key.
type Name = (usize, usize, u64);

/// What is known of names and descriptors after some events, of all hosts.
#[derive(Debug, Default)]
pub(crate) struct Following {
    /// What operations in flight are, and whether they are about the path.
    begun: BTreeMap<Name, (Begun, bool)>,
    /// By host and descriptor, the path that it was opened by, or that this became.
    open: BTreeMap<(usize, i32), String>,
}

/// What an operation does to names and descriptors.
#[derive(Debug)]
enum Begun {
    Open(String),
    Rename(String, String),
    Close(i32),
    Other,
}

impl Following {
    /// Whether the next event is about `path`, or is a host's start or end.
    pub(crate) fn is_about(&mut self, path: &str, event: &Event) -> bool {
        let host = event.host;
        match &event.what {
            What::Began { shard, opcode, user_data, file, paths, .. } => {
                let is_open_by_it = self.open.get(&(host, *file)).is_some_and(|name| name == path);
                let is_about = is_open_by_it || paths.iter().any(|name| name == path);
                let begun = match (*opcode, &paths[..]) {
                    (opcode::OpenAt::CODE, [path]) => Begun::Open(path.clone()),
                    (opcode::RenameAt::CODE, [from, to]) => Begun::Rename(from.clone(), to.clone()),
                    (opcode::Close::CODE, _) => Begun::Close(*file),
                    _ => Begun::Other,
                };
                self.begun.insert((host, *shard, *user_data), (begun, is_about));
                is_about
            }
            What::Completed { shard, user_data, result } => {
                let Some((begun, is_about)) = self.begun.remove(&(host, *shard, *user_data)) else {
                    return false;
                };
                self.take_effect(host, begun, *result);
                is_about
            }
            What::Started => {
                self.begun.retain(|(of, _, _), _| *of != host);
                self.open.retain(|(of, _), _| *of != host);
                true
            }
            What::Ended | What::Killed | What::LostPower => true,
            _ => false,
        }
    }

    fn take_effect(&mut self, host: usize, begun: Begun, result: i32) {
        match begun {
            Begun::Open(path) if result >= 0 => {
                self.open.insert((host, result), path);
            }
            Begun::Rename(from, to) if result >= 0 => {
                let open =
                    self.open.iter_mut().filter(|((of, _), name)| *of == host && **name == from);
                open.for_each(|(_, name)| name.clone_from(&to));
            }
            // A descriptor is gone whatever a close brings.
            Begun::Close(file) => {
                self.open.remove(&(host, file));
            }
            _ => {}
        }
    }
}
