//! Which shard is running on this thread, which group is current, and which runtime is entered.

#![allow(unsafe_code)] // Pointers to the shard whose turn is on the stack, and to a group.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use ringhold_kernel::System;
use ringhold_kernel::sync::thread_local;

use crate::builder::Builder;
use crate::handle::Handle;
use crate::registry::ShardId;
use crate::shard::Shard;
use crate::task::TaskGroup;

thread_local! {
    /// The shard whose turn is running, or null. It has no destructor, so that reaching it is one
    /// load.
    static SHARD: Cell<*const Shard> = const { Cell::new(ptr::null()) };
    /// The group of what is spawned, or null for the default group.
    static GROUP: Cell<*const TaskGroup> = const { Cell::new(ptr::null()) };
    /// The shards that stand aside: each blocks in what one before it runs.
    static ASIDE: RefCell<Vec<ShardId>> = const { RefCell::new(Vec::new()) };
    /// The runtime that was entered last.
    static ENTERED: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Calls `f` with the shard whose turn is running on this thread, if one is.
#[inline]
pub(crate) fn with_shard<R>(f: impl FnOnce(Option<&Shard>) -> R) -> R {
    let shard = SHARD.with(Cell::get);
    // SAFETY: the pointer is null, or was set by a `ShardScope` that is still on this thread's
    // stack and borrows the shard (S7); `f` can't keep the reference beyond its own call.
    f(unsafe { shard.as_ref() })
}

/// Names `shard` as the running one until it is dropped. No group is current at first.
pub(crate) struct ShardScope<'a> {
    before: *const Shard,
    _group: GroupScope<'static>,
    _shard: PhantomData<&'a Shard>,
}

impl<'a> ShardScope<'a> {
    #[inline]
    pub(crate) fn enter(shard: &'a Shard) -> ShardScope<'a> {
        let before = SHARD.with(|current| current.replace(shard));
        ShardScope { before, _group: GroupScope::enter(None), _shard: PhantomData }
    }
}

impl Drop for ShardScope<'_> {
    fn drop(&mut self) {
        SHARD.with(|current| current.set(self.before));
    }
}

/// The group that is current, of which what is spawned becomes a member; `None` for the default
/// group.
#[inline]
pub(crate) fn group() -> Option<TaskGroup> {
    let group = GROUP.with(Cell::get);
    // SAFETY: the pointer is null, or was set by a `GroupScope` that is still on this thread's
    // stack and borrows the group (S7); it is cloned here, so no reference is kept.
    unsafe { group.as_ref() }.cloned()
}

/// Whether a group is current, which costs less than to ask for it.
#[inline]
pub(crate) fn has_group() -> bool {
    !GROUP.with(Cell::get).is_null()
}

/// Makes `group` the current one until it is dropped.
pub(crate) struct GroupScope<'a> {
    before: *const TaskGroup,
    _group: PhantomData<&'a TaskGroup>,
}

impl<'a> GroupScope<'a> {
    #[inline]
    pub(crate) fn enter(group: Option<&'a TaskGroup>) -> GroupScope<'a> {
        let group = group.map_or(ptr::null(), ptr::from_ref);
        let before = GROUP.with(|current| current.replace(group));
        GroupScope { before, _group: PhantomData }
    }
}

impl Drop for GroupScope<'_> {
    fn drop(&mut self) {
        GROUP.with(|current| current.set(self.before));
    }
}

/// Names no shard until it is dropped: for code that blocks this thread on something else. Which
/// shard stands aside meanwhile is remembered, so that nothing waits for it here.
pub(crate) struct Aside {
    shard: *const Shard,
    /// How many stood aside before.
    before: usize,
}

impl Aside {
    pub(crate) fn step() -> Aside {
        let running = with_shard(|shard| shard.map(Shard::id));
        let shard = SHARD.with(|current| current.replace(ptr::null()));
        let before = ASIDE.with(|aside| {
            let mut aside = aside.borrow_mut();
            let before = aside.len();
            aside.extend(running);
            before
        });
        Aside { shard, before }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        SHARD.with(|current| current.set(self.shard));
        ASIDE.with(|aside| aside.borrow_mut().truncate(self.before));
    }
}

/// Whether this thread keeps one of the shards that `is_meant` names from running while it blocks
/// on something else.
pub(crate) fn is_aside(mut is_meant: impl FnMut(ShardId) -> bool) -> bool {
    let is_aside = ASIDE.try_with(|aside| aside.borrow().iter().any(|shard| is_meant(*shard)));
    // A thread that ends runs nothing that blocks.
    is_aside.unwrap_or(false)
}

/// Names a runtime as the entered one until it is dropped.
pub(crate) struct HandleScope {
    before: Option<Handle>,
    // Leaving on another thread would leave the wrong runtime.
    _not_send: PhantomData<*const ()>,
}

impl HandleScope {
    pub(crate) fn enter(handle: &Handle) -> HandleScope {
        let before = ENTERED.with(|entered| entered.replace(Some(handle.clone())));
        HandleScope { before, _not_send: PhantomData }
    }
}

impl Drop for HandleScope {
    fn drop(&mut self) {
        let before = self.before.take();
        // The handle's drop may run a runtime's end, so it runs after the cell is free again.
        let ours = ENTERED.try_with(|entered| entered.replace(before));
        drop(ours);
    }
}

/// The entered runtime, if there is one.
pub(crate) fn handle() -> Option<Handle> {
    ENTERED.try_with(|entered| entered.borrow().clone()).ok().flatten()
}

/// The entered runtime.
#[track_caller]
pub(crate) fn handle_or_panic() -> Handle {
    match handle() {
        Some(handle) => handle,
        None => panic!("{NO_RUNTIME}"),
    }
}

pub(crate) const NO_RUNTIME: &str = "there is no runtime here: this must be called from within a \
     Ringhold runtime (`#[runtime::main]`, `Runtime::block_on`, a spawned task, or under \
     `Handle::enter`)";

/// The system of the entered runtime; Linux where none is entered, as it is for files that come
/// from std.
pub(crate) fn system() -> Arc<dyn System> {
    handle().map_or_else(Builder::default_system, |handle| handle.system().clone())
}
