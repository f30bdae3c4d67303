//! Outputs that hold join handles of tasks whose outputs hold join handles: a chain of any length
//! is dropped on a stack of a bounded depth.

#![allow(unsafe_code)] // It drops outputs, which are reached through the task's cells.

use std::cell::Cell;
use std::mem::{ManuallyDrop, take};
use std::ptr::NonNull;

use ringhold_kernel::sync::thread_local;

use super::{Header, TaskRef};

/// How deep outputs are dropped within one another. What lies deeper waits until the outermost is
/// dropped.
const DEPTH_MAX: u32 = 16;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Complete tasks whose outputs wait to be dropped. Empty whenever no output is being dropped,
    /// so it needs no destructor, and is there for destructors of other thread locals.
    static LATER: Cell<ManuallyDrop<Vec<TaskRef>>> =
        const { Cell::new(ManuallyDrop::new(Vec::new())) };
}

/// Drops the output of a task: now, or, deep within the drops of others, when the outermost of them
/// is over.
///
/// # Safety
///
/// The task is COMPLETE, and its output the caller's; the caller has a reference to it.
#[inline]
pub(super) unsafe fn drop_output(header: NonNull<Header>) {
    let owner = ManuallyDrop::new(TaskRef { header });
    if owner.header().table.nests { drop_in_turn(&owner) } else { drop_now(&owner) }
}

fn drop_in_turn(task: &TaskRef) {
    let depth = DEPTH.with(Cell::get);
    if depth == DEPTH_MAX {
        return put_off(task.clone());
    }
    DEPTH.with(|cell| cell.set(depth + 1));
    drop_now(task);
    if depth == 0 {
        while let Some(task) = next() {
            drop_now(&task);
        }
    }
    DEPTH.with(|cell| cell.set(depth));
}

fn drop_now(task: &TaskRef) {
    // SAFETY: COMPLETE is set, and who owned the output has left it to us (S6).
    unsafe { (task.header().table.drop_output)(task.header) };
}

fn put_off(task: TaskRef) {
    LATER.with(|later| {
        let mut tasks = take_all(later);
        tasks.push(task);
        later.set(ManuallyDrop::new(tasks));
    });
}

fn next() -> Option<TaskRef> {
    LATER.with(|later| {
        let mut tasks = take_all(later);
        let task = tasks.pop();
        // The last one takes the memory with it.
        later.set(ManuallyDrop::new(if task.is_none() { Vec::new() } else { take(&mut tasks) }));
        task
    })
}

fn take_all(later: &Cell<ManuallyDrop<Vec<TaskRef>>>) -> Vec<TaskRef> {
    ManuallyDrop::into_inner(later.replace(ManuallyDrop::new(Vec::new())))
}
