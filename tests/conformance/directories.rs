//! Directories: making, listing and removing them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::pin::pin;

use runtime::fs::{self, DirBuilder};

use crate::place::{Place, errno, kind};

on_both_kernels! {
    directories_are_made_one_by_one_or_all_at_once,
    every_entry_is_listed_once,
    a_dropped_listing_loses_no_entry,
    an_entry_knows_what_it_is,
    an_entry_is_of_the_directory_that_was_read,
    a_removed_directory_has_no_further_entries,
    a_tree_is_removed_by_several_at_once,
    a_tree_is_removed_and_nothing_that_links_lead_to,
    many_make_the_same_directories,
}

async fn directories_are_made_one_by_one_or_all_at_once(place: Place) -> io::Result<()> {
    fs::create_dir(place.at("a")).await?;
    assert_eq!(kind(fs::create_dir(place.at("a")).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(fs::create_dir(place.at("b/c")).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::create_dir(place.at("")).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(fs::create_dir("").await), ErrorKind::NotFound);
    fs::create_dir_all(place.at("a/b/c/d")).await?;
    fs::create_dir_all(place.at("a/b/c/d/")).await?;
    assert!(fs::metadata(place.at("a/b/c/d")).await?.is_dir());
    fs::symlink("a/b", place.at("link")).await?;
    fs::create_dir_all(place.at("link/e")).await?;
    assert!(fs::metadata(place.at("a/b/e")).await?.is_dir());
    fs::write(place.at("file"), "").await?;
    assert_eq!(kind(fs::create_dir_all(place.at("file")).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(fs::create_dir_all(place.at("file/x/y")).await), ErrorKind::NotADirectory);
    fs::create_dir_all("").await?;
    DirBuilder::new().mode(0o710).create(place.at("private")).await?;
    assert_eq!(fs::statx(place.at("private"), true).await?.mode(), 0o40_710);
    DirBuilder::new().mode(0o777).recursive(true).create(place.at("x/y")).await?;
    assert_eq!(fs::statx(place.at("x"), true).await?.mode(), 0o40_755);
    Ok(())
}

async fn every_entry_is_listed_once(place: Place) -> io::Result<()> {
    let mut expected = BTreeMap::new();
    for index in 0..600 {
        let name = format!("{index:0>200}");
        fs::File::create(place.at(&name)).await?;
        expected.insert(name, 'f');
    }
    fs::create_dir(place.at("directory")).await?;
    expected.insert("directory".into(), 'd');
    fs::symlink("directory", place.at("link")).await?;
    expected.insert("link".into(), 'l');
    let mut found = BTreeMap::new();
    let mut entries = fs::read_dir(place.root()).await?;
    while let Some(entry) = entries.next_entry().await? {
        let kind = entry.file_type().await?;
        let kind = match (kind.is_file(), kind.is_dir(), kind.is_symlink()) {
            (true, false, false) => 'f',
            (false, true, false) => 'd',
            (false, false, true) => 'l',
            other => panic!("{entry:?} is {other:?}"),
        };
        let name = entry.file_name().into_string().expect("it is text");
        assert_eq!(entry.path(), place.at(&name));
        assert_eq!(found.insert(name, kind), None);
    }
    assert!(entries.next_entry().await?.is_none());
    assert!(found == expected, "{} entries were found", found.len());
    Ok(())
}

async fn a_dropped_listing_loses_no_entry(place: Place) -> io::Result<()> {
    for index in 0..300 {
        fs::File::create(place.at(&format!("{index:0>200}"))).await?;
    }
    let mut entries = fs::read_dir(place.root()).await?;
    let mut found = BTreeMap::new();
    loop {
        let polled = futures::poll!(pin!(entries.next_entry()));
        let entry = match polled {
            std::task::Poll::Ready(entry) => entry?,
            std::task::Poll::Pending => entries.next_entry().await?,
        };
        let Some(entry) = entry else { break };
        *found.entry(entry.file_name()).or_insert(0) += 1;
    }
    assert_eq!(found.len(), 300);
    assert!(found.values().all(|count| *count == 1));
    Ok(())
}

async fn an_entry_knows_what_it_is(place: Place) -> io::Result<()> {
    fs::write(place.at("file"), "12345").await?;
    let mut entries = fs::read_dir(place.root()).await?;
    let entry = entries.next_entry().await?.expect("a file is there");
    assert_eq!(entry.metadata().await?.len(), 5);
    assert_eq!(entry.ino(), fs::statx(place.at("file"), true).await?.ino());
    fs::remove_file(place.at("file")).await?;
    assert_eq!(kind(entry.metadata().await), ErrorKind::NotFound);
    assert_eq!(kind(fs::read_dir(place.at("none")).await.map(drop)), ErrorKind::NotFound);
    fs::write(place.at("file"), "").await?;
    assert_eq!(kind(fs::read_dir(place.at("file")).await.map(drop)), ErrorKind::NotADirectory);
    Ok(())
}

async fn an_entry_is_of_the_directory_that_was_read(place: Place) -> io::Result<()> {
    fs::create_dir(place.at("read")).await?;
    fs::write(place.at("read/entry"), "three").await?;
    let mut entries = fs::read_dir(place.at("read")).await?;
    let entry = entries.next_entry().await?.expect("a file is there");
    drop(entries);
    fs::rename(place.at("read"), place.at("renamed")).await?;
    fs::create_dir(place.at("read")).await?;
    fs::write(place.at("read/entry"), "another one").await?;
    assert_eq!(entry.metadata().await?.len(), 5);
    assert!(entry.file_type().await?.is_file());
    Ok(())
}

async fn a_removed_directory_has_no_further_entries(place: Place) -> io::Result<()> {
    fs::create_dir(place.at("directory")).await?;
    let mut entries = fs::read_dir(place.at("directory")).await?;
    fs::remove_dir(place.at("directory")).await?;
    assert!(entries.next_entry().await?.is_none());
    Ok(())
}

async fn a_tree_is_removed_by_several_at_once(place: Place) -> io::Result<()> {
    for part in 0..10 {
        fs::create_dir_all(place.at(&format!("tree/{part}/below"))).await?;
        for file in 0..5 {
            fs::write(place.at(&format!("tree/{part}/below/{file}")), "").await?;
        }
    }
    let mut tasks = Vec::new();
    for index in 0..4 {
        let path = place.at("tree");
        tasks.push(runtime::spawn_on(index % place.shards, || fs::remove_dir_all(path)));
    }
    for task in tasks {
        let outcome = task.await?.map_err(|error| error.kind());
        assert!(matches!(outcome, Ok(()) | Err(ErrorKind::NotFound)), "{outcome:?}");
    }
    assert!(!fs::try_exists(place.at("tree")).await?);
    Ok(())
}

async fn a_tree_is_removed_and_nothing_that_links_lead_to(place: Place) -> io::Result<()> {
    fs::create_dir_all(place.at("kept/below")).await?;
    fs::write(place.at("kept/file"), "").await?;
    fs::create_dir_all(place.at("tree/a/b/c")).await?;
    for index in 0..100 {
        fs::File::create(place.at(&format!("tree/a/b/{index}"))).await?;
    }
    fs::symlink(place.at("kept"), place.at("tree/link")).await?;
    fs::symlink("../../kept", place.at("tree/a/relative")).await?;
    fs::symlink(place.at("tree"), place.at("to the tree")).await?;
    fs::remove_dir_all(place.at("to the tree")).await?;
    assert!(fs::try_exists(place.at("tree/a/b/c")).await?);
    fs::remove_dir_all(place.at("tree")).await?;
    assert!(!fs::try_exists(place.at("tree")).await?);
    assert!(fs::try_exists(place.at("kept/below")).await?);
    assert!(fs::try_exists(place.at("kept/file")).await?);
    assert_eq!(kind(fs::remove_dir_all(place.at("tree")).await), ErrorKind::NotFound);
    assert_eq!(errno(fs::remove_dir_all(place.at("kept/file")).await), libc::ENOTDIR);
    Ok(())
}

async fn many_make_the_same_directories(place: Place) -> io::Result<()> {
    let path = place.at("a/b/c/d/e/f");
    let mut tasks = Vec::new();
    for index in 0..16 {
        let path = path.clone();
        tasks.push(runtime::spawn_on(index % place.shards, || fs::create_dir_all(path)));
    }
    for task in tasks {
        task.await??;
    }
    assert!(fs::metadata(&path).await?.is_dir());
    Ok(())
}
