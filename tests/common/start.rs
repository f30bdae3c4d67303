//! Starting where it can't be done, and where it can.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use runtime::runtime::StartError;
use runtime::{Builder, buffers, fs};

use super::proc;

/// What the kernel does in its own time it has done within this.
pub const SECOND: Duration = Duration::from_secs(1);

/// What rides inside of the error that a builder gives.
#[track_caller]
pub fn start_error(error: io::Error) -> (io::ErrorKind, StartError) {
    let kind = error.kind();
    let inner = error.into_inner().expect("the error carries its cause");
    (kind, *inner.downcast::<StartError>().expect("the cause is a StartError"))
}

/// Starts in both ways. Both must be refused alike, and leave no descriptor behind.
#[track_caller]
pub fn refusal(configure: impl Fn(&mut Builder)) -> (io::ErrorKind, StartError) {
    let before = proc::open_descriptors();
    let (kind, error) = refusal_without_descriptors(configure);
    proc::becomes("the count of descriptors", before, SECOND, proc::open_descriptors);
    (kind, error)
}

/// As [`refusal`], where the descriptors can't be counted.
#[track_caller]
pub fn refusal_without_descriptors(
    configure: impl Fn(&mut Builder),
) -> (io::ErrorKind, StartError) {
    let mut builder = Builder::new_multi_thread();
    configure(&mut builder);
    let (kind, built) = start_error(builder.build().expect_err("it can't start"));
    let (_, ran) = start_error(builder.run(async {}).expect_err("it can't run"));
    assert_eq!(built.to_string(), ran.to_string());
    (kind, built)
}

/// More than one thread's worth.
pub fn two_shards(builder: &mut Builder) {
    builder.shards(2);
}

/// The message names the cause and the cure.
#[track_caller]
pub fn says(error: &impl ToString, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} doesn't say {part:?}");
    }
}

/// A page of zeros through a lease, from shard 0.
pub async fn read_a_page() -> io::Result<()> {
    let file = fs::File::open("/dev/zero").await?;
    let lease = buffers::lease(4096).await?;
    let (count, lease) = file.read_fixed(lease, 0).await?;
    assert_eq!((count, &lease[..]), (4096, &[0; 4096][..]));
    Ok(())
}

/// As [`read_a_page`], where a runtime that has just ended may still hold what its ring had locked:
/// that comes back in the kernel's own time, and a start waits for it, but a lease doesn't.
pub async fn read_a_page_patiently() -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match read_a_page().await {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                assert!(begun.elapsed() < SECOND, "after {SECOND:?}: {error}");
            }
            outcome => return outcome,
        }
        runtime::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Takes every descriptor but `left` that the limit allows.
pub fn take_descriptors(left: usize) -> Vec<File> {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken.truncate(taken.len() - left);
    taken
}
