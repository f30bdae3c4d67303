//! What a loss of power leaves, for every choice there is.

use std::collections::BTreeSet;

use super::*;
use crate::choose::Enumerate;

/// Every outcome of a loss of power after `before`, as `look` sees it.
fn outcomes<T: Ord>(
    before: impl Fn(&mut FileSystem),
    look: impl Fn(&mut FileSystem) -> T,
) -> BTreeSet<T> {
    let mut every = Enumerate::new();
    let mut seen = BTreeSet::new();
    while every.next_run() {
        let mut disk = disk();
        before(&mut disk);
        disk.lose_power(&mut every);
        assert_eq!(disk.open_descriptors(), []);
        seen.insert(look(&mut disk));
    }
    seen
}

fn text(disk: &mut FileSystem, path: &str) -> String {
    match content(disk, path) {
        Ok(bytes) => String::from_utf8(bytes).expect("tests write text").replace('\0', "_"),
        Err(Errno(libc::ENOENT)) => "none".into(),
        Err(errno) => panic!("{path}: {errno:?}"),
    }
}

fn set(outcomes: &[&str]) -> BTreeSet<String> {
    outcomes.iter().map(|outcome| outcome.to_string()).collect()
}

#[test]
fn a_new_file_is_there_or_not_and_has_its_bytes_or_zeros_or_nothing() {
    let seen = outcomes(
        |disk| {
            let file = open(disk, "/a", CREATE).expect("it is made");
            write(disk, file, 0, b"one");
        },
        |disk| text(disk, "/a"),
    );
    assert_eq!(seen, set(&["none", "", "___", "one"]));
}

#[test]
fn a_synced_file_whose_name_is_not_synced_is_whole_or_missing() {
    let seen = outcomes(
        |disk| {
            let file = open(disk, "/a", CREATE).expect("it is made");
            write(disk, file, 0, b"one");
            sync(disk, file);
        },
        |disk| text(disk, "/a"),
    );
    assert_eq!(seen, set(&["none", "one"]));
}

#[test]
fn a_synced_file_with_a_synced_name_is_there() {
    let seen = outcomes(
        |disk| {
            let file = open(disk, "/a", CREATE).expect("it is made");
            write(disk, file, 0, b"one");
            sync(disk, file);
            sync_directory(disk, "/");
        },
        |disk| text(disk, "/a"),
    );
    assert_eq!(seen, set(&["one"]));
}

#[test]
fn a_rename_leaves_the_old_or_the_new_file_and_never_neither() {
    let seen = outcomes(
        |disk| {
            for (path, bytes) in [("/a", b"old"), ("/b", b"new")] {
                let file = open(disk, path, CREATE).expect("it is made");
                write(disk, file, 0, bytes);
                sync(disk, file);
            }
            sync_directory(disk, "/");
            let at = libc::AT_FDCWD;
            assert_eq!(disk.rename_at(at, b"/b", at, b"/a", 0), Ok(()));
        },
        |disk| (text(disk, "/a"), text(disk, "/b")),
    );
    let expected = [("old", "new"), ("new", "none")];
    assert_eq!(seen, expected.map(|(a, b)| (a.to_string(), b.to_string())).into());
}
