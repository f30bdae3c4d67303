//! Where io_uring is missing or forbidden, a runtime says so by type and in words: no panic, no
//! hang. Where something is limited is `starved.rs`.
//!
//! Each environment is a process of its own. The real `kernel.io_uring_disabled` belongs to the
//! whole machine: it is tried with `RINGHOLD_SYSCTL=1` in the environment only, by root, in a run
//! of that test alone.

mod common;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use common::start::{SECOND, read_a_page, refusal, refusal_without_descriptors, says, two_shards};
use common::{isolated, limits, proc};
use runtime::buffers::{self, LeaseErrorKind};
use runtime::runtime::StartError;
use runtime::{Builder, fs as files};

#[test]
fn seccomp_that_answers_eperm_is_named_with_the_calls_to_allow() {
    isolated("seccomp_that_answers_eperm_is_named_with_the_calls_to_allow").run(|| {
        limits::forbid(&[limits::URING_SETUP], libc::EPERM);
        let (kind, error) = refusal(two_shards);
        assert!(matches!(error, StartError::ForbiddenBySeccomp), "{error:?}");
        assert_eq!(kind, io::ErrorKind::PermissionDenied);
        says(&error, &["seccomp filter forbids io_uring", "EPERM", "allow io_uring_setup"]);
    });
}

#[test]
fn a_container_profile_that_forbids_all_three_calls_is_named() {
    isolated("a_container_profile_that_forbids_all_three_calls_is_named").run(|| {
        let all = [limits::URING_SETUP, limits::URING_ENTER, limits::URING_REGISTER];
        limits::forbid(&all, libc::EPERM);
        let (_, error) = refusal(two_shards);
        assert!(matches!(error, StartError::ForbiddenBySeccomp), "{error:?}");
    });
}

/// A shard that sleeps would never hear of a wake-up: the process says so, and doesn't hang.
#[test]
fn seccomp_that_forbids_wake_ups_later_ends_the_process_in_words() {
    const CHILD: &str = "RINGHOLD_TEST_FORBIDS_WAKE_UPS";
    if std::env::var_os(CHILD).is_some() {
        let runtime = Builder::new_multi_thread().shards(1).build().unwrap();
        runtime.block_on(runtime.spawn(async {})).unwrap();
        std::thread::spawn(|| {
            std::thread::sleep(20 * SECOND);
            eprintln!("the wake-up was lost");
            std::process::exit(3);
        });
        // The shard sleeps, or is about to.
        std::thread::sleep(SECOND / 10);
        limits::forbid(&[limits::URING_REGISTER], libc::EPERM);
        runtime.block_on(runtime.spawn(async {})).unwrap();
        return;
    }
    let name = "seccomp_that_forbids_wake_ups_later_ends_the_process_in_words";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let child = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
    let ended = child.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    // Before Linux 6.13 wake-ups take no call that can be forbidden so.
    if !ended.status.success() {
        assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{said}");
        assert!(said.contains("io_uring_register is refused"), "{said}");
    } else {
        assert!(std::env::var_os("RINGHOLD_MUST_RUN").is_none(), "it was not refused: {said}");
    }
}

#[test]
fn seccomp_that_answers_enosys_reads_as_a_kernel_without_io_uring() {
    isolated("seccomp_that_answers_enosys_reads_as_a_kernel_without_io_uring").run(|| {
        limits::forbid(&[limits::URING_SETUP], libc::ENOSYS);
        let (kind, error) = refusal(two_shards);
        let StartError::NotInKernel { release } = &error else { panic!("{error:?}") };
        let running = fs::read_to_string("/proc/sys/kernel/osrelease").expect("it is readable");
        assert_eq!(release, running.trim());
        assert_eq!(kind, io::ErrorKind::Unsupported);
        says(&error, &["has no io_uring (ENOSYS)", "Linux 6.1 or later", "CONFIG_IO_URING"]);
    });
}

#[test]
fn a_new_kernel_whose_flags_are_refused_is_not_said_to_be_too_old() {
    isolated("a_new_kernel_whose_flags_are_refused_is_not_said_to_be_too_old").run(|| {
        // An old kernel's answer, from one that is new enough to run these tests.
        limits::forbid(&[limits::URING_SETUP], libc::EINVAL);
        let (kind, error) = refusal(two_shards);
        let StartError::FlagsRefused { release } = &error else { panic!("{error:?}") };
        let running = fs::read_to_string("/proc/sys/kernel/osrelease").expect("it is readable");
        assert_eq!(release, running.trim());
        assert_eq!(kind, io::ErrorKind::Unsupported);
        says(&error, &["EINVAL", "no older than Linux 6.1", "a filter of system calls"]);
        assert!(!error.to_string().contains("too old"), "{error}");
    });
}

#[test]
fn memory_that_is_short_itself_is_told_from_a_limit() {
    let name = "memory_that_is_short_itself_is_told_from_a_limit";
    isolated(name).run(|| {
        if !limits::is_root() {
            return common::skip(name, "it needs CAP_IPC_LOCK");
        }
        limits::forbid(&[limits::URING_SETUP], libc::ENOMEM);
        let (kind, error) = refusal(two_shards);
        assert!(matches!(error, StartError::LockedMemory { limit: None, .. }), "{error:?}");
        assert_eq!(kind, io::ErrorKind::OutOfMemory);
        says(&error, &["no memory for a ring of about 28672 bytes (ENOMEM)", "free memory"]);
    });
}

#[test]
fn any_other_answer_is_passed_on_as_it_is() {
    isolated("any_other_answer_is_passed_on_as_it_is").run(|| {
        limits::forbid(&[limits::URING_SETUP], libc::EBUSY);
        let (kind, error) = refusal(two_shards);
        let StartError::Other(cause) = &error else { panic!("{error:?}") };
        assert_eq!(cause.raw_os_error(), Some(libc::EBUSY));
        assert_eq!(kind, io::ErrorKind::ResourceBusy);
        says(&error, &["io_uring could not be set up", "os error 16"]);
    });
}

#[test]
fn a_filter_that_lets_rings_be_made_but_not_entered_is_seen_at_the_start() {
    isolated("a_filter_that_lets_rings_be_made_but_not_entered_is_seen_at_the_start").run(|| {
        limits::forbid(&[limits::URING_ENTER], libc::EPERM);
        let (_, error) = refusal(two_shards);
        assert!(matches!(error, StartError::ForbiddenBySeccomp), "{error:?}");
        says(&error, &["io_uring_enter"]);
    });
}

#[test]
fn where_nothing_may_be_registered_there_are_no_leases_and_all_else_works() {
    isolated("where_nothing_may_be_registered_there_are_no_leases_and_all_else_works").run(|| {
        limits::forbid(&[limits::URING_REGISTER], libc::EPERM);
        let before = proc::open_descriptors();
        for shards in [1, 2] {
            let done = Builder::new_multi_thread().shards(shards).run(async {
                let error = buffers::lease(4096).await.expect_err("it can't be registered");
                assert_eq!(error.kind(), LeaseErrorKind::NotRegistrable);
                says(&error, &["a lease of 4096 bytes", "not be registered", "not permitted"]);
                assert_eq!(buffers::occupancy().mapped, 0);
                let file = files::File::open("/dev/zero").await?;
                let (count, bytes) = file.read_at(Vec::with_capacity(8), 0).await?;
                assert_eq!((count, &bytes[..]), (8, &[0; 8][..]));
                runtime::spawn(async { 7 }).await.map_err(io::Error::other)
            });
            assert_eq!(done.expect("it starts").expect("it works"), 7);
        }
        proc::becomes("the count of descriptors", before, SECOND, proc::open_descriptors);
    });
}

/// Shows `value` as `kernel.io_uring_disabled` to this process alone, and forbids rings as that
/// would.
fn pretend_sysctl(test: &str, value: &str) -> bool {
    let shown = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(shown.path(), value).expect("it is ours");
    let readable = fs::Permissions::from_mode(0o444);
    fs::set_permissions(shown.path(), readable).expect("it is ours");
    let covered = "/proc/sys/kernel/io_uring_disabled";
    if let Err(error) = limits::own_mounts().and_then(|()| limits::cover(covered, shown.path())) {
        common::skip(test, &format!("mounts need root: {error}"));
        return false;
    }
    limits::forbid(&[limits::URING_SETUP], libc::EPERM);
    true
}

#[test]
fn a_sysctl_that_forbids_io_uring_to_all_is_named() {
    let name = "a_sysctl_that_forbids_io_uring_to_all_is_named";
    isolated(name).run(|| {
        if !pretend_sysctl(name, "2\n") {
            return;
        }
        let (kind, error) = refusal(two_shards);
        assert!(matches!(error, StartError::ForbiddenBySysctl { value: 2 }), "{error:?}");
        assert_eq!(kind, io::ErrorKind::PermissionDenied);
        says(&error, &["kernel.io_uring_disabled = 2", "sysctl kernel.io_uring_disabled=0"]);
        assert!(!error.to_string().contains("io_uring_group"), "the group has no say at 2");
    });
}

#[test]
fn a_sysctl_that_forbids_io_uring_to_the_unprivileged_names_the_group() {
    let name = "a_sysctl_that_forbids_io_uring_to_the_unprivileged_names_the_group";
    isolated(name).run(|| {
        if !pretend_sysctl(name, "1\n") {
            return;
        }
        limits::become_unprivileged();
        let (_, error) = refusal(two_shards);
        assert!(matches!(error, StartError::ForbiddenBySysctl { value: 1 }), "{error:?}");
        says(&error, &["kernel.io_uring_disabled = 1", "kernel.io_uring_group", "CAP_SYS_ADMIN"]);
    });
}

/// Puts the machine's setting back.
struct Sysctl {
    value: String,
}

impl Sysctl {
    const PATH: &str = "/proc/sys/kernel/io_uring_disabled";

    fn set(value: &str) -> io::Result<Sysctl> {
        let before = Sysctl { value: fs::read_to_string(Sysctl::PATH)? };
        fs::write(Sysctl::PATH, value)?;
        Ok(before)
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        fs::write(Sysctl::PATH, &self.value).expect("what was set can be set back");
    }
}

#[test]
fn the_real_sysctl_is_named_in_both_settings() {
    let name = "the_real_sysctl_is_named_in_both_settings";
    if !common::is_asked_for(name, "RINGHOLD_SYSCTL") {
        return;
    }
    // This process stays root and sets the value back; its children meet it, here.
    if let Ok(setting) = std::env::var("RINGHOLD_SYSCTL_IS") {
        return isolated(name).run(|| meet_sysctl(&setting));
    }
    for setting in ["1", "2"] {
        let _restored = match Sysctl::set(setting) {
            Ok(restored) => restored,
            Err(error) => return common::skip(name, &format!("it can't be set: {error}")),
        };
        isolated(name).variable("RINGHOLD_SYSCTL_IS", setting).run(|| {});
    }
}

fn meet_sysctl(setting: &str) {
    if setting == "1" {
        Builder::new_multi_thread().shards(2).run(async {}).expect("root may still");
        limits::become_unprivileged();
    }
    let (_, error) = refusal(two_shards);
    let StartError::ForbiddenBySysctl { value } = error else { panic!("{error:?}") };
    assert_eq!(value.to_string(), setting);
}

#[test]
fn without_proc_a_refusal_is_still_explained_and_all_works_where_none_is() {
    let name = "without_proc_a_refusal_is_still_explained_and_all_works_where_none_is";
    isolated(name).run(|| {
        let empty = tempfile::tempdir().expect("a temporary directory");
        if let Err(error) = limits::own_mounts().and_then(|()| limits::cover("/proc", empty.path()))
        {
            return common::skip(name, &format!("mounts need root: {error}"));
        }
        let worked = Builder::new_multi_thread().run(read_a_page());
        worked.expect("it starts").expect("it works");
        limits::forbid(&[limits::URING_SETUP], libc::EPERM);
        let (_, error) = refusal_without_descriptors(two_shards);
        assert!(matches!(error, StartError::ForbiddenBySeccomp), "{error:?}");
    });
}

#[test]
fn what_can_not_be_is_refused_before_anything_is_made() {
    isolated("what_can_not_be_is_refused_before_anything_is_made").run(|| {
        // Rings are forbidden, so whoever asked for one before the check would be told so.
        limits::forbid(&[limits::URING_SETUP], libc::EPERM);
        type Configure = fn(&mut Builder);
        let wrong: [(Configure, &str); 7] = [
            (|b| _ = b.ring_entries(3, 8), "a power of two of entries up to 32768, not 3"),
            (|b| _ = b.ring_entries(0, 8), "a power of two of entries up to 32768, not 0"),
            (|b| _ = b.ring_entries(65536, 131_072), "up to 32768, not 65536"),
            (|b| _ = b.ring_entries(8, 8), "at least twice the 8 submissions"),
            (|b| _ = b.shards(0), "a runtime has 1 to 1024 shards, not 0"),
            (|b| _ = b.shards(1025), "a runtime has 1 to 1024 shards, not 1025"),
            (|b| _ = b.shards(2).start_paused(true), "a paused clock needs a single shard"),
        ];
        for (configure, message) in wrong {
            let (kind, error) = refusal(configure);
            assert!(matches!(error, StartError::InvalidConfiguration(_)), "{error:?}");
            assert_eq!(kind, io::ErrorKind::InvalidInput);
            says(&error, &[message]);
        }
    });
}

#[test]
fn the_smallest_rings_work() {
    let worked = Builder::new_multi_thread().shards(2).ring_entries(2, 4).run(read_a_page());
    worked.expect("it starts").expect("it works");
}
