//! The pages behind a lease, which go back when they are dropped; unsafe for the canary of debug
//! builds.
#![allow(unsafe_code)]

use std::sync::Arc;

use ringhold_kernel::ArenaId;

use crate::{
    PAGE,
    pool::Shared,
    region::{Address, bury, inspect},
    request::Grant,
    sync::atomic::{AtomicU32, Ordering},
};

/// Pages that are leased: the only owner of their memory until it is dropped.
pub(crate) struct Block {
    shared: Arc<Shared>,
    grant: Grant,
    /// How many frozen leases keep it. Changed under the pool's lock only.
    frozen: AtomicU32,
}

impl Block {
    /// Opens pages that left the free map. In debug builds, panics if somebody wrote to them there.
    pub(crate) fn new(shared: Arc<Shared>, grant: Grant) -> Block {
        let block = Block { shared, grant, frozen: AtomicU32::new(0) };
        if cfg!(debug_assertions) {
            // SAFETY: the pages are this block's alone (S5) and mapped (S4); they were buried when
            // their region was made, or when the previous lease ended.
            unsafe { inspect(grant.address, block.bytes()) };
        }
        block
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> Address {
        self.grant.address
    }

    /// Its pages.
    pub(crate) fn pages(&self) -> usize {
        self.grant.pages as usize
    }

    /// The arena it lies in, if that is registered.
    pub(crate) fn arena(&self) -> Option<ArenaId> {
        self.shared.is_registered().then_some(self.grant.id)
    }

    /// Cuts off the first `pages`, which become a block of their own.
    pub(crate) fn split_to(&mut self, pages: usize) -> Block {
        assert!(pages <= self.pages(), "{pages} of {} pages", self.pages());
        let front = Grant { pages: pages as u32, ..self.grant };
        self.grant.first += front.pages;
        self.grant.pages -= front.pages;
        self.grant.address = self.grant.address.advance(pages * PAGE);
        // What a lease was cut from is not frozen: a frozen lease is not cut.
        Block { shared: self.shared.clone(), grant: front, frozen: AtomicU32::new(0) }
    }

    /// Cuts off what follows the first `pages`; this block, and its count of frozen leases, keeps
    /// those.
    pub(crate) fn split_off(&mut self, pages: usize) -> Block {
        let mut cut = self.split_to(pages);
        std::mem::swap(&mut self.grant, &mut cut.grant);
        cut
    }

    /// Counts `pages` of it as frozen, unless it counts already; or says what is frozen and the
    /// limit.
    pub(crate) fn freeze(&self, pages: usize) -> Result<(), (usize, usize)> {
        self.shared.with(|state| {
            if self.frozen.load(Ordering::Relaxed) == 0 {
                state.freeze(pages)?;
            }
            self.frozen.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    /// The counterpart of [`Block::freeze`].
    pub(crate) fn thaw(&self) {
        self.shared.with(|state| {
            if self.frozen.fetch_sub(1, Ordering::Relaxed) == 1 {
                state.thaw(self.pages());
            }
        });
    }

    fn bytes(&self) -> usize {
        self.pages() * PAGE
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.grant.pages == 0 {
            return;
        }
        if cfg!(debug_assertions) {
            // SAFETY: the pages are this block's alone until they are released below (S5).
            unsafe { bury(self.grant.address, self.bytes()) };
        }
        self.shared.with(|state| state.release(self.grant));
    }
}
