//! Operations as futures, and what a shard does when one doesn't fit its tables.

use std::future::Future;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::buffers::{self, Lease};
use runtime::fs::File;
use runtime::{Builder, Runtime};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn runtime() -> Runtime {
    Builder::new_multi_thread().shards(1).pool_limit(1 << 20).build().unwrap()
}

fn on_a_shard<F: Future<Output: Send> + Send + 'static>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(async { runtime::spawn(future).await }).unwrap()
}

#[test]
fn an_operation_says_where_it_stands_and_is_not_polled_after_it_was_ready() {
    let runtime = runtime();
    let message = on_a_shard(&runtime, async {
        let mut operation = Op::new(Nop);
        assert_eq!(format!("{operation:?}"), "Op { state: \"idle\", .. }");
        assert!(futures::poll!(&mut operation).is_pending());
        assert_eq!(format!("{operation:?}"), "Op { state: \"started\", .. }");
        (&mut operation).await.expect("nothing can go wrong");
        assert_eq!(format!("{operation:?}"), "Op { state: \"finished\", .. }");
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let poll = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut operation).poll(&mut cx)));
        *poll.expect_err("it is ready no second time").downcast::<&str>().expect("a text")
    });
    assert_eq!(message, "an operation was polled after it was ready");
    let mut away = Op::new(Nop);
    runtime.block_on(async {
        let _ = futures::poll!(&mut away);
        assert_eq!(format!("{away:?}"), "Op { state: \"away\", .. }");
        away.await.expect("nothing can go wrong");
    });
}

fn leased(runtime: &Runtime) -> Lease {
    on_a_shard(runtime, async { buffers::lease(4096).await }).unwrap()
}

#[test]
fn what_takes_any_buffer_takes_a_lease_of_another_runtime() {
    let (ours, theirs) = (runtime(), runtime());
    // So that both have an arena in the same slot.
    drop(leased(&ours));
    let strange = leased(&theirs);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let strange = on_a_shard(&ours, async move {
        let file = File::create_new(&path).await?;
        file.write_all_at(Vec::from("theirs"), 0).await?;
        let file = File::open(&path).await?;
        let failed = file.read_fixed(strange, 0).await.expect_err("it is not registered here");
        let (count, strange) = file.read_at(failed.into_parts().1, 0).await?;
        assert_eq!(count, 6);
        let copy = File::create_new(path.with_extension("copy")).await?;
        let (_, strange) = copy.write_all_at(strange, 0).await?;
        assert_eq!(runtime::fs::read(path.with_extension("copy")).await?, b"theirs");
        std::io::Result::Ok(strange)
    });
    assert_eq!(&strange.unwrap()[..], b"theirs");
}

#[test]
fn a_file_whose_number_is_beyond_the_table_is_used_by_its_number() {
    let before = getrlimit(Resource::Nofile);
    let runtime = runtime();
    let wanted = Rlimit { current: Some(10_000.min(before.maximum.unwrap_or(10_000))), ..before };
    setrlimit(Resource::Nofile, wanted).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "bytes").unwrap();
    let low = std::fs::File::open(&path).unwrap();
    // The table has 4,096 slots at most.
    let high: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&low, 4_096).unwrap();
    assert!(high.as_raw_fd() >= 4_096);
    on_a_shard(&runtime, async move {
        let file = File::from_std(std::fs::File::from(high));
        // More often than it takes to be worth a slot.
        for _ in 0..20 {
            let (count, bytes) = file.read_at(Vec::with_capacity(16), 0).await?;
            assert_eq!((count, &bytes[..]), (5, &b"bytes"[..]));
        }
        file.close().await
    })
    .unwrap();
}
