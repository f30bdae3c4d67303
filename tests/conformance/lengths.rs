//! Lengths, space, and syncs.

use std::io::{self, ErrorKind};

use runtime::fs::{self, Advice, Allocation, File, OpenOptions};

use crate::place::{Kernel, Place, errno, kind, read_from};

on_both_kernels! {
    a_length_is_set_in_both_directions,
    space_is_allocated_and_punched,
    ranges_are_zeroed_where_the_file_system_can,
    what_no_file_can_have_is_refused,
    syncs_of_files_and_directories,
    advice_changes_nothing,
}

async fn opened(place: &Place) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).open(place.at("file")).await
}

async fn a_length_is_set_in_both_directions(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.set_len(10).await?;
    assert_eq!(fs::read(place.at("file")).await?, [0; 10]);
    file.write_all_at(vec![7; 10_000], 0).await?;
    file.set_len(5000).await?;
    file.set_len(9000).await?;
    let mut expected = vec![7; 5000];
    expected.resize(9000, 0);
    assert!(fs::read(place.at("file")).await? == expected, "what was cut off came back");
    file.set_len(0).await?;
    assert_eq!(fs::read(place.at("file")).await?, b"");
    // A hole takes no space.
    file.set_len(1 << 40).await?;
    let stat = file.statx().await?;
    assert_eq!((stat.len(), stat.blocks()), (1 << 40, 0));
    Ok(())
}

async fn space_is_allocated_and_punched(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.write_all_at(vec![7; 16_384], 0).await?;
    file.allocate(4096, 4096, Allocation::PunchHole).await?;
    file.allocate(9000, 1000, Allocation::PunchHole).await?;
    file.allocate(16_384, 4096, Allocation::Extend).await?;
    file.allocate(20_480, 4096, Allocation::KeepLength).await?;
    let mut expected = vec![7; 20_480];
    expected[4096..8192].fill(0);
    expected[9000..10_000].fill(0);
    expected[16_384..].fill(0);
    assert!(fs::read(place.at("file")).await? == expected, "the bytes differ");
    // Within what is there, nothing changes.
    file.allocate(0, 4096, Allocation::Extend).await?;
    file.allocate(1 << 20, 4096, Allocation::PunchHole).await?;
    assert!(fs::read(place.at("file")).await? == expected, "the bytes differ");
    Ok(())
}

async fn ranges_are_zeroed_where_the_file_system_can(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.write_all_at(vec![7; 10_000], 0).await?;
    let zeroed = file.allocate(3000, 10_000, Allocation::Zero).await;
    if place.kernel == Kernel::Tmpfs {
        assert_eq!(errno(zeroed), libc::EOPNOTSUPP, "tmpfs has no FALLOC_FL_ZERO_RANGE");
        return Ok(());
    }
    zeroed?;
    let mut expected = vec![7; 3000];
    expected.resize(13_000, 0);
    assert!(fs::read(place.at("file")).await? == expected, "the bytes differ");
    Ok(())
}

async fn what_no_file_can_have_is_refused(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    assert_eq!(kind(file.set_len(u64::MAX).await), ErrorKind::InvalidInput);
    for how in [Allocation::Extend, Allocation::KeepLength, Allocation::PunchHole] {
        assert_eq!(errno(file.allocate(0, 0, how).await), libc::EINVAL, "{how:?}");
        assert_eq!(errno(file.allocate(i64::MAX as u64, 10, how).await), libc::EFBIG, "{how:?}");
    }
    let directory = File::open(place.root()).await?;
    assert_eq!(errno(directory.set_len(0).await), libc::EINVAL);
    assert_eq!(errno(directory.allocate(0, 10, Allocation::Extend).await), libc::EBADF);
    Ok(())
}

async fn syncs_of_files_and_directories(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.write_all_at("bytes", 0).await?;
    file.sync_data().await?;
    file.sync_all().await?;
    let directory = File::open(place.root()).await?;
    directory.sync_all().await?;
    directory.sync_data().await?;
    let (written, synced) = futures::join!(file.write_all_at("more", 5), file.sync_all());
    assert_eq!((written?.0, synced?), (4, ()));
    assert_eq!(read_from(&file, 0, 100).await?, b"bytesmore");
    Ok(())
}

async fn advice_changes_nothing(place: Place) -> io::Result<()> {
    let file = opened(&place).await?;
    file.write_all_at(vec![7; 10_000], 0).await?;
    for advice in [
        Advice::Normal,
        Advice::Sequential,
        Advice::Random,
        Advice::WillNeed,
        Advice::DontNeed,
        Advice::NoReuse,
    ] {
        file.advise(0, 10_000, advice).await?;
    }
    assert!(fs::read(place.at("file")).await? == [7; 10_000], "the bytes differ");
    Ok(())
}
