//! Leases: held, split, frozen, waited for, and swept after. Nobody else's byte may show up in one.

use std::time::Duration;

use bytes::Bytes;
use runtime::buffers::{self, Lease, LeaseError, LeaseErrorKind, Occupancy};
use runtime::task::yield_now;
use runtime::time::{sleep, timeout};

use crate::world::{PAGE, Scene};

impl Scene {
    /// A byte that depends on the operation.
    fn mark(&self) -> u8 {
        (self.number % 251) as u8
    }

    /// Lets others run for a while.
    async fn linger(&mut self) {
        match self.draws.below(4) {
            0 => sleep(Duration::from_micros(self.draws.below(500) as u64)).await,
            yields => {
                for _ in 0..yields {
                    yield_now().await;
                }
            }
        }
    }

    async fn filled_lease(&mut self) -> Option<Lease> {
        let pages = self.draws.up_to(4);
        let mut lease = self.lease(pages).await?;
        let length = self.draws.up_to(lease.capacity());
        lease.resize(length, self.mark());
        Some(lease)
    }
}

pub async fn lease_and_hold(mut scene: Scene) {
    let Some(mut lease) = scene.filled_lease().await else { return };
    lease.resize(lease.capacity(), scene.mark());
    scene.linger().await;
    scene.require_only("a lease", &lease, &[scene.mark()]);
    if scene.draws.once_in(4) {
        scene.world.foreign.run(move || drop(lease));
    }
}

pub async fn try_lease(mut scene: Scene) {
    let most = buffers::occupancy().limit;
    let length = scene.draws.up_to(most.min(64 * PAGE));
    match buffers::try_lease(length) {
        Ok(mut lease) => {
            scene.require(lease.capacity() == length && lease.is_empty(), || format!("{lease:?}"));
            lease.resize(length, scene.mark());
            scene.linger().await;
            scene.require_only("a lease", &lease, &[scene.mark()]);
        }
        Err(error) if error.kind() == LeaseErrorKind::Full => scene.world.tally.refused.increment(),
        Err(error) => drop(scene.check::<(), LeaseError>("a lease", Err(error), &[])),
    }
}

pub async fn freeze(mut scene: Scene) {
    let Some(lease) = scene.filled_lease().await else { return };
    let length = lease.len();
    let Ok(frozen) = lease.freeze() else { return scene.world.tally.refused.increment() };
    let part = frozen.clone().slice(length / 2..);
    let bytes = Bytes::from(frozen.clone());
    drop(frozen);
    scene.linger().await;
    scene.require(bytes.len() == length, || format!("{} bytes of {length}", bytes.len()));
    scene.require_only("a frozen lease", &bytes, &[scene.mark()]);
    scene.require_only("a part of it", &part, &[scene.mark()]);
    match scene.draws.once_in(2) {
        true => scene.world.foreign.run(move || drop(bytes)),
        false => drop(part),
    }
}

pub async fn split(mut scene: Scene) {
    let Some(mut back) = scene.filled_lease().await else { return };
    back.resize(back.capacity(), scene.mark());
    let whole = back.capacity();
    let at = match scene.draws.once_in(2) {
        true => scene.draws.below(whole),
        false => scene.draws.below(whole / PAGE) * PAGE,
    };
    let mut front = back.split_to(at);
    let other = scene.mark().wrapping_add(1);
    front.fill(other);
    scene.linger().await;
    scene.require(front.len() + back.len() == whole, || "a split lost bytes".into());
    scene.require_only("the front of a split lease", &front, &[other]);
    scene.require_only("the back of a split lease", &back, &[scene.mark()]);
    match scene.draws.once_in(2) {
        true => drop(front),
        false => drop(back),
    }
    scene.linger().await;
}

/// Half of the pool, which others have: it is waited for in turn, and not for long.
pub async fn large_lease(mut scene: Scene) {
    let length = scene.draws.up_to((buffers::occupancy().limit / 2).max(PAGE));
    let patience = Duration::from_micros(scene.draws.below(2_000) as u64);
    match timeout(patience, buffers::lease(length)).await {
        Ok(leased) => {
            let Some(mut lease) = scene.check("a large lease", leased, &[]) else { return };
            lease.resize(length, scene.mark());
            scene.linger().await;
            scene.require_only("a large lease", &lease, &[scene.mark()]);
        }
        Err(_) => scene.world.tally.refused.increment(),
    }
}

pub async fn occupancy(scene: Scene) {
    let occupancy = buffers::occupancy();
    let Occupancy { limit, mapped, leased, free, retiring, leaked, .. } = occupancy;
    scene.require(mapped == leased + free + retiring + leaked && mapped <= limit, || {
        format!(
            "{mapped} bytes of {limit} are mapped: {leased} leased, {free} free, {retiring} \
                 on their way out, {leaked} leaked"
        )
    });
}

pub async fn sweep(scene: Scene) {
    // It looks twice: what nobody leased in between goes.
    scene.world.handle.pool().sweep();
    sleep(Duration::from_micros(100)).await;
    scene.world.handle.pool().sweep();
}
