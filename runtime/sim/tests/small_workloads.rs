//! Every workload of up to three operations, with the power lost after it and every choice made:
//! what is found then is what a second, separately written account of the rules allows, all of it
//! and nothing else.
//!
//! The workloads are those of Mohan et al., "Finding Crash-Consistency Bugs with Bounded Black-Box
//! Crash Testing" (OSDI 2018), whose finding was that short ones on few files are enough. A loss of
//! power after each operation of a workload is a loss at the end of a shorter one. One in the midst
//! of an operation leaves nothing that one right before it, or right after it, couldn't leave: what
//! a write has brought so far is a torn write, what a sync has done so far might have come to the
//! medium without it, and changes of names have no midst.

use std::collections::{BTreeMap, BTreeSet};

use ringhold_sim::choose::{Enumerate, First};
use ringhold_sim::disk::{DiskConfig, Errno, FileSystem};

const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Two sectors from the start of a file, which is made if it isn't there.
    Write(&'static str),
    /// The first sector.
    Overwrite(&'static str),
    /// A sector at the end.
    Append(&'static str),
    Sync(&'static str),
    SyncData(&'static str),
    Rename(&'static str, &'static str),
    Unlink(&'static str),
    MakeDirectory(&'static str),
    SyncDirectory(&'static str),
}

use Operation::{
    Append, MakeDirectory, Overwrite, Rename, Sync, SyncData, SyncDirectory, Unlink, Write,
};

const OPERATIONS: [Operation; 22] = [
    Write("a"),
    Write("b"),
    Overwrite("a"),
    Overwrite("b"),
    Append("a"),
    Append("b"),
    Sync("a"),
    Sync("b"),
    SyncData("a"),
    SyncData("b"),
    Rename("a", "b"),
    Rename("b", "a"),
    Rename("a", "d/a"),
    Rename("d/a", "a"),
    Rename("d/a", "b"),
    Unlink("a"),
    Unlink("b"),
    Unlink("d/a"),
    MakeDirectory("d"),
    SyncDirectory("."),
    SyncDirectory("d"),
    Write("d/a"),
];

const PATHS: [&str; 4] = ["a", "b", "d", "d/a"];

/// What is there before the workload, all of it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Nothing,
    /// Both files, and an empty directory.
    Populated,
}

/// What is found: by path, a file's sectors by what fills them, or nothing for the directory.
type Outcome = BTreeMap<&'static str, Option<Vec<u8>>>;

/// What the operation at this place of the workload writes.
fn fill(index: usize) -> u8 {
    b'1' + index as u8
}

// The oracle. It knows nothing of logs: of each sector which values it may have, of each file which
// sizes, and which changes of names may have happened.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    File(usize),
    Directory,
}

#[derive(Clone, Debug, Default)]
struct File {
    sectors: Vec<u8>,
    /// The sizes that may be found, in sectors.
    sizes: BTreeSet<usize>,
    /// By sector, the values that may be found.
    values: Vec<BTreeSet<u8>>,
}

impl File {
    fn write(&mut self, first: usize, count: usize, fill: u8) {
        let end = first + count;
        if self.sectors.len() < end {
            self.sectors.resize(end, 0);
            self.values.resize(end, BTreeSet::from([0]));
        }
        for sector in first..end {
            self.sectors[sector] = fill;
            self.values[sector].insert(fill);
        }
        self.sizes.insert(self.sectors.len());
    }

    fn make_durable(&mut self) {
        self.sizes = BTreeSet::from([self.sectors.len()]);
        self.values = self.sectors.iter().map(|value| BTreeSet::from([*value])).collect();
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        let mut contents = Vec::new();
        for size in &self.sizes {
            let mut made = vec![Vec::new()];
            for values in &self.values[..*size] {
                let longer = |start: &Vec<u8>, value: &u8| [&start[..], &[*value]].concat();
                made = made
                    .iter()
                    .flat_map(|start| values.iter().map(move |value| longer(start, value)))
                    .collect();
            }
            contents.extend(made);
        }
        contents
    }
}

#[derive(Clone, Debug)]
struct Renaming {
    changes: Vec<(&'static str, Option<Thing>)>,
    is_rename: bool,
    is_durable: bool,
}

#[derive(Clone, Debug, Default)]
struct Oracle {
    files: Vec<File>,
    names: BTreeMap<&'static str, Thing>,
    durable_names: BTreeMap<&'static str, Thing>,
    renamings: Vec<Renaming>,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

impl Oracle {
    fn new(start: Start) -> Oracle {
        let mut oracle = Oracle::default();
        if start == Start::Populated {
            for (number, (path, fill)) in [("a", b'A'), ("b", b'B')].into_iter().enumerate() {
                let mut file = File::default();
                file.write(0, 2, fill);
                file.make_durable();
                oracle.files.push(file);
                oracle.names.insert(path, Thing::File(number));
            }
            oracle.names.insert("d", Thing::Directory);
            oracle.durable_names = oracle.names.clone();
        }
        oracle
    }

    fn file(&mut self, path: &str) -> Option<&mut File> {
        match self.names.get(path) {
            Some(Thing::File(number)) => Some(&mut self.files[*number]),
            _ => None,
        }
    }

    fn rename(&mut self, changes: Vec<(&'static str, Option<Thing>)>) {
        for (path, thing) in &changes {
            match thing {
                Some(thing) => self.names.insert(path, *thing),
                None => self.names.remove(path),
            };
        }
        let is_rename = changes.len() > 1;
        self.renamings.push(Renaming { changes, is_rename, is_durable: false });
    }

    fn has_parent(&self, path: &str) -> bool {
        parent(path) == "." || self.names.contains_key(parent(path))
    }

    /// Notes that an operation happened; `None` where it fails.
    fn run(&mut self, operation: Operation, fill: u8) -> Option<()> {
        match operation {
            Write(path) => {
                if !self.has_parent(path) {
                    return None;
                }
                if self.file(path).is_none() {
                    self.files.push(File { sizes: BTreeSet::from([0]), ..File::default() });
                    let file = Thing::File(self.files.len() - 1);
                    self.rename(vec![(path, Some(file))]);
                }
                self.file(path)?.write(0, 2, fill);
            }
            Overwrite(path) => self.file(path)?.write(0, 1, fill),
            Append(path) => {
                let file = self.file(path)?;
                file.write(file.sectors.len(), 1, fill);
            }
            Sync(path) | SyncData(path) => self.file(path)?.make_durable(),
            Rename(old, new) => {
                if !self.has_parent(new) {
                    return None;
                }
                let thing = *self.names.get(old)?;
                self.rename(vec![(old, None), (new, Some(thing))]);
            }
            Unlink(path) => {
                self.names.get(path)?;
                self.rename(vec![(path, None)]);
            }
            MakeDirectory(path) => {
                if self.names.contains_key(path) {
                    return None;
                }
                self.rename(vec![(path, Some(Thing::Directory))]);
            }
            SyncDirectory(path) => {
                if path != "." {
                    self.names.get(path)?;
                }
                for renaming in &mut self.renamings {
                    renaming.is_durable |= renaming.changes.iter().any(|it| parent(it.0) == path);
                }
            }
        }
        Some(())
    }

    /// Whether these changes of names, and no others, may have happened.
    fn allows(&self, happened: &[bool]) -> bool {
        self.renamings.iter().enumerate().all(|(index, renaming)| {
            if !happened[index] {
                return !renaming.is_durable;
            }
            let mut before = self.renamings[..index].iter().zip(happened);
            before.all(|(earlier, &has_happened)| has_happened || !renaming.needs(earlier))
        })
    }

    fn outcomes(&self) -> BTreeSet<Outcome> {
        let mut outcomes = BTreeSet::new();
        for set in 0..1_usize << self.renamings.len() {
            let happened: Vec<bool> =
                (0..self.renamings.len()).map(|index| set >> index & 1 == 1).collect();
            if !self.allows(&happened) {
                continue;
            }
            let mut names = self.durable_names.clone();
            for (renaming, _) in self.renamings.iter().zip(&happened).filter(|it| *it.1) {
                for (path, thing) in &renaming.changes {
                    match thing {
                        Some(thing) => names.insert(path, *thing),
                        None => names.remove(path),
                    };
                }
            }
            let has_directory = names.contains_key("d");
            names.retain(|path, _| parent(path) == "." || has_directory);
            outcomes.extend(self.trees(&names));
        }
        outcomes
    }

    fn trees(&self, names: &BTreeMap<&'static str, Thing>) -> Vec<Outcome> {
        let mut trees = vec![Outcome::new()];
        for (&path, thing) in names {
            let found: Vec<Option<Vec<u8>>> = match thing {
                Thing::Directory => vec![None],
                Thing::File(number) => {
                    self.files[*number].contents().into_iter().map(Some).collect()
                }
            };
            let with = |tree: &Outcome, found: &Option<Vec<u8>>| {
                let mut tree = tree.clone();
                tree.insert(path, found.clone());
                tree
            };
            trees = trees
                .iter()
                .flat_map(|tree| found.iter().map(move |found| with(tree, found)))
                .collect();
        }
        trees
    }
}

impl Renaming {
    /// Whether it can't have happened without that earlier one.
    fn needs(&self, earlier: &Renaming) -> bool {
        let shares_a_name =
            self.changes.iter().any(|(path, _)| earlier.changes.iter().any(|it| it.0 == *path));
        let leads_into_what_it_made = self.is_rename
            && self.changes.iter().any(|(path, thing)| {
                let made = (parent(path), Some(Thing::Directory));
                thing.is_some() && earlier.changes.iter().any(|it| (it.0, it.1) == made)
            });
        shares_a_name || leads_into_what_it_made
    }
}

// The simulated disk.

const HERE: i32 = libc::AT_FDCWD;

fn with_file<T>(
    disk: &mut FileSystem,
    path: &str,
    flags: i32,
    run: impl FnOnce(&mut FileSystem, i32) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let file = disk.open_at(HERE, path.as_bytes(), flags, 0o644)?;
    let result = run(disk, file);
    disk.close(file)?;
    result
}

fn write(
    disk: &mut FileSystem,
    path: &str,
    flags: i32,
    sectors: usize,
    fill: u8,
) -> Result<(), Errno> {
    with_file(disk, path, libc::O_WRONLY | flags, |disk, file| {
        let bytes = vec![fill; sectors * SECTOR];
        let count = disk.write_at(file, 0, 0, &bytes, 0, &mut First)?;
        assert_eq!(count, bytes.len());
        Ok(())
    })
}

fn run(disk: &mut FileSystem, operation: Operation, fill: u8) -> Result<(), Errno> {
    let sync = |disk: &mut FileSystem, path: &str, data_only| {
        with_file(disk, path, libc::O_RDONLY, |disk, file| {
            let begun = disk.stamp();
            disk.sync(file, data_only, begun, &mut First)
        })
    };
    match operation {
        Write(path) => write(disk, path, libc::O_CREAT, 2, fill),
        Overwrite(path) => write(disk, path, 0, 1, fill),
        Append(path) => write(disk, path, libc::O_APPEND, 1, fill),
        Sync(path) | SyncDirectory(path) => sync(disk, path, false),
        SyncData(path) => sync(disk, path, true),
        Rename(old, new) => disk.rename_at(HERE, old.as_bytes(), HERE, new.as_bytes(), 0),
        Unlink(path) => disk.unlink_at(HERE, path.as_bytes(), 0),
        MakeDirectory(path) => disk.mkdir_at(HERE, path.as_bytes(), 0o755),
    }
}

fn started(start: Start) -> FileSystem {
    let mut disk = FileSystem::new(DiskConfig::default());
    if start == Start::Populated {
        write(&mut disk, "a", libc::O_CREAT, 2, b'A').expect("it is made");
        write(&mut disk, "b", libc::O_CREAT, 2, b'B').expect("it is made");
        disk.mkdir_at(HERE, b"d", 0o755).expect("it is made");
        disk.sync_all(&mut First);
    }
    disk
}

/// What is on the disk.
fn look(disk: &mut FileSystem) -> Outcome {
    let mut found = Outcome::new();
    for path in PATHS {
        let status = match disk.statx(HERE, path.as_bytes(), 0) {
            Ok(status) => status,
            Err(Errno(libc::ENOENT)) => continue,
            Err(errno) => panic!("{path}: {errno:?}"),
        };
        if status.mode & libc::S_IFMT == libc::S_IFDIR {
            found.insert(path, None);
            continue;
        }
        let mut bytes = vec![0; status.size as usize];
        let count = with_file(disk, path, libc::O_RDONLY, |disk, file| {
            disk.read_at(file, 0, 0, &mut bytes, &mut First)
        });
        assert_eq!(count, Ok(bytes.len()), "{path}");
        let sectors = bytes.chunks(SECTOR);
        let is_even =
            sectors.clone().all(|it| it.len() == SECTOR && it.iter().all(|b| *b == it[0]));
        assert!(is_even, "a sector of {path} is torn");
        found.insert(path, Some(sectors.map(|sector| sector[0]).collect()));
    }
    found
}

#[derive(Debug, Default)]
struct Counts {
    workloads: u64,
    losses: u64,
    outcomes: u64,
}

fn check(start: Start, workload: &[Operation], oracle: &Oracle, counts: &mut Counts) {
    let mut every = Enumerate::new();
    let mut seen = BTreeSet::new();
    while every.next_run() {
        let mut disk = started(start);
        for (index, operation) in workload.iter().enumerate() {
            run(&mut disk, *operation, fill(index)).expect("the oracle knows that it succeeds");
        }
        disk.lose_power(&mut every);
        let found = look(&mut disk);
        disk.lose_power(&mut First);
        assert_eq!(look(&mut disk), found, "{workload:?}: what was found is durable");
        seen.insert(found);
    }
    let allowed = oracle.outcomes();
    let forbidden: Vec<_> = seen.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "{start:?} {workload:?}: forbidden are {forbidden:?}");
    let missed: Vec<_> = allowed.difference(&seen).collect();
    assert!(missed.is_empty(), "{start:?} {workload:?}: never found are {missed:?}");
    counts.workloads += 1;
    counts.losses += every.runs();
    counts.outcomes += allowed.len() as u64;
}

/// Checks the workload, and all that are longer by up to `left` operations.
fn check_all(
    start: Start,
    workload: &mut Vec<Operation>,
    oracle: &Oracle,
    left: usize,
    counts: &mut Counts,
) {
    check(start, workload, oracle, counts);
    if left == 0 {
        return;
    }
    for operation in OPERATIONS {
        let mut next = oracle.clone();
        let fill = fill(workload.len());
        let succeeds = next.run(operation, fill).is_some();
        if succeeds {
            workload.push(operation);
            check_all(start, workload, &next, left - 1, counts);
            workload.pop();
        } else {
            // It changes nothing: what follows is a shorter workload.
            let mut disk = started(start);
            for (index, earlier) in workload.iter().enumerate() {
                run(&mut disk, *earlier, self::fill(index)).expect("it succeeded before");
            }
            assert!(run(&mut disk, operation, fill).is_err(), "{workload:?} {operation:?}");
        }
    }
}

fn check_from(start: Start) -> Counts {
    let mut counts = Counts::default();
    check_all(start, &mut Vec::new(), &Oracle::new(start), 3, &mut counts);
    println!(
        "from {start:?}: {} workloads, {} losses of power, {} outcomes, all allowed and all found",
        counts.workloads, counts.losses, counts.outcomes
    );
    counts
}

#[test]
fn every_loss_of_power_on_an_empty_disk_leaves_what_the_rules_allow() {
    let counts = check_from(Start::Nothing);
    assert_eq!((counts.workloads, counts.outcomes), (307, 5051));
}

#[test]
fn every_loss_of_power_on_a_populated_disk_leaves_what_the_rules_allow() {
    let counts = check_from(Start::Populated);
    assert_eq!((counts.workloads, counts.outcomes), (5009, 44_163));
}
