//! The example `digest` prints what `sha256sum` prints: whatever the tree, the pool, the shards and
//! the user.
//!
//! `RINGHOLD_DIGEST_FILES` (300) and `RINGHOLD_DIGEST_SPARSE_MIB` (64) set the size of the tree;
//! the long run has 20,000 files and 3,072 MiB. A test that lacks what it needs says so and passes,
//! or fails if `RINGHOLD_MUST_RUN` is 1.

mod common;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// What an unprivileged user may usually lock, in KiB.
const USUAL_MEMLOCK_KIB: &str = "8192";
const NOBODY: u32 = 65534;

const SHORT_SIZES: [usize; 8] = [0, 1, 511, 512, 513, 4095, 4096, 4097];
const LONG_SIZE: usize = (1 << 20) + 1;
const ODD_NAMES: [&[u8]; 9] = [
    b"plain",
    b"back\\slash",
    b"new\nline",
    b"carriage\rreturn",
    b"two  spaces ",
    b" leading",
    b"\xff\xfe not utf-8",
    b"\\n",
    b"*star",
];

fn number_from_environment(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |value| value.parse().expect("it is a number"))
}

fn skip(reason: &str) {
    assert_ne!(env::var("RINGHOLD_MUST_RUN").as_deref(), Ok("1"), "not run: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// A directory on a disk (the system's temporary one may be in memory, where direct I/O means
/// nothing) that everybody may read.
fn directory() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("ringhold-digest-")
        .tempdir_in("/var/tmp")
        .expect("/var/tmp is writable");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

fn digest_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| common::example::binary("digest"))
}

/// The command in `directory`, as a user with the usual limit of locked memory if that is asked
/// for. The binary is linked or copied there because that user may not reach the target directory.
fn digest(directory: &Path, as_nobody: bool) -> Command {
    let binary = directory.join("digest-under-test");
    if !binary.exists() {
        fs::hard_link(digest_binary(), &binary)
            .or_else(|_| copy_program(digest_binary(), &binary))
            .unwrap();
    }
    if !as_nobody {
        let mut command = Command::new(binary);
        command.current_dir(directory);
        return command;
    }
    let mut command = Command::new("sh");
    let script = "ulimit -l \"$0\" 2>/dev/null; exec \"$@\"";
    command.args(["-c", script, USUAL_MEMLOCK_KIB]).arg(binary);
    command.current_dir(directory);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Copies by another process: while this one had the copy open for writing, a child that another
/// thread forks would hold it open as well, and nobody could run it (`ETXTBSY`).
fn copy_program(from: &Path, to: &Path) -> io::Result<()> {
    let status = Command::new("cp").arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("cp failed")) }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn sha256sum(directory: &Path) -> Command {
    let mut command = Command::new("sha256sum");
    command.current_dir(directory).env("LC_ALL", "C");
    command
}

fn sorted_lines(output: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<_> = output.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Compares without printing thousands of lines.
fn assert_same_lines(ours: &[u8], theirs: &[u8], what: &str) {
    let (ours, theirs) = (sorted_lines(ours), sorted_lines(theirs));
    assert_eq!(ours.len(), theirs.len(), "the number of lines, {what}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string(), "{what}");
    }
}

/// What sha256sum prints for what find finds.
fn expected_lines(directory: &Path, path: &str) -> Vec<u8> {
    let find = Command::new("find")
        .args([path, "-type", "f", "-exec", "sha256sum", "--", "{}", "+"])
        .current_dir(directory)
        .output()
        .expect("find and sha256sum run");
    assert!(find.status.success(), "{}", text(&find.stderr));
    find.stdout
}

/// A tree of mixed sizes and odd names, with one sparse file.
fn mixed_tree() -> TempDir {
    let files = number_from_environment("RINGHOLD_DIGEST_FILES", 300);
    let sparse_mib = number_from_environment("RINGHOLD_DIGEST_SPARSE_MIB", 64);
    println!("{files} files, the sparse one has {sparse_mib} MiB");
    let directory = directory();
    let tree = directory.path().join("tree");
    let byte = |at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8;
    let bytes: Vec<u8> = (0..2_u32 << 20).map(byte).collect();
    for file in 0..files {
        let parent = tree.join(format!("{}/{}", file % 7, file / 7 % 11));
        fs::create_dir_all(&parent).unwrap();
        let mut name = ODD_NAMES[file % ODD_NAMES.len()].to_vec();
        name.extend_from_slice(file.to_string().as_bytes());
        // The long ones are fewer, lest the tree get too large.
        let size = match file % 50 {
            0 => LONG_SIZE,
            _ => SHORT_SIZES[file / ODD_NAMES.len() % SHORT_SIZES.len()],
        };
        let start = file * 31 % (1 << 19);
        fs::write(parent.join(OsStr::from_bytes(&name)), &bytes[start..start + size]).unwrap();
    }
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len((sparse_mib as u64) << 20).unwrap();
    fs::create_dir(tree.join("empty directory")).unwrap();
    symlink("sparse", tree.join("link to a file")).unwrap();
    symlink(".", tree.join("link to a directory")).unwrap();
    symlink("nowhere", tree.join("link to nothing")).unwrap();
    directory
}

fn assert_success(output: &Output, what: &str) {
    assert!(output.status.success(), "{what}: {:?}, {}", output.status, text(&output.stderr));
}

fn has_direct_io(directory: &Path) -> bool {
    let probe = directory.join("direct-probe");
    fs::write(&probe, "").unwrap();
    let opened = File::options().read(true).custom_flags(libc::O_DIRECT).open(&probe);
    fs::remove_file(&probe).unwrap();
    opened.is_ok()
}

fn every_pool_and_shard_count_agrees_with_sha256sum(as_nobody: bool) {
    let directory = mixed_tree();
    let directory = directory.path();
    let expected = expected_lines(directory, "tree");
    let mut modes: Vec<&[&str]> = vec![&[]];
    if has_direct_io(directory) {
        modes.push(&["--direct"]);
    } else {
        skip("/var/tmp has no direct I/O");
    }
    for mode in modes {
        for shards in ["1", "2"] {
            for pool in ["64K", "1M", "64M"] {
                let what = format!("{mode:?}, {shards} shards, pool of {pool}");
                let output = digest(directory, as_nobody)
                    .args(mode)
                    .args(["--shards", shards, "--pool", pool, "tree"])
                    .output()
                    .unwrap();
                println!("{what}: {}", text(&output.stderr).trim_end());
                assert_success(&output, &what);
                assert_same_lines(&output.stdout, &expected, &what);
            }
        }
    }
}

#[test]
fn it_agrees_with_sha256sum() {
    every_pool_and_shard_count_agrees_with_sha256sum(false);
}

#[test]
fn it_agrees_with_sha256sum_for_a_user_who_may_lock_8_mib() {
    every_pool_and_shard_count_agrees_with_sha256sum(true);
}

#[test]
fn the_pool_of_its_own_choice_agrees_with_sha256sum() {
    let directory = mixed_tree();
    let directory = directory.path();
    // A path's end is kept as find keeps it.
    for path in ["tree", "tree/", "./tree", "tree//"] {
        let output = digest(directory, true).arg(path).output().unwrap();
        assert_success(&output, path);
        assert_same_lines(&output.stdout, &expected_lines(directory, path), path);
    }
}

#[test]
fn a_path_that_is_a_file_or_a_link_to_one_is_read() {
    let directory = directory();
    let directory = directory.path();
    fs::write(directory.join("-a"), "abc").unwrap();
    symlink("-a", directory.join("link")).unwrap();
    let output = digest(directory, false).args(["--", "-a", "link"]).output().unwrap();
    assert_success(&output, "a file and a link");
    assert_same_lines(
        &output.stdout,
        b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -a\n\
          ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  link\n",
        "a file and a link",
    );
    let summary = text(&output.stderr);
    assert!(summary.starts_with("digest: 2 files, 6 B (6 bytes) in "), "{summary:?}");
    assert_eq!(summary.lines().count(), 1, "no bar in a pipe: {summary:?}");
}

#[test]
fn what_cannot_be_read_is_reported_and_skipped() {
    let directory = directory();
    let directory = directory.path();
    fs::create_dir_all(directory.join("tree/closed")).unwrap();
    fs::write(directory.join("tree/open"), "abc").unwrap();
    fs::write(directory.join("tree/secret"), "abc").unwrap();
    let forbid = |name: &str| {
        fs::set_permissions(directory.join(name), Permissions::from_mode(0o000)).unwrap();
    };
    forbid("tree/secret");
    forbid("tree/closed");
    let output = digest(directory, true).args(["tree", "missing"]).output().unwrap();
    fs::set_permissions(directory.join("tree/closed"), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stdout),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  tree/open\n"
    );
    let complaints = text(&output.stderr);
    for complaint in [
        "digest: tree/secret: Permission denied (os error 13)\n",
        "digest: tree/closed: Permission denied (os error 13)\n",
        "digest: missing: No such file or directory (os error 2)\n",
    ] {
        assert!(complaints.contains(complaint), "{complaint:?} in {complaints}");
    }
}

/// The example and sha256sum verify a list; gives our output after it was found to say the same.
fn checked_by_both(directory: &Path, list: &[u8], status: i32) -> Output {
    fs::write(directory.join("list"), list).unwrap();
    let ours = digest(directory, false).args(["--check", "list"]).output().unwrap();
    let theirs = sha256sum(directory).args(["--check", "list"]).output().unwrap();
    assert_eq!(ours.status.code(), Some(status), "{}", text(&ours.stderr));
    assert_eq!(theirs.status.code(), Some(status), "{}", text(&theirs.stderr));
    assert_same_lines(&ours.stdout, &theirs.stdout, "the verdicts");
    let warnings = |output: &Output, name: &str| {
        let text = text(&output.stderr);
        let prefix = format!("{name}: WARNING: ");
        text.lines().filter_map(|line| line.strip_prefix(&prefix).map(String::from)).collect()
    };
    let (ours_warned, theirs_warned): (Vec<String>, Vec<String>) =
        (warnings(&ours, "digest"), warnings(&theirs, "sha256sum"));
    assert_eq!(ours_warned, theirs_warned);
    ours
}

#[test]
fn a_list_is_verified_as_by_sha256sum() {
    let directory = directory();
    let directory = directory.path();
    let mut names = vec![OsString::from("--")];
    for name in ODD_NAMES {
        fs::write(directory.join(OsStr::from_bytes(name)), name).unwrap();
        names.push(OsStr::from_bytes(name).into());
    }
    let ours = digest(directory, false).args(&names).output().unwrap();
    let theirs = sha256sum(directory).args(&names).output().unwrap();
    assert_success(&ours, "odd names");
    assert_same_lines(&ours.stdout, &theirs.stdout, "odd names");

    let output = checked_by_both(directory, &ours.stdout, 0);
    assert_eq!(sorted_lines(&output.stdout).len(), 9);

    // One file has changed, one is gone, and one line is none.
    File::options().append(true).open(directory.join("plain")).unwrap().write_all(b"!").unwrap();
    fs::remove_file(directory.join("*star")).unwrap();
    let list = [&b"# a comment\n\nno digest\n"[..], &ours.stdout].concat();
    let output = checked_by_both(directory, &list, 1);
    let verdicts = text(&output.stdout);
    assert!(verdicts.contains("plain: FAILED\n"), "{verdicts}");
    assert!(verdicts.contains("*star: FAILED open or read\n"), "{verdicts}");
    assert!(verdicts.contains("\\new\\nline: OK\n"), "{verdicts}");

    checked_by_both(directory, b"neither\nnor\n", 1);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let directory = directory();
    let directory = directory.path();
    let tree = directory.join("tree");
    fs::create_dir(&tree).unwrap();
    // More lines than fit into its buffer and the pipe's.
    for file in 0..4000 {
        File::create(tree.join(format!("{file:040}"))).unwrap();
    }
    let mut child = digest(directory, false)
        .arg("tree")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert_eq!(complaints, "");
}

/// Makes a directory of as many empty files, with the longest names that there are; gives its name
/// and how many bytes of output it makes.
fn long_names(directory: &Path, files: usize) -> (String, usize) {
    let name = format!("tree{files}");
    fs::create_dir(directory.join(&name)).unwrap();
    for file in 0..files {
        File::create(directory.join(&name).join(format!("{file:0255}"))).unwrap();
    }
    let line = 64 + 2 + name.len() + 1 + 255 + 1;
    (name, files * line)
}

/// The most memory that was resident, in KiB, when all but the end of the output was printed.
fn peak_kib(directory: &Path, tree: &str, output_bytes: usize) -> usize {
    // What it and the pipe may hold back; until we read that, it can't end.
    const BUFFERED_BYTES: usize = 256 << 10;
    let mut child = digest(directory, false)
        .args(["--shards", "1", "--pool", "1M", tree])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut vec![0; output_bytes - BUFFERED_BYTES]).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), BUFFERED_BYTES);
    assert!(child.wait().unwrap().success());
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_names_of_a_wide_tree_are_not_collected() {
    let directory = directory();
    let directory = directory.path();
    let peaks = [1000, 10_000].map(|files| {
        let (tree, output_bytes) = long_names(directory, files);
        peak_kib(directory, &tree, output_bytes)
    });
    // 10,000 names are 2.5 MiB and more.
    println!("peaks: {peaks:?} KiB");
    assert!(peaks[1] < peaks[0] + 1536, "{peaks:?} KiB");
}

#[test]
fn a_deep_tree_is_walked_to_its_bottom() {
    let directory = directory();
    let directory = directory.path();
    let deep = (0..500).fold(directory.join("tree"), |path, _| path.join("d"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "abc").unwrap();
    let output = digest(directory, true).arg("tree").output().unwrap();
    assert_success(&output, "a deep tree");
    assert_same_lines(&output.stdout, &expected_lines(directory, "tree"), "a deep tree");
    assert_eq!(sorted_lines(&output.stdout).len(), 1);
}

#[test]
fn a_runtime_that_cannot_start_says_what_to_do() {
    let directory = directory();
    let directory = directory.path();
    fs::write(directory.join("file"), "abc").unwrap();
    let output = digest(directory, false).args(["--shards", "0", "file"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "digest: the runtime could not start: a runtime has 1 to 1024 shards, not 0\n"
    );
    // 1,024 rings don't fit into 8 MiB.
    let output = digest(directory, true).args(["--shards", "1024", "file"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    assert!(complaint.contains("raise RLIMIT_MEMLOCK"), "{complaint}");
}
