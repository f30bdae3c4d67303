//! Names, and what becomes of files that lose theirs.

use super::*;

const HERE: i32 = libc::AT_FDCWD;

#[test]
fn an_unlinked_file_stays_until_its_last_descriptor_is_closed() {
    let mut disk = disk();
    let empty = disk.free_bytes();
    let file = open(&mut disk, "/a", CREATE).expect("it is made");
    let copy = disk.duplicate(file).expect("it is open");
    write(&mut disk, file, 0, &[7; 5000]);
    assert_eq!(disk.unlink_at(HERE, b"/a", 0), Ok(()));
    assert_eq!(names(&mut disk, "/"), [""; 0]);
    assert_eq!(disk.close(file), Ok(()));
    let mut byte = [0];
    assert_eq!(disk.read_at(copy, 4999, 0, &mut byte, &mut First), Ok(1));
    assert_eq!((byte, empty - disk.free_bytes()), ([7], 8192));
    assert_eq!(disk.close(copy), Ok(()));
    assert_eq!((disk.free_bytes(), disk.used_inodes()), (empty, 1));
}

#[test]
fn a_directory_is_listed_in_batches_while_it_changes() {
    let mut disk = disk();
    for name in ["/d", "/d/b", "/d/a", "/d/c"] {
        assert_eq!(disk.mkdir_at(HERE, name.as_bytes(), 0o755), Ok(()));
    }
    let directory = open(&mut disk, "/d", libc::O_RDONLY).expect("it is there");
    let mut listed = Vec::new();
    loop {
        let batch = disk.read_directory(directory, 2).expect("it is a directory");
        if batch.is_empty() {
            break;
        }
        listed.extend(batch.into_iter().map(|it| (it.name, it.kind)));
        let _ = disk.unlink_at(HERE, b"/d/a", libc::AT_REMOVEDIR);
    }
    let expected = [".", "..", "b", "c"].map(|name| (name.as_bytes().to_vec(), libc::DT_DIR));
    assert_eq!(listed, expected);
    assert_eq!(disk.statx(directory, b"", libc::AT_EMPTY_PATH).map(|it| it.links), Ok(4));
}

#[test]
fn numbers_are_the_lowest_free_ones_and_end() {
    let config = DiskConfig { descriptors_max: 6, ..DiskConfig::default() };
    let mut disk = FileSystem::new(config);
    assert_eq!(open(&mut disk, "/a", CREATE), Ok(3));
    assert_eq!(disk.take_descriptor(), Ok(4));
    assert_eq!(open(&mut disk, "/a", CREATE), Ok(5));
    assert_eq!(open(&mut disk, "/a", CREATE), Err(Errno(libc::EMFILE)));
    assert_eq!(disk.close(4), Err(Errno(libc::EBADF)));
    assert_eq!(disk.give_descriptor(4), Ok(()));
    assert_eq!(disk.duplicate(3), Ok(4));
    assert_eq!(disk.open_descriptors(), [3, 4, 5]);
}

#[test]
fn a_path_through_more_than_forty_links_is_a_loop() {
    let mut disk = disk();
    assert_eq!(disk.mkdir_at(HERE, b"/0", 0o755), Ok(()));
    for number in 0..41 {
        let (target, path) = (format!("/{number}"), format!("/{}", number + 1));
        assert_eq!(disk.symlink_at(target.as_bytes(), HERE, path.as_bytes()), Ok(()));
    }
    assert_eq!(disk.canonicalize(HERE, b"/40"), Ok(b"/0".to_vec()));
    assert_eq!(disk.canonicalize(HERE, b"/41"), Err(Errno(libc::ELOOP)));
}

#[test]
fn permissions_hold_for_all_but_user_zero() {
    let mut disk = disk();
    assert_eq!(disk.mkdir_at(HERE, b"/d", 0o700), Ok(()));
    open(&mut disk, "/d/a", CREATE).expect("it is made");
    disk.set_user(1000, 1000);
    assert_eq!(open(&mut disk, "/d/a", libc::O_RDONLY), Err(Errno(libc::EACCES)));
    assert_eq!(open(&mut disk, "/b", CREATE), Err(Errno(libc::EACCES)));
    assert_eq!(disk.set_mode(HERE, b"/d", 0o777), Err(Errno(libc::EPERM)));
    disk.set_user(0, 0);
    assert_eq!(disk.set_mode(HERE, b"/d", 0o777), Ok(()));
    disk.set_user(1000, 1000);
    assert_eq!(open(&mut disk, "/d/a", libc::O_RDWR), Err(Errno(libc::EACCES)));
    open(&mut disk, "/d/a", libc::O_RDONLY).expect("everybody may read it");
    open(&mut disk, "/d/b", CREATE).expect("everybody may write the directory");
}

#[test]
fn a_directory_moves_to_another_parent_only_if_it_may_be_written() {
    let mut disk = disk();
    assert_eq!(disk.set_mode(HERE, b"/", 0o777), Ok(()));
    disk.set_user(1000, 1000);
    for path in [&b"/d"[..], b"/e", b"/f", b"/f/g"] {
        assert_eq!(disk.mkdir_at(HERE, path, 0o755), Ok(()));
    }
    assert_eq!(disk.set_mode(HERE, b"/d", 0o555), Ok(()));
    let forbidden = Err(Errno(libc::EACCES));
    assert_eq!(disk.rename_at(HERE, b"/d", HERE, b"/e/d", 0), forbidden);
    // It is refused before the target's names are looked at.
    assert_eq!(disk.rename_at(HERE, b"/d", HERE, b"/f/g", 0), forbidden);
    assert_eq!(disk.rename_at(HERE, b"/d", HERE, b"/f/g", libc::RENAME_EXCHANGE), forbidden);
    assert_eq!(disk.rename_at(HERE, b"/f/g", HERE, b"/d", libc::RENAME_EXCHANGE), forbidden);
    // In the same directory nothing of it changes.
    assert_eq!(disk.rename_at(HERE, b"/d", HERE, b"/h", 0), Ok(()));
    open(&mut disk, "/a", CREATE).expect("everybody may write the root");
    assert_eq!(disk.set_mode(HERE, b"/a", 0o400), Ok(()));
    assert_eq!(disk.rename_at(HERE, b"/a", HERE, b"/e/a", 0), Ok(()));
}
