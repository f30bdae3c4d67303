//! The workload: rounds of operations, with everything idle and the books checked between them.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use runtime::Handle;
use runtime::fs::File;
use runtime::time::sleep;

use crate::arguments::Arguments;
use crate::draws::Draws;
use crate::fates::Drawing;
use crate::forgotten::Allowance;
use crate::ledger::{self, Books};
use crate::report::Board;
use crate::tally::Tally;
use crate::world::{World, lease_patiently};

/// A round is this long at most: what a dropped write may have done stays open until its end.
const ROUND: Duration = Duration::from_secs(1);
const ROUND_OPERATIONS: u64 = 20_000;

/// How long the last completions may take once nothing new is begun.
const IDLE_PATIENCE: Duration = Duration::from_secs(10);

/// One operation in so many is forgotten, as long as that is allowed.
const FORGOTTEN_ONE_IN: usize = 500;

/// When no more operations are begun.
#[derive(Clone, Copy, Debug)]
struct Until {
    operations: u64,
    time: Option<Instant>,
}

impl Until {
    fn is_reached(&self, next: u64) -> bool {
        next >= self.operations || self.time.is_some_and(|time| Instant::now() >= time)
    }
}

/// Runs it all, and gives the books of the end, or those of the round that did not balance.
///
/// # Errors
///
/// What keeps the workload itself from going on, such as a full disk.
pub async fn run(
    arguments: &Arguments,
    seed: u64,
    directory: &Path,
    board: &Arc<Board>,
) -> io::Result<Books> {
    let (handle, tally) = (Handle::current(), &board.tally);
    warm_up(directory).await?;
    let before = ledger::open_descriptors()?;
    let world = Arc::new(World::new(directory, seed, arguments.tasks, tally).await?);
    let own = ledger::open_descriptors()? - before;
    let allowance = Arc::new(Allowance::new(arguments.forget, arguments.pool, arguments.ring.1));
    let until = Until {
        operations: arguments.operations.unwrap_or(u64::MAX),
        time: arguments
            .operations
            .is_none()
            .then(|| Instant::now() + Duration::from_secs(arguments.seconds)),
    };
    while !until.is_reached(board.next.load(Ordering::SeqCst)) {
        round(&world, &allowance, arguments.tasks, until, board).await?;
        let books = when_idle(&handle, tally, before, own).await?;
        if !books.balance() {
            return Ok(books);
        }
        settle(&world).await?;
        let books = when_idle(&handle, tally, before, own).await?;
        if !books.balance() {
            return Ok(books);
        }
    }
    world.waiting.end();
    world.foreign.end();
    if let Err(world) = Arc::try_unwrap(world) {
        tally.complain(format!("{} futures are still there", Arc::strong_count(&world) - 1));
    }
    when_idle(&handle, tally, before, 0).await
}

/// Makes each shard lease and read often enough that it registers the file, and has that dropped by
/// another thread, so that whatever is made once is there.
async fn warm_up(directory: &Path) -> io::Result<()> {
    let path = directory.join("warm-up");
    fs::write(&path, [0; 4096])?;
    for shard in 0..Handle::current().shards() {
        let path = path.clone();
        let warmed = runtime::spawn_on(shard, move || async move {
            let file = File::open(path).await?;
            let mut lease = lease_patiently(4096).await?;
            for _ in 0..16 {
                (_, lease) = file.read_fixed(lease, 0).await?;
            }
            file.metadata().await?;
            io::Result::Ok(file)
        });
        let file = warmed.await??;
        runtime::task::spawn_blocking(move || drop(file)).await?;
    }
    Ok(())
}

/// Begins operations in many tasks, and waits until those tasks are through.
async fn round(
    world: &Arc<World>,
    allowance: &Arc<Allowance>,
    tasks: usize,
    until: Until,
    board: &Arc<Board>,
) -> io::Result<()> {
    let first = board.next.load(Ordering::SeqCst);
    let end = until.operations.min(first.saturating_add(ROUND_OPERATIONS));
    let round_ends = Instant::now() + ROUND;
    let round = Until {
        operations: end,
        time: Some(until.time.map_or(round_ends, |time| time.min(round_ends))),
    };
    let mut workers = Vec::new();
    for worker in 0..tasks {
        let (of, allowance, board) = (world.clone(), allowance.clone(), board.clone());
        let work = work(of, allowance, board, worker, round);
        workers.push(world.spawn_on(worker % world.shards, work));
    }
    for worker in workers {
        worker.await.unwrap_or(Ok(()))?;
    }
    // Workers that came too late have counted on.
    board.next.fetch_min(end, Ordering::SeqCst);
    Ok(())
}

async fn work(
    world: Arc<World>,
    allowance: Arc<Allowance>,
    board: Arc<Board>,
    worker: usize,
    round: Until,
) -> io::Result<()> {
    while !round.is_reached(board.next.load(Ordering::SeqCst)) {
        let number = board.next.fetch_add(1, Ordering::SeqCst);
        if number >= round.operations {
            break;
        }
        let drawing = Drawing::new(world.seed, number);
        board.begin(worker, number, drawing.kind.name, drawing.fate.1);
        drawing.run(&world).await;
        let mut draws = Draws::of(!world.seed, number);
        if draws.once_in(FORGOTTEN_ONE_IN) {
            allowance.use_one(&world, &mut draws).await?;
        }
        board.end(worker);
    }
    Ok(())
}

/// Waits until the books balance, for as long as that may take; gives them in any case.
async fn when_idle(handle: &Handle, tally: &Tally, before: u64, own: u64) -> io::Result<Books> {
    let patience = Instant::now() + IDLE_PATIENCE;
    loop {
        let books = Books::read(handle, tally, before, own)?;
        // Complaints don't go away, but the rest may still settle.
        let settled = Books { complaints: 0, ..books.clone() }.balance();
        if settled || Instant::now() > patience {
            return Ok(books);
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Looks at every byte of the files, and begins anew.
async fn settle(world: &Arc<World>) -> io::Result<()> {
    for steady in &world.steady {
        if let Err(what) = steady.settle().await? {
            world.tally.complain(what);
        }
        world.tally.steps.increment();
    }
    for directory in [world.scratch(), world.names()] {
        fs::remove_dir_all(&directory)?;
        fs::create_dir(&directory)?;
    }
    Ok(())
}
