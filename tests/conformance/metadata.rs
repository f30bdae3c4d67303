//! What files are: std's metadata, `statx`, permissions, times, and copies of descriptors.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

use runtime::fs::{self, File, OpenOptions};
use rustix::process::{getgid, getuid};

use crate::place::{Place, kind};

on_both_kernels! {
    both_ways_to_ask_agree,
    kinds_are_told_apart,
    permissions_are_set_by_path_and_by_file,
    times_are_set_and_go_on,
    links_are_counted,
    copies_of_a_file_share_it,
    closing_waits_for_what_is_in_flight,
}

async fn both_ways_to_ask_agree(place: Place) -> io::Result<()> {
    let path = place.at("file");
    let file = File::create(&path).await?;
    file.write_all_at(vec![7; 5000], 0).await?;
    let stat = file.statx().await?;
    let by_path = fs::statx(&path, true).await?;
    assert_eq!((stat.ino(), stat.dev()), (by_path.ino(), by_path.dev()));
    assert_eq!((stat.len(), stat.mode(), stat.nlink()), (5000, 0o100_644, 1));
    assert_eq!((stat.uid(), stat.gid()), (getuid().as_raw(), getgid().as_raw()));
    assert_eq!(stat.blksize(), 4096);
    assert!(stat.is_file() && !stat.is_dir() && !stat.is_symlink());
    assert!(stat.created().is_some_and(|created| created <= stat.changed()));
    // Of std's metadata the simulated kernel makes no inode, device and owner up.
    for metadata in [file.metadata().await?, fs::metadata(&path).await?] {
        assert_eq!((metadata.len(), metadata.mode()), (5000, 0o100_644));
        assert_eq!(metadata.modified()?, stat.modified());
        assert!(metadata.is_file() && !metadata.is_dir() && !metadata.is_symlink());
    }
    Ok(())
}

async fn kinds_are_told_apart(place: Place) -> io::Result<()> {
    fs::create_dir(place.at("directory")).await?;
    fs::symlink("directory", place.at("link")).await?;
    let stat = fs::statx(place.at("link"), false).await?;
    assert!(stat.is_symlink());
    assert_eq!((stat.mode(), stat.len()), (0o120_777, 9));
    assert!(fs::symlink_metadata(place.at("link")).await?.is_symlink());
    assert_eq!(fs::symlink_metadata(place.at("link")).await?.len(), 9);
    assert!(fs::metadata(place.at("link")).await?.is_dir());
    let stat = fs::statx(place.at("link"), true).await?;
    assert_eq!((stat.is_dir(), stat.mode(), stat.nlink()), (true, 0o40_755, 2));
    assert_eq!(kind(fs::statx(place.at("none"), true).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::metadata(place.at("none")).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::symlink_metadata(place.at("none")).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::metadata(place.at("a\0b")).await), ErrorKind::InvalidInput);
    Ok(())
}

async fn permissions_are_set_by_path_and_by_file(place: Place) -> io::Result<()> {
    let path = place.at("file");
    let file = File::create(&path).await?;
    for mode in [0o600, 0o444, 0o777, 0o640] {
        file.set_permissions(PermissionsExt::from_mode(mode)).await?;
        assert_eq!(fs::statx(&path, true).await?.mode(), 0o100_000 | mode);
        let other = mode ^ 0o111;
        fs::set_permissions(&path, PermissionsExt::from_mode(other)).await?;
        assert_eq!(file.statx().await?.mode(), 0o100_000 | other);
    }
    fs::symlink("file", place.at("link")).await?;
    fs::set_permissions(place.at("link"), PermissionsExt::from_mode(0o604)).await?;
    assert_eq!(file.statx().await?.mode(), 0o100_604);
    let none = fs::set_permissions(place.at("none"), PermissionsExt::from_mode(0o600)).await;
    assert_eq!(kind(none), ErrorKind::NotFound);
    Ok(())
}

async fn times_are_set_and_go_on(place: Place) -> io::Result<()> {
    let path = place.at("file");
    let file = File::create(&path).await?;
    let then = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    file.set_modified(then).await?;
    assert_eq!(file.statx().await?.modified(), then);
    assert_eq!(fs::metadata(&path).await?.modified()?, then);
    file.write_all_at("later", 0).await?;
    let stat = file.statx().await?;
    assert!(stat.modified() > then && stat.changed() >= stat.modified());
    Ok(())
}

async fn links_are_counted(place: Place) -> io::Result<()> {
    fs::write(place.at("one"), "bytes").await?;
    fs::hard_link(place.at("one"), place.at("two")).await?;
    fs::hard_link(place.at("two"), place.at("three")).await?;
    let one = fs::statx(place.at("one"), true).await?;
    let three = fs::statx(place.at("three"), true).await?;
    assert_eq!((one.nlink(), one.ino()), (3, three.ino()));
    fs::remove_file(place.at("one")).await?;
    assert_eq!(fs::statx(place.at("two"), true).await?.nlink(), 2);
    fs::create_dir(place.at("directory")).await?;
    fs::create_dir(place.at("directory/below")).await?;
    let links = |name| fs::statx(name, true);
    // ext4 and tmpfs count a directory's subdirectories as its links.
    assert_eq!(links(place.at("directory")).await?.nlink(), 3);
    fs::remove_dir(place.at("directory/below")).await?;
    assert_eq!(links(place.at("directory")).await?.nlink(), 2);
    Ok(())
}

async fn copies_of_a_file_share_it(place: Place) -> io::Result<()> {
    let path = place.at("file");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(&path).await?;
    let copy = file.try_clone().await?;
    file.write_all_at("bytes", 0).await?;
    assert_eq!(copy.read_exact_at(vec![0; 5], 0).await?.1, b"bytes");
    file.close().await?;
    copy.write_all_at("B", 0).await?;
    copy.sync_all().await?;
    assert_eq!(fs::read(&path).await?, b"Bytes");
    let third = copy.try_clone().await?;
    drop(copy);
    assert_eq!(third.statx().await?.len(), 5);
    third.close().await
}

async fn closing_waits_for_what_is_in_flight(place: Place) -> io::Result<()> {
    let path = place.at("file");
    let file = File::create(&path).await?;
    let mut write = Box::pin(file.write_all_at(vec![7; 5000], 0));
    let started = futures::poll!(write.as_mut());
    file.close().await?;
    let written = match started {
        std::task::Poll::Ready(written) => written,
        std::task::Poll::Pending => write.await,
    };
    assert_eq!(written?.0, 5000);
    assert!(fs::read(&path).await? == [7; 5000], "the bytes differ");
    Ok(())
}
