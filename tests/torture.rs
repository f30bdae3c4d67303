//! The example `torture` finds that everything balances: whatever the seed, the rings, the shards
//! and the user.
//!
//! `RINGHOLD_OPERATIONS` (3,000) sets how many operations each run begins, and `RINGHOLD_SEED` what
//! its draws follow from. A test that lacks what it needs says so and passes, or fails if
//! `RINGHOLD_MUST_RUN` is 1.

mod common;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{count, example, limits, skip};
use tempfile::TempDir;

/// What an unprivileged user may usually lock, in KiB.
const USUAL_MEMLOCK_KIB: &str = "8192";
const NOBODY: u32 = 65534;

fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| example::binary("torture"))
}

/// The seed of the environment, or else this one.
fn seed(default: u32) -> u32 {
    let seed = count("RINGHOLD_SEED", default);
    println!("RINGHOLD_SEED={seed}");
    seed
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An empty directory that must be empty again when the run is over.
fn directory() -> TempDir {
    tempfile::Builder::new().prefix("ringhold-").tempdir_in("/var/tmp").expect("it is writable")
}

fn output(command: &mut Command) -> Output {
    let output = command.output().expect("the example runs");
    println!("{}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// Runs the example to its end, and checks what it says.
fn balances(command: &mut Command, seed: u32, shards: u32) {
    let operations = count("RINGHOLD_OPERATIONS", 3_000);
    let directory = directory();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let (operations, seed) = (operations.to_string(), seed.to_string());
    command.args(["--operations", &operations, "--seed", &seed]);
    command.args(["--shards", &shards.to_string(), "--directory"]).arg(directory.path());
    let output = output(command);
    assert_eq!(output.status.code(), Some(0));
    // Nothing but the report, and no progress where nobody looks.
    assert_eq!(text(&output.stderr), "");
    let report = text(&output.stdout);
    assert!(report.starts_with(&format!("torture: seed {seed}, {shards} shard")), "its seed");
    assert!(report.contains(&format!("\n{operations} operations in ")), "the operations");
    assert!(report.ends_with("\neverything balances\n"), "the verdict");
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 0, "files are left behind");
}

fn rings(rings: &str, shards: u32, default_seed: u32) {
    let seed = seed(default_seed);
    balances(Command::new(binary()).args(["--ring", rings]), seed, shards);
}

#[test]
fn one_shard_with_the_smallest_rings_loses_nothing() {
    rings("2,4", 1, 1);
}

#[test]
fn two_shards_with_the_smallest_rings_lose_nothing() {
    rings("2,4", 2, 2);
}

#[test]
fn one_shard_with_the_usual_rings_loses_nothing() {
    rings("256,512", 1, 3);
}

#[test]
fn two_shards_with_the_usual_rings_lose_nothing() {
    rings("256,512", 2, 4);
}

#[test]
fn a_pool_of_a_few_pages_loses_nothing() {
    let seed = seed(5);
    balances(Command::new(binary()).args(["--pool", "32K", "--tasks", "16"]), seed, 2);
}

#[test]
fn a_user_who_may_lock_8_mib_loses_nothing() {
    if !limits::is_root() {
        return skip("torture as another user", "only root becomes somebody else");
    }
    let seed = seed(6);
    let directory = directory();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    // That user may not reach the target directory.
    let reachable = directory.path().join("torture");
    let copied = Command::new("cp").arg(binary()).arg(&reachable).status().expect("cp runs");
    assert!(copied.success());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -l \"$0\"; exec \"$@\"", USUAL_MEMLOCK_KIB]).arg(&reachable);
    command.uid(NOBODY).gid(NOBODY);
    // More than that user can have: the pool stays smaller.
    balances(command.args(["--pool", "32M"]), seed, 2);
}

#[test]
fn wrong_usage_ends_with_2_and_says_why() {
    for (arguments, why) in [
        (&["--ring", "2"][..], "two numbers, with a comma"),
        (&["--ring", "3,4", "--operations", "1"], "power of two"),
        (&["--pool", "1"], "a pool has at least a page"),
        (&["--tasks", "0"], "somebody has to begin operations"),
        (&["--lose", "1"], "unexpected argument"),
        (&["--seconds", "1", "--operations", "1"], "cannot be used with"),
        (&["--directory", "/proc/self/nowhere"], "No such file or directory"),
    ] {
        let output = output(Command::new(binary()).args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(why), "{arguments:?} should say {why:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}
