//! What a simulation does to its hosts, and how it tells what went wrong.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use ringhold_sim::{
    Failure, FailureKind, Fault, Faults, HostConfig, HostId, Latency, Simulation, What,
};
use runtime::buffers;
use runtime::fs::{self, File, OpenOptions};
use runtime::time::{Instant, sleep};

fn simulation() -> (Simulation, HostId) {
    let mut simulation = Simulation::new(1);
    let host = simulation.host(HostConfig::new("store"));
    (simulation, host)
}

fn kind(ended: Result<(), Failure>) -> FailureKind {
    ended.expect_err("the simulation fails").kind
}

#[test]
fn an_hour_passes_at_once() {
    let (mut simulation, host) = simulation();
    let begin = std::time::Instant::now();
    simulation.start(host, || async {
        let begin = Instant::now();
        sleep(Duration::from_secs(3600)).await;
        let slept = begin.elapsed();
        assert!(slept >= Duration::from_secs(3600) && slept < Duration::from_secs(3601));
    });
    simulation.run().unwrap();
    assert!(simulation.elapsed() >= Duration::from_secs(3600));
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_service_that_waits_for_ever_is_named() {
    let (mut simulation, host) = simulation();
    simulation.start(host, std::future::pending::<()>);
    let stuck = FailureKind::Stuck { hosts: vec!["store".to_owned()] };
    assert_eq!(kind(simulation.run()), stuck);
}

#[test]
fn a_service_that_never_rests_is_stopped() {
    let (mut simulation, host) = simulation();
    simulation.set_steps_max(1000);
    simulation.start(host, || async {
        for _ in 0..u32::MAX {
            runtime::task::yield_now().await;
        }
    });
    assert_eq!(kind(simulation.run()), FailureKind::TooLong { steps: 1000 });
}

#[test]
fn an_error_and_a_panic_are_told_with_the_seed() {
    let (mut simulation, host) = simulation();
    simulation.start(host, || async { File::open("/none").await.map(drop) });
    let failure = simulation.run().expect_err("there is no such file");
    let text = failure.to_string();
    assert!(matches!(failure.kind, FailureKind::Service { ref host, .. } if host == "store"));
    assert!(text.contains("seed 1,") && text.contains("RINGHOLD_SEED=1 cargo test"), "{text}");
    assert!(text.contains("an_error_and_a_panic_are_told_with_the_seed"), "{text}");
    simulation.start(host, || async { assert_eq!(6 * 7, 43, "meant") });
    let FailureKind::Panic { message, .. } = kind(simulation.run()) else { panic!("no panic") };
    assert!(message.contains("meant"), "{message}");
}

#[test]
fn a_file_that_is_forgotten_is_a_leak() {
    let (mut simulation, host) = simulation();
    simulation.start(host, || async {
        std::mem::forget(File::create("/file").await?);
        io::Result::Ok(())
    });
    let (host, what) = ("store".to_owned(), "descriptors [3] open".to_owned());
    assert_eq!(kind(simulation.run()), FailureKind::Leak { host, what });
}

#[test]
fn what_would_touch_the_real_system_panics_by_name() {
    let (mut simulation, host) = simulation();
    simulation.start(host, || async {
        let file = File::create("/file").await.expect("an empty disk takes a file");
        let _ = file.as_fd();
    });
    let FailureKind::Panic { message, .. } = kind(simulation.run()) else { panic!("no panic") };
    assert!(
        message.contains("a simulated file or socket has no descriptor of this process"),
        "{message}"
    );
    simulation.start(host, || async {
        let real = std::fs::File::open("/proc/self/stat").expect("procfs is mounted");
        drop(File::from_std(real));
    });
    let FailureKind::Panic { message, .. } = kind(simulation.run()) else { panic!("no panic") };
    assert!(message.contains("a file or socket of std's is real"), "{message}");
}

#[test]
fn a_killed_service_leaves_what_it_wrote_and_a_power_loss_what_it_synced() {
    let (mut simulation, host) = simulation();
    let service = || async {
        let file = File::create("/file").await?;
        file.write_all_at("durable", 0).await?;
        file.sync_all().await?;
        File::open("/").await?.sync_all().await?;
        fs::write("/unsynced", "written").await?;
        std::future::pending::<io::Result<()>>().await
    };
    simulation.start(host, service);
    simulation.run_for(Duration::from_secs(10)).unwrap();
    simulation.kill(host);
    simulation.start(host, || async {
        assert_eq!(fs::read("/file").await?, b"durable");
        assert_eq!(fs::read("/unsynced").await?, b"written");
        io::Result::Ok(())
    });
    simulation.run().unwrap();
    simulation.lose_power(host);
    simulation.start(host, || async {
        assert_eq!(fs::read("/file").await?, b"durable");
        io::Result::Ok(())
    });
    simulation.run().unwrap();
}

#[test]
fn a_paused_host_stands_while_the_others_go_on() {
    let mut simulation = Simulation::new(2);
    let beats = [(); 2].map(|()| Rc::new(Cell::new(0)));
    let hosts = [0, 1].map(|number| simulation.host(HostConfig::new(format!("host {number}"))));
    for (host, beats) in hosts.into_iter().zip(&beats) {
        let beats = beats.clone();
        simulation.start(host, move || {
            let beats = beats.clone();
            async move {
                for _ in 0..u32::MAX {
                    sleep(Duration::from_secs(1)).await;
                    beats.set(beats.get() + 1);
                }
            }
        });
    }
    simulation.run_for(Duration::from_millis(10_500)).unwrap();
    assert_eq!([beats[0].get(), beats[1].get()], [10, 10]);
    simulation.pause(hosts[0]);
    simulation.run_for(Duration::from_secs(10)).unwrap();
    assert_eq!(beats[0].get(), 10);
    assert!((19..=20).contains(&beats[1].get()));
    simulation.resume(hosts[0]);
    simulation.run_for(Duration::from_secs(10)).unwrap();
    assert!((19..=20).contains(&beats[0].get()), "{}", beats[0].get());
}

#[test]
fn a_clock_that_drifts_counts_other_seconds() {
    let (mut simulation, host) = simulation();
    simulation.drift(host, 100_000);
    simulation.start(host, || async { sleep(Duration::from_secs(11)).await });
    simulation.run().unwrap();
    let real = simulation.elapsed();
    assert!(real >= Duration::from_secs(10) && real < Duration::from_millis(10_100), "{real:?}");
}

#[test]
fn a_fault_that_is_injected_strikes_once() {
    let (mut simulation, host) = simulation();
    simulation.start(host, || async {
        let file = File::create("/file").await?;
        file.write_all_at("bytes", 0).await?;
        let error = file.sync_all().await.expect_err("the fault was injected");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        file.write_all_at("bytes", 0).await?;
        file.sync_all().await
    });
    simulation.inject(host, Fault::SyncError);
    simulation.run().unwrap();
}

#[test]
fn a_transfer_of_a_direct_file_is_cut_short_at_a_block() {
    for seed in 0..50 {
        let mut simulation = Simulation::new(seed);
        let faults = Faults::none().with(Fault::ShortTransfer, 1.0);
        let host = simulation.host(HostConfig::new("store").faults(faults));
        simulation.start(host, || async {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).direct(true);
            let file = options.open("/file").await?;
            let mut lease = buffers::lease(8192).await?;
            lease.resize(8192, 7);
            let (written, lease) = file.write_fixed(lease, 0).await?;
            assert!(written >= 512 && written % 512 == 0, "{written}");
            file.write_all_fixed(lease, 0).await?;
            let (read, _) = file.read_fixed(buffers::lease(8192).await?, 0).await?;
            assert!(read >= 512 && read % 512 == 0, "{read}");
            io::Result::Ok(())
        });
        simulation.run().unwrap();
    }
}

#[test]
fn the_trace_tells_what_happened_and_its_hash_is_the_seeds() {
    let run = |seed| {
        let mut simulation = Simulation::new(seed);
        let faults = Faults::harmless();
        let latency = Latency::new(0.0, Duration::from_millis(1));
        let config = HostConfig::new("store").shards(2).faults(faults).latency(latency);
        let host = simulation.host(config);
        simulation.start(host, || async { fs::write("/file", vec![7; 100_000]).await });
        simulation.run().unwrap();
        simulation.trace()
    };
    let trace = run(5);
    assert_eq!(trace.hash(), run(5).hash());
    assert_ne!(trace.hash(), run(6).hash());
    assert!(trace.events().next().is_some_and(|event| event.what == What::Started));
    assert!(trace.events().last().is_some_and(|event| event.what == What::Ended));
    assert_eq!(trace.count(), trace.events().count() as u64);
}

#[test]
fn a_runtime_that_is_simulated_has_no_thread_to_block() {
    let (mut simulation, host) = simulation();
    simulation.start(host, || async {
        let handle = runtime::Handle::current();
        let blocked = runtime::spawn_blocking(move || handle.block_on(async { 1 })).await;
        let payload = blocked.expect_err("it panics").into_panic();
        let message = payload.downcast_ref::<&str>().expect("a text");
        assert!(message.contains("this runtime is simulated"), "{message}");
    });
    simulation.run().unwrap();
}

#[test]
fn a_simulated_host_has_no_way_to_open_beneath_a_directory_and_says_so() {
    let (mut simulation, host) = simulation();
    simulation.start(host, || async {
        fs::create_dir("/root").await.unwrap();
        let root = File::open("/root").await.unwrap();
        let opened = OpenOptions::new().read(true).open_beneath(&root, "file").await;
        assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::Unsupported);
    });
    simulation.run().unwrap();
}
