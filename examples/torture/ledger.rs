//! The ledger: what went in, and what came out. Each line is an equation.

use std::fmt;
use std::fs;
use std::io;

use runtime::Handle;
use runtime::buffers::Occupancy;
use runtime::runtime::DriverCounts;

use crate::tally::Tally;

/// One equation: a count, and the counts that it should be the sum of.
#[derive(Clone, Debug)]
pub struct Line {
    /// What is counted.
    pub name: &'static str,
    /// What went in.
    pub whole: (u64, &'static str),
    /// What came out.
    pub parts: Vec<(u64, &'static str)>,
}

impl Line {
    /// What is there of the whole and not of the parts; negative for the reverse.
    pub fn difference(&self) -> i128 {
        let parts: i128 = self.parts.iter().map(|(count, _)| i128::from(*count)).sum();
        i128::from(self.whole.0) - parts
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:12} {} {} =", self.name, self.whole.0, self.whole.1)?;
        for (index, (count, what)) in self.parts.iter().enumerate() {
            write!(f, "{} {count} {what}", if index == 0 { "" } else { " +" })?;
        }
        match self.difference() {
            0 => Ok(()),
            difference => write!(f, "    DIFFERS BY {difference}"),
        }
    }
}

/// All counts, as of one moment at which nothing goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// The drivers' counts, added up.
    pub driver: DriverCounts,
    /// Operations that were forgotten in the kernel.
    pub leaked_operations: u64,
    /// Made; delivered, dropped unpolled, dropped polled, dropped by a panic, forgotten.
    pub futures: [u64; 6],
    /// Spawned; returned, dropped, unwound.
    pub tasks: [u64; 4],
    /// Spawned; joined, cancelled, panicked, not asked.
    pub handles: [u64; 5],
    /// Made; freed.
    pub buffers: [u64; 2],
    /// Open; open before, those of the workload's files, forgotten.
    pub descriptors: [u64; 4],
    /// Leased; forgotten.
    pub leased_bytes: [u64; 2],
    /// Mapped; leased, free, on their way out, leaked.
    pub pool_bytes: [u64; 5],
    /// Requests that wait for a lease.
    pub waiters: u64,
    /// Alive; the pool's sweeper.
    pub alive: [u64; 2],
    /// What happened that must not happen.
    pub complaints: u64,
}

impl Books {
    /// Reads all counts. `before` descriptors were open at first, and the workload has `own` files.
    pub fn read(handle: &Handle, tally: &Tally, before: u64, own: u64) -> io::Result<Books> {
        let Occupancy { mapped, leased, free, retiring, leaked, waiters, .. } =
            handle.pool().occupancy();
        let alive = handle.metrics().num_alive_tasks() as u64;
        let spawned = tally.spawned.get();
        Ok(Books {
            driver: driver_counts(handle),
            leaked_operations: tally.leaked_operations.get(),
            futures: [
                tally.begun.get(),
                tally.delivered.get(),
                tally.unpolled.get(),
                tally.dropped.get(),
                tally.unwound.get(),
                tally.forgotten.get(),
            ],
            tasks: [
                spawned,
                tally.returned.get(),
                tally.task_dropped.get(),
                tally.task_unwound.get(),
            ],
            handles: [
                spawned,
                tally.joined.get(),
                tally.cancelled.get(),
                tally.panicked.get(),
                tally.unobserved.get(),
            ],
            buffers: [tally.made.get(), tally.freed.get()],
            descriptors: [open_descriptors()?, before, own, tally.leaked_descriptors.get()],
            leased_bytes: [leased as u64, tally.leaked_bytes.get()],
            pool_bytes: [mapped, leased, free, retiring, leaked].map(|bytes| bytes as u64),
            waiters: waiters as u64,
            // It ends by itself when no more is mapped than is kept, which may never be so again.
            alive: [alive, alive.min(1)],
            complaints: tally.complaints(),
        })
    }

    /// The equations.
    pub fn lines(&self) -> Vec<Line> {
        let DriverCounts { submitted, completed, reclaimed, strays, .. } = self.driver;
        let delivered = completed.saturating_sub(reclaimed);
        let kernel = [(delivered, "delivered"), (reclaimed, "reclaimed")];
        let kernel = [&kernel[..], &[(self.leaked_operations, "leaked")]].concat();
        let names = ["delivered", "dropped unpolled", "dropped", "dropped by panics", "forgotten"];
        let futures = names.iter().enumerate().map(|(at, name)| (self.futures[at + 1], *name));
        let [spawned, returned, dropped, unwound] = self.tasks;
        let [handles, joined, cancelled, panicked, unobserved] = self.handles;
        let [open, before, own, forgotten] = self.descriptors;
        let [mapped, leased, free, retiring, leaked] = self.pool_bytes;
        vec![
            line("operations", (submitted, "submitted"), &kernel),
            line("strays", (strays, "completions"), &[(0, "expected")]),
            line("futures", (self.futures[0], "made"), &futures.collect::<Vec<_>>()),
            line(
                "tasks",
                (spawned, "spawned"),
                &[(returned, "returned"), (dropped, "dropped"), (unwound, "unwound")],
            ),
            line(
                "handles",
                (handles, "given"),
                &[
                    (joined, "joined"),
                    (cancelled, "cancelled"),
                    (panicked, "panicked"),
                    (unobserved, "not asked"),
                ],
            ),
            line("buffers", (self.buffers[0], "made"), &[(self.buffers[1], "freed")]),
            line(
                "descriptors",
                (open, "open"),
                &[(before, "before"), (own, "of the workload"), (forgotten, "leaked")],
            ),
            line(
                "leases",
                (self.leased_bytes[0], "bytes leased"),
                &[(self.leased_bytes[1], "leaked")],
            ),
            line(
                "pool",
                (mapped, "bytes mapped"),
                &[
                    (leased, "leased"),
                    (free, "free"),
                    (retiring, "on their way out"),
                    (leaked, "given up"),
                ],
            ),
            line("waiters", (self.waiters, "waiting"), &[(0, "expected")]),
            line("alive", (self.alive[0], "tasks"), &[(self.alive[1], "of the pool")]),
            line("complaints", (self.complaints, "found"), &[(0, "expected")]),
        ]
    }

    /// Whether every line holds.
    pub fn balance(&self) -> bool {
        self.lines().iter().all(|line| line.difference() == 0)
    }
}

/// The last lines, when a runtime of so many shards has ended: `before` descriptors were open
/// before it started, and `alive` tasks are there after its end.
pub fn lines_after_end(
    tally: &Tally,
    before: u64,
    shards: usize,
    alive: usize,
) -> io::Result<Vec<Line>> {
    // A shard that has results for whoever comes for them is remembered, with the event that woke
    // it up.
    let remembered = tally.leaked_results.get().min(shards as u64);
    let events = (wake_up_events()?.min(remembered), "events of shards with results");
    let leaked = (tally.leaked_descriptors.get(), "leaked");
    Ok(vec![
        line("pinned", (pinned_kibibytes()?, "KiB"), &[(0, "expected")]),
        line("descriptors", (open_descriptors()?, "open"), &[(before, "before"), leaked, events]),
        line("alive", (alive as u64, "tasks"), &[(0, "expected")]),
        line("complaints", (tally.complaints(), "found"), &[(0, "expected")]),
    ])
}

fn line(name: &'static str, whole: (u64, &'static str), parts: &[(u64, &'static str)]) -> Line {
    Line { name, whole, parts: parts.to_vec() }
}

/// The counts of all shards' drivers, added up.
pub fn driver_counts(handle: &Handle) -> DriverCounts {
    let metrics = handle.metrics();
    let mut sum = DriverCounts::default();
    for shard in 0..handle.shards() {
        let counts = metrics.driver_counts(shard);
        sum.submitted += counts.submitted;
        sum.completed += counts.completed;
        sum.reclaimed += counts.reclaimed;
        sum.enters += counts.enters;
        sum.delayed += counts.delayed;
        sum.overflows += counts.overflows;
        sum.strays += counts.strays;
    }
    sum
}

/// The descriptors that this process has open.
pub fn open_descriptors() -> io::Result<u64> {
    // The listing's own descriptor is one of the entries.
    Ok(fs::read_dir("/proc/self/fd")?.count() as u64 - 1)
}

/// The events among the descriptors that this process has open.
fn wake_up_events() -> io::Result<u64> {
    let links =
        fs::read_dir("/proc/self/fd")?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(links.filter(|link| link.as_os_str() == "anon_inode:[eventfd]").count() as u64)
}

/// The memory that is pinned for the kernel.
fn pinned_kibibytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPin:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other("/proc/self/status has no VmPin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced() -> Books {
        let mut driver = DriverCounts::default();
        (driver.submitted, driver.completed, driver.reclaimed) = (100, 98, 30);
        Books {
            driver,
            leaked_operations: 2,
            futures: [21, 6, 5, 4, 3, 3],
            tasks: [6, 3, 2, 1],
            handles: [10, 4, 3, 2, 1],
            buffers: [5, 5],
            descriptors: [20, 10, 9, 1],
            leased_bytes: [8192, 8192],
            pool_bytes: [65536, 8192, 40960, 16384, 0],
            waiters: 0,
            alive: [1, 1],
            complaints: 0,
        }
    }

    fn differing(books: &Books) -> Vec<(&'static str, i128)> {
        let lines = books.lines().into_iter().map(|line| (line.name, line.difference()));
        lines.filter(|(_, difference)| *difference != 0).collect()
    }

    #[test]
    fn books_that_balance_have_no_line_that_differs() {
        assert_eq!(differing(&balanced()), []);
        assert!(balanced().balance());
    }

    type Mistake = fn(&mut Books);

    #[test]
    fn whatever_is_lost_or_comes_twice_shows_in_its_own_line() {
        let mistakes: [(Mistake, &str, i128); 14] = [
            (|books| books.driver.submitted += 1, "operations", 1),
            (|books| books.driver.completed += 1, "operations", -1),
            (|books| books.leaked_operations -= 1, "operations", 1),
            (|books| books.driver.strays = 3, "strays", 3),
            (|books| books.futures[2] -= 1, "futures", 1),
            (|books| books.tasks[3] += 1, "tasks", -1),
            (|books| books.handles[4] = 0, "handles", 1),
            (|books| books.buffers[1] = 4, "buffers", 1),
            (|books| books.descriptors[0] += 1, "descriptors", 1),
            (|books| books.leased_bytes[0] += 4096, "leases", 4096),
            (|books| books.pool_bytes[2] -= 4096, "pool", 4096),
            (|books| books.waiters = 1, "waiters", 1),
            (|books| books.alive[0] = 2, "alive", 1),
            (|books| books.complaints = 1, "complaints", 1),
        ];
        for (mistake, name, difference) in mistakes {
            let mut books = balanced();
            mistake(&mut books);
            assert_eq!(differing(&books), [(name, difference)]);
            assert!(!books.balance(), "{name}");
        }
    }

    #[test]
    fn a_line_reads_as_an_equation_and_says_by_how_much_it_differs() {
        let mut wrong = line("things", (5, "made"), &[(3, "used"), (2, "lost")]);
        assert_eq!(wrong.to_string(), "things       5 made = 3 used + 2 lost");
        wrong.whole.0 = 4;
        assert_eq!(wrong.to_string(), "things       4 made = 3 used + 2 lost    DIFFERS BY -1");
    }
}
