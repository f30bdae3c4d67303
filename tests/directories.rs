//! Directories and names: making, reading, following and removing them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use common::isolated;
use common::limits::Resource;
use runtime::fs::{self, DirBuilder, OpenOptions};

mod common;

/// How often what must hold beside others is tried.
fn rounds() -> u32 {
    std::env::var("RINGHOLD_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap())
}

fn names_in(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[runtime::test]
async fn directories_are_made_one_by_one_or_all_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("a")).await.unwrap();
    let error = fs::create_dir(root.join("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let error = fs::create_dir(root.join("b/c")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fs::create_dir_all(root.join("a/b/c/d")).await.unwrap();
    fs::create_dir_all(root.join("a/b/c/d/")).await.unwrap();
    assert!(root.join("a/b/c/d").is_dir());
    symlink("a/b", root.join("link")).unwrap();
    fs::create_dir_all(root.join("link")).await.unwrap();
    fs::create_dir_all(root.join("link/e")).await.unwrap();
    assert!(root.join("a/b/e").is_dir());
    std::fs::write(root.join("file"), "").unwrap();
    let error = fs::create_dir_all(root.join("file")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let error = fs::create_dir_all(root.join("file/below/it")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
    fs::create_dir_all("").await.unwrap();
    DirBuilder::new().mode(0o710).create(root.join("private")).await.unwrap();
    let mode = std::fs::metadata(root.join("private")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o710);
}

#[runtime::test(shards = 2)]
async fn the_same_directories_can_be_made_by_many_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/c/d/e/f");
    let mut tasks = Vec::new();
    for index in 0..16 {
        let path = path.clone();
        tasks.push(runtime::spawn_on(index % 2, || async { fs::create_dir_all(path).await }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(path.is_dir());
}

#[runtime::test]
async fn reading_a_directory_finds_every_entry_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let mut expected = BTreeMap::new();
    for index in 0..5000 {
        let name = format!("{index:0>20}");
        std::fs::write(root.join(&name), "").unwrap();
        expected.insert(name, 'f');
    }
    std::fs::create_dir(root.join("directory")).unwrap();
    expected.insert("directory".into(), 'd');
    symlink("directory", root.join("link")).unwrap();
    expected.insert("link".into(), 'l');
    let mut found = BTreeMap::new();
    let mut entries = fs::read_dir(root).await.unwrap();
    while let Some(entry) = entries.next_entry().await.unwrap() {
        let kind = entry.file_type().await.unwrap();
        let kind = match (kind.is_file(), kind.is_dir(), kind.is_symlink()) {
            (true, false, false) => 'f',
            (false, true, false) => 'd',
            (false, false, true) => 'l',
            other => panic!("{entry:?} is {other:?}"),
        };
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(entry.path(), root.join(&name));
        assert_eq!(found.insert(name, kind), None);
    }
    assert!(entries.next_entry().await.unwrap().is_none());
    assert_eq!(found, expected);
}

#[runtime::test]
async fn a_dropped_read_of_a_directory_loses_no_entry() {
    let directory = tempfile::tempdir().unwrap();
    for index in 0..3000 {
        std::fs::write(directory.path().join(format!("{index:0>40}")), "").unwrap();
    }
    let mut entries = fs::read_dir(directory.path()).await.unwrap();
    let (mut count, mut dropped) = (0, 0);
    loop {
        let mut context = Context::from_waker(Waker::noop());
        let polled = pin!(entries.next_entry()).poll(&mut context);
        let entry = match polled {
            Poll::Ready(entry) => entry,
            Poll::Pending => {
                dropped += 1;
                entries.next_entry().await
            }
        };
        match entry.unwrap() {
            Some(_) => count += 1,
            None => break,
        }
    }
    assert!(dropped > 0, "the directory was read at once");
    assert_eq!(count, 3000);
}

#[runtime::test]
async fn an_entry_knows_its_own_metadata_and_inode() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "12345").unwrap();
    let mut entries = fs::read_dir(directory.path()).await.unwrap();
    let entry = entries.next_entry().await.unwrap().unwrap();
    let metadata: std::fs::Metadata = entry.metadata().await.unwrap();
    assert_eq!((metadata.len(), metadata.ino()), (5, entry.ino()));
    std::fs::remove_file(directory.path().join("file")).unwrap();
    assert_eq!(entry.metadata().await.unwrap_err().kind(), ErrorKind::NotFound);
    let error = fs::read_dir(directory.path().join("none")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    std::fs::write(directory.path().join("file"), "").unwrap();
    let error = fs::read_dir(directory.path().join("file")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
}

#[runtime::test]
async fn removing_a_tree_removes_all_of_it_and_nothing_that_links_lead_to() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir_all(root.join("kept/below")).unwrap();
    std::fs::write(root.join("kept/file"), "").unwrap();
    let tree = root.join("tree");
    std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
    for index in 0..3000 {
        std::fs::write(tree.join(format!("a/b/{index:0>30}")), "").unwrap();
    }
    symlink(root.join("kept"), tree.join("link")).unwrap();
    symlink("../../kept", tree.join("a/relative")).unwrap();
    symlink("nowhere", tree.join("a/dangling")).unwrap();
    symlink(&tree, root.join("to the tree")).unwrap();
    fs::remove_dir_all(root.join("to the tree")).await.unwrap();
    assert_eq!(names_in(root), ["kept", "tree"]);
    assert_eq!(names_in(&tree), ["a", "link"]);
    fs::remove_dir_all(&tree).await.unwrap();
    assert_eq!(names_in(root), ["kept"]);
    assert_eq!(names_in(&root.join("kept")), ["below", "file"]);
    let error = fs::remove_dir_all(&tree).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = fs::remove_dir_all(root.join("kept/file")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
    assert_eq!(names_in(&root.join("kept")), ["below", "file"]);
}

#[runtime::test]
async fn names_are_given_taken_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("one"), "1").await.unwrap();
    fs::write(root.join("two"), "2").await.unwrap();
    fs::rename(root.join("one"), root.join("two")).await.unwrap();
    assert_eq!(fs::read_to_string(root.join("two")).await.unwrap(), "1");
    fs::hard_link(root.join("two"), root.join("three")).await.unwrap();
    assert_eq!(fs::metadata(root.join("two")).await.unwrap().nlink(), 2);
    fs::symlink("three", root.join("link")).await.unwrap();
    assert_eq!(fs::read_link(root.join("link")).await.unwrap(), Path::new("three"));
    let whole = std::fs::canonicalize(root).unwrap().join("three");
    assert_eq!(fs::canonicalize(root.join("./link")).await.unwrap(), whole);
    assert!(fs::symlink_metadata(root.join("link")).await.unwrap().is_symlink());
    assert!(fs::metadata(root.join("link")).await.unwrap().is_file());
    assert!(fs::statx(root.join("link"), false).await.unwrap().is_symlink());
    assert!(fs::statx(root.join("link"), true).await.unwrap().is_file());
    fs::remove_file(root.join("three")).await.unwrap();
    assert!(!fs::try_exists(root.join("link")).await.unwrap());
    let error = fs::metadata(root.join("link")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = fs::read_link(root.join("two")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = fs::remove_file(root).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
    let error = fs::remove_dir(root).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
    assert_eq!(names_in(root), ["link", "two"]);
    fs::set_permissions(root.join("two"), PermissionsExt::from_mode(0o400)).await.unwrap();
    let metadata = fs::metadata(root.join("two")).await.unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o400);
}

#[runtime::test]
async fn a_link_gets_a_name_itself_and_not_what_it_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("file"), "1").await.unwrap();
    fs::symlink("file", root.join("link")).await.unwrap();
    fs::hard_link(root.join("link"), root.join("same")).await.unwrap();
    assert!(std::fs::symlink_metadata(root.join("same")).unwrap().is_symlink());
    assert_eq!(fs::metadata(root.join("file")).await.unwrap().nlink(), 1);
    // And one that leads nowhere has names all the same.
    fs::symlink("nowhere", root.join("lost")).await.unwrap();
    fs::hard_link(root.join("lost"), root.join("lost too")).await.unwrap();
    assert_eq!(fs::read_link(root.join("lost too")).await.unwrap(), Path::new("nowhere"));
}

#[runtime::test]
async fn whole_files_are_read_written_and_copied() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (one, two) = (root.join("one"), root.join("two"));
    for length in [0, 1, 8191, 8192, 8193, 16_384, 1 << 20, (1 << 20) + 1] {
        let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        fs::write(&one, &bytes).await.unwrap();
        assert!(std::fs::read(&one).unwrap() == bytes, "{length} bytes were written otherwise");
        assert!(fs::read(&one).await.unwrap() == bytes, "{length} bytes were read otherwise");
        assert_eq!(fs::copy(&one, &two).await.unwrap(), length);
        assert!(std::fs::read(&two).unwrap() == bytes, "{length} bytes were copied otherwise");
    }
    std::fs::set_permissions(&one, PermissionsExt::from_mode(0o751)).unwrap();
    fs::copy(&one, &two).await.unwrap();
    assert_eq!(std::fs::metadata(&two).unwrap().permissions().mode() & 0o777, 0o751);
    fs::write(&one, [0xff, 0xfe]).await.unwrap();
    let error = fs::read_to_string(&one).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let error = fs::copy(root, &two).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = fs::read(root).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
}

#[runtime::test]
async fn files_that_the_kernel_makes_up_are_read_and_copied_whole() {
    let directory = tempfile::tempdir().unwrap();
    let expected = std::fs::read("/proc/filesystems").unwrap();
    assert!(!expected.is_empty());
    assert_eq!(fs::read("/proc/filesystems").await.unwrap(), expected);
    let copy = directory.path().join("copy");
    assert_eq!(fs::copy("/proc/filesystems", &copy).await.unwrap(), expected.len() as u64);
    assert_eq!(std::fs::read(&copy).unwrap(), expected);
}

#[runtime::test]
async fn what_is_opened_beneath_a_directory_is_never_outside_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    std::fs::create_dir_all(top.join("root/inner")).unwrap();
    std::fs::write(top.join("secret"), "outside").unwrap();
    std::fs::write(top.join("root/inner/file"), "inside").unwrap();
    let links = [
        ("root/out", "../secret"),
        ("root/absolute", "/etc/passwd"),
        ("root/up", ".."),
        ("root/in", "inner/../inner/file"),
    ];
    links.iter().for_each(|(link, target)| symlink(target, top.join(link)).unwrap());
    let root = fs::File::open(top.join("root")).await.unwrap();
    let mut options = OpenOptions::new();
    options.read(true);
    for path in ["inner/file", "./inner//file", "inner/../inner/file", "in"] {
        let file = options.open_beneath(&root, path).await.unwrap();
        assert_eq!(&file.read_at(vec![0; 16], 0).await.unwrap().1[..6], b"inside", "{path}");
    }
    let file = options.clone().direct(true).open_beneath(&root, "in").await.unwrap();
    assert!(file.is_direct());
    let made = options.clone().write(true).create_new(true).mode(0o640).clone();
    assert!(made.open_beneath(&root, "inner/made").await.is_ok());
    assert_eq!(std::fs::metadata(top.join("root/inner/made")).unwrap().mode() & 0o777, 0o640);
    for path in ["../secret", "inner/../../secret", "out", "absolute", "up/secret", "/etc/passwd"] {
        let error = options.open_beneath(&root, path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CrossesDevices, "{path}");
    }
    let error = options.open_beneath(&root, "inner/none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[runtime::test]
async fn a_directory_that_was_removed_has_no_further_entries() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("removed");
    for files in [0, 1, 3000] {
        std::fs::create_dir(&path).unwrap();
        (0..files).for_each(|file| std::fs::write(path.join(file.to_string()), "").unwrap());
        let mut entries = fs::read_dir(&path).await.unwrap();
        let first = entries.next_entry().await.unwrap();
        assert_eq!(first.is_some(), files > 0);
        std::fs::remove_dir_all(&path).unwrap();
        let mut found = usize::from(first.is_some());
        while entries.next_entry().await.unwrap().is_some() {
            found += 1;
        }
        assert!(found <= files, "{found} entries of {files}");
    }
}

#[runtime::test]
async fn an_entry_is_of_the_directory_that_was_read_whatever_its_path_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (name, length) in [("read", 3), ("other", 999)] {
        std::fs::create_dir(root.join(name)).unwrap();
        std::fs::write(root.join(name).join("entry"), vec![0; length]).unwrap();
    }
    let mut entries = fs::read_dir(root.join("read")).await.unwrap();
    let entry = entries.next_entry().await.unwrap().unwrap();
    drop(entries);
    std::fs::rename(root.join("read"), root.join("renamed")).unwrap();
    assert_eq!(entry.metadata().await.unwrap().len(), 3);
    assert!(entry.file_type().await.unwrap().is_file());
    std::fs::rename(root.join("other"), root.join("read")).unwrap();
    assert_eq!(entry.metadata().await.unwrap().len(), 3);
    std::fs::remove_file(root.join("renamed/entry")).unwrap();
    assert_eq!(entry.metadata().await.unwrap_err().kind(), ErrorKind::NotFound);
    symlink("/etc/passwd", root.join("renamed/entry")).unwrap();
    assert!(entry.metadata().await.unwrap().is_symlink());
}

#[runtime::test]
async fn a_tree_is_removed_beside_others_that_remove_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().join("tree");
    for round in 0..rounds() {
        let parts: Vec<_> = (0..40).map(|part| top.join(part.to_string())).collect();
        for part in &parts {
            std::fs::create_dir_all(part.join("below")).unwrap();
            (0..6).for_each(|file| std::fs::write(part.join(file.to_string()), "").unwrap());
            (0..6).for_each(|file| {
                std::fs::write(part.join("below").join(file.to_string()), "").unwrap()
            });
        }
        let of_std = std::thread::spawn(move || {
            for part in parts.iter().rev() {
                let _ = std::fs::remove_dir_all(part);
            }
        });
        let (one, other) =
            runtime::join!(fs::remove_dir_all(&top), fs::remove_dir_all(top.clone()));
        of_std.join().unwrap();
        // Who comes when all is gone says so.
        for outcome in [one, other] {
            let kind = outcome.map_err(|error| error.kind());
            assert!(matches!(kind, Ok(()) | Err(ErrorKind::NotFound)), "round {round}: {kind:?}");
        }
        assert!(!top.exists(), "round {round}: the tree was left");
    }
}

#[runtime::test]
async fn what_is_put_in_the_place_of_a_directory_is_not_emptied() {
    let directory = tempfile::tempdir().unwrap();
    let (kept, top) = (directory.path().join("kept"), directory.path().join("tree"));
    std::fs::create_dir(&kept).unwrap();
    (0..50).for_each(|file| std::fs::write(kept.join(file.to_string()), "").unwrap());
    for round in 0..rounds() {
        let parts: Vec<_> = (0..30).map(|part| top.join(part.to_string())).collect();
        parts.iter().for_each(|part| std::fs::create_dir_all(part.join("below")).unwrap());
        let target = kept.clone();
        let swapping = std::thread::spawn(move || {
            for part in parts.iter().rev() {
                let below = part.join("below");
                if std::fs::rename(&below, part.join("aside")).is_ok() {
                    let _ = symlink(&target, below);
                }
            }
        });
        let removed = fs::remove_dir_all(&top).await;
        swapping.join().unwrap();
        // A link that was made behind its back leaves a directory that isn't empty.
        let kind = removed.map_err(|error| error.kind());
        let is_fine = matches!(kind, Ok(()) | Err(ErrorKind::DirectoryNotEmpty));
        assert!(is_fine, "round {round}: {kind:?}");
        assert_eq!(names_in(&kept).len(), 50, "round {round}");
        let _ = std::fs::remove_dir_all(&top);
    }
}

#[test]
fn a_deep_tree_takes_few_descriptors() {
    isolated("a_deep_tree_takes_few_descriptors").limit(Resource::OpenFiles, 128).run(|| {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("tree");
        runtime::Builder::new_current_thread()
            .run(async {
                fs::create_dir(&top).await.unwrap();
                std::env::set_current_dir(&top).unwrap();
                // Far beyond what fits into a path.
                for level in 0..1200 {
                    std::fs::create_dir_all("beside").unwrap();
                    std::fs::write("file", "").unwrap();
                    let below = format!("a level with a long name, and its number {level}");
                    std::fs::create_dir(&below).unwrap();
                    std::env::set_current_dir(&below).unwrap();
                }
                std::env::set_current_dir("/").unwrap();
                fs::remove_dir_all(&top).await.unwrap();
                assert!(!top.exists());
            })
            .unwrap();
    });
}
