//! Tests of the disk's parts.

mod crashes;
mod naming;

use super::{DiskConfig, Errno, FileSystem};
use crate::choose::First;

const CREATE: i32 = libc::O_RDWR | libc::O_CREAT;

fn disk() -> FileSystem {
    FileSystem::new(DiskConfig::default())
}

fn open(disk: &mut FileSystem, path: &str, flags: i32) -> Result<i32, Errno> {
    disk.open_at(libc::AT_FDCWD, path.as_bytes(), flags, 0o644)
}

fn write(disk: &mut FileSystem, file: i32, offset: u64, bytes: &[u8]) {
    assert_eq!(disk.write_at(file, offset, 0, bytes, 0, &mut First), Ok(bytes.len()));
}

/// Syncs what was done so far.
fn sync(disk: &mut FileSystem, file: i32) {
    let begun = disk.stamp();
    assert_eq!(disk.sync(file, false, begun, &mut First), Ok(()));
}

fn sync_directory(disk: &mut FileSystem, path: &str) {
    let directory = open(disk, path, libc::O_RDONLY | libc::O_DIRECTORY).expect("it is there");
    sync(disk, directory);
    disk.close(directory).expect("it is open");
}

/// All bytes of a file, or why there are none.
fn content(disk: &mut FileSystem, path: &str) -> Result<Vec<u8>, Errno> {
    let file = open(disk, path, libc::O_RDONLY)?;
    let size = disk.statx(file, b"", libc::AT_EMPTY_PATH)?.size;
    let mut bytes = vec![0; size as usize];
    let count = disk.read_at(file, 0, 0, &mut bytes, &mut First)?;
    assert_eq!(count as u64, size);
    disk.close(file)?;
    Ok(bytes)
}

fn names(disk: &mut FileSystem, path: &str) -> Vec<String> {
    let directory = open(disk, path, libc::O_RDONLY | libc::O_DIRECTORY).expect("it is there");
    let listed = disk.read_directory(directory, usize::MAX).expect("it is a directory");
    disk.close(directory).expect("it is open");
    let names = listed.into_iter().map(|it| String::from_utf8(it.name).expect("tests use text"));
    names.filter(|name| name != "." && name != "..").collect()
}
