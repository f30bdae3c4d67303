//! The example `wal` as a program, on real files.

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Runs the program on a log with segments of two pages: whether it succeeded, and what it printed.
fn wal(log: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let mut program = Command::new(common::example::binary("wal"))
        .arg(log)
        .args(["--segment-bytes", "8192"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = program.stdin.take().expect("it is a pipe");
    // A program that reads nothing may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = program.wait_with_output().expect("the program ends");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).expect("it prints text"))
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let log = directory.path().join("log");
    (directory, log)
}

#[test]
fn lines_are_appended_replayed_and_replaced_by_a_checkpoint() {
    let (_directory, log) = directory();
    let lines: String = (1..=1000).map(|number| format!("line {number}\n")).collect();
    let (is_done, printed) = wal(&log, &["append"], &lines);
    assert!(is_done, "{printed}");
    assert_eq!(printed, "1000 records appended, the last has number 1000\n");
    assert_eq!(
        wal(&log, &["append"], "one more"),
        (true, "1 records appended, the last has number 1001\n".to_owned())
    );
    let expected: String = (1..=1000).map(|number| format!("{number}\tline {number}\n")).collect();
    assert_eq!(wal(&log, &["replay"], ""), (true, expected + "1001\tone more\n"));
    assert_eq!(wal(&log, &["checkpoint", "1001", "a thousand lines"], ""), (true, String::new()));
    assert_eq!(wal(&log, &["replay"], ""), (true, "1001\tone more\n".to_owned()));
    let (is_done, printed) = wal(&log, &["checkpoint", "1003", ""], "");
    assert!(!is_done && printed.contains("1003 lies outside of what the log has"), "{printed}");
}

#[test]
fn a_torn_end_is_cut_off_and_damage_is_told() {
    let (_directory, log) = directory();
    for line in ["one", "two", "three"] {
        assert!(wal(&log, &["append"], line).0);
    }
    let first = log.join("00000000000000000001.segment");
    let last = log.join("00000000000000000003.segment");
    let segment = OpenOptions::new().write(true).open(&last).expect("the segment is there");
    segment.write_all_at(&[0xEE; 700], 4096).expect("it can be written");
    let torn = "3 records of 11 bytes in 2 segments, 700 bytes torn\n";
    assert_eq!(wal(&log, &["verify"], ""), (true, torn.to_owned()));
    assert!(wal(&log, &["append"], "four").0);
    let whole = "4 records of 15 bytes in 2 segments, 0 bytes torn\n";
    assert_eq!(wal(&log, &["verify"], ""), (true, whole.to_owned()));
    let segment = OpenOptions::new().write(true).open(&first).expect("the segment is there");
    segment.write_all_at(b"O", 28).expect("it can be written");
    let (is_sound, printed) = wal(&log, &["verify"], "");
    assert!(!is_sound && printed.contains("is damaged at byte 0"), "{printed}");
    let before = fs::read(&last).expect("it can be read");
    assert!(!wal(&log, &["append"], "five").0);
    assert_eq!(fs::read(&last).expect("it can be read"), before, "nothing was changed");
}
