//! Names: renaming, linking, removing, following, and every error of theirs.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use runtime::fs;

use crate::place::{Place, errno, kind};

on_both_kernels! {
    renames_replace_what_they_may,
    renames_that_are_refused,
    files_are_removed_and_directories_are_not,
    hard_links,
    symbolic_links,
    canonical_paths,
    existence_is_told_from_errors,
    names_that_are_too_long_or_loop,
    whole_files_are_read_written_and_copied,
}

/// A file, a directory with a file in it, and an empty one.
async fn populate(place: &Place) -> io::Result<()> {
    fs::write(place.at("file"), "file").await?;
    fs::create_dir(place.at("full")).await?;
    fs::write(place.at("full/inner"), "inner").await?;
    fs::create_dir(place.at("empty")).await
}

async fn renames_replace_what_they_may(place: Place) -> io::Result<()> {
    populate(&place).await?;
    fs::write(place.at("other"), "other").await?;
    fs::rename(place.at("file"), place.at("other")).await?;
    assert_eq!(fs::read(place.at("other")).await?, b"file");
    assert_eq!(kind(fs::read(place.at("file")).await), ErrorKind::NotFound);
    fs::rename(place.at("full"), place.at("empty")).await?;
    assert_eq!(fs::read(place.at("empty/inner")).await?, b"inner");
    fs::rename(place.at("other"), place.at("empty/other")).await?;
    fs::rename(place.at("empty/other"), place.at("empty/other")).await?;
    assert_eq!(fs::read(place.at("empty/other")).await?, b"file");
    // Two names of one file: POSIX has it that nothing happens.
    fs::hard_link(place.at("empty/other"), place.at("name")).await?;
    fs::rename(place.at("empty/other"), place.at("name")).await?;
    assert!(fs::try_exists(place.at("empty/other")).await?);
    // A link is renamed, not what it leads to.
    fs::symlink("name", place.at("link")).await?;
    fs::rename(place.at("link"), place.at("renamed")).await?;
    assert_eq!(fs::read_link(place.at("renamed")).await?, Path::new("name"));
    Ok(())
}

async fn renames_that_are_refused(place: Place) -> io::Result<()> {
    populate(&place).await?;
    let rename = |from: &str, to: &str| fs::rename(place.at(from), place.at(to));
    assert_eq!(errno(rename("none", "other").await), libc::ENOENT);
    assert_eq!(errno(rename("file", "none/other").await), libc::ENOENT);
    assert_eq!(errno(rename("file", "file/other").await), libc::ENOTDIR);
    assert_eq!(errno(rename("file", "empty").await), libc::EISDIR);
    assert_eq!(errno(rename("empty", "file").await), libc::ENOTDIR);
    assert_eq!(errno(rename("empty", "full").await), libc::ENOTEMPTY);
    assert_eq!(errno(rename("full", "full/below").await), libc::EINVAL);
    assert_eq!(errno(rename("file", "other/").await), libc::ENOTDIR);
    assert_eq!(errno(rename("full/.", "other").await), libc::EBUSY);
    assert_eq!(fs::read(place.at("file")).await?, b"file");
    Ok(())
}

async fn files_are_removed_and_directories_are_not(place: Place) -> io::Result<()> {
    populate(&place).await?;
    assert_eq!(kind(fs::remove_file(place.at("none")).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::remove_file(place.at("empty")).await), ErrorKind::IsADirectory);
    assert_eq!(kind(fs::remove_file(place.at("file/")).await), ErrorKind::NotADirectory);
    assert_eq!(kind(fs::remove_dir(place.at("file")).await), ErrorKind::NotADirectory);
    assert_eq!(kind(fs::remove_dir(place.at("full")).await), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(fs::remove_dir(place.at("none")).await), ErrorKind::NotFound);
    assert_eq!(errno(fs::remove_dir(place.at("empty/.")).await), libc::EINVAL);
    fs::symlink("full", place.at("link")).await?;
    assert_eq!(kind(fs::remove_dir(place.at("link")).await), ErrorKind::NotADirectory);
    fs::remove_file(place.at("link")).await?;
    fs::remove_file(place.at("full/inner")).await?;
    fs::remove_dir(place.at("full")).await?;
    fs::remove_dir(place.at("empty/")).await?;
    fs::remove_file(place.at("file")).await?;
    assert_eq!(fs::read_dir(place.root()).await?.next_entry().await?.map(|it| it.path()), None);
    Ok(())
}

async fn hard_links(place: Place) -> io::Result<()> {
    populate(&place).await?;
    let link = |from: &str, to: &str| fs::hard_link(place.at(from), place.at(to));
    link("file", "full/second").await?;
    fs::write(place.at("full/second"), "written").await?;
    assert_eq!(fs::read(place.at("file")).await?, b"written");
    assert_eq!(kind(link("none", "other").await), ErrorKind::NotFound);
    assert_eq!(kind(link("file", "full/inner").await), ErrorKind::AlreadyExists);
    assert_eq!(kind(link("file", "none/other").await), ErrorKind::NotFound);
    assert_eq!(errno(link("empty", "other").await), libc::EPERM);
    // A link to a link is one, too.
    fs::symlink("file", place.at("link")).await?;
    link("link", "other").await?;
    assert!(fs::statx(place.at("other"), false).await?.is_symlink());
    Ok(())
}

async fn symbolic_links(place: Place) -> io::Result<()> {
    populate(&place).await?;
    for target in ["file", "none", "/absolute", "full/../file", "./full/"] {
        let path = place.at("link");
        fs::symlink(target, &path).await?;
        assert_eq!(fs::read_link(&path).await?, Path::new(target));
        assert_eq!(kind(fs::symlink(target, &path).await), ErrorKind::AlreadyExists);
        fs::remove_file(&path).await?;
    }
    assert_eq!(kind(fs::symlink("file", place.at("none/link")).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::symlink("", place.at("link")).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::read_link(place.at("file")).await), ErrorKind::InvalidInput);
    assert_eq!(kind(fs::read_link(place.at("none")).await), ErrorKind::NotFound);
    fs::symlink("full", place.at("link")).await?;
    assert_eq!(fs::read(place.at("link/inner")).await?, b"inner");
    fs::write(place.at("link/new"), "new").await?;
    assert_eq!(fs::read(place.at("full/new")).await?, b"new");
    Ok(())
}

async fn canonical_paths(place: Place) -> io::Result<()> {
    populate(&place).await?;
    let root = fs::canonicalize(place.root()).await?;
    fs::symlink("full", place.at("link")).await?;
    fs::symlink(place.at("link"), place.at("absolute")).await?;
    for (path, resolved) in [
        ("file", "file"),
        ("./full/../file", "file"),
        ("link/inner", "full/inner"),
        ("absolute/../absolute/inner", "full/inner"),
        ("empty/", "empty"),
    ] {
        let found = fs::canonicalize(place.at(path)).await?;
        assert_eq!(found, root.join(resolved), "{path}");
    }
    assert_eq!(fs::canonicalize("/").await?, PathBuf::from("/"));
    assert_eq!(kind(fs::canonicalize(place.at("none")).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::canonicalize(place.at("file/.")).await), ErrorKind::NotADirectory);
    Ok(())
}

async fn existence_is_told_from_errors(place: Place) -> io::Result<()> {
    populate(&place).await?;
    fs::symlink("none", place.at("dangling")).await?;
    assert!(fs::try_exists(place.at("file")).await?);
    assert!(fs::try_exists(place.at("full/")).await?);
    assert!(!fs::try_exists(place.at("none")).await?);
    assert!(!fs::try_exists(place.at("dangling")).await?);
    assert_eq!(kind(fs::try_exists(place.at("file/below")).await), ErrorKind::NotADirectory);
    Ok(())
}

async fn names_that_are_too_long_or_loop(place: Place) -> io::Result<()> {
    let long = place.at(&"n".repeat(256));
    let file = place.at("file");
    fs::write(&file, "").await?;
    assert_eq!(errno(fs::create_dir(&long).await), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::rename(&file, &long).await), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::remove_file(&long).await), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::hard_link(&file, &long).await), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::symlink("file", &long).await), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(&long).await), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::read_dir(&long).await.map(drop)), libc::ENAMETOOLONG);
    let target = "t".repeat(4096);
    assert_eq!(errno(fs::symlink(&target, place.at("link")).await), libc::ENAMETOOLONG);
    fs::symlink("two", place.at("one")).await?;
    fs::symlink("one", place.at("two")).await?;
    assert_eq!(errno(fs::read(place.at("one")).await), libc::ELOOP);
    assert_eq!(errno(fs::create_dir(place.at("one/below")).await), libc::ELOOP);
    assert_eq!(errno(fs::canonicalize(place.at("one")).await), libc::ELOOP);
    assert_eq!(errno(fs::try_exists(place.at("one")).await), libc::ELOOP);
    // Forty links may follow each other.
    fs::symlink("file", place.at("0")).await?;
    for index in 1..=40 {
        fs::symlink(format!("{}", index - 1), place.at(&format!("{index}"))).await?;
    }
    assert_eq!(fs::read(place.at("39")).await?, b"");
    assert_eq!(errno(fs::read(place.at("40")).await), libc::ELOOP);
    Ok(())
}

async fn whole_files_are_read_written_and_copied(place: Place) -> io::Result<()> {
    let (one, two) = (place.at("one"), place.at("two"));
    for length in [0, 1, 8191, 8192, 8193, 100_000] {
        let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        fs::write(&one, &bytes).await?;
        assert!(fs::read(&one).await? == bytes, "{length} bytes were read otherwise");
        assert_eq!(fs::copy(&one, &two).await?, length);
        assert!(fs::read(&two).await? == bytes, "{length} bytes were copied otherwise");
    }
    fs::write(&one, [0xff, 0xfe]).await?;
    assert_eq!(kind(fs::read_to_string(&one).await), ErrorKind::InvalidData);
    fs::write(&one, "text").await?;
    assert_eq!(fs::read_to_string(&one).await?, "text");
    assert_eq!(kind(fs::copy(place.root(), &two).await), ErrorKind::InvalidInput);
    assert_eq!(kind(fs::copy(place.at("none"), &two).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::copy(&one, place.root()).await), ErrorKind::IsADirectory);
    assert_eq!(kind(fs::read(place.root()).await), ErrorKind::IsADirectory);
    assert_eq!(kind(fs::write(place.at("none/file"), "").await), ErrorKind::NotFound);
    Ok(())
}
