//! Where a scenario runs: a directory of its own on some kernel, and what runs it there.

#![allow(dead_code)] // Each test file is a program of its own and uses a part of this.

use std::any::type_name;
use std::fmt::Debug;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringhold_sim::{Failure, Faults, HostConfig, Simulation, seeds};
use runtime::Builder;
use runtime::buffers::{Failed, PoolConfig};
use runtime::fs::File;
use runtime::time::timeout;
use rustix::fs::Mode;
use rustix::process::{getgid, getuid, umask};
use tempfile::TempDir;

/// The sizes of the two queues.
pub type Rings = (u32, u32);

/// The smallest that the kernel gives: everything waits for room in them.
pub const SMALLEST: Rings = (2, 4);

/// What a service has.
pub const LARGE: Rings = (256, 512);

/// What the pool of every scenario may grow to, by arenas of a quarter of it.
pub const POOL_BYTES: usize = 4 << 20;

/// What a simulated user may lock.
const LOCKED_BYTES: u64 = 4 * POOL_BYTES as u64;

/// No scenario takes that long, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// How many seeds a scenario is simulated with, if nothing is said.
const SEEDS: u64 = 3;

/// Linux's numbers of its file systems.
const EXT4: u32 = 0xEF53;
const TMPFS: u32 = 0x0102_1994;

/// What a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Linux, on a directory of ext4.
    Ext4,
    /// Linux, on a directory of tmpfs.
    Tmpfs,
    /// The simulated kernel, with nothing going wrong.
    Simulated,
    /// The simulated kernel, with all that a healthy machine does to a correct program: short
    /// transfers, interrupted and refused enters, slow operations.
    Harassed,
}

/// A directory of a scenario's own.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
    pub kernel: Kernel,
    pub shards: usize,
    /// To be held by what has to be gone when the runtime is.
    pub alive: Arc<()>,
}

impl Place {
    /// The directory itself, which is empty at first.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The last shard: another one than the first, where there are two.
    pub fn last_shard(&self) -> usize {
        self.shards - 1
    }

    /// Whether transfers may move fewer bytes than they could.
    pub fn cuts_transfers(&self) -> bool {
        self.kernel == Kernel::Harassed
    }

    /// Whether nothing is forbidden to this user.
    pub fn is_root(&self) -> bool {
        getuid().is_root()
    }
}

pub type Boxed = Pin<Box<dyn Future<Output = io::Result<()>>>>;
pub type Scenario = Rc<dyn Fn(Place) -> Boxed>;

/// A kernel as a runtime has it: with queues of some size, and so many shards.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub kernel: Kernel,
    pub rings: Rings,
    pub shards: usize,
}

/// Runs a scenario on one shard and on two.
#[track_caller]
pub fn check<S, F>(kernel: Kernel, rings: Rings, scenario: S)
where
    S: Fn(Place) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let scenario: Scenario = Rc::new(move |place| Box::pin(scenario(place)));
    for shards in 1..=2 {
        let setting = Setting { kernel, rings, shards };
        let seeds = match kernel {
            Kernel::Ext4 | Kernel::Tmpfs => 0..1,
            Kernel::Simulated | Kernel::Harassed => seeds(SEEDS),
        };
        for seed in seeds {
            if !run(setting, seed, type_name::<S>(), &scenario) {
                return;
            }
        }
    }
}

/// Runs a scenario once; the seed is a simulation's. `false` if it was skipped, which was said.
#[track_caller]
pub fn run(setting: Setting, seed: u64, name: &str, scenario: &Scenario) -> bool {
    // The new files' modes are the same on every machine.
    umask(Mode::from_raw_mode(0o022));
    let (folders, file_system) = match setting.kernel {
        Kernel::Ext4 => ([PathBuf::from(env!("CARGO_TARGET_TMPDIR")), std::env::temp_dir()], EXT4),
        Kernel::Tmpfs => (["/dev/shm".into(), "/tmp".into()], TMPFS),
        Kernel::Simulated | Kernel::Harassed => {
            let ended = simulated(setting, seed, scenario);
            ended.unwrap_or_else(|failure| panic!("{setting:?}: {failure}"));
            return true;
        }
    };
    let is_of_kind = |folder: &&PathBuf| {
        rustix::fs::statfs(*folder).is_ok_and(|found| found.f_type as u32 == file_system)
    };
    // Not everywhere may everybody make a directory.
    let made = |folder| tempfile::tempdir_in(folder).ok();
    let Some(folder) = folders.iter().filter(is_of_kind).find_map(made) else {
        let reason = format!("none of {folders:?} is on {:?}, and this user's", setting.kernel);
        super::common::skip(name, &reason);
        return false;
    };
    on_linux(setting, &folder, scenario);
    true
}

fn on_linux(setting: Setting, folder: &TempDir, scenario: &Scenario) {
    let Setting { kernel, rings, shards } = setting;
    // Two pools of this size are all that most users may lock.
    let _turn = super::common::turn_of_the_user();
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), everybody).expect("it is ours");
    let alive = Arc::new(());
    let place = Place { root: folder.path().to_owned(), kernel, shards, alive: alive.clone() };
    let mut builder = Builder::new_multi_thread();
    let pool = PoolConfig::new().limit(POOL_BYTES).arena(POOL_BYTES / 4);
    builder.shards(shards).ring_entries(rings.0, rings.1).pool(pool);
    let future = scenario(place);
    let ended = builder.run(async { timeout(DEADLINE, future).await }).expect("io_uring is there");
    let ended = ended.unwrap_or_else(|_| panic!("{setting:?}: it hangs for {DEADLINE:?}"));
    ended.unwrap_or_else(|error| panic!("{setting:?}: {error:?}"));
    assert_eq!(Arc::strong_count(&alive), 1, "{setting:?}: something outlives the runtime");
}

fn simulated(setting: Setting, seed: u64, scenario: &Scenario) -> Result<(), Failure> {
    let Setting { kernel, rings, shards } = setting;
    let mut simulation = Simulation::new(seed);
    let faults = if kernel == Kernel::Harassed { Faults::harmless() } else { Faults::none() };
    let host = simulation.host(
        HostConfig::new("conforming")
            .shards(shards)
            .ring_entries(rings.0, rings.1)
            .pool(PoolConfig::new().limit(POOL_BYTES).arena(POOL_BYTES / 4))
            .locked_memory(LOCKED_BYTES)
            .faults(faults),
    );
    simulation.with_files(host, |files| {
        let here = libc::AT_FDCWD;
        files.set_mode(here, b"/", 0o777).expect("root may do everything");
        files.set_user(getuid().as_raw(), getgid().as_raw());
        files.mkdir_at(here, b"/place", 0o777).expect("the disk is empty");
        files.set_mode(here, b"/place", 0o777).expect("it is ours");
    });
    let alive = Arc::new(());
    let place = Place { root: "/place".into(), kernel, shards, alive: alive.clone() };
    let scenario = scenario.clone();
    let mut place = Some(place);
    simulation.start(host, move || scenario(place.take().expect("it is started once")));
    simulation.run()?;
    drop(simulation);
    assert_eq!(Arc::strong_count(&alive), 1, "seed {seed}: something outlives the runtime");
    Ok(())
}

/// The kind of the error that it has to be.
#[track_caller]
pub fn kind<T: Debug, E: Into<io::Error>>(outcome: Result<T, E>) -> ErrorKind {
    error(outcome).kind()
}

/// The number of the error that it has to be.
#[track_caller]
pub fn errno<T: Debug, E: Into<io::Error>>(outcome: Result<T, E>) -> i32 {
    let error = error(outcome);
    error.raw_os_error().unwrap_or_else(|| panic!("{error:?} has no number"))
}

#[track_caller]
fn error<T: Debug, E: Into<io::Error>>(outcome: Result<T, E>) -> io::Error {
    match outcome {
        Ok(value) => panic!("it succeeds with {value:?}"),
        Err(error) => error.into(),
    }
}

/// What is in the file from `offset` on, at most `length` bytes: as many reads as that takes.
pub async fn read_from(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    match file.read_exact_at(std::mem::take(&mut bytes), offset).await {
        Ok((_, bytes)) => Ok(bytes),
        Err(Failed { error, buffer }) if error.kind() == ErrorKind::UnexpectedEof => {
            let left = file.statx().await?.len().saturating_sub(offset);
            Ok(buffer[..length.min(left as usize)].to_vec())
        }
        Err(failed) => Err(failed.into()),
    }
}
