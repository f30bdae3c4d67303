//! The hunt: random services on simulated hosts, seed after seed, while everything goes wrong that
//! may.

mod hunted;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hunted::worker::Worker;
use hunted::{BLOCK_BYTES, BLOCKS, FileModel};
use ringhold_sim::{Failure, Fault, Faults, HostConfig, HostId, Simulation, for_each_seed, seeds};
use runtime::fs::{self, File};
use runtime::task::{JoinSet, TaskGroup};

/// Operations of all workers together, of each seed.
const OPERATIONS: u32 = 1000;

type Models = Vec<Arc<Mutex<FileModel>>>;

/// How a seed's host is made.
struct Plan {
    seed: u64,
    shards: usize,
    rings: (u32, u32),
    workers: u32,
    pool_limit: usize,
    faults: Faults,
}

impl Plan {
    fn new(seed: u64) -> Plan {
        let mut dice = fastrand::Rng::with_seed(seed ^ 0x5EED);
        let rings = if dice.bool() { (2, 4) } else { (256, 512) };
        let mut faults = if dice.bool() { Faults::harmless() } else { Faults::none() };
        if dice.u32(..4) == 0 {
            for fault in [Fault::ReadError, Fault::WriteError, Fault::SyncError, Fault::NoSpace] {
                faults.set(fault, 0.02);
            }
        }
        faults.set(Fault::CancelLate, [0.0, 0.5, 1.0][dice.usize(..3)]);
        let (shards, workers) = (dice.usize(1..3), dice.u32(1..9));
        let pool_limit = if seed.is_multiple_of(2) { 256 << 10 } else { 64 << 10 };
        Plan { seed, shards, rings, workers, pool_limit, faults }
    }

    fn host(&self, simulation: &mut Simulation) -> HostId {
        let mut config = HostConfig::new("hunted")
            .shards(self.shards)
            .ring_entries(self.rings.0, self.rings.1)
            .pool_limit(self.pool_limit)
            .faults(self.faults.clone());
        if self.pool_limit > 64 << 10 {
            // A pool of four arenas, which come and go; the limit leaves room for three.
            config = config.locked_memory(208 << 10);
        }
        simulation.host(config)
    }

    fn workers(&self, models: &Models) -> Vec<Worker> {
        let mut dice = fastrand::Rng::with_seed(self.seed);
        // Operations that are slow keep the leases that they were given.
        let calm = self.faults.probability(Fault::Slow) == 0.0;
        let worker = |(number, model): (usize, &Arc<Mutex<FileModel>>)| Worker {
            number: number as u32,
            shards: self.shards,
            pool_limit: self.pool_limit,
            patience: calm.then_some(Duration::from_millis(100)),
            dice: dice.fork(),
            model: model.clone(),
        };
        models.iter().enumerate().map(worker).collect()
    }
}

/// The files are there, with their names, before anything goes wrong.
async fn prepare(workers: u32) -> io::Result<()> {
    for number in 0..workers {
        let file = File::create_new(format!("/file-{number}")).await?;
        file.set_len((BLOCKS * BLOCK_BYTES) as u64).await?;
        file.sync_all().await?;
        file.close().await?;
    }
    let root = File::open("/").await?;
    root.sync_all().await?;
    root.close().await
}

/// The workers of half of the seeds are in no group; of the others every third is in none, and
/// those between are in one with a goal and in one with few shares.
async fn work(workers: Vec<Worker>, seed: u64) -> io::Result<()> {
    let each = OPERATIONS / workers.len() as u32;
    let goal = Duration::from_micros(200);
    let groups = [
        TaskGroup::builder("urgent").shares(300).latency_goal(goal).build(),
        TaskGroup::builder("background").shares(20).build(),
    ];
    let mut set = JoinSet::new();
    for (number, worker) in workers.into_iter().enumerate() {
        let work = worker.work(each);
        match groups.get(number % 3) {
            Some(group) if seed % 4 < 2 => group.scope(|| set.spawn(work)),
            _ => set.spawn(work),
        };
    }
    while let Some(ended) = set.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    let occupancy = runtime::buffers::occupancy();
    match occupancy.waiters {
        0 => Ok(()),
        waiters => Err(io::Error::other(format!("{waiters} still wait for leases"))),
    }
}

async fn verify(models: Models) -> io::Result<()> {
    for (number, model) in models.iter().enumerate() {
        let bytes = fs::read(format!("/file-{number}")).await?;
        let mut model = model.lock().expect("no holder panics");
        model.check_after_power_loss(&bytes).map_err(io::Error::other)?;
    }
    Ok(())
}

/// What is on the disk is what the models allow.
fn check(
    simulation: &mut Simulation,
    host: HostId,
    plan: &Plan,
    models: &Models,
) -> Result<(), Failure> {
    simulation.lose_power(host);
    simulation.set_faults(host, Faults::none());
    let known = models.clone();
    simulation.start(host, move || verify(known.clone()));
    simulation.run()?;
    simulation.set_faults(host, plan.faults.clone());
    Ok(())
}

/// A whole run of one seed: some work, a loss of power in the middle of it, all of the work, and
/// another loss of power. Returns the trace's hash.
fn hunt(seed: u64) -> Result<u64, Failure> {
    let plan = Plan::new(seed);
    let mut simulation = Simulation::new(seed);
    simulation.keep_events(64);
    let host = plan.host(&mut simulation);
    let models: Models =
        (0..plan.workers).map(|number| Arc::new(Mutex::new(FileModel::new(number)))).collect();
    simulation.set_faults(host, Faults::none());
    let workers = plan.workers;
    simulation.start(host, move || prepare(workers));
    simulation.run()?;
    check(&mut simulation, host, &plan, &models)?;
    let workers = plan.workers(&models);
    simulation.start(host, move || work(workers.clone(), seed));
    simulation.run_steps(plan.seed.wrapping_mul(0x9E37_79B9) % 3000)?;
    check(&mut simulation, host, &plan, &models)?;
    let workers = plan.workers(&models);
    simulation.start(host, move || work(workers.clone(), seed));
    simulation.run()?;
    check(&mut simulation, host, &plan, &models)?;
    Ok(simulation.trace().hash())
}

#[test]
fn nothing_is_lost_whatever_goes_wrong() {
    let begin = Instant::now();
    let seeds = seeds(100);
    for_each_seed(seeds.clone(), |seed| hunt(seed).map(drop));
    let (count, seconds) = (seeds.end - seeds.start, begin.elapsed().as_secs_f64());
    let rate = count as f64 / seconds;
    println!("{count} seeds of {OPERATIONS} operations and more, {rate:.0} seeds a second");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let seeds = seeds(100);
    let seeds = seeds.start..seeds.end.min(seeds.start + 1000);
    for_each_seed(seeds, |seed| {
        assert_eq!(hunt(seed)?, hunt(seed)?, "seed {seed}");
        Ok(())
    });
}
