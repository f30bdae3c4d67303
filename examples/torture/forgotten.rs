//! Futures that are forgotten: they leak what they hold, soundly, and exactly that.

use std::mem::forget;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use futures::FutureExt;
use runtime::buffers;
use runtime::fs::File;
use runtime::task::yield_now;
use runtime::time::sleep;

use crate::draws::Draws;
use crate::fates::Flag;
use crate::tally::Tally;
use crate::world::{FILLER, PAGE, Pipe, World};

/// The most operations that are forgotten in the kernel, where they take room for good.
const IN_FLIGHT_MAX: u64 = 4;

/// How many futures may still be forgotten.
#[derive(Debug)]
pub struct Allowance {
    all: AtomicU64,
    leases: AtomicU64,
    in_flight: AtomicU64,
}

fn take(from: &AtomicU64) -> bool {
    from.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Allowance {
    /// At most `all`; one page in sixteen of the pool; and an eighth of the room in the kernel.
    pub fn new(all: u64, pool_bytes: usize, completions: u32) -> Allowance {
        Allowance {
            all: all.into(),
            leases: ((pool_bytes / PAGE / 16) as u64).into(),
            in_flight: IN_FLIGHT_MAX.min(u64::from(completions.saturating_sub(1) / 8)).into(),
        }
    }

    /// Forgets something, if that is still allowed.
    pub async fn use_one(&self, world: &Arc<World>, draws: &mut Draws) -> std::io::Result<()> {
        if !take(&self.all) {
            return Ok(());
        }
        match draws.below(4) {
            0 if take(&self.in_flight) => forget_in_flight(world)?,
            1 if take(&self.leases) => forget_lease(&world.tally),
            2 if take(&self.leases) => forget_read(world, draws).await?,
            _ => forget_sleep(&world.tally),
        }
        Ok(())
    }
}

fn note(tally: &Tally) {
    tally.begun.increment();
    tally.forgotten.increment();
}

/// A read that waits for ever, with both ends of its pipe.
fn forget_in_flight(world: &World) -> std::io::Result<()> {
    let Pipe { reader, writer } = Pipe::new()?;
    let mut read = reader.read_at(vec![0; 64], 0);
    let _ = read.poll_unpin(&mut Context::from_waker(Waker::noop()));
    forget((read, writer));
    note(&world.tally);
    world.tally.leaked_operations.increment();
    world.tally.leaked_results.increment();
    world.tally.leaked_descriptors.add(2);
    Ok(())
}

/// A lease by itself.
fn forget_lease(tally: &Tally) {
    if let Ok(lease) = buffers::try_lease(PAGE) {
        forget(lease);
        note(tally);
        tally.leaked_bytes.add(PAGE as u64);
    }
}

/// A read of a file of its own, before its first poll or when it is done.
async fn forget_read(world: &World, draws: &mut Draws) -> std::io::Result<()> {
    let path = world.scratch().join(format!("forgotten-{}", world.tally.forgotten.get()));
    std::fs::write(&path, [FILLER; PAGE])?;
    let file = File::from_std(std::fs::File::open(&path)?);
    let Ok(lease) = buffers::try_lease(PAGE) else { return Ok(()) };
    let mut read = file.read_fixed(lease, 0);
    if draws.once_in(2) {
        world.tally.leaked_results.increment();
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        if read.poll_unpin(&mut Context::from_waker(&waker)).is_pending() {
            while !flag.is_set() {
                yield_now().await;
            }
        }
    }
    forget(read);
    note(&world.tally);
    world.tally.leaked_descriptors.increment();
    world.tally.leaked_bytes.add(PAGE as u64);
    Ok(())
}

/// A sleep whose time comes when nobody is there any more.
fn forget_sleep(tally: &Tally) {
    let mut sleep = Box::pin(sleep(Duration::from_millis(1)));
    let _ = sleep.poll_unpin(&mut Context::from_waker(Waker::noop()));
    forget(sleep);
    note(tally);
}
