//! Time, tasks, and what passes between them.

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::sync::{Mutex, Notify, Semaphore, mpsc, oneshot};
use runtime::task::{JoinSet, block_in_place, consume_budget, spawn_local, yield_now};
use runtime::time;

use crate::tally::{Child, Tally, panic_as_drawn};
use crate::world::Scene;

pub async fn sleep(mut scene: Scene) {
    let duration = Duration::from_micros(scene.draws.below(2_000) as u64);
    let begun = Instant::now();
    let mut sleep = Box::pin(time::sleep(duration));
    if scene.draws.once_in(4) {
        // Polled with another deadline first, which is moved.
        sleep.as_mut().reset(time::Instant::now() + 2 * duration);
        let _ = futures::poll!(&mut sleep);
        sleep.as_mut().reset(time::Instant::now() + duration);
    }
    match scene.draws.once_in(4) {
        true => time::sleep_until(sleep.deadline()).await,
        false => sleep.await,
    }
    let slept = begun.elapsed();
    scene.require(slept >= duration, || format!("a sleep of {duration:?} took {slept:?}"));
}

pub async fn interval(mut scene: Scene) {
    let period = Duration::from_micros(scene.draws.up_to(300) as u64);
    let begun = Instant::now();
    let mut interval = match scene.draws.once_in(2) {
        true => time::interval(period),
        false => time::interval_at(time::Instant::now(), period),
    };
    let ticks = scene.draws.up_to(5) as u32;
    for _ in 0..ticks {
        interval.tick().await;
    }
    let (least, took) = (period * (ticks - 1), begun.elapsed());
    scene.require(took >= least, || format!("{ticks} ticks of {period:?} took {took:?}"));
}

pub async fn timeout(mut scene: Scene) {
    let patience = Duration::from_micros(scene.draws.below(1_000) as u64);
    let begun = Instant::now();
    match time::timeout(patience, pending::<()>()).await {
        Ok(()) => scene.require(false, || "what is pending for ever was ready".into()),
        Err(_) => {
            let took = begun.elapsed();
            scene.require(took >= patience, || format!("a timeout of {patience:?} took {took:?}"));
        }
    }
    let later = time::Instant::now() + Duration::from_secs(60);
    let ready = time::timeout_at(later, async { 7 }).await;
    scene.require(ready == Ok(7), || format!("what is ready gave {ready:?}"));
}

pub async fn yields(mut scene: Scene) {
    for _ in 0..scene.draws.up_to(20) {
        match scene.draws.once_in(2) {
            true => yield_now().await,
            false => consume_budget().await,
        }
    }
}

/// A task on any shard, and one beside it that doesn't have to be `Send`.
pub async fn spawn(mut scene: Scene) {
    let shard = scene.draws.below(scene.world.shards);
    let tally = scene.world.tally.clone();
    let outer = move || async move {
        let not_send = Rc::new(20);
        let work = async move {
            yield_now().await;
            *not_send
        };
        let life = tally.live();
        let inner = Child::new(&tally, spawn_local(life.of(work)));
        inner.await.unwrap_or(0) + 1
    };
    let life = scene.world.tally.live();
    let handle = scene.world.handle.spawn_on(shard, move || life.of(outer()));
    let result = Child::new(&scene.world.tally, handle).await;
    scene.require(result == Some(21), || format!("a task gave {result:?}"));
}

/// A set of tasks; those that nobody asked go with it.
struct Set {
    tally: Arc<Tally>,
    tasks: JoinSet<usize>,
    is_counted: bool,
}

impl Set {
    /// Nobody will ask for those that are left.
    fn count(&mut self) {
        if !self.is_counted {
            self.is_counted = true;
            self.tally.unobserved.add(self.tasks.len() as u64);
        }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.count();
        match self.tasks.len() % 3 {
            0 => self.tasks.abort_all(),
            1 => self.tasks.detach_all(),
            _ => {}
        }
    }
}

pub async fn join_set(mut scene: Scene) {
    let tally = scene.world.tally.clone();
    let mut set = Set { tally: tally.clone(), tasks: JoinSet::new(), is_counted: false };
    let members = scene.draws.up_to(6);
    for member in 0..members {
        let (life, mut draws) = (tally.live(), scene.draws.fork());
        let work = async move {
            for _ in 0..draws.below(4) {
                yield_now().await;
            }
            if draws.once_in(8) {
                panic_as_drawn();
            }
            member
        };
        match member % 3 {
            0 => set.tasks.spawn(life.of(work)),
            1 => set.tasks.spawn_on(life.of(work), &scene.world.handle),
            _ => set.tasks.spawn_blocking(move || life.of_closure(|| member)),
        };
    }
    let asked = scene.draws.up_to(members);
    for _ in 0..asked {
        let result = match set.tasks.try_join_next() {
            Some(result) => Some(result),
            None => match scene.draws.once_in(2) {
                true => set.tasks.join_next().await,
                false => {
                    let next = set.tasks.join_next_with_id().await;
                    next.map(|result| result.map(|(_, member)| member))
                }
            },
        };
        let Some(result) = result else {
            return scene.require(false, || "a set has lost tasks".into());
        };
        let result = tally.observe(result);
        scene.require(result.is_none_or(|member| member < members), || format!("{result:?}"));
    }
    let left = set.tasks.len();
    scene.require(left == members - asked, || format!("{left} of {members} tasks are left"));
    if scene.draws.once_in(4) {
        set.count();
        set.tasks.shutdown().await;
    }
}

pub async fn blocking(mut scene: Scene) {
    if scene.draws.once_in(8) {
        let result = block_in_place(|| 6 * 7);
        return scene.require(result == 42, || format!("a block gave {result}"));
    }
    let (life, panics) = (scene.world.tally.live(), scene.draws.once_in(4));
    let closure = move || {
        if panics {
            panic_as_drawn();
        }
        42
    };
    let handle = scene.world.handle.spawn_blocking(move || life.of_closure(closure));
    let result = Child::new(&scene.world.tally, handle).await;
    let expected = if panics { None } else { Some(42) };
    scene.require(result == expected, || format!("a closure gave {result:?}"));
}

/// Numbers go from one shard to another and are added up there.
pub async fn channel(mut scene: Scene) {
    let (sender, mut receiver) = mpsc::channel(scene.draws.up_to(4));
    let (answer, answered) = oneshot::channel();
    let count = scene.draws.up_to(12) as u64;
    let (from, to) = (scene.draws.below(scene.world.shards), scene.draws.below(scene.world.shards));
    let sending = scene.world.spawn_on(from, async move {
        for number in 1..=count {
            if sender.send(number).await.is_err() {
                return;
            }
        }
    });
    let receiving = scene.world.spawn_on(to, async move {
        let mut sum = 0;
        while let Some(number) = receiver.recv().await {
            sum += number;
        }
        let _ = answer.send(sum);
    });
    let sum = answered.await;
    scene.require(sum == Ok(count * (count + 1) / 2), || {
        format!("{count} numbers add up to {sum:?}")
    });
    sending.await;
    receiving.await;
}

/// Tasks of all shards take turns behind a lock.
pub async fn locks(mut scene: Scene) {
    let (total, room) = (Arc::new(Mutex::new(0)), Arc::new(Semaphore::new(scene.draws.up_to(3))));
    let notify = Arc::new(Notify::new());
    let mut tasks = Vec::new();
    for shard in 0..scene.world.shards {
        let (total, room, notify) = (total.clone(), room.clone(), notify.clone());
        tasks.push(scene.world.spawn_on(shard, async move {
            let _permit = room.acquire().await.expect("nobody closes it");
            let mut total = total.lock().await;
            yield_now().await;
            *total += 1;
            notify.notify_one();
        }));
    }
    notify.notified().await;
    for task in tasks {
        task.await;
    }
    let total = *total.lock().await;
    scene.require(total == scene.world.shards, || format!("{total} tasks had the lock"));
}
