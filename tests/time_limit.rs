//! A program of tests that hangs is ended, and fails.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// What becomes of a program of this name and these words of a shell, under a limit of `seconds`.
fn run(name: &str, text: &str, seconds: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(name);
    std::fs::create_dir(program.parent().unwrap()).unwrap();
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/limited");
    let mut command = Command::new(runner);
    command.arg(program).env("RINGHOLD_TEST_LIMIT", seconds).output().unwrap()
}

#[test]
fn a_program_of_tests_that_hangs_is_killed_with_its_children_and_says_why() {
    let begin = Instant::now();
    let output = run("deps/hangs", "sleep 600 & echo $!; wait", "1");
    assert!(begin.elapsed() < Duration::from_secs(300), "it hung");
    assert_eq!(output.status.signal(), Some(libc::SIGKILL));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("deps/hangs has not come to an end in 1 s (RINGHOLD_TEST_LIMIT)"),
        "{told}"
    );
    assert!(told.lines().any(|line| line == "hangs"), "the threads are named: {told}");
}

#[test]
fn a_program_that_ends_in_time_keeps_its_answer_and_has_no_child_that_it_has_not_begun() {
    let children = "cat /proc/$$/task/*/children; echo out; exit 7";
    let output = run("deps/ends", children, "600");
    assert_eq!(output.status.code(), Some(7));
    let printed = String::from_utf8(output.stdout).unwrap();
    let (children, rest) = printed.split_once("out").unwrap();
    // `cat` itself.
    assert_eq!((children.split_whitespace().count(), rest), (1, "\n"));
}

#[test]
fn a_program_that_is_no_test_runs_for_as_long_as_it_likes() {
    let output = run("debug/serves", "sleep 2; echo served", "1");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"served\n"[..]));
}

#[test]
fn cargo_runs_every_test_under_the_limit() {
    let configuration = include_str!("../.cargo/config.toml");
    assert!(configuration.contains("runner = \"tests/limited\""));
    // This test as well. Another runner may have been asked for, and stands for it.
    let is_replaced = std::env::vars_os().any(|(name, _)| {
        name.to_string_lossy().starts_with("CARGO_TARGET_")
            && name.to_string_lossy().ends_with("_RUNNER")
    });
    let own = std::env::current_exe().unwrap();
    assert!(is_replaced || own.to_string_lossy().contains("/deps/"), "{own:?} has no limit");
}
