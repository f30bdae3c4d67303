//! One trial: one row, one caller, so many tasks on so many cores.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{Caller, Row, contenders};
use crate::rounds::pin_to;

/// How many names the directory has that is read.
const ENTRIES: usize = 11;

/// What the child is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    pub row: Row,
    pub caller: Caller,
    pub tasks: usize,
    /// One core, which is the last one allowed, or all.
    pub cores: usize,
    pub cpu: usize,
    pub millis: u64,
    pub directory: PathBuf,
}

/// What the child prints.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub calls: u64,
    pub seconds: f64,
    pub cpu_seconds: f64,
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.calls as f64 / self.seconds
    }
}

/// The files that the calls are about, gone after the run.
#[derive(Debug)]
pub struct Place(TempDir);

impl Place {
    pub fn create(directory: &Path) -> io::Result<Place> {
        let place = tempfile::Builder::new().prefix("ringhold-bench-").tempdir_in(directory)?;
        for row in [Row::Read4k, Row::Read64k, Row::Read1m] {
            let path = place.path().join(row.file());
            fs::write(&path, vec![7; row.bytes()])?;
            fs::File::open(&path)?.sync_all()?;
        }
        fs::create_dir(place.path().join("entries"))?;
        for number in 0..ENTRIES {
            fs::write(place.path().join(format!("entries/{number}")), "")?;
        }
        Ok(Place(place))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Row {
    /// The bytes that a call moves.
    pub fn bytes(self) -> usize {
        match self {
            Row::Read4k | Row::Write4k | Row::Metadata | Row::Open => 4096,
            Row::Read64k => 65_536,
            Row::Read1m => 1 << 20,
            Row::ReadDir => ENTRIES,
        }
    }

    fn file(self) -> &'static str {
        match self {
            Row::Read4k | Row::Metadata | Row::Open => "4k",
            Row::Read64k => "64k",
            Row::Read1m => "1m",
            Row::Write4k => "written",
            Row::ReadDir => "entries",
        }
    }
}

impl Trial {
    pub fn name(&self) -> String {
        format!("{:?} of {:?}", self.row, self.caller)
    }

    /// What each call of one task is about. Tasks that write have a file each.
    pub fn path(&self, task: usize) -> PathBuf {
        let path = self.directory.join(self.row.file());
        if self.row == Row::Write4k { path.with_extension(task.to_string()) } else { path }
    }

    /// How long the calls are made, and from when on they count.
    pub fn clock(&self) -> Clock {
        let measured = Duration::from_millis(self.millis);
        let begin = Instant::now() + measured / 4;
        Clock { begin, end: begin + measured }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begin: Instant,
    end: Instant,
}

impl Clock {
    /// Whether another call is to be made; it counts if the time has begun.
    pub fn goes_on(self, calls: &mut u64) -> bool {
        let now = Instant::now();
        *calls += u64::from(now >= self.begin);
        now < self.end
    }
}

pub fn run(trial: &Trial) -> io::Result<Outcome> {
    if trial.cores == 1 {
        pin_to(trial.cpu)?;
    }
    let calls = contenders::run(trial)?;
    Ok(Outcome { calls, seconds: trial.millis as f64 / 1000.0, cpu_seconds: cpu_seconds() })
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
