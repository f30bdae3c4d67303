//! The binaries of the examples, for tests that run them.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The binary of an example, beside this test's. `cargo test` builds both; `cargo test --test …`
/// leaves the example out, and then it is built here.
pub fn binary(example: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).expect("tests are in target/…/deps");
    let binary = profile.join("examples").join(example);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = format!("examples/{example}");
    let sources = ["lib.rs", "buffers", "runtime", "fs", "net", "process", &own];
    let changed = sources.iter().map(|source| newest_change(&root.join(source))).max();
    if fs::metadata(&binary).is_ok_and(|found| found.modified().ok() >= changed) {
        return binary;
    }
    let name = match profile.file_name().and_then(OsStr::to_str).expect("it is named") {
        "debug" => "dev",
        name => name,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--example", example, "--profile", name, "--target-dir"])
        .arg(profile.parent().expect("a profile lies in the target directory"))
        .current_dir(root)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the example could not be built");
    binary
}

fn newest_change(path: &Path) -> SystemTime {
    let metadata = fs::metadata(path).unwrap();
    if !metadata.is_dir() {
        return metadata.modified().unwrap();
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| newest_change(&entry.unwrap().path()));
    entries.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
