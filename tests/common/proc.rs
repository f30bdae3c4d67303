//! What `/proc` says about this process.

use std::fs;
use std::time::{Duration, Instant};

/// The descriptors that are open.
pub fn open_descriptors() -> usize {
    // The listing's own descriptor is one of the entries.
    fs::read_dir("/proc/self/fd").expect("a process may list its descriptors").count() - 1
}

/// A line of a process's status, as a number: `VmPin` and `VmRSS` are KiB there.
fn status(process: &str, field: &str) -> usize {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).expect("a process may read its status");
    let line = status
        .lines()
        .find(|line| line.split(':').next() == Some(field))
        .unwrap_or_else(|| panic!("{path} has no {field}"));
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
}

/// The bytes that are pinned, by `VmPin`: each page once, however many rings have it.
pub fn pinned_bytes() -> usize {
    status("self", "VmPin") * 1024
}

/// The bytes of memory that the process has touched, by `VmRSS`.
pub fn resident_bytes() -> usize {
    status("self", "VmRSS") * 1024
}

/// As `resident_bytes`, of another process.
pub fn resident_bytes_of(process: u32) -> usize {
    status(&process.to_string(), "VmRSS") * 1024
}

/// The process's threads.
pub fn threads() -> usize {
    status("self", "Threads")
}

/// Waits until `reading` gives `wanted`: for what the kernel does in its own time, within a bound.
///
/// # Panics
///
/// If it still gives something else after `bound`.
#[track_caller]
pub fn becomes(what: &str, wanted: usize, bound: Duration, reading: impl Fn() -> usize) {
    let begun = Instant::now();
    loop {
        let value = reading();
        if value == wanted {
            return;
        }
        assert!(begun.elapsed() < bound, "{what} is {value} and not {wanted} after {bound:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
