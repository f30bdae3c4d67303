//! Opening files.

use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;

use runtime::fs::{self, File, OpenOptions};

use crate::common::isolated;
use crate::common::limits::is_root;
use crate::place::{Kernel, Place, SMALLEST, check, errno, kind};

on_both_kernels! {
    every_combination_of_options,
    what_was_not_opened_for_it_is_refused,
    new_files_have_the_mode_that_was_asked_for,
    links_are_followed_unless_that_is_forbidden,
    a_directory_is_opened_for_reading_only,
    paths_that_lead_nowhere,
    permissions_are_kept_unless_one_is_root,
    appending_ignores_the_offset,
    a_removed_file_stays_while_it_is_open,
}

/// What std's rules and `open(2)` make of options on a file of ten bytes, or on none: the length
/// afterwards.
fn expected(bits: [bool; 6], exists: bool) -> Result<u64, ErrorKind> {
    let [read, write, append, truncate, create, create_new] = bits;
    let makes = create || create_new;
    let opens = read || write || append;
    let changes_unwritten = (truncate || makes) && !write && !append;
    let cuts_what_it_appends_to = append && truncate && !create_new;
    if !opens || changes_unwritten || cuts_what_it_appends_to {
        return Err(ErrorKind::InvalidInput);
    }
    match exists {
        true if create_new => Err(ErrorKind::AlreadyExists),
        true => Ok(if truncate { 0 } else { 10 }),
        false if makes => Ok(0),
        false => Err(ErrorKind::NotFound),
    }
}

async fn every_combination_of_options(place: Place) -> io::Result<()> {
    let path = place.at("file");
    for bits in 0..64 {
        let bits: [bool; 6] = std::array::from_fn(|index| bits >> index & 1 == 1);
        let [read, write, append, truncate, create, create_new] = bits;
        for direct in [false, true] {
            for exists in [false, true] {
                if exists {
                    fs::write(&path, "0123456789").await?;
                }
                let mut options = OpenOptions::new();
                options.read(read).write(write).append(append).truncate(truncate);
                options.create(create).create_new(create_new).direct(direct);
                let found = match options.open(&path).await {
                    Ok(file) => {
                        assert_eq!(file.is_direct(), direct);
                        Ok(file.statx().await?.len())
                    }
                    Err(error) => Err(error.kind()),
                };
                assert_eq!(found, expected(bits, exists), "{bits:?} {direct} {exists}");
                if fs::try_exists(&path).await? {
                    fs::remove_file(&path).await?;
                }
            }
        }
    }
    Ok(())
}

async fn what_was_not_opened_for_it_is_refused(place: Place) -> io::Result<()> {
    let path = place.at("file");
    fs::write(&path, "0123456789").await?;
    let file = File::open(&path).await?;
    assert_eq!(errno(file.write_at("x", 0).await), libc::EBADF);
    assert_eq!(errno(file.writev_at(vec!["x", "y"], 0).await), libc::EBADF);
    assert_eq!(errno(file.set_len(1).await), libc::EINVAL);
    assert_eq!(errno(file.allocate(0, 1, fs::Allocation::Extend).await), libc::EBADF);
    file.sync_all().await?;
    let file = OpenOptions::new().write(true).open(&path).await?;
    assert_eq!(errno(file.read_at(vec![0; 1], 0).await), libc::EBADF);
    assert_eq!(errno(file.readv_at(vec![vec![0; 1]], 0).await), libc::EBADF);
    file.sync_data().await?;
    assert_eq!(fs::read(&path).await?, b"0123456789");
    Ok(())
}

async fn new_files_have_the_mode_that_was_asked_for(place: Place) -> io::Result<()> {
    // The mask takes the group's and the others' right to write.
    for (asked, given) in [(0o666, 0o644), (0o777, 0o755), (0o640, 0o640), (0o600, 0o600)] {
        let path = place.at(&format!("{asked:o}"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(asked).open(&path).await?;
        assert_eq!(file.statx().await?.mode(), 0o100_000 | given);
        // It is for new files alone.
        options.create_new(false).create(true).mode(0o400).open(&path).await?;
        assert_eq!(fs::statx(&path, true).await?.mode(), 0o100_000 | given);
    }
    let file = File::create(place.at("default")).await?;
    assert_eq!(file.statx().await?.mode(), 0o100_644);
    Ok(())
}

async fn links_are_followed_unless_that_is_forbidden(place: Place) -> io::Result<()> {
    fs::write(place.at("file"), "bytes").await?;
    fs::symlink("file", place.at("link")).await?;
    fs::symlink("none", place.at("dangling")).await?;
    fs::symlink("loop", place.at("loop")).await?;
    assert_eq!(fs::read(place.at("link")).await?, b"bytes");
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW);
    assert_eq!(errno(options.open(place.at("link")).await), libc::ELOOP);
    assert_eq!(errno(File::open(place.at("loop")).await), libc::ELOOP);
    assert_eq!(kind(File::open(place.at("dangling")).await), ErrorKind::NotFound);
    assert_eq!(kind(File::create_new(place.at("dangling")).await), ErrorKind::AlreadyExists);
    fs::write(place.at("dangling"), "made").await?;
    assert_eq!(fs::read(place.at("none")).await?, b"made");
    Ok(())
}

async fn a_directory_is_opened_for_reading_only(place: Place) -> io::Result<()> {
    fs::create_dir(place.at("directory")).await?;
    fs::write(place.at("file"), "").await?;
    let directory = File::open(place.at("directory")).await?;
    directory.sync_all().await?;
    assert_eq!(errno(directory.read_at(vec![0; 8], 0).await), libc::EISDIR);
    let mut options = OpenOptions::new();
    assert_eq!(errno(options.write(true).open(place.at("directory")).await), libc::EISDIR);
    assert_eq!(errno(File::create(place.at("directory")).await), libc::EISDIR);
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECTORY);
    assert_eq!(errno(options.open(place.at("file")).await), libc::ENOTDIR);
    assert!(options.open(place.at("directory")).await?.metadata().await?.is_dir());
    Ok(())
}

async fn paths_that_lead_nowhere(place: Place) -> io::Result<()> {
    fs::write(place.at("file"), "").await?;
    assert_eq!(kind(File::open(place.at("none")).await), ErrorKind::NotFound);
    assert_eq!(kind(File::create(place.at("none/file")).await), ErrorKind::NotFound);
    assert_eq!(kind(File::open(place.at("file/below")).await), ErrorKind::NotADirectory);
    assert_eq!(kind(File::open(place.at("file/")).await), ErrorKind::NotADirectory);
    assert_eq!(errno(File::create(place.at("none/")).await), libc::EISDIR);
    assert_eq!(kind(File::open("").await), ErrorKind::NotFound);
    assert_eq!(kind(File::open("a\0b").await), ErrorKind::InvalidInput);
    let longest = place.at(&"n".repeat(255));
    File::create(&longest).await?;
    assert_eq!(errno(File::create(place.at(&"n".repeat(256))).await), libc::ENAMETOOLONG);
    let deep = place.at(&"d/".repeat(2048));
    assert_eq!(errno(File::open(deep).await), libc::ENAMETOOLONG);
    Ok(())
}

/// What modes forbid is forbidden to whoever isn't root.
async fn permissions_are_kept_unless_one_is_root(place: Place) -> io::Result<()> {
    #[track_caller]
    fn check<T: Debug>(place: &Place, outcome: io::Result<T>) {
        match place.is_root() {
            true => drop(outcome.expect("root may do everything")),
            false => assert_eq!(errno(outcome), libc::EACCES),
        }
    }
    let mut options = OpenOptions::new();
    let path = place.at("file");
    options.write(true).create_new(true).mode(0o400).open(&path).await?;
    File::open(&path).await?;
    check(&place, OpenOptions::new().write(true).open(&path).await);
    check(&place, fs::write(&path, "bytes").await);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o200)).await?;
    check(&place, fs::read(&path).await);
    let directory = place.at("directory");
    fs::create_dir(&directory).await?;
    fs::create_dir(directory.join("below")).await?;
    fs::write(directory.join("file"), "").await?;
    // To be listed, but not to be looked into.
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o400)).await?;
    fs::read_dir(&directory).await?;
    check(&place, fs::statx(directory.join("file"), true).await);
    check(&place, fs::try_exists(directory.join("none")).await);
    check(&place, fs::canonicalize(directory.join("file")).await);
    // To be looked into, but neither to be listed nor to be changed.
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o100)).await?;
    assert_eq!(fs::read(directory.join("file")).await?, b"");
    check(&place, fs::read_dir(&directory).await);
    check(&place, fs::create_dir(directory.join("new")).await);
    check(&place, fs::symlink("x", directory.join("link")).await);
    check(&place, fs::hard_link(directory.join("file"), directory.join("second")).await);
    check(&place, fs::rename(directory.join("file"), directory.join("renamed")).await);
    check(&place, fs::remove_dir(directory.join("below")).await);
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).await
}

#[test]
fn permissions_are_kept_for_a_user_who_is_not_root() {
    let name = "opening::permissions_are_kept_for_a_user_who_is_not_root";
    isolated(name).unprivileged().run(|| {
        assert!(!is_root());
        for kernel in [Kernel::Ext4, Kernel::Tmpfs, Kernel::Simulated, Kernel::Harassed] {
            check(kernel, SMALLEST, permissions_are_kept_unless_one_is_root);
        }
    });
}

async fn appending_ignores_the_offset(place: Place) -> io::Result<()> {
    let path = place.at("file");
    fs::write(&path, "head").await?;
    let file = OpenOptions::new().append(true).read(true).open(&path).await?;
    file.write_all_at("one", 0).await?;
    file.write_all_at("two", 1 << 40).await?;
    let (_, buffer) = file.read_exact_at(vec![0; 10], 0).await?;
    assert_eq!(buffer, b"headonetwo");
    fs::write(&path, "cut").await?;
    file.write_all_at("three", 0).await?;
    assert_eq!(fs::read(&path).await?, b"cutthree");
    Ok(())
}

async fn a_removed_file_stays_while_it_is_open(place: Place) -> io::Result<()> {
    let path = place.at("file");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).open(&path).await?;
    file.write_all_at("bytes", 0).await?;
    fs::remove_file(&path).await?;
    fs::write(&path, "another").await?;
    file.write_all_at("B", 0).await?;
    assert_eq!(file.read_exact_at(vec![0; 5], 0).await?.1, b"Bytes");
    assert_eq!(file.statx().await?.nlink(), 0);
    assert_eq!(fs::read(&path).await?, b"another");
    file.close().await
}
