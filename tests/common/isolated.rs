//! A test in a process of its own: limits, filters and users hold for whole processes.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::limits;

/// Names, in the child's environment, the test that it is to run.
const CHILD: &str = "RINGHOLD_TEST_CHILD";

/// What the child prints at its end: without it the body has not run, whatever the exit status
/// says.
const DONE: &str = "the isolated test is done:";

/// Without root all tests and their children are the same user, whose locked memory and processes
/// are counted together. Of those that need a good part of them one runs at a time; `None` for
/// root, who has no limit.
pub fn turn_of_the_user() -> Option<MutexGuard<'static, ()>> {
    static SAME_USER: Mutex<()> = Mutex::new(());
    (!limits::is_root()).then(|| SAME_USER.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The test `name`, to be run in a process of its own. `name` is the test's own, as the harness
/// knows it.
pub fn isolated(name: &'static str) -> Isolated {
    Isolated {
        name,
        unprivileged: false,
        limits: Vec::new(),
        variables: Vec::new(),
        deadline: Duration::from_secs(20),
    }
}

/// See [`isolated`].
#[derive(Debug)]
pub struct Isolated {
    name: &'static str,
    unprivileged: bool,
    limits: Vec<(limits::Resource, u64)>,
    variables: Vec<(&'static str, &'static str)>,
    deadline: Duration,
}

impl Isolated {
    /// The child runs as a user without capabilities. Where the tests run as root that user is the
    /// child's alone, so that what is counted by user is counted for this test only.
    pub fn unprivileged(mut self) -> Isolated {
        self.unprivileged = true;
        self
    }

    /// The child's soft and hard limit of a resource.
    pub fn limit(mut self, resource: limits::Resource, value: u64) -> Isolated {
        self.limits.push((resource, value));
        self
    }

    /// A variable of the child's environment.
    pub fn variable(mut self, name: &'static str, value: &'static str) -> Isolated {
        self.variables.push((name, value));
        self
    }

    /// How long the child may take before it is killed and the test fails; 20 seconds by default.
    pub fn deadline(mut self, deadline: Duration) -> Isolated {
        self.deadline = deadline;
        self
    }

    /// Runs `body` in the child, and watches it from here.
    ///
    /// # Panics
    ///
    /// If the child fails, panics on any thread, takes longer than its deadline, or doesn't run the
    /// body.
    #[track_caller]
    pub fn run(self, body: impl FnOnce()) {
        if std::env::var_os(CHILD).is_some_and(|child| child == self.name) {
            self.be_the_child(body);
        } else {
            self.watch_the_child();
        }
    }

    fn be_the_child(self, body: impl FnOnce()) {
        for (resource, value) in &self.limits {
            if let Err(error) = limits::set(*resource, *value) {
                return super::skip(self.name, &format!("can't set {resource:?}: {error}"));
            }
        }
        if self.unprivileged && limits::is_root() {
            limits::become_unprivileged();
        }
        body();
        println!("\n{DONE} {}", self.name);
    }

    #[track_caller]
    fn watch_the_child(self) {
        let name = self.name;
        let turn = turn_of_the_user();
        let mut output = tempfile::tempfile().expect("a temporary file");
        let both = || Stdio::from(output.try_clone().expect("a second descriptor"));
        let mut child = Command::new(std::env::current_exe().expect("the test's own path"))
            .args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1"])
            .env(CHILD, name)
            .envs(self.variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(both())
            .stderr(both())
            .spawn()
            .expect("the test runs itself");
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                break Some(status);
            }
            if begun.elapsed() > self.deadline {
                child.kill().and_then(|()| child.wait()).expect("the child is ours");
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        drop(turn);
        let text = whole(&mut output);
        println!("{text}");
        let Some(status) = status else {
            panic!("{name} hung for {:?} and was killed:\n{text}", self.deadline);
        };
        assert!(status.success(), "{name} failed in its process ({status}):\n{text}");
        assert!(!text.contains("panicked at"), "{name} panicked on some thread:\n{text}");
        // A line may begin with what the child's harness says.
        let skips: Vec<&str> =
            text.lines().filter_map(|line| line.find("SKIPPED ").map(|at| &line[at..])).collect();
        for skip in &skips {
            let _ = writeln!(io::stderr(), "{skip}");
        }
        let done = text.lines().any(|line| line == format!("{DONE} {name}"));
        assert!(done || !skips.is_empty(), "{name} is not what its test is called:\n{text}");
    }
}

fn whole(output: &mut File) -> String {
    let mut bytes = Vec::new();
    output.rewind().and_then(|()| output.read_to_end(&mut bytes)).expect("a file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
